"""What a run says and keeps when its training ends: how it ended, in every record, and its checkpoint where asked."""

import pytest

from experiments.config import resolve
from experiments.judge import rejudge
from experiments.leaderboard import as_markdown, rank_results
from experiments.run import keeps_checkpoint, plan_run, run
from geovae.saved_model import load_model
from geovae.tracking import NullTracker

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of small sample sizes
QUICK = {"n_samples": 60, "extractor": "pixels", "model.width": 16, "model.latent_dim": 2, "scores": ["frechet"]}
QUICK |= {
    "data.augment": 0,
    "data.train_size": 100,
    "samplers": ["prior"],
    "training.epochs": 3,
    "training.early_stop": None,
}
STOPPED = {"training.early_stop": 1, "training.min_delta": 0.99}  # no epoch is so much better than the first


class Seen(NullTracker):
    def __init__(self):
        self.seen, self.numbers, self.files = {}, {}, []

    def tags(self, values):
        self.seen |= values

    def metrics(self, values, **options):
        self.numbers |= values

    def artifact(self, path, folder=""):
        self.files.append(f"{folder}/{path.name}")


def train(tmp_path, **options):
    tracker = Seen()
    return run(plan_run(resolve(QUICK | options)), output=tmp_path, tracker=tracker), tracker


def test_a_training_that_was_too_short_is_marked_wherever_its_run_is_shown(tmp_path):
    with pytest.warns(UserWarning, match="undertrained: 3 epochs, the best was epoch 3 .*give it more `epochs`"):
        result, tracker = train(tmp_path)
    assert tracker.seen["undertrained"].startswith("3 epochs, the best was epoch 3 ")
    assert tracker.seen["mlflow.note.content"].startswith("**Undertrained**: 3 epochs")
    assert tracker.numbers["best/undertrained"] == 1.0
    again = Seen()
    judged = rejudge(result.model_file, resolve(QUICK), output=tmp_path, tracker=again, keep=False)
    assert again.seen["undertrained"] == tracker.seen["undertrained"]  # whatever is drawn from the model file later
    assert judged.training == result.training
    table = as_markdown(rank_results({"vae": result}))
    assert "| 1 | vae † | prior |" in table
    assert "† undertrained: " in table


def test_a_training_that_stopped_is_not_marked(tmp_path):
    result, tracker = train(tmp_path, **STOPPED)
    assert (result.training.epochs, result.training.best_epoch, result.training.undertrained) == (2, 2, False)
    assert "undertrained" not in tracker.seen
    assert tracker.numbers["best/undertrained"] == 0.0
    assert "†" not in as_markdown(rank_results({"vae": result}))
    assert load_model(result.model_file).meta["training"]["best_epoch"] == 2


@pytest.mark.parametrize(("wanted", "kept"), [(None, False), (True, True), (False, False)])
def test_a_checkpoint_is_uploaded_only_where_it_is_wanted(tmp_path, wanted, kept):
    _, tracker = train(tmp_path, keep_checkpoint=wanted, **STOPPED)
    assert ("checkpoints/checkpoint.safetensors" in tracker.files) == kept
    assert "model/model.safetensors" in tracker.files
    assert (tmp_path / "checkpoint.safetensors").is_file()  # a run resumes from here


def test_by_default_a_checkpoint_is_uploaded_that_is_not_larger_than_the_model(tmp_path):
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"1")
    large.write_bytes(b"12")
    assert keeps_checkpoint(None, small, large)
    assert keeps_checkpoint(None, small, small)
    assert not keeps_checkpoint(None, large, small)
