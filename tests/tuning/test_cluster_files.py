"""The files for clusters: against Ray's own schema and options, as far as Ray's package has them."""

import copy
import json
import re
import shlex
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from experiments.config import parse_options, resolve
from mlflow_projects import sweep
from mlflow_projects.command_line import bind

ray = pytest.importorskip("ray")
FILES = Path(__file__).parents[2] / "tuning" / "cluster"
SCHEMA = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
ON_PREMISES = yaml.safe_load((FILES / "on_premises.yaml").read_text())
JOB = yaml.safe_load((FILES / "kuberay.yaml").read_text())


def test_the_file_of_own_machines_follows_rays_schema():
    from ray.autoscaler._private.util import prepare_config, validate_config

    jsonschema.validate(ON_PREMISES, SCHEMA)
    with pytest.raises(jsonschema.ValidationError, match="head_ips"):  # the schema does notice
        jsonschema.validate(ON_PREMISES | {"head_ips": []}, SCHEMA)
    prepared = prepare_config(copy.deepcopy(ON_PREMISES))  # as `ray up` does
    validate_config(prepared)
    (node_type,) = prepared["available_node_types"].values()
    assert node_type["min_workers"] == node_type["max_workers"] == len(ON_PREMISES["provider"]["worker_ips"])


def test_ray_start_has_the_options_that_the_files_give():
    from ray.scripts.scripts import start

    known = {name for parameter in start.params for name in parameter.opts}
    own_machines = [*ON_PREMISES["head_start_ray_commands"], *ON_PREMISES["worker_start_ray_commands"]]
    slurm = (FILES / "slurm.sh").read_text().replace("\\\n", " ").splitlines()
    given = [re.split(r"\bstart ", line)[-1] for line in (*own_machines, *slurm) if re.search(r'start ["-]', line)]
    found = {flag for options in given for flag in re.findall(r"(?<!\S)--[a-z-]+", options)}
    assert {"--head", "--address", "--num-gpus", "--block"} <= found <= known
    groups = [JOB["spec"]["rayClusterSpec"]["headGroupSpec"], *JOB["spec"]["rayClusterSpec"]["workerGroupSpecs"]]
    assert {f"--{name}" for group in groups for name in group["rayStartParams"]} <= known


def test_the_job_of_kuberay_runs_the_sweep_with_the_pinned_ray():
    pins = (FILES.parents[1] / "requirements.txt").read_text()
    assert f"ray=={JOB['spec']['rayClusterSpec']['rayVersion']}\n" in pins
    words = shlex.split(shlex.split(JOB["spec"]["entrypoint"])[-1])
    flags = words[words.index("mlflow_projects.sweep") + 1 :]
    arguments = bind(sweep.main, parse_options(flags))
    assert arguments["cluster"].address == "auto"
    resolve(arguments["options"])


def test_the_script_of_slurm_is_bash_and_names_the_sweep():
    subprocess.run(["bash", "-n", str(FILES / "slurm.sh")], check=True)
    script = (FILES / "slurm.sh").read_text()
    assert re.search(r'^mlflow run \. -e sweep --env-manager local .*"\$@"$', script, re.MULTILINE)
    # of sbatch's manual; it reads these lines before the first command
    directives = re.findall(r"^#SBATCH --([a-z-]+)=", script.partition("set -euo")[0], re.MULTILINE)
    assert set(directives) == {
        "job-name",
        "nodes",
        "ntasks-per-node",
        "cpus-per-task",
        "gpus-per-node",
        "time",
        "output",
    }
    assert script.count("#SBATCH") == len(directives)


def test_every_file_demands_a_token():
    commands = [*ON_PREMISES["head_start_ray_commands"], *ON_PREMISES["worker_start_ray_commands"]]
    starts = [command for command in commands if "ray start" in command]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts)
    assert "RAY_AUTH_MODE=token" in (FILES / "slurm.sh").read_text()
    assert JOB["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert "RAY_AUTH_MODE" not in (FILES / "kuberay.yaml").read_text()  # the operator sets it
