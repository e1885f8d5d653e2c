"""The Frechet distance on the command line agrees with pytorch-fid's own function on the same statistics."""

import os

import numpy as np
import pytest
import torch

from geovae.evaluation import Statistics, write_statistics
from geovae.evaluation.inception import Inception
from mlflow_projects import frechet
from mlflow_projects.generate import write_pngs


@pytest.fixture
def call(end):
    return lambda *flags: end(frechet, *flags)


@pytest.fixture
def folders(tmp_path, generator):
    """Two folders of 40 small pictures each."""
    for name, shift in (("a", 0), ("b", 60)):
        pixels = torch.randint(0, 190, (40, 1, 4, 4), dtype=torch.uint8, generator=generator) + shift
        write_pngs(tmp_path / name, pixels.to(torch.uint8))
    return tmp_path


def test_saved_statistics_and_folders_give_pytorch_fids_distance(call, folders):
    assert call("a", "--save-stats=a.npz", "--extractor=pixels")[0] == 0
    assert call("b", "--save-stats=b.npz", "--extractor=pixels")[0] == 0
    with np.load("a.npz") as a, np.load("b.npz") as b:
        from scipy.linalg import sqrtm

        # pytorch-fid's formula with scipy's own square root, whose signature its function no longer fits
        cross = np.trace(sqrtm(a["sigma"] @ b["sigma"]).real)
        expected = ((a["mu"] - b["mu"]) ** 2).sum() + np.trace(a["sigma"]) + np.trace(b["sigma"]) - 2 * cross
    for pair in (("a", "b"), ("a.npz", "b.npz"), ("a", "b.npz")):
        code, said = call(*pair, "--extractor", "pixels", "--batch-size=7", "--device", "cpu")
        assert code == 0
        name, _, value = said.out.partition(": ")
        assert name == "fd_pixels"
        assert float(value) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("extractor", "name"), [(None, "frechet"), (Inception.id, "fid"), ("mine-1", "fd_mine-1")])
def test_files_of_statistics_are_called_what_they_are(call, folders, extractor, name):
    """Without images no network is asked for, and the one at hand gives no name to what it did not see."""
    for file in ("a.npz", "b.npz"):
        write_statistics(file, Statistics(torch.zeros(3).double(), torch.eye(3).double(), extractor=extractor))
    code, said = call("a.npz", "b.npz")
    assert (code, said.out) == (0, f"{name}: 0.000000\n")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["a"], "error: give two paths, got 1: a"),
        (["a", "nowhere", "--extractor=pixels"], "error: no images at nowhere"),
        (["a", "b", "--size=3"], "error: unknown option 'size'"),
        (["a", "b", "--extractor"], "error: option --extractor needs a value"),
        (["a", "--save-stats=a.txt"], "error: `path` of statistics must end in .npz, got a.txt"),
        (["a", "half.npz", "--extractor=pixels"], "error: 1 of 1 files cannot be read as images: half.npz"),
    ],
)
def test_bad_input_is_one_sentence(call, folders, flags, sentence):
    write_statistics("half.npz", Statistics(torch.zeros(3).double(), torch.eye(3).double()))
    os.truncate("half.npz", 300)
    code, said = call(*flags)
    assert code == 2
    assert sentence in said.err
