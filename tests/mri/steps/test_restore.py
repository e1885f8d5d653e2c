"""Generated pictures and arrays as NIfTI files, at the place of their originals."""

import nibabel as nib
import numpy as np
import pytest

from geovae.mri import Volume, array_to_volume, picture_to_volume, read_volume, write_nifti
from geovae.mri.steps.normalise import normalise, quantise
from geovae.mri.steps.slices import cut_plane, to_image
from tests.mri.originals import head

T88 = np.array([[1.0, 0, 0, -88], [0, 1, 0, -123], [0, 0, 1, -75], [0, 0, 0, 1]])


@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("view", ["neurological", "radiological"])
def test_a_picture_goes_back_to_its_place_exactly(tmp_path, axis, view):
    volume = normalise(Volume(head().astype(np.float32), T88), head() > 0)
    plane = cut_plane(volume, axis, 0.4)
    picture = quantise(to_image(plane.data, axis, view), "volume")
    back = picture_to_volume(picture, plane.affine, axis=axis, view=view)
    path = write_nifti(back, tmp_path / "slice.nii.gz", space="talairach")
    image = nib.load(path)
    along = {"sagittal": 0, "coronal": 1, "axial": 2}[axis]
    levels = np.squeeze(image.get_fdata(dtype=np.float32), along) * 255
    np.testing.assert_allclose(levels, np.rint(plane.data * 255), atol=1e-4)
    np.testing.assert_array_equal(image.affine, plane.affine)
    assert image.header["sform_code"] == image.header["qform_code"] == 3
    assert image.header.get_xyzt_units()[0] == "mm"
    index = [3, 5, 7]
    index[along] = 0
    there = image.affine @ [*index, 1]
    index[along] = plane.index
    np.testing.assert_allclose(there, T88 @ [*index, 1])


def test_a_generated_volume_goes_back_in_its_own_unit(tmp_path):
    values = np.random.default_rng(0).random((5, 6, 7), dtype=np.float32)
    volume = array_to_volume(values, T88, low=100, high=3000)
    path = write_nifti(volume, tmp_path / "v.nii")
    np.testing.assert_allclose(nib.load(path).get_fdata(), 100 + 2900 * values, rtol=1e-5)
    np.testing.assert_array_equal(nib.load(path).affine, T88)
    np.testing.assert_array_equal(read_volume(path).data, volume.data)


def test_bad_requests_have_their_sentence(tmp_path):
    volume = array_to_volume(np.zeros((2, 2, 2)), T88)
    with pytest.raises(ValueError, match=r"`path` must end in .nii or .nii.gz, got `v.img`"):
        write_nifti(volume, tmp_path / "v.img")
    with pytest.raises(ValueError, match=r"`space` must be one of unknown, scanner, aligned, talairach, mni, got 't1'"):
        write_nifti(volume, tmp_path / "v.nii", space="t1")
    with pytest.raises(ValueError, match=r"`picture` must have shape \(rows, columns\), got \(2, 2, 2\)"):
        picture_to_volume(np.zeros((2, 2, 2)), T88, axis="axial", view="radiological")
