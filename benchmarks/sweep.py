"""The cost of a sweep beside plain Ray Tune and beside one run after another, and the speed of the store with many
writers.

python benchmarks/sweep.py PART, with PART one of trials, calls, writers, many (see --help for sizes)
"""

import argparse
import multiprocessing
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import mlflow

from experiments.config import resolve
from experiments.describe import describe_run
from experiments.judge import Result
from experiments.run import plan_run, run
from geovae.tracking import MlflowTracker
from tests.tuning.conftest import Server
from tuning.engine import Engine
from tuning.nodes import Resources, connected
from tuning.plan import Configuration, Plan, Run
from tuning.runs import RunStore
from tuning.search import Sampled
from tuning.space import parse_space
from tuning.worker import Worker, WorkerContext

SPACE = parse_space({"search": {"training.learning_rate": {"uniform": [0.1, 1.0]}}}, "benchmark")


class Sleeping(Worker):
    """A trial that sleeps 4 times, with everything else of a real one: its MLflow run, its reports, its end."""

    def work(self) -> Result:
        """Sleep, and return a score."""
        task, seconds = self._task, self._task["seconds"]
        if seconds:
            with MlflowTracker(self._folder, run_id=task["run_id"], tracking_uri=self._context.uri) as tracker:
                for epoch in range(1, 5):
                    time.sleep(seconds / 4)
                    tracker.metrics({"train/loss": 1 / epoch, "val/loss": 1 / epoch}, step=epoch)
                    self.report(epoch, 1 / epoch, compared=False)
        score = {"prior": {"fd": task["rate"]}}
        return Result(task["run_id"], self._folder / "none", "fd", score, {})


class _Queue:
    """A plan of sleeping trials, with the MLflow runs of a real sweep."""

    def __init__(self, plan: Plan, runs: RunStore, seconds: float, on_end: Any = None) -> None:
        self.plan, self.runs, self.seconds = plan, runs, seconds
        self.on_end = on_end or (lambda: None)

    @property
    def finished(self) -> bool:
        return self.plan.finished

    def next(self) -> Any:
        return self.plan.next()

    def requeue(self, trial: Any) -> None:
        self.plan.requeue(trial)

    def task(self, trial: Any) -> dict[str, Any]:
        return {"seconds": self.seconds, "rate": trial.options["training.learning_rate"]}

    def mutable_options(self, trial: Any) -> dict[str, Any]:
        return {}

    def start_run(self, trial: Any) -> str:
        configuration: Configuration = self.plan.configurations[trial.configuration]
        if configuration.run_id is None:
            configuration.run_id = self.runs.start_run(configuration.name, None, {"role": "configuration"})
            self.runs.log(configuration.run_id, params={f"cfg.{k}": v for k, v in trial.options.items()})
        return self.runs.start_run(trial.name, configuration.run_id, {"role": "seed"})

    def on_trial_start(self, trial: Any, run_id: str) -> None:
        self.plan.run_of(trial).run_id = run_id

    def on_trial_end(self, trial: Any, run: Run) -> None:
        self.plan.on_trial_end(trial, run)
        configuration = self.plan.configurations[trial.configuration]
        self.runs.submit(self.runs.end_run, configuration.run_id, "FINISHED", metrics={"best/fd": configuration.mean})
        self.on_end()


def fresh_store(folder: Path) -> RunStore:
    """Return the store of a new sweep in a new SQLite file."""
    uri = f"sqlite:///{folder / f'{time.time_ns()}.db'}"
    client = mlflow.MlflowClient(uri)
    experiment = client.create_experiment("sweep", artifact_location=str(folder / "artifacts"))
    return RunStore(uri, experiment, client.create_run(experiment, run_name="sweep").info.run_id)


def sweep(folder: Path, runs: RunStore, trials: int, seconds: float, on_end: Any = None) -> tuple[float, list[Run]]:
    """Return the seconds that a sweep of sleeping trials takes on a cluster that runs already, and its runs."""
    plan = Plan(Sampled(SPACE, method="random", trials=trials, seed=0), seeds=[1])
    context = WorkerContext(runs.uri, runs.experiment_id, str(folder / f"storage-{time.time_ns()}"))
    started = time.perf_counter()
    engine = Engine(runs, context, Resources(concurrency=2), worker=Sleeping)
    engine.run(_Queue(plan, runs, seconds, on_end))
    engine.flush([])
    return time.perf_counter() - started, [r for c in plan.configurations for r in c.runs.values()]


def bare(folder: Path, trials: int, seconds: float) -> float:
    """Return the seconds that the same takes with Ray Tune alone."""
    from ray import tune

    def trainable(config: dict[str, Any]) -> None:
        for epoch in range(1, 5):
            time.sleep(seconds / 4)
            tune.report({"epoch": epoch, "loss": 1 / epoch})

    started = time.perf_counter()
    tune.Tuner(
        trainable,
        param_space={"rate": tune.uniform(0.1, 1.0)},
        tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=2),
        run_config=tune.RunConfig(storage_path=str(folder / "bare"), name=str(time.time_ns()), verbose=0),
    ).fit()
    return time.perf_counter() - started


def part_trials(options: argparse.Namespace, folder: Path) -> None:
    """20 trials of 2 s on 2 cores: ours, bare Ray Tune, one after another."""
    with connected("local"):
        ours, theirs = [], []
        for _ in range(options.repeats):
            theirs.append(bare(folder, options.trials, options.seconds))
            seconds, runs = sweep(folder, fresh_store(folder), options.trials, options.seconds)
            ours.append(seconds)
            assert {one.state for one in runs} == {"FINISHED"}
    alone = options.trials * options.seconds
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    ideal = alone / 2
    say(f"{options.trials} trials of {options.seconds:g} s, 2 at once, {options.repeats} pairs; Ray runs already")
    say("| geovae | bare Ray Tune | ratio | one after another | overhead a trial |\n|---|---|---|---|---|")
    say(
        f"| {statistics.median(ours):.1f} s | {statistics.median(theirs):.1f} s | {statistics.median(ratios):.2f} "
        f"[{ratios[0]:.2f} to {ratios[-1]:.2f}] | {alone:.0f} s | "
        f"{(statistics.median(ours) - ideal) / options.trials:.2f} s |"
    )


def part_calls(options: argparse.Namespace, folder: Path) -> None:
    """MLflow calls of a run and of an epoch, counted at a real server's door; memory of a whole run."""
    import psutil
    from requests import Session

    server = Server(folder, f"sqlite:///{folder / 'calls.db'}")
    counted = []
    send = Session.send
    Session.send = lambda *a, **k: (counted.append(1), send(*a, **k))[1]
    experiment = mlflow.MlflowClient(server.uri).create_experiment("calls")
    found = {}
    for epochs in (10, 50):
        counted.clear()
        options = {"training.epochs": epochs, "n_samples": 60, "scores": ["frechet"], "images_every": 1000}
        plan = plan_run(resolve(options))
        output = folder / str(epochs)
        with MlflowTracker(output, experiment_id=experiment, name="run", tracking_uri=server.uri) as tracker:
            describe_run("run", plan.config, tracker, output)
            run(plan, output=output, tracker=tracker)
        found[epochs] = len(counted)
    server.stop()
    per_epoch = (found[50] - found[10]) / 40
    rss = psutil.Process().memory_info().rss / 2**20
    say(f"calls of a run of 10 epochs {found[10]}, of 50 epochs {found[50]}: {per_epoch:.2f} an epoch; {rss:.0f} MiB")


def write(uri: str, experiment: str, folder: Path, epochs: int, barrier: Any) -> None:
    """Write 10 metrics an epoch as a run does."""
    with MlflowTracker(folder, experiment_id=experiment, name="run", tracking_uri=uri, close_timeout=600) as tracker:
        barrier.wait()
        for epoch in range(epochs):
            tracker.metrics({f"m{i}": float(epoch) for i in range(10)}, step=epoch)
    barrier.wait()


def part_writers(options: argparse.Namespace, folder: Path) -> None:
    """Points a second that arrive in each kind of store from 1, 4 and 8 processes."""
    postgres = subprocess.Popen([sys.executable, "tools/postgres.py"], stdout=subprocess.PIPE, text=True)
    assert postgres.stdout is not None
    try:
        servers = {}
        for name in ("sqlite", "postgres"):
            (folder / name).mkdir()
            backend = f"sqlite:///{folder / 'server.db'}" if name == "sqlite" else postgres.stdout.readline().strip()
            servers[f"server on {name}"] = Server(folder / name, backend)
        uris = {"SQLite file": f"sqlite:///{folder / 'direct.db'}"} | {n: s.uri for n, s in servers.items()}
        say(f"points a second, {options.epochs} epochs of 10 metrics a writer")
        say("| store | 1 writer | 4 writers | 8 writers |\n|---|---|---|---|")
        for name, uri in uris.items():
            cells = [_throughput(uri, folder, count, options.epochs) for count in (1, 4, 8)]
            say(f"| {name} | " + " | ".join(f"{cell:,.0f}" for cell in cells) + " |")
        for server in servers.values():
            server.stop()
    finally:
        postgres.send_signal(signal.SIGTERM)
        postgres.wait(30)


def _throughput(uri: str, folder: Path, writers: int, epochs: int) -> float:
    experiment = mlflow.MlflowClient(uri).create_experiment(str(time.time_ns()), artifact_location=str(folder / "a"))
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(writers + 1)
    where = [folder / f"w{time.time_ns()}-{i}" for i in range(writers)]
    them = [context.Process(target=write, args=(uri, experiment, out, epochs, barrier)) for out in where]
    for process in them:
        process.start()
    barrier.wait()
    started = time.perf_counter()
    barrier.wait()
    seconds = time.perf_counter() - started
    for process in them:
        process.join()
    runs = mlflow.MlflowClient(uri).search_runs([experiment])
    assert all(r.data.metrics["m9"] == epochs - 1 for r in runs)
    return writers * epochs * 10 / seconds


def part_many(options: argparse.Namespace, folder: Path) -> None:
    """Many no-op trials: through Ray, and for the larger number without it; time and store size per trial."""
    store = fresh_store(folder)
    marks = [time.perf_counter()]
    with connected("local"):
        sweep(folder, store, options.real, 0.0, on_end=lambda: marks.append(time.perf_counter()))
    say("| trials through Ray | ms a trial, first tenth | last tenth | KiB a trial in SQLite |\n|---|---|---|---|")
    say(_growth(options.real, marks, store))
    store = fresh_store(folder)
    plan = Plan(Sampled(SPACE, method="random", trials=options.simulated, seed=0), seeds=[1])
    queue = _Queue(plan, store, 0.0)
    marks = [time.perf_counter()]
    while (trial := plan.next()) is not None:
        run_id = store.submit(queue.start_run, trial).result()
        queue.on_trial_start(trial, run_id)
        store.submit(store.end_run, run_id, "FINISHED")
        queue.on_trial_end(trial, Run(run_id, "FINISHED", trial.options["training.learning_rate"]))
        store.submit(time.time).result()
        marks.append(time.perf_counter())
    say("\n| trials without Ray | ms a trial, first tenth | last tenth | KiB a trial in SQLite |\n|---|---|---|---|")
    say(_growth(options.simulated, marks, store))
    started = time.perf_counter()
    found = store.run_ids()
    say(f"\nreading {len(found)} runs back for a restart: {time.perf_counter() - started:.1f} s")


def _growth(count: int, marks: list[float], store: RunStore) -> str:
    tenth = max(1, count // 10)
    first, last = ((marks[i + tenth] - marks[i]) / tenth * 1000 for i in (0, len(marks) - 1 - tenth))
    size = Path(store.uri.removeprefix("sqlite:///")).stat().st_size / count / 1024
    return f"| {count} | {first:.0f} | {last:.0f} | {size:.1f} |"


def say(text: str) -> None:
    """Print."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run one part."""
    parts = {name.removeprefix("part_"): part for name, part in globals().items() if name.startswith("part_")}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=parts)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--real", type=int, default=1000)
    parser.add_argument("--simulated", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        parts[options.part](options, Path(folder))


if __name__ == "__main__":
    main()
