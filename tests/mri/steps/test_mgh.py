"""FreeSurfer's files, against nibabel."""

import gzip

import nibabel as nib
import numpy as np
import pytest

from geovae.mri import read_volume
from geovae.mri.steps.orient import canonical
from tests.mri.originals import affine_of, head, to_axes
from tests.mri.steps.test_read import REAL
from tests.mri.steps.test_space import ORDERS


def test_a_real_file_of_several_frames_is_refused():
    with pytest.raises(ValueError, match=r"`test.mgz` holds 2 time points, shape \(3, 4, 5, 2\)"):
        read_volume(REAL / "test.mgz")


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32])
@pytest.mark.parametrize("ending", ["mgh", "mgz"])
def test_files_read_as_nibabel_reads_them(tmp_path, kind, ending):
    data, affine = (head() // 20).astype(kind), np.diag([-2.0, 1.5, 3.0, 1.0])
    nib.save(nib.MGHImage(data, affine), tmp_path / f"a.{ending}")
    volume = read_volume(tmp_path / f"a.{ending}")
    np.testing.assert_array_equal(volume.data, data)
    np.testing.assert_allclose(volume.affine, nib.load(tmp_path / f"a.{ending}").affine)
    np.testing.assert_allclose(volume.affine, affine)
    assert volume.history[0]["affine"] == "ras"


@pytest.mark.parametrize("axes", ORDERS[::5])
def test_axes_come_back_in_order(tmp_path, axes):
    data = head()
    nib.save(nib.MGHImage(to_axes(data, axes), affine_of(axes, data.shape)), tmp_path / "a.mgz")
    np.testing.assert_array_equal(canonical(read_volume(tmp_path / "a.mgz")).data, data)


def test_bad_files_have_their_sentence(tmp_path):
    path = tmp_path / "a.mgz"
    nib.save(nib.MGHImage(head(), np.eye(4)), path)
    content = bytearray(gzip.decompress(path.read_bytes()))
    without = bytes(content[:28]) + bytes(2) + bytes(content[30:])
    path.write_bytes(gzip.compress(without))
    with pytest.raises(ValueError, match="nothing says where left and front are"):
        read_volume(path)
    path.write_bytes(gzip.compress(content[:-2000]))
    with pytest.raises(ValueError, match="it is truncated"):
        read_volume(path)
    path.write_bytes(gzip.compress(bytes(content[:20]) + b"\0\0\0\7" + bytes(content[24:])))
    with pytest.raises(ValueError, match="holds values of type 7: plain integers or floats are needed"):
        read_volume(path)
