"""Each layout, read exactly: which row becomes which image, which label, which split; and what is refused."""

import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from geovae.data import DATASETS
from geovae.data.oasis import class_numbers
from geovae.data.rings_discs import draw_shapes


def noise(*shape, seed=0):
    """Different bytes everywhere, both ends of the range included."""
    values = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    values.reshape(shape[0], -1)[:, :2] = 0, 255
    return values


def save(path, **arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)


@pytest.mark.parametrize(("name", "file", "c"), [("mnist", "mnist_32x32.npz", 1), ("cifar", "cifar_10.npz", 3)])
def test_npz_layouts_hold_out_the_last_rows(tmp_path, name, file, c):
    x, y = noise(30, 32, 32, c), np.arange(30) % 10
    save(tmp_path / name / file, x_train=x, y_train=y)
    splits = DATASETS[name](root=str(tmp_path), val_size=10)
    assert np.array_equal(splits.train.images.permute(0, 2, 3, 1), x[:20])
    assert np.array_equal(splits.val.images.permute(0, 2, 3, 1), x[20:])
    assert splits.val.labels.tolist() == [*range(10)]
    assert splits.test is None


def test_a_file_with_fewer_rows_than_are_held_out(tmp_path):
    save(tmp_path / "mnist/mnist_32x32.npz", x_train=noise(30, 32, 32, 1), y_train=np.arange(30) % 10)
    with pytest.raises(ValueError, match="`val_size` must be between 1 and 29 for 30 images, got 10000"):
        DATASETS["mnist"](root=str(tmp_path))


def test_the_published_cifar_validation_overlaps_and_says_so(load_small):
    published = load_small("cifar", split="published_overlapping", val_size=10)
    assert (len(published.train), len(published.val)) == (30, 30)
    assert torch.equal(published.train.images[10:], published.val.images[:20])


def test_the_published_oasis_validation_is_the_training_set(load_small):
    published = load_small("oasis", split="published_overlapping")
    assert torch.equal(published.train.images, published.val.images)
    assert len(published.train) == 40


def test_oasis_splits_by_subject(tmp_path):
    ids = np.array([f"OAS1_{i // 2:04d}_MR{i % 2 + 1}" for i in range(40)])
    save(tmp_path / "oasis/OASIS.npz", x_train=noise(40, 208, 176, 1), y_train=np.arange(40), ids=ids)
    splits = DATASETS["oasis"](root=str(tmp_path), test_fraction=0.2)
    subjects = [set((part.labels // 2).tolist()) for part in splits.parts().values()]
    assert sum(map(len, subjects)) == 20 == len(set.union(*subjects))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [([0, 0.5, 2, -1, 1], [0, 1, 3, -1, 2]), ([0, 1, 0, -1, 3], [0, 1, 0, -1, 3]), ([0.0, 2.0], [0, 2])],
)
def test_graded_labels_become_class_numbers(labels, expected):
    assert class_numbers(np.array(labels), len(labels), "y").tolist() == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_train": noise(4, 208, 176, 1) // 2}, r"must have minimum 0 and maximum 255; 4 do not \(rows 0, 1, 2, 3\)"),
        ({"x_train": noise(4, 176, 208, 1)}, r"must have shape \(n, 208, 176, 1\)"),
        ({"y_train": np.array([0, 0.5, np.nan, 1])}, "must hold whole numbers, got values such as"),
        ({"ids": np.arange(4)}, "`ids` of .* must hold 4 strings"),
    ],
)
def test_oasis_files_that_do_not_fit(tmp_path, change, message):
    arrays = {"x_train": noise(4, 208, 176, 1), "y_train": np.arange(4)} | change
    save(tmp_path / "oasis/OASIS.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        DATASETS["oasis"](root=str(tmp_path))


# --- svhn


def save_mat(root, **changes):
    from scipy.io import savemat

    (root / "svhn").mkdir()
    x = noise(20, 32, 32, 3)
    arrays = {"X": x.transpose(1, 2, 3, 0), "y": (np.arange(20) % 10 + 1).astype(np.uint8)[:, None]} | changes
    savemat(root / "svhn/train_32x32.mat", {k: v for k, v in arrays.items() if v is not None}, do_compression=True)
    return x


def test_svhn_axes_and_the_label_ten(tmp_path):
    x = save_mat(tmp_path)
    splits = DATASETS["svhn"](root=str(tmp_path), val_size=10)
    assert np.array_equal(splits.train.images.permute(0, 2, 3, 1), x[:10])
    assert splits.train.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": None}, "has no array `X`; it holds: y"),
        ({"y": None}, "has no array `y`; it holds: X"),
        ({"X": noise(20, 32, 32, 3)}, r"must have shape \(32, 32, 3, n\), got \(20, 32, 32, 3\)"),
        ({"X": noise(20, 32, 32, 3).transpose(1, 2, 3, 0) / 255}, "must hold uint8 from 0 to 255, got float64"),
        ({"X": np.ones((32, 32, 3, 20), np.uint8)}, "none is above 1"),
        ({"X": np.array([{"a": 1}], dtype=object)}, "must hold uint8 from 0 to 255, got object"),
        ({"y": np.arange(20)[:, None] % 10}, "must hold labels from 1 to 10, got 0 to 9"),
        ({"y": np.ones((19, 1))}, r"must hold one label for each of the 20 images, got shape \(19, 1\)"),
    ],
)
def test_svhn_files_that_do_not_fit(tmp_path, changes, message):
    save_mat(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        DATASETS["svhn"](root=str(tmp_path), val_size=10)


@pytest.mark.parametrize("content", [b"", b"<html>", b"MATLAB 5.0 MAT-file" + bytes(200)])
def test_a_damaged_mat_file(tmp_path, content):
    (tmp_path / "svhn").mkdir()
    (tmp_path / "svhn/train_32x32.mat").write_bytes(content)
    with pytest.raises(ValueError, match=r"train_32x32.mat` (is not a sound .mat file|has no array)"):
        DATASETS["svhn"](root=str(tmp_path))


def test_a_truncated_mat_file(tmp_path):
    save_mat(tmp_path)
    path = tmp_path / "svhn/train_32x32.mat"
    path.write_bytes(path.read_bytes()[:30_000])
    with pytest.raises(ValueError, match=r"is not a sound .mat file"):
        DATASETS["svhn"](root=str(tmp_path))


# --- celeba


def save_celeba(root, train, val=None):
    (root / "celeba").mkdir()
    torch.save(train, root / "celeba/train_data.pt")
    torch.save(torch.from_numpy(noise(5, 3, 64, 64, seed=1)) / 255 if val is None else val, root / "celeba/val_data.pt")
    return str(root)


FACES = torch.from_numpy(noise(6, 3, 64, 64))


@pytest.mark.parametrize(
    "stored",
    [
        FACES / 255,
        (FACES / 255).permute(0, 2, 3, 1),
        (FACES / 255).permute(0, 2, 3, 1).contiguous(),
        FACES.double() / 255,
        FACES,
    ],
    ids=["channel first", "channel last, a view", "channel last", "float64", "uint8"],
)
def test_celeba_in_every_form(tmp_path, monkeypatch, stored):
    monkeypatch.setattr("geovae.data.celeba.CHUNK", 4)
    splits = DATASETS["celeba"](root=save_celeba(tmp_path, stored))
    assert torch.equal(splits.train.images, FACES)
    assert len(splits.val) == 5
    assert splits.train.labels is None


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (FACES.float(), r"must hold values in \[0, 1\], got 0 to 255; divide by 255"),
        (FACES / 255 - 0.5, r"must hold values in \[0, 1\], got -0.5 to 0.5"),
        (FACES / 255 / 255, "was it divided by 255 twice"),
        (FACES // 255, "uint8 values of 0 and 1 only"),
        ((FACES / 255).index_fill(0, torch.tensor([2]), torch.nan), r"must hold values in \[0, 1\], got nan to nan"),
        (FACES.long(), "must hold floating point in .* or uint8, got torch.int64"),
        (FACES[:, :, :32] / 255, r"must have shape .* got \(6, 3, 32, 64\)"),
        (FACES[0] / 255, r"must have shape .* got \(3, 64, 64\)"),
        (FACES[:0] / 255, r"must have shape .* got \(0, 3, 64, 64\)"),
        ((FACES / 255).to_sparse(), "must hold one dense tensor, got Tensor"),
        ({"images": FACES}, "must hold one dense tensor, got dict"),
    ],
)
def test_celeba_files_that_do_not_fit(tmp_path, stored, message):
    with pytest.raises(ValueError, match=f"`{tmp_path}/celeba/train_data.pt` .*{message}"):
        DATASETS["celeba"](root=save_celeba(tmp_path, stored))


@pytest.mark.parametrize("keep", [0, 100, 100_000, -20])
def test_a_truncated_tensor_file(tmp_path, keep):
    root = save_celeba(tmp_path, FACES / 255)
    path = tmp_path / "celeba/train_data.pt"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"train_data.pt` is not a sound tensor file"):
        DATASETS["celeba"](root=root)


class Trap:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_tensor_file_cannot_run_code(tmp_path):
    root = save_celeba(tmp_path, {"a": Trap(tmp_path / "executed")})
    with pytest.raises(ValueError, match="is not a sound tensor file"):
        DATASETS["celeba"](root=root)
    (tmp_path / "celeba/train_data.pt").write_bytes(pickle.dumps(Trap(tmp_path / "executed")))
    with pytest.raises(ValueError, match="is not a sound tensor file"):
        DATASETS["celeba"](root=root)
    assert not (tmp_path / "executed").exists()


# --- embedded


def test_digits_are_the_real_ones_four_times_as_large():
    from sklearn.datasets import load_digits

    splits = DATASETS["digits"]()
    means = torch.cat([p.images.float().mean((1, 2, 3)) for p in splits.parts().values()]).sort().values
    true = torch.from_numpy(load_digits().images).float().mean((1, 2)).mul(255 / 16).sort().values
    # bilinear weights favour no pixel but those at the rim: means stay close
    assert (means - true).abs().max() < 6
    assert [len(p) for p in splits.parts().values()] == [1257, 252, 288]
    counts = torch.stack([p.labels.bincount(minlength=10) / len(p) for p in splits.parts().values()])
    assert (counts[0] - counts).abs().max() < 0.01


def test_digits_in_the_middle_of_a_pixel_are_exact():
    from sklearn.datasets import load_digits

    from geovae.data.digits import _all_digits

    digits, large = load_digits().images, _all_digits().images[:, 0].double().numpy() * 16 / 255
    cells = large.reshape(-1, 8, 4, 8, 4)[:, 1:-1, :, 1:-1].mean((2, 4))
    # the mean over a cell of a bilinear interpolant: (1, 6, 1) / 8 along each axis
    rows = (digits[:, :-2] + 6 * digits[:, 1:-1] + digits[:, 2:]) / 8
    expected = (rows[:, :, :-2] + 6 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 8
    assert np.abs(cells - expected).max() < 0.04  # half a level of 255, on the scale of 16


def test_augmentation_adds_distorted_copies_to_the_training_split_only():
    plain, augmented = (DATASETS["digits"](seed=1, augment=n) for n in (0, 2))
    n = len(plain.train)
    assert len(augmented.train) == 3 * n
    assert torch.equal(augmented.train.images[:n], plain.train.images)
    assert torch.equal(augmented.train.labels, plain.train.labels.repeat(3))
    assert torch.equal(augmented.val.images, plain.val.images)
    copies = augmented.train.images[n:].reshape(2, n, -1).float()
    shuffled = copies[:, torch.randperm(n, generator=torch.Generator().manual_seed(0))]
    originals = plain.train.images.reshape(n, -1).float()
    assert (copies - originals).pow(2).mean() < 0.7 * (shuffled - originals).pow(2).mean()
    assert not torch.equal(copies[0], copies[1])
    assert DATASETS["digits"](seed=1, augment=2).digest == augmented.digest


def test_augmentation_comes_after_the_subset():
    assert len(DATASETS["digits"](train_size=100, augment=3).train) == 400


def test_every_patch_is_cut_out_of_a_photograph():
    from sklearn.datasets import load_sample_images

    splits = DATASETS["patches"](stride=16)
    photographs = load_sample_images().images
    corners = [
        {
            p[y : y + 32, x : x + 32].tobytes()
            for by in range(6)
            for bx in range(10)
            for y in range(64 * by, 64 * by + 33, 16)
            for x in range(64 * bx, 64 * bx + 33, 16)
        }
        for p in photographs
    ]
    assert sum(len(part) for part in splits.parts().values()) == 2 * 60 * 9
    for part in splits.parts().values():
        for image, label in zip(part.images.permute(0, 2, 3, 1).contiguous(), part.labels, strict=True):
            assert image.numpy().tobytes() in corners[label]


def test_rings_and_discs_have_the_area_of_their_parameters():
    radius, thickness = torch.tensor([6.0, 10.0, 13.5]), torch.tensor([2.0, 20.0, 6.0])
    area = draw_shapes(radius, thickness).double().sum((1, 2, 3)) / 255
    expected = torch.pi * (radius**2 - (radius - thickness).clamp(min=0) ** 2)
    assert torch.allclose(area, expected.double(), rtol=0.02)
    assert not draw_shapes(radius, thickness)[2, 0, 15:17, 15:17].any()  # the hole


# --- folders


def write_images(folder, *images, names=None):
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / (names[i] if names else f"{i:03d}.png"))


def test_sub_folders_are_classes(tmp_path):
    write_images(tmp_path / "pets/dog", *noise(10, 8, 8, 3))
    write_images(tmp_path / "pets/cat", *noise(10, 8, 8, 3, seed=1))
    splits = DATASETS["folder"](root=str(tmp_path), path="pets", val_fraction=0.2, test_fraction=0.2)
    cats = {x.tobytes() for x in noise(10, 8, 8, 3, seed=1)}
    assert [p.labels.bincount().tolist() for p in splits.parts().values()] == [[6, 6], [2, 2], [2, 2]]
    for image, label in zip(splits.train.images.permute(0, 2, 3, 1).contiguous(), splits.train.labels, strict=True):
        assert (image.numpy().tobytes() in cats) == (label == 0)


def test_size_and_channels_make_images_alike(tmp_path):
    write_images(tmp_path / "mixed", *noise(5, 20, 30, 3), *noise(5, 16, 16))
    names = [f"g{i}.jpg" for i in range(5)]
    write_images(tmp_path / "mixed", *noise(5, 40, 24), names=names)
    splits = DATASETS["folder"](root=str(tmp_path), path="mixed", size=12, channels=1, test_fraction=0.2)
    assert splits.image_shape == (1, 12, 12)
    assert sum(len(p) for p in splits.parts().values()) == 15


def test_a_constant_image_stays_constant_when_it_is_resized(tmp_path):
    write_images(tmp_path / "flat", *[np.full((9, 15, 3), 10 * i, np.uint8) for i in range(10)])
    splits = DATASETS["folder"](root=str(tmp_path), path="flat", size=32)
    assert (splits.train.images.flatten(1) == splits.train.images[:, 0, 0, :1]).all()


def test_an_npz_of_any_size_with_its_test_folder(tmp_path):
    x = noise(20, 10, 14, 3)
    save(tmp_path / "own/own.npz", x_train=x)
    write_images(tmp_path / "own/test_folder", *noise(3, 10, 14, 3, seed=1))
    splits = DATASETS["folder"](root=str(tmp_path), path="own/own.npz", val_fraction=0.25)
    assert [len(p) for p in splits.parts().values()] == [15, 5, 3]
    assert splits.train.labels is None
    assert np.array_equal(splits.test.images.permute(0, 2, 3, 1), noise(3, 10, 14, 3, seed=1))
