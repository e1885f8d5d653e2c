"""Shared fixtures: the device, private folders, one thread a process; no test reaches the network."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["MPLBACKEND"] = "Agg"

import pytest
import torch

pytest.register_assert_rewrite("tests.tuning.exact")  # no test file, but it asserts
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every test that takes `device` runs on the CPU always, and on the GPU where there is one."""
    return torch.device(request.param)


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded CPU generator."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True)
def private_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's own caches."""
    home = tmp_path_factory.mktemp("home")
    for name in ("HOME", "TORCH_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(home))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file comes first, so that other processes have something to do meanwhile."""
    items.sort(key=lambda item: item.path.name != "test_faults.py")
