"""Loading takes the uint8 result and a chunk beside it, not the floats of the file: seen in a fresh process."""

import subprocess
import sys

import pytest
import torch

PEAK = """
import sys, torch
from pathlib import Path
from geovae.data import celeba, npz

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))

torch.zeros(9).mul(2)
celeba.CHUNK, npz.CHUNK = 16, 1 << 18
before = peak()
images = {"celeba": celeba.read_tensor, "npz": npz.read_images}[sys.argv[1]](Path(sys.argv[2]))
print((peak() - before) / images.numel())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
@pytest.mark.parametrize("kind", ["celeba", "npz"])
def test_loading_takes_at_most_a_fifth_more_than_the_result(tmp_path, kind):
    import numpy as np

    images = torch.rand(4000, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "data"
    if kind == "celeba":
        torch.save(images, path)
    else:
        with path.open("wb") as file:
            np.savez(file, x_train=images.mul_(255).permute(0, 2, 3, 1).contiguous().numpy())
    done = subprocess.run([sys.executable, "-c", PEAK, kind, str(path)], capture_output=True, text=True, check=True)
    assert 0.9 < float(done.stdout) <= 1.2
