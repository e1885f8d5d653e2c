"""Folders of pictures as people have them: notebook servers, macOS, links, modes of files, arrays; both readers."""

import numpy as np
import pytest
import torch
from PIL import Image

from geovae.data import DATASETS
from geovae.data.builders import BUILDERS
from geovae.images.pictures import match_channels, read_images

APPLE_DOUBLE = bytes.fromhex("00051607000200004d6163204f5320582020202020202020") + bytes(4072)


def gray(n, h=16, w=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, h, w), dtype=np.uint8)


def write(folder, images):
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i:03d}.png")


def counts(folder, **options):
    """Return how many images of each class all splits of the folder hold together."""
    parts = DATASETS["folder"](root=str(folder.parent), path=folder.name, **options).parts().values()
    assert all(part.labels is not None for part in parts)
    return torch.cat([part.labels for part in parts]).bincount().tolist()


def test_a_notebook_servers_copies_are_no_class_and_no_image(tmp_path):
    for i, name in enumerate(("cat", "dog")):
        write(tmp_path / "pets" / name, gray(30, seed=i))
        write(tmp_path / "pets" / name / ".ipynb_checkpoints", gray(3, seed=i))
    write(tmp_path / "pets/.ipynb_checkpoints", gray(1))
    named = r"3 hidden \(.ipynb_checkpoints, cat/.ipynb_checkpoints, dog/.ipynb_checkpoints\)"
    with pytest.warns(UserWarning, match=named):
        assert counts(tmp_path / "pets") == [30, 30]
    with pytest.warns(UserWarning, match=named):
        assert len(read_images(tmp_path / "pets")) == 60


def test_a_class_folder_may_be_a_link_to_another_disk(tmp_path):
    write(tmp_path / "data/cat", gray(30))
    write(tmp_path / "elsewhere/dog", gray(30, seed=1))
    (tmp_path / "data/dog").symlink_to(tmp_path / "elsewhere/dog")
    assert counts(tmp_path / "data") == [30, 30]
    assert len(read_images(tmp_path / "data")) == 60


def test_companions_that_macos_writes_are_no_images(tmp_path):
    for i, name in enumerate(("real", "fake")):
        write(tmp_path / "sets" / name, gray(20, seed=i))
        (tmp_path / "sets" / name / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        for j in range(20):
            (tmp_path / "sets" / name / f"._{j:03d}.png").write_bytes(APPLE_DOUBLE)
    with pytest.warns(UserWarning, match=r"20 hidden \(\._000.png, .*\.\.\.\)"):
        assert torch.equal(read_images(tmp_path / "sets/real")[:, 0], torch.from_numpy(gray(20)))
    with pytest.warns(UserWarning, match="40 hidden"):
        assert counts(tmp_path / "sets") == [20, 20]
    with pytest.warns(UserWarning, match="40 hidden"):
        report = BUILDERS["folder"](tmp_path / "sets", tmp_path / "built", progress=False)
    assert len(report["sources"]) == 40


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1)], ids=["h w c", "c h w"])
def test_one_npy_an_image_reads_as_the_same_pixels_in_png(tmp_path, axes):
    images = gray(20 * 3, 16, 12).reshape(20, 16, 12, 3)
    write(tmp_path / "png", images)
    (tmp_path / "npy").mkdir()
    for i, image in enumerate(images):
        np.save(tmp_path / f"npy/{i:03d}.npy", image.transpose(axes))
    assert torch.equal(read_images(tmp_path / "npy"), read_images(tmp_path / "png"))
    trained = [DATASETS["folder"](root=str(tmp_path), path=name) for name in ("npy", "png")]
    assert trained[0].digest == trained[1].digest


@pytest.mark.parametrize("shape", [(16, 12, 9), (3, 12, 3), (3, 3, 16), (1, 12, 3)])
def test_three_axes_that_leave_the_channels_open_are_refused_with_the_shape(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match=r"a.npy has shape \({}, {}, {}\): one image is \(h, w, 3\)".format(*shape)):
        read_images(tmp_path)


def test_a_gray_stack_in_an_npz_is_a_stack(tmp_path):
    np.savez(tmp_path / "a.npz", images=gray(20))
    assert read_images(tmp_path).shape == (20, 1, 16, 16)


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "bmp", "tif", "tiff", "gif", "webp"])
def test_both_readers_take_all_suffixes(tmp_path, suffix):
    (tmp_path / "own").mkdir()
    for i in range(10):
        Image.fromarray(np.full((16, 12), 25 * i, np.uint8)).save(
            tmp_path / f"own/{i}.{suffix.upper()}", suffix_of(suffix)
        )
    levels = read_images(tmp_path / "own").float().mean((1, 2, 3))
    assert (levels - torch.arange(0, 250, 25)).abs().max() < 2
    assert sum(len(p) for p in DATASETS["folder"](root=str(tmp_path), path="own").parts().values()) == 10


def suffix_of(name):
    return {"jpg": "JPEG", "tif": "TIFF"}.get(name, name.upper())


# A bright square at the top left on dark, with the number of the picture in the dark.
def picture(i):
    pixels = np.full((40, 32, 3), 20 + i, np.uint8)
    pixels[2:12, 2:12] = (250, 200, 90)
    return Image.fromarray(pixels)


def save_mode(mode, path, i):
    image = picture(i)
    if mode == "EXIF":  # stored on its side, and the tag says so
        exif = Image.Exif()
        exif[0x0112] = 6
        image.transpose(Image.Transpose.ROTATE_90).save(path.with_suffix(".jpg"), exif=exif, quality=95)
    elif mode == "CMYK":
        image.convert("CMYK").save(path.with_suffix(".jpg"), quality=95)
    elif mode == "gray palette":
        level = image.convert("L")
        (level if i % 2 else level.quantize(256)).save(path)
    elif mode in ("opaque palette", "transparent palette"):
        square = np.zeros((40, 32), np.uint8)
        square[2:12, 2:12] = 1
        palette = Image.fromarray(square).convert("P")
        palette.putpalette([20 + i] * 3 + [250, 200, 90] + [255, 0, 255])
        palette.save(path, transparency=2 if mode == "opaque palette" else 0)  # colour 2 is not used
    else:
        image.convert(mode).save(path)


COLOURED, LEVEL = (250, 200, 90), (202,)


@pytest.mark.parametrize(
    ("mode", "square"),
    [
        ("EXIF", COLOURED),
        ("RGBA", COLOURED),
        ("LA", LEVEL),
        ("CMYK", COLOURED),
        ("gray palette", LEVEL),
        ("opaque palette", COLOURED),
    ],
)
def test_modes_that_both_readers_take(tmp_path, mode, square):
    (tmp_path / "own").mkdir()
    for i in range(24):
        save_mode(mode, tmp_path / f"own/{i:02d}.png", i)
    images = read_images(tmp_path / "own").float()
    assert images.shape == (24, len(square), 40, 32)
    assert (images[:, :, 4:10, 4:10] - torch.tensor(square)[None, :, None, None]).abs().max() < 10
    assert (images[:, :, 20:] - (20 + torch.arange(24.0))[:, None, None, None]).abs().max() < 6
    splits = DATASETS["folder"](root=str(tmp_path), path="own")
    assert splits.image_shape == images.shape[1:]
    assert splits.train.images[:, :, 6, 6].float().mean() > 150


@pytest.mark.parametrize("mode", ["P", "L", "RGBA", "LA"])
def test_transparent_pixels_are_refused_and_the_mode_is_named(tmp_path, mode):
    path = tmp_path / "own/0.png"
    path.parent.mkdir()
    if mode == "P":
        save_mode("transparent palette", path, 0)
    elif mode == "L":  # a PNG may name one gray level as transparent
        Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(path, transparency=9)
    else:
        Image.new(mode, (8, 8)).save(path)
    message = f"0.png has mode {mode} and transparent pixels: compose it on a background first"
    for read in (lambda: read_images(tmp_path / "own"), lambda: DATASETS["folder"](root=str(tmp_path), path="own")):
        with pytest.raises(ValueError, match=message):
            read()


def test_a_level_named_transparent_that_no_pixel_has_is_opaque(tmp_path):
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(tmp_path / "0.png", transparency=9)
    assert (read_images(tmp_path) == 7).all()


def test_gray_compares_with_the_same_gray_stored_as_rgb(tmp_path):
    images = gray(12)
    write(tmp_path / "real", images)
    write(tmp_path / "fake", images[..., None].repeat(3, axis=3))
    sets = {name: read_images(tmp_path / name) for name in ("real", "fake")}
    with pytest.warns(UserWarning, match="fake: RGB of three equal channels, compared as gray"):
        matched = match_channels(sets)
    assert torch.equal(matched["real"], matched["fake"])
    assert matched["real"].shape == (12, 1, 16, 16)


def test_coloured_images_are_not_made_gray():
    sets = {"real": torch.zeros(3, 1, 4, 4), "fake": torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))}
    assert match_channels(sets)["fake"].shape == (3, 3, 4, 4)


def test_identical_images_are_refused_before_anything_is_trained(tmp_path):
    write(tmp_path / "own", np.full((20, 8, 8), 128, np.uint8))
    with pytest.raises(ValueError, match="the 20 images in .* are all the same: there is nothing to learn"):
        DATASETS["folder"](root=str(tmp_path), path="own")


@pytest.mark.parametrize("nested", [True, False])
def test_celeba_as_the_archive_of_kaggle_unpacks_it(tmp_path, nested):
    faces = tmp_path / "source/img_align_celeba" / ("img_align_celeba" if nested else "")
    faces.mkdir(parents=True)
    rows = ["image_id,partition"]
    for i in range(12):
        Image.new("RGB", (178, 218), (20 * i, 0, 0)).save(faces / f"{i + 1:06d}.jpg", quality=95)
        rows.append(f"{i + 1:06d}.jpg,{i % 3}")
    (tmp_path / "source/list_eval_partition.csv").write_text("\n".join(rows) + "\n")
    BUILDERS["celeba"](tmp_path / "source", tmp_path / "root", progress=False)
    splits = DATASETS["celeba"](root=str(tmp_path / "root"))
    reds = [part.images[:, 0, 32, 32].float() for part in splits.parts().values()]
    for part, red in enumerate(reds):
        assert (red - (part + torch.arange(4) * 3) * 20).abs().max() < 4


def test_a_file_that_is_left_out_is_named_where_nothing_else_is_there(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(FileNotFoundError, match=r"no images at .*left out: 1 of another suffix \(notes.txt\)"):
        read_images(tmp_path)
