"""CelebA from JPEG files: crop, parts, faults, and builds that are stopped and continued."""

import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from geovae.data import DATASETS
from geovae.data.builders import BUILDERS
from tests.data.originals import write_faces, write_faces_archive


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_faces_are_cropped_resized_and_sorted_into_parts(tmp_path, root, dtype):
    write_faces(tmp_path / "source")
    BUILDERS["celeba"](tmp_path / "source", root, dtype=dtype, progress=False)
    stored = torch.load(root / "celeba/train_data.pt", weights_only=True)
    assert stored.dtype == getattr(torch, dtype)
    assert stored.shape == (6, 3, 64, 64)
    splits = DATASETS["celeba"](root=str(root))
    assert [len(p) for p in splits.parts().values()] == [6, 3, 3]
    # the ramp from 0 to 255 over 178 columns, between columns 19 and 159, in 64 steps
    centres = 19 + (np.arange(64) + 0.5) * 140 / 64 - 0.5
    assert np.abs(splits.train.images[0, 0, 32].numpy() - centres * 255 / 177).max() < 3
    blues = [int(p.images[i, 2, 32, 60]) for p in splits.parts().values() for i in range(3)]
    order = [0, 1, 4, 2, 6, 10, 3, 7, 11]  # rows of the partition file in train, val, test
    assert np.abs(np.array(blues) - centres[60] * 255 / 177 * np.array(order) / 12).max() < 4
    assert sorted(p.name for p in (root / "celeba/test/test").iterdir()) == ["000004.png", "000008.png", "000012.png"]


def test_both_types_load_as_the_same_images(tmp_path):
    write_faces(tmp_path / "source")
    digests = []
    for dtype in ("float32", "uint8"):
        BUILDERS["celeba"](tmp_path / "source", tmp_path / dtype, dtype=dtype, progress=False)
        digests.append(DATASETS["celeba"](root=str(tmp_path / dtype)).digest)
    assert digests[0] == digests[1]


def damage(path, how):
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:900])
    elif how == "other size":
        Image.new("RGB", (178, 200)).save(path)
    elif how == "gray":
        Image.new("L", (178, 218)).save(path)


def repack(archive, change):
    """Write the archive again with other members: `change` gets and returns {name: content}."""
    with zipfile.ZipFile(archive) as old:
        members = change({name: old.read(name) for name in old.namelist() if not name.endswith("/")})
    with zipfile.ZipFile(archive, "w") as new:
        for name, content in members.items():
            new.writestr(name, content)


def test_the_archive_gives_the_same_images_as_the_folder(tmp_path):
    write_faces(tmp_path / "folder")
    write_faces_archive(tmp_path / "archive")
    digests = []
    for source in ("folder", "archive"):
        BUILDERS["celeba"](tmp_path / source, tmp_path / f"from_{source}", progress=False)
        digests.append(DATASETS["celeba"](root=str(tmp_path / f"from_{source}")).digest)
    assert digests[0] == digests[1]


@pytest.mark.parametrize("nested", [True, False])
def test_the_layout_of_kaggle(tmp_path, root, nested):
    write_faces(tmp_path / "source")
    text = (tmp_path / "source/list_eval_partition.txt").read_text().replace(" ", ",")
    (tmp_path / "source/list_eval_partition.csv").write_text(f"image_id,partition\n{text}")
    (tmp_path / "source/list_eval_partition.txt").unlink()
    if nested:
        (tmp_path / "source/img_align_celeba").rename(tmp_path / "inner")
        (tmp_path / "source/img_align_celeba").mkdir()
        (tmp_path / "inner").rename(tmp_path / "source/img_align_celeba/img_align_celeba")
    BUILDERS["celeba"](tmp_path / "source", root, progress=False)
    assert [len(p) for p in DATASETS["celeba"](root=str(root)).parts().values()] == [6, 3, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: dict(list(m.items())[:-1]), "is not in `img_align_celeba.zip`"),
        (lambda m: m | {min(m): bytes(1000)}, "cannot be decoded"),
        (lambda m: m | {min(m): bytes(1 << 25)}, "has more than 16777216 bytes"),
    ],
)
def test_an_archive_with_a_bad_face(tmp_path, root, change, message):
    write_faces_archive(tmp_path / "source")
    repack(tmp_path / "source/img_align_celeba.zip", change)
    with pytest.raises(ValueError, match=f"1 of [36] images in .* cannot be used: 0000.*: {message}"):
        BUILDERS["celeba"](tmp_path / "source", root, progress=False)


def test_a_damaged_archive(tmp_path, root):
    write_faces_archive(tmp_path / "source")
    path = tmp_path / "source/img_align_celeba.zip"
    sound = path.read_bytes()
    path.write_bytes(sound[:-500])
    with pytest.raises(ValueError, match="img_align_celeba.zip` is not a sound zip archive"):
        BUILDERS["celeba"](tmp_path / "source", root, progress=False)
    with zipfile.ZipFile(io.BytesIO(sound)) as archive:
        where = max(archive.infolist(), key=lambda member: member.header_offset).header_offset + 500
    path.write_bytes(sound[:where] + bytes(100) + sound[where + 100 :])
    with pytest.raises(ValueError, match="1 of [36] images in .* cannot be (unpacked|decoded)"):
        BUILDERS["celeba"](tmp_path / "source", root, progress=False)


FAULTS = {
    "missing": "cannot be decoded",
    "truncated": "cannot be decoded",
    "other size": "is 200x178x3, expected 218x178x3",
    "gray": "is 218x178, expected 218x178x3",
}


@pytest.mark.parametrize("how", FAULTS)
@pytest.mark.parametrize(
    ("file", "left"), [("000001.jpg", [5, 3, 3]), ("000003.jpg", [6, 2, 3]), ("000004.jpg", [6, 3, 2])]
)
def test_a_bad_face_fails_by_name_or_is_skipped_and_reported(tmp_path, root, how, file, left):
    write_faces(tmp_path / "source")
    damage(tmp_path / "source/img_align_celeba" / file, how)
    stem = file.removesuffix(".jpg")
    with pytest.raises(ValueError, match=f"1 of [36] images in .* cannot be used: {stem}.*: {FAULTS[how]}"):
        BUILDERS["celeba"](tmp_path / "source", root, progress=False)
    with pytest.warns(UserWarning, match=f"1 of [36] images .* {stem}"):
        report = BUILDERS["celeba"](tmp_path / "source", root, progress=False, on_error="skip")
    assert [text[:6] for text in report["skipped"]] == [stem]
    assert [len(p) for p in DATASETS["celeba"](root=str(root)).parts().values()] == left


def test_decoding_continues_after_an_interruption(tmp_path, root, monkeypatch):
    write_faces(tmp_path / "source")
    whole = BUILDERS["celeba"](tmp_path / "source", tmp_path / "elsewhere", progress=False)
    real = BUILDERS["celeba"].__globals__["read_picture"]
    decoded = []

    def decode(path):
        if len(decoded) >= 5:
            raise KeyboardInterrupt
        decoded.append(path.name)
        return real(path)

    monkeypatch.setattr("geovae.data.builders.celeba.BLOCK", 2)
    monkeypatch.setattr("geovae.data.builders.celeba.read_picture", decode)
    with pytest.raises(KeyboardInterrupt):
        BUILDERS["celeba"](tmp_path / "source", root, progress=False)
    assert sorted(p.name for p in (root / "celeba").iterdir()) == [
        "build.json",
        "train_done.partial",
        "train_images.partial",
    ]
    monkeypatch.setattr("geovae.data.builders.celeba.read_picture", real)
    assert BUILDERS["celeba"](tmp_path / "source", root, progress=False)["outputs"] == whole["outputs"]


def test_after_a_repair_a_build_that_left_images_out_can_be_replaced(tmp_path, root):
    write_faces(tmp_path / "source")
    path = tmp_path / "source/img_align_celeba/000001.jpg"
    sound = path.read_bytes()
    damage(path, "truncated")
    with pytest.warns(UserWarning, match="1 of 6 images"):
        BUILDERS["celeba"](tmp_path / "source", root, progress=False, on_error="skip")
    path.write_bytes(sound)
    assert BUILDERS["celeba"](tmp_path / "source", root, progress=False)["skipped"]
    assert not BUILDERS["celeba"](tmp_path / "source", root, progress=False, overwrite=True)["skipped"]
    assert len(DATASETS["celeba"](root=str(root)).train) == 6


def test_after_a_repair_only_what_is_missing_is_decoded(tmp_path, root, monkeypatch):
    write_faces(tmp_path / "source")
    path = tmp_path / "source/img_align_celeba/000006.jpg"
    sound = path.read_bytes()
    damage(path, "truncated")
    with pytest.raises(ValueError, match=r"000006.jpg"):
        BUILDERS["celeba"](tmp_path / "source", root, progress=False)
    path.write_bytes(sound)
    decoded = []
    real = BUILDERS["celeba"].__globals__["read_picture"]
    monkeypatch.setattr("geovae.data.builders.celeba.read_picture", lambda p: (decoded.append(p.name), real(p))[1])
    BUILDERS["celeba"](tmp_path / "source", root, progress=False)
    assert sorted(decoded) == [
        "000003.jpg",
        "000004.jpg",
        "000006.jpg",
        "000007.jpg",
        "000008.jpg",
        "000011.jpg",
        "000012.jpg",
    ]
    assert len(DATASETS["celeba"](root=str(root)).train) == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("000001.jpg 0\n000002.jpg 3\n", "line 2 of .* must be `<name>.jpg <0, 1 or 2>`, got '000002.jpg 3'"),
        ("000001.jpg\n", "line 1 of .* must be"),
        ("../../x.jpg 0\n", "line 1 of .* must be"),
        ("000001.jpg 0\n000002.jpg 1\n", "names no test images: truncated download"),
        ("", "names no train images"),
    ],
)
def test_a_partition_file_that_does_not_fit(tmp_path, root, text, message):
    write_faces(tmp_path / "source", 4)
    (tmp_path / "source/list_eval_partition.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        BUILDERS["celeba"](tmp_path / "source", root, progress=False)
    assert not root.exists()
