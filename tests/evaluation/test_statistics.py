"""pytorch-fid's npz statistics, both ways."""

import numpy as np
import pytest
import torch

from geovae.evaluation import read_statistics, statistics, write_statistics
from geovae.evaluation.inception import import_pytorch_fid


def test_equal_numpys(generator):
    x = torch.randn(20, 4, generator=generator) + 1e3
    found = statistics(x, extractor="pixels")
    np.testing.assert_allclose(found.mu, x.double().numpy().mean(axis=0))
    np.testing.assert_allclose(found.sigma, np.cov(x.double().numpy(), rowvar=False), rtol=1e-10)
    assert (found.n, found.extractor) == (20, "pixels")


def test_what_we_write_pytorch_fid_reads(generator, tmp_path):
    import_pytorch_fid()
    from pytorch_fid.fid_score import compute_statistics_of_path

    values = statistics(torch.randn(20, 4, generator=generator), extractor="inception")
    path = write_statistics(tmp_path / "deep" / "s.npz", values)
    mu, sigma = compute_statistics_of_path(str(path), None, 50, 2048, "cpu")
    np.testing.assert_array_equal(mu, values.mu)
    np.testing.assert_array_equal(sigma, values.sigma)


def test_what_pytorch_fid_writes_we_read(tmp_path):
    mu, sigma = np.arange(3.0), np.eye(3)
    np.savez_compressed(tmp_path / "s.npz", mu=mu, sigma=sigma)
    found = read_statistics(tmp_path / "s.npz")
    np.testing.assert_array_equal(found.mu, mu)
    np.testing.assert_array_equal(found.sigma, sigma)
    assert (found.n, found.extractor) == (None, None)


def test_round_trip_keeps_n_and_extractor(generator, tmp_path):
    values = statistics(torch.randn(5, 2, generator=generator), extractor="random-conv-v1-seed0")
    found = read_statistics(write_statistics(tmp_path / "s.npz", values))
    assert torch.equal(found.sigma, values.sigma)
    assert (found.n, found.extractor) == (5, "random-conv-v1-seed0")


def test_bad_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no statistics at .*absent.npz"):
        read_statistics(tmp_path / "absent.npz")
    with pytest.raises(ValueError, match=r"must end in .npz"):
        write_statistics(tmp_path / "s.pkl", statistics(torch.eye(3)))
    bad = {
        "is not a statistics file": {"mu": np.zeros(2)},
        r"`sigma` must be \(dims, dims\)": {"mu": np.zeros(2), "sigma": np.eye(3)},
        "holds NaN or infinity": {"mu": np.full(2, np.nan), "sigma": np.eye(2)},
        r"`sigma` must be symmetric, but \[0, 1\] is 0.5 and \[1, 0\] is 0": {
            "mu": np.zeros(2),
            "sigma": np.array([[1, 0.5], [0, 1]]),
        },
        r"no covariance.* the lowest variance, \[1, 1\], is -1": {"mu": np.zeros(2), "sigma": np.diag([1.0, -1.0])},
        "no covariance, it has a negative eigenvalue": {"mu": np.zeros(2), "sigma": np.array([[1.0, 3], [3, 1]])},
        "needs `sigma`, real numbers, and holds complex128": {"mu": np.zeros(2), "sigma": np.eye(2) * 1j},
        "`n` must be a whole number of at least 2, got -3": {"mu": np.zeros(2), "sigma": np.eye(2), "n": -3},
    }
    for message, arrays in bad.items():
        np.savez(tmp_path / "bad.npz", **arrays)
        with pytest.raises(ValueError, match=message):
            read_statistics(tmp_path / "bad.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK not a zip")
    with pytest.raises(ValueError, match=r"is not a sound npz archive"):
        read_statistics(tmp_path / "bad.npz")
    np.savez(tmp_path / "bad.npz", mu=np.array([object()]), sigma=np.eye(1))
    with pytest.raises(ValueError, match=r"is not a sound npz archive"):
        read_statistics(tmp_path / "bad.npz")
