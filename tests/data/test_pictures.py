"""Image files that cannot be used are named and counted, and fail or are left out as asked."""

import numpy as np
import pytest
import torch
from PIL import Image

from geovae.data import DATASETS
from geovae.data.dataset import read_test_folder
from geovae.images.pictures import read_files

SHAPE = (3, 8, 8)


@pytest.fixture
def folder(tmp_path):
    """Ten sound PNG files, 000.png to 009.png; the gray level is the number of the file."""
    for i in range(10):
        Image.new("RGB", (8, 8), (i, i, i)).save(tmp_path / f"{i:03d}.png")
    return tmp_path


def spoil(path, how):
    data = path.read_bytes()
    if how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_bytes(b"<html>404</html>")
    elif how == "larger":
        Image.new("RGB", (9, 8)).save(path)
    elif how == "gray":
        Image.new("L", (8, 8)).save(path)
    elif how == "transparent":
        Image.new("RGBA", (8, 8)).save(path)
    elif how == "16 bit":
        Image.fromarray(np.zeros((8, 8), np.uint16)).save(path)


KINDS = {
    "truncated": "cannot be decoded",
    "empty": "cannot be decoded",
    "text": "cannot be decoded",
    "larger": r"is 8x9 \(h x w\), expected 8x8",
    "gray": "is gray, expected RGB",
    "transparent": "has mode RGBA and transparent pixels: compose it on a background first",
    "16 bit": "has more than 8 bits a channel, expected 8-bit gray or colour",
}


@pytest.mark.parametrize("how", KINDS)
def test_a_bad_file_fails_by_name_or_is_skipped_with_a_warning(folder, how):
    spoil(folder / "003.png", how)
    with pytest.raises(ValueError, match=f"1 of 10 images in `{folder}` cannot be used: 003.png: {KINDS[how]}"):
        read_test_folder(folder, SHAPE, "fail")
    with pytest.warns(UserWarning, match=f"1 of 10 images .* 003.png: {KINDS[how]}.*They are left out"):
        split = read_test_folder(folder, SHAPE, "skip")
    assert split.images[:, 0, 0, 0].tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9]


def test_all_bad_files_are_counted_and_the_first_five_named(folder):
    for i in range(7):
        spoil(folder / f"00{i}.png", "text")
    with pytest.raises(ValueError, match=r"7 of 10 images .*000.png.*004.png: [^;]*; and 2 more"):
        read_test_folder(folder, SHAPE, "fail")


def test_nothing_left(folder):
    for path in folder.iterdir():
        spoil(path, "text")
    with pytest.raises(ValueError, match=r"10 of 10 images .* None is left"):
        read_test_folder(folder, SHAPE, "skip")


def test_an_empty_folder_and_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no images at"):
        read_test_folder(tmp_path, SHAPE, "fail")
    assert read_test_folder(tmp_path / "none", SHAPE, "fail") is None


def test_three_equal_channels_pass_for_gray_and_others_do_not(folder):
    split = read_test_folder(folder, (1, 8, 8), "fail")
    assert torch.equal(split.images[:, 0, 0, 0], torch.arange(10).to(torch.uint8))
    Image.new("RGB", (8, 8), (1, 2, 3)).save(folder / "000.png")
    with pytest.raises(ValueError, match=r"000.png: is coloured, expected gray"):
        read_test_folder(folder, (1, 8, 8), "fail")


def test_a_palette_is_a_colour(folder):
    Image.new("RGB", (8, 8), (1, 2, 3)).convert("P", palette=Image.Palette.ADAPTIVE).save(folder / "000.png")
    assert read_test_folder(folder, SHAPE, "fail").images[0, :, 0, 0].tolist() == [1, 2, 3]


def test_order_is_kept_over_many_files(tmp_path):
    files = [tmp_path / f"{i}.png" for i in range(600)]
    for i, path in enumerate(files):
        Image.new("L", (2, 2), i % 251).save(path)
    images, kept = read_files(files, where=tmp_path)
    assert kept == [*range(600)]
    assert images[:, 0, 0, 0].tolist() == [i % 251 for i in range(600)]


def test_a_loader_passes_on_error_to_its_test_folder(all_layouts, tmp_path):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist/mnist_32x32.npz").symlink_to(all_layouts / "mnist/mnist_32x32.npz")
    (tmp_path / "mnist/test_folder").mkdir()
    for i in range(3):
        Image.new("L", (32, 32), i).save(tmp_path / f"mnist/test_folder/{i}.png")
    spoil(tmp_path / "mnist/test_folder/1.png", "truncated")
    options = {"root": str(tmp_path), "val_size": 10}
    with pytest.raises(ValueError, match=r"1 of 3 images in .*test_folder` cannot be used: 1.png"):
        DATASETS["mnist"](**options)
    with pytest.warns(UserWarning, match="1 of 3 images"):
        assert len(DATASETS["mnist"](**options, on_error="skip").test) == 2
    assert DATASETS["mnist"](**options, test_images=False).test is None


@pytest.mark.parametrize(("how", "message"), [("larger", "expected 8x8"), ("gray", "is gray, expected RGB")])
def test_a_folder_of_mixed_images_names_the_remedy(folder, how, message):
    Image.new("RGB", (8, 8), (9, 0, 0)).save(folder / "001.png")  # coloured: three equal channels would count as gray
    spoil(folder / "004.png", how)
    with pytest.raises(ValueError, match=f"004.png: .*{message}.*`size` and `channels` make images alike"):
        DATASETS["folder"](root=str(folder), path=".")


def test_a_folder_without_one_readable_image(folder):
    for path in folder.iterdir():
        spoil(path, "text")
    with pytest.raises(ValueError, match=r"can be read \(10 files tried\): the first, 000.png cannot be dec"):
        DATASETS["folder"](root=str(folder), path=".")
    (folder / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no images at"):
        DATASETS["folder"](root=str(folder), path="empty")
