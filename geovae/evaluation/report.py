"""What goes into an evaluation, sets of images, and what comes out, a report; and whether two reports compare."""

import json
import math
import platform
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from geovae import __version__
from geovae.evaluation.extractors import content_hash
from geovae.evaluation.score import Numbers
from geovae.evaluation.scores import LEAST_NOVELTY, Scorer, is_biased
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


# two reports with the same values of these compare; anything else measured something else
COMPARABLE_ON = ("extractors", "n", "real")


@dataclass(frozen=True)
class Report:
    """The outcome of an evaluation, and all that is needed to compute it again.

    `values` are flat and ready for a tracker; `settings` say what was measured on what; `notes` are remarks for the
    reader; `curve` holds the PRD curve's `precision` and `recall`; `nearest` holds, for the first samples (`fake`), the
    index of the nearest image (in pixels) of each set that was given (`train`, `reconstructions`).
    """

    values: dict[str, float]
    settings: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    curve: dict[str, list[float]] = field(default_factory=dict)
    nearest: dict[str, list[int]] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the report as strict JSON; a number that is NaN or infinite becomes its name."""
        return json.dumps(_plain(asdict(self)), indent=2, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """Return the report that `to_json` wrote."""
        parts = json.loads(text)
        if not isinstance(parts, dict) or not {"values", "settings"} <= parts.keys():
            raise ValueError("this is not the JSON of a report: it has no `values` and `settings`")
        try:
            parts["values"] = {key: float(value) for key, value in parts["values"].items()}
            return cls(**parts)
        except (AttributeError, TypeError) as error:
            raise ValueError(f"this is not the JSON of a report: {error}") from error


def differences(a: Report, b: Report) -> list[str]:
    """Return in words why the numbers of `a` and `b` do not compare; an empty list where they do."""
    pairs = ((key, a.settings.get(key), b.settings.get(key)) for key in COMPARABLE_ON)
    return [f"`{key}` is {_short(x)} against {_short(y)}" for key, x, y in pairs if x != y]


def settings_of(sets: ImageSets, fake: Tensor, scorer: Scorer) -> dict[str, Any]:
    """Return what was measured on what, in plain types."""
    images = {key: x for key, x in sets.images().items() if key != "other_real"} | {"fake": fake}
    hashes = {name: content_hash(x) for name, x in images.items()}
    baseline = "train against real" if sets.train is not None else "two halves of real"
    return {
        "extractor": scorer.name,
        "extractors": [str(network.id) for network in scorer.networks],
        "scores": list(scorer.scores),
        "n": len(fake),
        "real": hashes["real"],
        "real_row": "other real images against real" if sets.other_real is not None else baseline,
        "seed": scorer.seed,
        "batch_size": scorer.batch_size,
        "device": str(scorer.device),
        "images": {
            name: {"sha256": hashes[name], "shape": list(x.shape), "dtype": str(x.dtype).removeprefix("torch.")}
            for name, x in images.items()
        },
        "versions": {
            "geovae": __version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
        },
    }


def notes_on(values: Numbers) -> list[str]:
    """Return the remarks that a reader of the numbers needs."""
    n, real_n, width, notes = int(values["n"]), int(values["real_n"]), int(values["n_features"]), []
    if is_biased(values):
        notes.append(
            f"n = {n} is below the {width} features: the Frechet distance is strongly biased; read KID beside it"
        )
    if real_n != n:
        notes.append(
            f"the real-versus-real row is at n = {real_n}, not {n}: its Frechet distance and PRD do not compare"
        )
    flagged = [key.split("_")[1] for key, value in values.items() if key.endswith("_flag") and value]
    if flagged:
        notes.append(f"memorisation: most samples lie closer to a training image than new data would, in {flagged}")
    if (novelty := values.get("code_novelty", 1.0)) < LEAST_NOVELTY:
        notes.append(f"copies: code novelty {novelty:.2f} is below {LEAST_NOVELTY}, samples stay near training codes")
    return notes


def _plain(value: Any) -> Any:
    """Return a value as strict JSON can hold it."""
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _short(value: Any) -> str:
    text = json.dumps(_plain(value), sort_keys=True)
    return text if len(text) <= 120 else text[:117] + "..."
