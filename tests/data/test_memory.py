"""Loading takes the uint8 result and a chunk beside it, not the floats of the file: seen in a fresh process."""

import subprocess
import sys

import numpy as np
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
read = {"celeba": celeba.read_tensor, "npz": npz.read_images}[sys.argv[1]]
read(Path(sys.argv[2]))  # what a first call loads and keeps, whatever its size
before = peak()
images = read(Path(sys.argv[3]))
print((peak() - before) / images.numel())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
@pytest.mark.parametrize("kind", ["celeba", "npz"])
def test_loading_takes_at_most_a_fifth_more_than_the_result(tmp_path, kind):
    images = torch.rand(4000, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    paths = []
    for name, part in {"few": images[:40].clone(), "all": images}.items():
        paths.append(str(tmp_path / name))
        with (tmp_path / name).open("wb") as file:
            if kind == "celeba":
                torch.save(part, file)
            else:
                np.savez(file, x_train=part.mul(255).permute(0, 2, 3, 1).contiguous().numpy())
    done = subprocess.run([sys.executable, "-c", PEAK, kind, *paths], capture_output=True, text=True, check=True)
    assert 0.9 < float(done.stdout) <= 1.2
