"""Real colour without a download: 32x32 patches of the two photographs that come with scikit-learn (427x640).

The photographs are divided into 64x64 blocks, and each split holds whole blocks: patches overlap within a block, but no
pixel is in two splits.
"""

import torch
from torch import Tensor

from geovae.checks import check_count
from geovae.data.dataset import DataSet, Split, Splits, check_common, check_fractions, limit_train, random_splits

SHAPE = (3, 32, 32)
SOURCE = "sklearn.datasets.load_sample_images"
BLOCK = 64


def load(
    *,
    seed: int = 0,
    train_size: int | None = None,
    stride: int = 8,
    val_fraction: float = 0.14,
    test_fraction: float = 0.16,
) -> Splits:
    """Return seeded splits of the patches; the label is the photograph (0 a temple, 1 a flower).

    Args:
        seed: of the splits and of the subset.
        train_size: keep this many training images, and a fifth as many for validation.
        stride: pixels between neighbouring patches of a block, 1 to 32: 8 gives 25 patches for each of 120 blocks.
        val_fraction: share of the blocks for validation.
        test_fraction: share of the blocks for the test.
    """
    check_common(seed, train_size)
    check_count(stride=stride)
    if stride > SHAPE[1]:
        raise ValueError(f"`stride` must be at most {SHAPE[1]}, got {stride}")
    check_fractions(val_fraction=val_fraction, test_fraction=test_fraction)
    blocks, photographs = _blocks()
    patches = blocks.unfold(2, SHAPE[1], stride).unfold(3, SHAPE[2], stride)  # (blocks, c, rows, columns, h, w)
    n_patches = patches.shape[2] * patches.shape[3]  # of a block
    splits = random_splits(
        Split(patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, *SHAPE), photographs.repeat_interleave(n_patches)),
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        seed=seed,
        source=SOURCE,
        groups=torch.arange(len(blocks)).repeat_interleave(n_patches).numpy(),
    )
    return limit_train(splits, train_size, seed)


DATASET = DataSet(load, image_shape=SHAPE)


def _blocks() -> tuple[Tensor, Tensor]:
    """Return the blocks, uint8 (n, 3, 64, 64), and the number of each one's photograph, int64 (n,)."""
    from sklearn.datasets import load_sample_images

    blocks = []
    for photograph in load_sample_images().images:
        image = torch.tensor(photograph).permute(2, 0, 1)
        grid = image.unfold(1, BLOCK, BLOCK).unfold(2, BLOCK, BLOCK)  # (c, rows, columns, 64, 64)
        blocks.append(grid.permute(1, 2, 0, 3, 4).reshape(-1, 3, BLOCK, BLOCK))
    numbers = torch.arange(len(blocks)).repeat_interleave(len(blocks[0]))
    return torch.cat(blocks), numbers
