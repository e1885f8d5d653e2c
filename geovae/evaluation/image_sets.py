"""The image sets of one evaluation: checked, rounded alike, cut to one n, with the real row's partner."""

from typing import NamedTuple

from torch import Tensor

from geovae.evaluation.matrices import subsample
from geovae.images import check_images, to_uint8


class ImageSets(NamedTuple):
    """Sets (n, c, h, w) of one size: `real` and `fake` are equally many, and so are `row_real` and `row_other`."""

    real: Tensor
    fake: Tensor
    row_real: Tensor
    row_other: Tensor
    train: Tensor | None
    reconstructions: Tensor | None
    rows: dict[str, Tensor]  # which rows of the sets given `real` and `fake` are


def check_sets(
    *,
    real: Tensor,
    fake: Tensor,
    real_labels: Tensor | None = None,
    fake_labels: Tensor | None = None,
    **others: Tensor | None,
) -> None:
    """Raise a ValueError unless all sets are images (n, c, h, w) of one size, and labels fit `real` and `fake`."""
    for name, images in {"real": real, "fake": fake, **others}.items():
        if images is not None and check_images(images, name).shape[1:] != real.shape[1:]:
            raise ValueError(
                f"all images must be of one size (c, h, w): `real` is {tuple(real.shape[1:])}, "
                f"`{name}` is {tuple(images.shape[1:])}"
            )
    for name, images in {"real": real, "fake": fake}.items():
        if len(images) < 2:
            raise ValueError(f"`{name}` must hold at least 2 images, got {len(images)}")
    if (real_labels is None) != (fake_labels is None):
        raise ValueError("scores within classes need both `real_labels` and `fake_labels`")
    for name, labels, images in (("real", real_labels, real), ("fake", fake_labels, fake)):
        if labels is not None and labels.shape != (len(images),):
            raise ValueError(f"`{name}_labels` must be of shape ({len(images)},), got {tuple(labels.shape)}")


def prepare(
    *,
    real: Tensor,
    fake: Tensor,
    train: Tensor | None,
    reconstructions: Tensor | None,
    other_real: Tensor | None = None,
    eight_bit: bool,
    seed: int,
) -> ImageSets:
    """Round the sets to 8 bits where `eight_bit`, and cut `real` and `fake` to the smaller n.

    The real row is `other_real`, by default `train`, against `real`, both cut to n or to what there is; without either,
    the halves of `real`.
    """
    all_sets = {"real": real, "fake": fake, "train": train, "reconstructions": reconstructions}
    all_sets["other_real"] = other_real
    given = {name: images for name, images in all_sets.items() if images is not None}
    if eight_bit:
        given = {name: to_uint8(images) for name, images in given.items()}
    n = min(len(real), len(fake))
    rows = {"real": subsample(len(real), n, seed), "fake": subsample(len(fake), n, seed + 1)}
    real, fake = (given[name][rows[name].to(given[name].device)] for name in ("real", "fake"))
    row_real, row_other = _real_row(real, given.get("other_real", given.get("train")), seed)
    return ImageSets(real, fake, row_real, row_other, given.get("train"), given.get("reconstructions"), rows)


def cut(rows: Tensor, n: int, seed: int) -> Tensor:
    """Return `n` rows drawn with `seed`, in their order; `rows` itself where there are no more."""
    return rows if n >= len(rows) else rows[subsample(len(rows), n, seed).to(rows.device)]


def _real_row(real: Tensor, other: Tensor | None, seed: int) -> tuple[Tensor, Tensor]:
    if other is None:
        return real[0::2][: len(real) // 2], real[1::2]
    n = min(len(real), len(other))
    return cut(real, n, seed + 3), cut(other, n, seed + 2)
