"""The study of brains: its cohort is made once, and what cannot be studied is refused before anything is trained."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.studies.oasis import make_ready, read_truth
from experiments.studies.plan import read_study
from experiments.yaml_file import ConfigError


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The smallest size, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return read_study("oasis", "ci")


def changed(study, **source):
    return replace(study, source=study.source | source)


@pytest.mark.slow
def test_the_cohort_is_made_once_and_its_truth_is_known(study):
    said = []
    make_ready(study, said.append)
    assert said == ["writing 24 synthetic brains into data_folders/brains-24, once"]
    with np.load("data_folders/brains-24/oasis/OASIS.npz") as archive:
        assert archive["x_train"].shape == (24, 26, 22, 1)
        truth = read_truth(Path("data_folders/brains-24"))
        assert set(archive["ids"].tolist()) <= truth.keys()
        assert np.corrcoef([truth[id] for id in archive["ids"]], archive["age"])[0, 1] > 0.5
    make_ready(study, said.append)
    assert len(said) == 1
    with pytest.raises(ValueError, match=r"`sizes` must lie in 4..5: 12 assessed subjects .* got 50"):
        make_ready(changed(study, classifier={"sizes": [50], "folds": 2}), said.append)


def test_what_cannot_be_studied_is_one_sentence(study, tmp_path):
    with pytest.raises(
        ConfigError, match="unknown option 'fold' of `classifier`; valid are sizes, methods, .*, shrink"
    ):
        make_ready(changed(study, classifier={"fold": 3}), print)
    elsewhere = read_study("oasis", "ci", {"data.root": "mine"})
    with pytest.raises(FileNotFoundError, match=r"no `mine/oasis/OASIS.npz`: call geovae.mri.prepare .* `mlflow run"):
        make_ready(elsewhere, print)
    assert not list(tmp_path.iterdir()), "a cohort is made in its own folder only"
    assert read_truth(tmp_path) == {}


def test_other_studies_need_nothing_of_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_ready(read_study("figure1", "ci"), print)
    assert not list(tmp_path.iterdir())
