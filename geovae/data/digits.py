"""The 1,797 handwritten digits that come with scikit-learn (8x8, 17 grey levels), as 1x32x32.

Real data without a download: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI 1998.
"""

import torch
from torch.nn.functional import interpolate

from geovae.checks import check_count
from geovae.data.affine import apply_affine, draw_affine
from geovae.data.dataset import DataSet, Split, Splits, check_common, check_fractions, limit_train, random_splits

SHAPE = (1, 32, 32)
SOURCE = "sklearn.datasets.load_digits"


def load(
    *,
    seed: int = 0,
    train_size: int | None = None,
    augment: int = 0,
    val_fraction: float = 0.14,
    test_fraction: float = 0.16,
) -> Splits:
    """Return seeded splits of the digits, stratified by label: 1,257 / 252 / 288 images by default.

    Args:
        seed: of the splits, of the subset and of the augmentation.
        train_size: keep this many training images, before augmentation, and a fifth as many for validation.
        augment: distorted copies to add for each training image (small rotation, shift, scale and shear).
        val_fraction: share of all images for validation.
        test_fraction: share of all images for the test.
    """
    check_common(seed, train_size)
    check_count(low=0, augment=augment)
    check_fractions(val_fraction=val_fraction, test_fraction=test_fraction)
    splits = random_splits(
        _load_digits(), val_fraction=val_fraction, test_fraction=test_fraction, seed=seed, source=SOURCE
    )
    splits = limit_train(splits, train_size, seed)
    # After the splits and the subset: no distorted copy of a training image can be in another split.
    return Splits(_augment(splits.train, augment, seed), splits.val, splits.test, SOURCE)


DATASET = DataSet(load, image_shape=SHAPE, extractor="trained")


def _load_digits() -> Split:
    """Return all digits as uint8 (1797, 1, 32, 32)."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    levels = torch.from_numpy(digits.images).float()[:, None]  # 0 to 16
    # The bilinear weights are eighths here. They are exact in floating point: every machine gets the same bytes.
    large = interpolate(levels, scale_factor=4, mode="bilinear", align_corners=False)
    return Split(large.mul(255 / 16).round().to(torch.uint8), torch.from_numpy(digits.target).long())


def _augment(train: Split, copies: int, seed: int) -> Split:
    """Return the images followed by `copies` distorted copies of all of them, with their labels."""
    if not copies:
        return train
    assert train.labels is not None
    repeated = train.images.repeat(copies, 1, 1, 1)
    drawn = draw_affine(len(repeated), torch.Generator().manual_seed(seed))
    images = torch.cat([train.images, apply_affine(repeated, drawn)])
    return Split(images, train.labels.repeat(copies + 1))
