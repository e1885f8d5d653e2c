"""The npz, written as a stream."""

import numpy as np
import pytest

from geovae.mri.cohort.outputs import write_npz


def pictures(n=5):
    images = np.random.default_rng(0).integers(0, 256, (n, 6, 4), dtype=np.uint8)
    images[:, 0, 0], images[:, 0, 1] = 0, 255
    return images


def test_a_streamed_npz_reads_as_numpy_wrote_it(tmp_path):
    images = pictures()
    more = {"y_train": np.arange(5), "ids": np.array(["a", "bb", "c", "d", "e"]), "settings": "{}"}
    path = write_npz(tmp_path / "x.npz", (images[i : i + 2] for i in (0, 2, 4)), images.shape, more)
    with np.load(path, allow_pickle=False) as found:
        np.testing.assert_array_equal(found["x_train"], images[..., None])
        for name, values in more.items():
            np.testing.assert_array_equal(found[name], values)
    again = write_npz(tmp_path / "y.npz", [images], images.shape, more)
    assert again.read_bytes() == path.read_bytes()


def test_a_failed_stream_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"`images` held 5 rows, 6 were announced"):
        write_npz(tmp_path / "x.npz", [pictures()], (6, 6, 4), {})
    with pytest.raises(ValueError, match=r"images must be uint8"):
        write_npz(tmp_path / "x.npz", [pictures() / 255], (5, 6, 4), {})
    assert list(tmp_path.iterdir()) == []
