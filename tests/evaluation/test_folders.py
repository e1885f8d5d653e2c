"""Image folders: every format, suffix and bit depth; what is wrong is named."""

import numpy as np
import pytest
import torch
from PIL import Image

from geovae.evaluation import read_images
from geovae.evaluation.folders import read_labels


def png(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, format="PNG")


@pytest.fixture
def gray(generator):
    return torch.randint(0, 256, (4, 1, 6, 5), generator=generator, dtype=torch.uint8)


def test_suffixes_sub_folders_and_order(gray, tmp_path):
    for name, image in zip(("a.png", "b.PNG", "sub/deeper/c.Png", "z.png"), gray, strict=True):
        png(tmp_path / name, image[0].numpy())
    (tmp_path / "notes.txt").write_text("not an image")
    with pytest.warns(UserWarning, match=r"not read as images are 1 of another suffix \(notes.txt\)"):
        found = read_images(tmp_path)
    assert found.dtype == torch.uint8
    assert torch.equal(found, gray)


def test_arrays_beside_pictures(gray, tmp_path):
    np.save(tmp_path / "a.npy", gray[:2].numpy())
    np.savez(tmp_path / "b.NPZ.npz", images=gray[2:3].numpy(), labels=np.zeros(1))
    png(tmp_path / "c.png", gray[3, 0].numpy())
    assert torch.equal(read_images(tmp_path), gray)


def test_jpeg_and_colour(tmp_path):
    colour = np.tile(np.array([200, 100, 50], np.uint8), (16, 16, 1))
    Image.fromarray(colour).save(tmp_path / "a.JPEG", quality=95)
    Image.fromarray(colour).save(tmp_path / "b.jpg", quality=95)
    found = read_images(tmp_path)
    assert found.shape == (2, 3, 16, 16)
    expected = torch.tensor([200.0, 100, 50])[None, :, None, None]
    assert float((found.float() - expected).abs().max()) < 4


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    levels = np.linspace(0, 65535, 30).astype(np.uint16).reshape(5, 6)
    png(tmp_path / "a.png", levels)
    np.save(tmp_path / "b.npy", levels)
    found = read_images(tmp_path)
    assert found.dtype == torch.float32
    for image in found:
        np.testing.assert_allclose(image[0], levels / 65535, atol=1e-6)


def test_eight_and_sixteen_bits_meet_on_one_scale(tmp_path):
    png(tmp_path / "a.png", np.full((4, 4), 51, np.uint8))
    png(tmp_path / "b.png", np.full((4, 4), 13107, np.uint16))
    torch.testing.assert_close(read_images(tmp_path), torch.full((2, 1, 4, 4), 0.2))


@pytest.mark.parametrize("layout", ["nchw", "nhwc", "hw", "chw", "hwc"])
def test_array_layouts(layout, generator, tmp_path):
    images = torch.rand(3, 3 if "c" in layout else 1, 6, 5, generator=generator)
    array = {
        "nchw": images,
        "nhwc": images.permute(0, 2, 3, 1),
        "chw": images[0],
        "hwc": images[0].permute(1, 2, 0),
        "hw": images[0, 0],
    }[layout].numpy()
    np.save(tmp_path / "a.npy", array)
    found = read_images(tmp_path / "a.npy")
    assert torch.equal(found, images if "n" in layout else images[:1])


def test_palettes_and_black_and_white(tmp_path):
    Image.fromarray(np.full((4, 4), 255, np.uint8)).convert("1").save(tmp_path / "bw.png")
    assert torch.equal(read_images(tmp_path / "bw.png"), torch.full((1, 1, 4, 4), 255, dtype=torch.uint8))
    Image.new("RGB", (4, 4), (10, 200, 30)).quantize(4).save(tmp_path / "palette.png")
    assert read_images(tmp_path / "palette.png")[0, :, 0, 0].tolist() == [10, 200, 30]
    Image.new("RGBA", (4, 4), (1, 2, 3, 255)).save(tmp_path / "opaque.png")
    assert read_images(tmp_path / "opaque.png")[0, :, 0, 0].tolist() == [1, 2, 3]


def test_nothing_to_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no images at .*absent: there is no such"):
        read_images(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=r"looked for .png, .jpg.*sub-folders included"):
        read_images(tmp_path)


def test_unreadable_files_are_named(gray, tmp_path):
    png(tmp_path / "good.png", gray[0, 0].numpy())
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:40])
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "zip.npz").write_bytes(b"PK\x03\x04")
    np.save(tmp_path / "object.npy", np.array([object()]))
    with pytest.raises(ValueError, match=r"4 of 5 images in .* cannot be used.*cut.png.*object.npy.*text.jpg.*zip.npz"):
        read_images(tmp_path)


def test_mixed_sizes_are_named(tmp_path):
    png(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    png(tmp_path / "b.png", np.zeros((4, 5), np.uint8))
    with pytest.raises(
        ValueError, match=r"b.png: is 4x5 \(h x w\), expected 4x4. Remove them, or bring all to one size"
    ):
        read_images(tmp_path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 1, 4, 4), np.int32), "uint8, uint16 or floating point, got int32"),
        (np.full((2, 1, 4, 4), 2.0), r"must lie in \[0, 1\]"),
        (np.zeros(4), "2 to 4 axes"),
    ],
)
def test_arrays_that_are_no_images(array, message, tmp_path):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ValueError, match=message):
        read_images(tmp_path)


def test_npz_without_a_clear_array_and_transparency(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((1, 4, 4)), y=np.zeros((1, 4, 4)))
    with pytest.raises(ValueError, match=r"needs an array called 'images', it holds x, y"):
        read_images(tmp_path / "a.npz")
    Image.new("RGBA", (4, 4), (1, 2, 3, 100)).save(tmp_path / "glass.png")
    with pytest.raises(ValueError, match=r"glass.png has mode RGBA and transparent pixels"):
        read_images(tmp_path / "glass.png")


def test_labels_are_a_row_of_whole_numbers(tmp_path):
    np.save(tmp_path / "labels.npy", np.array([3, 1, 2], np.uint8))
    assert read_labels(tmp_path / "labels.npy").tolist() == [3, 1, 2]
    with pytest.raises(FileNotFoundError, match=r"no labels at .*none\.npy: expected an npy file of whole numbers"):
        read_labels(tmp_path / "none.npy")
    np.save(tmp_path / "floats.npy", np.zeros((2, 1)))
    with pytest.raises(ValueError, match=r"must be a row of whole numbers .* holds float64 of shape \(2, 1\)"):
        read_labels(tmp_path / "floats.npy")
    (tmp_path / "text.npy").write_text("1, 2")
    with pytest.raises(ValueError, match=r"text\.npy` is not a sound npy file"):
        read_labels(tmp_path / "text.npy")
    np.savez(tmp_path / "many.npz", a=np.zeros(2, int), b=np.zeros(2, int))
    with pytest.raises(ValueError, match=r"many\.npz` is not a sound npy file"):
        read_labels(tmp_path / "many.npz")
