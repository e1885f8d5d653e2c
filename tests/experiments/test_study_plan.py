"""Study files: what they say becomes cells; what is wrong in them is one sentence."""

import pytest
import yaml

from experiments.config import fingerprint
from experiments.extractor import resolve_extractor
from experiments.studies.cells import TRAINED
from experiments.studies.plan import SIZES, STUDIES, names, read_study
from experiments.studies.reports import REPORTS
from experiments.yaml_file import ConfigError

GOOD = {
    "title": "T",
    "report": "scores",
    "options": {"scores": ["frechet"], "training.epochs": 2},
    "models": {"vae": {}, "ae": {"model.name": "ae"}},
    "variants": {
        "as trained": {},
        "few": {"samplers": ["mixture"], "sampler.mixture.n_components": 2},
        "flat": {"models": ["vae"], "samplers": ["riemannian"], "sampler.riemannian.sharpness": 0.5},
    },
    "sizes": {
        "small": {
            "seeds": 2,
            "options": {"training.epochs": 3},
            "data": {"a": {"data.augment": 0}, "b": {"models": {"ae": {"model.width": 7}}}},
        },
        "ci": {"seeds": 1, "data": {"a": None}, "models": {"vae": {}}, "variants": {}},
    },
}


@pytest.fixture
def write(tmp_path):
    def write(**changes):
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(GOOD | changes, sort_keys=False))
        return str(path)

    return write


def test_a_study_is_models_by_data_by_seeds_with_variants_of_each_trained_model(write):
    study = read_study(write(), "small")
    assert (study.name, study.data, study.seeds, study.variants) == ("mine", ["a", "b"], [0, 1], [*GOOD["variants"]])
    assert [cell.name for cell in study.cells][:4] == ["a-vae-0", "a-ae-0", "a-vae-1", "a-ae-1"]
    by_name = {cell.name: cell for cell in study.cells}
    assert list(by_name["a-vae-1"].configs) == [TRAINED, "few", "flat"]
    assert list(by_name["a-ae-1"].configs) == [TRAINED, "few"], "a variant may be of some models only"
    config = by_name["b-ae-1"].configs["few"]
    assert (config["seed"], config["training"]["epochs"], config["model"]["width"]) == (1, 3, 7)
    assert config["sampler"]["mixture"]["n_components"] == 2
    assert by_name["a-ae-0"].configs[TRAINED]["data"]["augment"] == 0
    assert config["extractor"] == resolve_extractor("auto", config["data"]), (
        "the fingerprint must say what auto stands for"
    )


def test_variants_that_ask_for_the_same_are_one_run_under_several_names(write):
    few = {"samplers": ["mixture"], "sampler.mixture.n_components": 2}
    default = few | {"sampler.mixture.n_components": 10}
    variants = {"as trained": {}, "n = 2": few, "n = 10": default, "again": few, "of ae": {"models": ["ae"]}}
    cells = {cell.name: cell for cell in read_study(write(variants=variants), "small").cells}
    assert list(cells["a-vae-0"].configs) == [TRAINED, "n = 2", "n = 10"]
    assert cells["a-vae-0"].same == {"as trained": TRAINED, "again": "n = 2"}
    assert cells["a-ae-0"].same == {"as trained": TRAINED, "again": "n = 2", "of ae": TRAINED}


def test_data_may_be_of_some_models_only(write):
    sizes = {"small": {"seeds": 1, "data": {"a": None, "b": {"only": ["ae"], "data.augment": 0}}}}
    assert [cell.name for cell in read_study(write(sizes=sizes), "small").cells] == ["a-vae-0", "a-ae-0", "b-ae-0"]
    for wrong in (["rae"], [], "ae"):
        sizes["small"]["data"]["b"]["only"] = wrong
        with pytest.raises(ConfigError, match=r"data 'b': `only` must list models of the study: .*choose from vae, ae"):
            read_study(write(sizes=sizes), "small")


def test_a_size_replaces_models_and_variants_and_flags_go_over_everything(write):
    (cell,) = read_study(write(), "ci", {"training.epochs": "9", "device": "cpu"}).cells
    assert list(cell.configs) == [TRAINED]
    assert cell.configs[TRAINED]["training"]["epochs"] == 9
    assert len(read_study(write(), "small", only=["b"], seeds=3).cells) == 6


def test_a_study_knows_the_command_that_repeats_it(write):
    path = write()
    study = read_study(path, "small", {"training.epochs": "9", "n_samples": " 60"}, only=["b"], seeds=3)
    asked = f"-P name={path} -P size=small -P data=b -P seeds=3 -P training.epochs=9 -P 'n_samples= 60'"
    assert study.command == f"mlflow run . --env-manager local -e study {asked}"
    assert (study.source["seeds"], [*study.source["data"]]) == (3, ["b"])
    assert read_study("figure1", "ci").command.endswith("-e study -P name=figure1 -P size=ci")


@pytest.mark.parametrize(
    ("changes", "size", "options", "sentence"),
    [
        ({}, "huge", {}, "study 'mine' has no size 'huge'; choose from small, ci"),
        ({"reprot": 1}, "ci", {}, "has unknown keys: reprot; valid are about, models"),
        ({"sizes": {"ci": {"seeds": 1}}}, "ci", {}, "size 'ci' of .* must hold `data: "),
        (
            {"sizes": {"ci": {"seeds": 0, "data": {"a": {}}}}},
            "ci",
            {},
            "must say `seeds`, a whole number from 1 to 10000",
        ),
        ({"sizes": {"ci": {"seed": 1}}}, "ci", {}, "size 'ci' of .* has unknown keys: seed"),
        ({"sizes": 3}, "ci", {}, "must hold `models: "),
        ({"models": {"vae": {"model.bta": 1}}}, "small", {}, "unknown option 'model.bta'; did you mean model.beta"),
        (
            {"models": {"../../x": {}}},
            "small",
            {},
            "a name must be a text of up to 100 letters without slashes, got '../",
        ),
        ({"report": "poem"}, "ci", {}, "unknown report 'poem'; choose from scores"),
        ({}, "ci", {"seed": "3"}, "a study sets the seeds of its runs itself: say how many with --seeds"),
    ],
)
def test_what_is_wrong_in_a_study_is_one_sentence(write, changes, size, options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        read_study(write(**changes), size, options)


def test_unknown_studies_and_data_are_named_with_the_valid_ones(write):
    with pytest.raises(ConfigError, match="unknown study 'table2'; choose from ablation, figure1, .*, table1, or give"):
        read_study("table2", "ci")
    with pytest.raises(ConfigError, match="no data 'c' in this size; choose from a, b"):
        read_study(write(), "small", only=["c"])


@pytest.mark.parametrize("name", names())
def test_shipped_studies_pass_every_check_and_share_no_fingerprint(name):
    sizes = yaml.safe_load((STUDIES / f"{name}.yaml").read_text())["sizes"]
    assert set(sizes) == set(SIZES) - ({"medium"} if name in ("figure1", "oasis") else set())  # of one data set each
    for size in ("small", "ci"):
        study = read_study(name, size, seeds=1)
        assert study.title
        assert study.report in REPORTS
        configs = [config for cell in study.cells for config in cell.configs.values()]
        assert len({fingerprint(config) for config in configs}) == len(configs)


@pytest.mark.parametrize("size", ["small", "medium"])
@pytest.mark.parametrize("name", ["ablation", "figure3", "figure4", "sampler_quality"])
def test_the_studies_of_a_size_train_the_models_of_table_1(name, size):
    models = {fingerprint(cell.configs[TRAINED]) for cell in read_study("table1", size).cells}
    own = {fingerprint(cell.configs[TRAINED]): cell.data for cell in read_study(name, size).cells}
    beyond = {data for digest, data in own.items() if digest not in models}
    assert beyond <= {"mnist_5k 300", *(["mnist_5k 3000"] if size == "small" else [])}


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_shipped_studies_pass_every_check_in_full_size(name):
    assert read_study(name, "full", seeds=1).cells


@pytest.mark.parametrize("name", ["ablation", "figure3", "figure4", "sampler_quality", "table1"])
def test_a_medium_study_is_of_real_data_with_networks_for_a_laptop_that_train_to_the_end(name):
    study = read_study(name, "medium", seeds=1)
    assert {data.split()[0] for data in study.data} == {"mnist_5k", "fashion_mnist"}
    for cell in study.cells:
        config = cell.configs[TRAINED]
        assert (config["model"]["network"], config["model"]["width"]) == ("mlp", 300)
        assert config["training"]["early_stop"] is not None
        assert config["data"]["train_size"] == int(cell.data.split()[1])


def test_the_first_word_of_a_name_stands_for_all_sizes_of_a_data_set():
    study = read_study("table1", "medium", only=["fashion_mnist", "mnist_5k 1000"], seeds=1)
    assert study.data == ["fashion_mnist 1000", "fashion_mnist 5000", "fashion_mnist 50000", "mnist_5k 1000"]
    assert list(study.source["data"]) == study.data
