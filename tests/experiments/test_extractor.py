"""What `extractor: auto` stands for on each data set, and that a classifier of other data is refused."""

import pytest
import torch

from experiments.config import resolve
from experiments.extractor import load_extractor, resolve_extractor
from experiments.run import plan_run, run
from geovae.data import DATASETS
from geovae.evaluation import Scorer, copies, trained

DIGITS = {"name": "digits", "augment": 0}


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(trained, "STEPS", (3, 3))


def test_data_with_a_classifier_of_its_own_use_it():
    assert resolve_extractor("auto", {"name": "mnist_5k"}) == "mnist-net-v1"
    assert resolve_extractor("auto", {"name": "mnist", "root": "nowhere"}) == "mnist-net-v1"
    assert resolve_extractor("auto", {"name": "fashion_mnist"}) == "fashion-mnist-net-v1"
    assert resolve_extractor("pixels", {"name": "mnist_5k"}) == "pixels"
    assert resolve({"data.name": "mnist_5k"})["extractor"] == "mnist-net-v1"


def test_labelled_data_get_a_classifier_of_their_training_split():
    name = resolve_extractor("auto", DIGITS)
    assert name.startswith("net-")
    assert resolve_extractor("auto", DIGITS | {"train_size": 100}) == name, "subsamples compare"
    assert resolve_extractor("auto", DIGITS | {"augment": 1}) == name
    assert resolve_extractor("auto", DIGITS | {"seed": 1}) != name, "another split: it may have seen its test images"
    splits = DATASETS["digits"]()
    network = load_extractor(name, DIGITS | {"train_size": 100})
    assert network.name == name
    assert torch.equal(
        network.classes(Scorer(network).features(splits.val.images, network)), network.classify(splits.val.images)
    )


def test_only_training_images_are_learned_from(monkeypatch):
    given = []
    monkeypatch.setattr(trained, "train", lambda x, y, real=trained.train: given.append((x, y)) or real(x, y))
    load_extractor(resolve_extractor("auto", DIGITS), DIGITS)
    ((images, labels),) = given
    train = DATASETS["digits"]().train
    assert torch.equal(images, train.images)
    assert torch.equal(labels, train.labels)


def test_unlabelled_data_fall_back(tmp_path):
    assert resolve_extractor("auto", {"name": "patches"}) == "random-conv-v1"
    (tmp_path / "pictures").mkdir()
    for i in range(10):
        from PIL import Image

        Image.new("L", (16, 16), i).save(tmp_path / "pictures" / f"{i}.png")
    assert resolve_extractor("auto", {"name": "folder", "root": str(tmp_path), "path": "pictures"}) == "random-conv-v1"


def test_data_that_are_not_here_leave_it_open():
    assert resolve_extractor("auto", {"name": "svhn", "root": "nowhere"}) == "auto"


def test_a_classifier_of_other_data_is_refused():
    name = resolve_extractor("auto", DIGITS)
    assert resolve_extractor(name, DIGITS) == name
    with pytest.raises(ValueError, match=f"`extractor` {name} was trained on other images than .* 'digits'"):
        resolve_extractor(name, DIGITS | {"seed": 1})


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_run_records_what_it_used_and_all_rows(tmp_path):
    quick = {"training.epochs": 1, "n_samples": 60, "model.width": 16, "model.latent_dim": 2, "scores": ["frechet"]}
    config = resolve({**quick, "samplers": ["prior", "mixture"], "data.name": "digits", "data.augment": 0})
    result = run(plan_run(config), output=tmp_path)
    head = f"fd_{config['extractor']}"
    assert result.headline == head
    for scores in (*result.val_scores.values(), *result.test_scores.values()):
        wanted = {head, f"real_{head}", f"decoded_{head}", "decoded_ratio", "code_novelty", "class_share_distance"}
        assert wanted <= scores.keys()
    order = [(copies(result.val_scores[name]), result.val_scores[name][head]) for name in result.ranked_samplers]
    assert order == sorted(order)
