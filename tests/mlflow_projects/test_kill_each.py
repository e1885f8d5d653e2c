"""Every entry point that writes is killed at seeded random moments, often several times, and then called once more.

After that the store and the folder hold what a process leaves that nobody kills: no record is lost or doubled, no run
is RUNNING, no temporary file is left. `KILLS=15` does that many times to all entry points what continuous integration
does once to some.
"""

import os
import random
import re
import shutil
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
import torch
import yaml

from geovae.mri import write_cohort
from geovae.tracking import claim_run
from mlflow_projects import (
    adopt,
    brains,
    cohort,
    entry,
    evaluate,
    generate,
    import_checkpoint,
    inspect,
    main,
    prepare,
    promote,
    report,
    study,
    sweep,
    train,
)
from tests.attack.formats import published
from tests.data.originals import write_mnist
from tests.mlflow_projects.killing import EXPERIMENT, FLAGS, TINY, die_anywhere, fork, left, points, runs

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]
KILLS = int(os.environ.get("KILLS", "1"))
TIMED = ("seconds", "per_second")
MINE = """
from torch import nn


class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(1024, 4), nn.Linear(2, 1024)

    def encode(self, x):
        return self.encoder(x.flatten(1)).chunk(2, dim=1)

    def decode(self, z):
        return self.decoder(z).sigmoid().unflatten(1, (1, 32, 32))
"""
STUDY = {
    "title": "two seeds",
    "report": "scores",
    "options": TINY,
    "models": {"vae": {}},
    "variants": {"few": {"samplers": ["mixture"], "sampler.mixture.n_components": 2}},
    "sizes": {"ci": {"seeds": 2, "data": {"digits": {}}}},
}
SPACE = {"fixed": {"model.name": "vae", "data.name": "digits"}, "search": {"model.beta": {"choice": [0.1, 1.0]}}}
SCORED = ["--dataset=digits", "--extractor=pixels", "--n_samples=60", "--samplers=prior", "--scores=frechet"]
BRAINS = ["--data.root=data", "--data.split=disjoint", "--data.val_fraction=0.4", "--model.network=mlp"]
BRAINS += ["--model.width=8", "--model.latent_dim=2", "--training.epochs=1", "--training.batch_size=2"]
BRAINS += ["--n_samples=4", "--extractor=pixels", "--scores=frechet", "--samplers=prior"]
GRID = ["--spacing=8", "--shape=[176,208,22]", "--at=[0.45,0.55]", "--shown=3"]
LOCAL = ["--concurrency=1", "--cpus=1"]


def call(module, *flags):
    entry.call(module.main, list(flags))


def model():
    return next(Path("runs").glob("*/model.safetensors"))


def train_first():
    call(train, *FLAGS)


def train_or_resume():
    begun = list(Path("runs").glob("*/checkpoint.safetensors"))
    call(train, *([f"--resume={begun[0].parent}"] if begun else FLAGS))


def sweep_or_resume():
    """Continue the sweep that was begun, if it came so far that it can be."""
    client = mlflow.MlflowClient()
    begun = [run.info.run_id for run in runs(client.tracking_uri) if run.data.tags.get("role") == "sweep"]
    for run_id in begun:
        if client.list_artifacts(run_id):
            return call(sweep, f"--resume={run_id}", *LOCAL)
    return call(sweep, "--space=space.yaml", "--search=grid", "--seeds=1", *LOCAL, *FLAGS)


def adopted():
    sys.path.insert(0, "user")
    call(adopt, "--path=mine.pt", "--kind=weights", "--module=mine:Mine", "--register=mine", *SCORED)


def promoted():
    """Promote a run; once it is champion, it is refused with exit code 3."""
    # `mlflow run` has made a run for this process, which is newer
    candidate = next(run for run in runs(mlflow.get_tracking_uri()) if "best_sampler" in run.data.tags)
    with suppress(SystemExit):
        call(promote, f"--candidate={candidate.info.run_id}", "--min_novelty=0", "--min_nearest=0")


def output(name):
    """Return a flag with the first folder that is not there: nothing is overwritten."""
    return f"--output={next(f'{name}{i}' for i in range(9) if not Path(f'{name}{i}').exists())}"


def write_mine():
    Path("user").mkdir()
    Path("user/mine.py").write_text(MINE)
    sys.path.insert(0, "user")
    torch.manual_seed(0)
    torch.save(__import__("mine").Mine().state_dict(), "mine.pt")


def write_brains():
    write_cohort("source", subjects=6, voxel=8)


def train_on_brains():
    write_brains()
    call(prepare, "--dataset=oasis", "--source=source", "--root=data", *GRID)
    call(train, "--dataset=oasis", *BRAINS)
    shutil.rmtree("source")


@dataclass(frozen=True)
class Row:
    """How an entry point is called, what must be there before, and how large a part of KILLS it gets."""

    work: object
    set_up: object = lambda: None
    share: float = 1.0


ROWS = {
    "train": Row(train_or_resume),
    "prepare": Row(
        lambda: call(prepare, "--dataset=mnist", "--source=original", "--root=data"),
        lambda: write_mnist(Path("original"), n=10_020),
    ),
    "prepare brains": Row(
        lambda: call(prepare, "--dataset=oasis", "--source=source", "--root=data", *GRID), write_brains
    ),
    "cohort": Row(lambda: call(cohort, "--folder=written", "--subjects=3", "--voxel=8")),
    "inspect": Row(lambda: call(inspect, "--source=source"), write_brains),
    "generate": Row(lambda: call(generate, f"--model={model()}", "--n=30", output("drawn")), train_first),
    "brains": Row(lambda: call(brains, f"--model={model()}", "--n=3", output("drawn")), train_on_brains),
    "evaluate": Row(
        lambda: call(evaluate, f"--model={model()}", "--n=60", "--extractor=pixels", "--cache=cache"),
        train_first,
    ),
    "report": Row(lambda: call(report), train_first),
    "adopt": Row(adopted, write_mine),
    "import_checkpoint": Row(
        lambda: call(import_checkpoint, "--path=best.pt", *SCORED), lambda: torch.save(published(), "best.pt")
    ),
    "promote": Row(promoted, train_first),
    "study": Row(
        lambda: call(study, "--name=two.yaml", "--size=ci", "--output=report"),
        lambda: Path("two.yaml").write_text(yaml.safe_dump(STUDY | {"about": ""})),
    ),
    "main": Row(
        lambda: call(main, "--comparison=two.yaml", "--register=tiny", *LOCAL, *FLAGS),
        lambda: Path("two.yaml").write_text(yaml.safe_dump({"runs": {"a": {"model.name": "vae"}}})),
        share=0.5,
    ),
    "sweep": Row(sweep_or_resume, lambda: Path("space.yaml").write_text(yaml.safe_dump(SPACE)), share=0.5),
}

SOME = ("train", "prepare", "inspect", "generate", "promote")


def finished(uri):
    """Return what the finished runs of a store hold, without times; what was done twice counts once."""
    # a promotion that was killed after its move is refused when it is repeated: its model is the champion
    skipped = ("resume", "promotion")
    found = [run for run in runs(uri) if run.info.status == "FINISHED" and run.data.tags.get("role") not in skipped]
    return {(run.info.run_name, *sorted(_numbers(uri, run).items())) for run in found}


def _numbers(uri, run):
    """Return every point of every metric of a run as text; MLflow keeps the scores of a registered model twice."""
    names = [name for name in run.data.metrics if not name.endswith(TIMED)]
    once = set if run.outputs and run.outputs.model_outputs else list
    return {name: str(sorted(once(points(uri, run, name)))) for name in names}


def files():
    """Return the names of all files, without numbers and identifiers, but those of runs, stores and Python."""
    skipped = ("runs", "mlruns", "log", "mlflow.db", "user", "moments")
    found = [p for p in Path().rglob("*") if p.is_file() and not p.parts[0].startswith(skipped)]
    return {re.sub(r"[0-9a-f]{16,}|\d+", "#", str(path)) for path in found}


def aliases(uri):
    """Return the aliases of each registered model; no run is registered twice."""
    client = mlflow.MlflowClient(uri)
    registered = [version.run_id for version in client.search_model_versions()]
    assert len(registered) == len(set(registered))
    return {model.name: sorted(model.aliases) for model in client.search_registered_models()}


class Place:
    """A folder with a store, which is copied for each case."""

    def __init__(self, folder, monkeypatch):
        self.folder, self._patch = folder, monkeypatch

    @property
    def uri(self):
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    def enter(self):
        self._patch.chdir(self.folder)
        self._patch.setenv("MLFLOW_TRACKING_URI", self.uri)
        self._patch.setenv("PYTHONPATH", str(Path(entry.__file__).parents[1]))  # Ray's workers start in this folder
        self._patch.setenv("RAY_worker_niceness", "0")  # by default 15: on a busy machine they would hardly run
        return self

    def copy(self, name):
        return Place(Path(shutil.copytree(self.folder, self.folder.with_name(name))), self._patch).enter()

    def run(self, work, moment=0, kill_after=None, by_mlflow=False):
        """Do `work` in a process of its own; note how many moments it has."""

        def process():
            if by_mlflow:
                run_id = os.environ["MLFLOW_RUN_ID"] = mlflow.MlflowClient().create_run(EXPERIMENT).info.run_id
                claim_run(entry.RUNS, run_id, self.uri)
            seen = die_anywhere(moment)
            work()
            Path("moments").write_text(str(seen()))

        return fork(process, kill_after)


@pytest.mark.timeout(1200 + 60 * KILLS)
@pytest.mark.parametrize("name", ROWS if "KILLS" in os.environ else SOME)
def test_kills_change_nothing(name, uri, tmp_path, monkeypatch):
    row, chance, n = ROWS[name], random.Random(name), max(1, round(KILLS * ROWS[name].share))
    template = Place(tmp_path / "template", monkeypatch)
    template.folder.mkdir()
    shutil.copy(tmp_path / "mlflow.db", template.folder)
    template.enter()
    assert fork(row.set_up) == 0, Path("log").read_text()
    whole, started = template.copy("whole"), time.monotonic()
    assert whole.run(row.work) == 0, Path("log").read_text()
    duration, moments = time.monotonic() - started, int(Path("moments").read_text())
    expected = finished(whole.uri), files(), aliases(whole.uri)
    ends = Counter()
    while (missing := n - ends[-signal.SIGKILL]) > 0:
        case = template.copy(f"case{ends.total()}")
        end = -signal.SIGKILL
        for _ in range(min(missing, chance.randint(1, 4))):
            at = {"moment": chance.randint(1, moments)}
            if chance.random() < 0.3:
                at = {"kill_after": chance.uniform(0, duration)}
            end = case.run(row.work, **at, by_mlflow=chance.random() < 0.5)
            ends[end] += 1
            assert end in (0, -signal.SIGKILL), Path("log").read_text()
            if end == 0:
                break
        if end:
            assert case.run(row.work, by_mlflow=chance.random() < 0.5) == 0, Path("log").read_text()
        where = f"{name}, {case.folder}, last {at}"
        statuses = {run.info.status for run in runs(case.uri) if run.data.tags.get("verdict") != "refused"}
        assert statuses <= {"FINISHED", "KILLED"}, where
        assert finished(case.uri) == expected[0], where
        assert files() == expected[1], where
        assert aliases(case.uri) == expected[2], where
        assert not left(), where
    print(f"{name}: {dict(ends)} of {moments} moments in {duration:.1f} s")
