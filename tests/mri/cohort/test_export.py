"""The npz, streamed; its checks; and the way back to NIfTI."""

import nibabel as nib
import numpy as np
import pytest

from geovae.mri import (
    Volume,
    array_to_volume,
    check_npz,
    cut_plane,
    normalise,
    picture_to_volume,
    quantise,
    read_volume,
    to_image,
    write_nifti,
)
from geovae.mri.cohort.export import atomic, write_npz
from tests.mri.originals import head

T88 = np.array([[1.0, 0, 0, -88], [0, 1, 0, -123], [0, 0, 1, -75], [0, 0, 0, 1]])


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
    assert check_npz(path) == []
    again = write_npz(tmp_path / "y.npz", [images], images.shape, more)
    assert again.read_bytes() == path.read_bytes()


def test_a_failed_stream_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"`images` held 5 rows, 6 were announced"):
        write_npz(tmp_path / "x.npz", [pictures()], (6, 6, 4), {})
    with pytest.raises(ValueError, match=r"images must be uint8"):
        write_npz(tmp_path / "x.npz", [pictures() / 255], (5, 6, 4), {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.npz", "b.nii.gz", "c.csv"])
def test_files_appear_whole_and_keep_their_ending(tmp_path, name):
    (tmp_path / name).write_text("old")

    def spoilt():
        with atomic(tmp_path / name) as partial:
            partial.write_text("new")
            assert partial.name.endswith(name[1:])
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        spoilt()
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "old"


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"x_train": pictures()}, r"missing key y_train; it holds x_train"),
        (
            {"x_train": pictures(), "y_train": np.arange(5)},
            r"`x_train` must have shape \(n, h, w, 1\), got \(5, 6, 4\)",
        ),
        ({"x_train": pictures()[..., None].astype("U3"), "y_train": np.arange(5)}, r"must hold numbers, got <U3"),
        (
            {"x_train": pictures()[..., None] // 2, "y_train": np.arange(5)},
            r"from 0 to 255, 5 do not: the first is row 0",
        ),
        ({"x_train": pictures()[..., None], "y_train": np.arange(4)}, r"`y_train` has 4 rows, `x_train` 5"),
        ({"x_train": pictures()[..., None], "y_train": np.array([1, "a"], object)}, r"`y_train` is an object array"),
    ],
)
def test_bad_npz_files_have_their_sentence(tmp_path, arrays, sentence):
    import re

    np.savez(tmp_path / "x.npz", **arrays)
    problems = check_npz(tmp_path / "x.npz")
    assert any(re.search(sentence, p.sentence) for p in problems), problems


def test_a_damaged_npz_has_its_sentence(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=pictures()[..., None], y_train=np.arange(5))
    (tmp_path / "x.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:300])
    assert "not a sound npz archive" in check_npz(tmp_path / "x.npz")[0].sentence
    assert "not a sound npz archive" in check_npz(tmp_path / "none.npz")[0].sentence


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
