"""The npz reads as numpy's own, and its bytes depend on the content alone."""

import zipfile

import numpy as np
import pytest

from geovae.mri.cohort.outputs import write_npz


def test_the_npz_reads_as_numpy_wrote_it_and_holds_no_time(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 4, 1), dtype=np.uint8)
    arrays = {"x_train": images, "y_train": np.arange(5), "ids": np.array(["a", "bb", "c"]), "settings": "{}"}
    path = write_npz(tmp_path / "x.npz", arrays)
    with np.load(path, allow_pickle=False) as found:
        assert found.files == list(arrays)
        for name, values in arrays.items():
            np.testing.assert_array_equal(found[name], values)
    with zipfile.ZipFile(path) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"allow_pickle"):
        write_npz(tmp_path / "x.npz", {"x_train": np.array([object()])})
    assert list(tmp_path.iterdir()) == []
