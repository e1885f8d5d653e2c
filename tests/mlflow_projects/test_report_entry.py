"""The `report` entry point on runs as they lie in a store."""

from mlflow_projects import report


def test_the_mean_run_of_a_configuration_is_no_further_seed(store, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed, score in enumerate((4.0, 6.0)):
        store.run(score, seed=seed, config="c")
    store.run(100.0, config="c", tags={"role": "configuration"})
    report.main()
    assert "report.html: 2 runs of the experiment geovae" in capsys.readouterr().out
    assert "± 1.4" in (tmp_path / "report.html").read_text()  # of 4 and 6
