"""A copy of the project as a fresh clone is, and two ways to run its entry points: as processes, or in this one.

A process of its own spends 10 to 20 s on imports. Tests whose subject is not a process use `Project.call`.
"""

import io
import os
import runpy
import shlex
import shutil
import subprocess
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import mlflow
import pytest
from mlflow.projects.utils import load_project

ROOT = Path(__file__).parents[2]
EXPERIMENT = "t"


class Project:
    """A copy of the project with its own store."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("geovae", "experiments", "tuning", "mlflow_projects"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("MLproject", "conda.yaml", "requirements.txt", "pyproject.toml"):
            shutil.copy(ROOT / name, folder / name)
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.client = mlflow.MlflowClient(self.uri)
        bin_folder = str(Path(sys.executable).parent)
        # what a test of this process has chosen for itself is no choice of a new clone's
        chosen = ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID")
        self.environment = {name: value for name, value in os.environ.items() if name not in chosen} | {
            "MLFLOW_TRACKING_URI": self.uri,
            "PATH": f"{bin_folder}:{os.environ['PATH']}",
            "PYTHONPATH": "",
        }

    def command(self, entry, *parameters):
        """Return the command line of `mlflow run`."""
        options = [word for parameter in parameters for word in ("-P", parameter)]
        base = [sys.executable, "-m", "mlflow", "run", ".", "-e", entry, "--env-manager", "local"]
        return [*base, "--experiment-name", EXPERIMENT, *options]

    def run(self, entry, *parameters):
        """Run an entry point by `mlflow run`, in two processes: MLflow's and the program's."""
        return subprocess.run(
            self.command(entry, *parameters), cwd=self.folder, env=self.environment, capture_output=True, text=True
        )

    def call(self, entry, *parameters):
        """Do what `mlflow run` does, in this process.

        MLflow makes the command line from MLproject and the parameters, and a run. The program continues this run, and
        MLflow ends it.
        """
        given = dict(parameter.split("=", 1) for parameter in parameters)
        command = load_project(str(self.folder)).get_entry_point(entry).compute_command(given, None)
        exec_, python, option, module, *flags = shlex.split(command)
        assert (exec_, python, option) == ("exec", "python", "-m")
        found = self.client.get_experiment_by_name(EXPERIMENT)
        experiment = found.experiment_id if found else self.client.create_experiment(EXPERIMENT)
        run_id = self.client.create_run(experiment, tags={"mlflow.project.entryPoint": entry}).info.run_id
        done = self.module(module, *flags, MLFLOW_RUN_ID=run_id, MLFLOW_EXPERIMENT_ID=experiment)
        if self.client.get_run(run_id).info.status == "RUNNING":
            self.client.set_terminated(run_id, "FAILED" if done.returncode else "FINISHED")
        return done

    def module(self, module, *flags, **environment):
        """Run `python -m MODULE FLAGS` in this process; return its exit code and output like a finished process's."""
        out, err = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            warnings.catch_warnings(),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            warnings.simplefilter("default")  # as in a process of its own: pytest makes errors of them
            patch.chdir(self.folder)
            for name in ("MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID"):  # a program sets or removes them: taken back here
                patch.setenv(name, "")
                patch.delenv(name)
            for name, value in {"MLFLOW_TRACKING_URI": self.uri, **environment}.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", [module, *flags])
            patch.setattr("signal.signal", lambda *args: None)
            patch.delitem(sys.modules, module, raising=False)  # runpy warns of a module that is loaded already
            with pytest.raises(SystemExit) as ended:
                runpy.run_module(module, run_name="__main__")
        mlflow.set_tracking_uri(None)
        return subprocess.CompletedProcess([module, *flags], ended.value.code, out.getvalue(), err.getvalue())

    def runs(self, query=""):
        experiment = self.client.get_experiment_by_name(EXPERIMENT).experiment_id
        return self.client.search_runs([experiment], query)


def list_files(client, run_id, folder=""):
    """Return the artifacts of a run, those in folders included."""
    found = []
    for item in client.list_artifacts(run_id, folder):
        found += list_files(client, run_id, item.path) if item.is_dir else [item]
    return found
