"""The measurements on a GPU run on a CPU too, with everything small: a rare machine must not meet a typing error."""

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks import gpu

ROOT = Path(__file__).parents[1]


def test_on_a_gpu_what_is_timed_has_a_process_for_itself_and_nothing_beside_it():
    *timed, last = gpu.group(Namespace(dry=False, sections=list(gpu.LIMITS)))
    assert timed == [[[name]] for name in gpu.LIMITS if name not in gpu.SIDE_BY_SIDE]
    assert last == [[name] for name in gpu.SIDE_BY_SIDE]
    dry = gpu.group(Namespace(dry=True, sections=list(gpu.LIMITS)))
    assert sorted(name for names in dry[0] for name in names) == sorted(gpu.LIMITS)


def test_the_tests_with_a_device_are_found():
    found = gpu.find_tests()
    assert {"tests/test_devices.py", "tests/samplers/test_samplers.py", "tests/models/test_models.py"} <= set(found)
    assert "tests/test_docs.py" not in found


@pytest.mark.slow
def test_a_dry_run_measures_everything(tmp_path):
    out = tmp_path / "gpu.jsonl"
    subprocess.run([sys.executable, "benchmarks/gpu.py", str(out), "--dry"], cwd=ROOT, check=True, timeout=280)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert not [line for line in lines if "error" in line]
    ends = {line["section"]: line["ended"] for line in lines if "ended" in line}
    assert set(ends.values()) == {0}, [line.get("output") for line in lines if line.get("ended")]
    measured = {line["section"] for line in lines if "case" in line}
    assert measured == ends.keys() - {"tests", "tune", "compile"}  # those have no cases on a CPU
    report = subprocess.run(
        [sys.executable, "benchmarks/gpu_report.py", str(out)], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    assert all(f"## {section}" in report for section in ends)
    assert "* k=100 d=16: plain" in report
