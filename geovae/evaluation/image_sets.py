"""The sets of images that an evaluation compares."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor

from geovae.images import check_images, to_uint8


class Latents(NamedTuple):
    """Latents (n, d) of the training images, of the samples and of the held-out images."""

    train: Tensor
    fake: Tensor
    real: Tensor


@dataclass(frozen=True)
class ImageSets:
    """Image sets (n, c, h, w) of one size, uint8 or float in [0, 1].

    Args:
        real: held-out images.
        fake: samples.
        train: training images: memorisation is measured against them.
        other_real: more held-out images, for the row `real_...`. Without them the training images (not fair where
            these are augmented), without `train` the halves of `real`.
        decoded: decoded codes of `other_real`, in its order, for the row `decoded_...`. Without `other_real` those of
            `real`: every second one is then compared with the other half of `real`.
        reconstructions: of the training images.
        real_labels: (n,), with `fake_labels` for scores within each class.
        fake_labels: (n,).
        latents: for `code_novelty`.
    """

    real: Tensor
    fake: Tensor
    train: Tensor | None = None
    other_real: Tensor | None = None
    decoded: Tensor | None = None
    reconstructions: Tensor | None = None
    real_labels: Tensor | None = None
    fake_labels: Tensor | None = None
    latents: Latents | None = None

    def __post_init__(self) -> None:
        """Check shapes and ranges."""
        for name, images in self.images().items():
            if check_images(images, name).shape[1:] != self.real.shape[1:]:
                raise ValueError(
                    f"all images must be of one size (c, h, w): `real` is {tuple(self.real.shape[1:])}, "
                    f"`{name}` is {tuple(images.shape[1:])}"
                )
        originals = self.real if self.other_real is None else self.other_real
        if self.decoded is not None and len(self.decoded) != len(originals):
            raise ValueError(
                f"`decoded` must hold an image for each of {len(originals)} held-out, got {len(self.decoded)}"
            )
        for name in ("real", "fake"):
            if len(getattr(self, name)) < 2:
                raise ValueError(f"`{name}` must hold at least 2 images, got {len(getattr(self, name))}")
        if (self.real_labels is None) != (self.fake_labels is None):
            raise ValueError("scores within classes need both `real_labels` and `fake_labels`")
        for name, labels, images in (("real", self.real_labels, self.real), ("fake", self.fake_labels, self.fake)):
            if labels is not None and labels.shape != (len(images),):
                raise ValueError(f"`{name}_labels` must be of shape ({len(images)},), got {tuple(labels.shape)}")

    def images(self) -> dict[str, Tensor]:
        """Return the image sets that were given, by name."""
        named = {
            key: getattr(self, key) for key in ("real", "fake", "train", "other_real", "decoded", "reconstructions")
        }
        return {key: images for key, images in named.items() if images is not None}

    def eight_bit(self) -> "ImageSets":
        """Return the sets rounded to 8 bits, so that samples score the same before and after they are saved as PNG."""
        rounded: dict[str, Any] = {key: to_uint8(images) for key, images in self.images().items()}
        return replace(self, **rounded)
