"""From images to a `Report`: scores of samples at one n, the same scores of real images, spread and memorisation."""

import functools
import json
import math
import platform
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from geovae import __version__
from geovae.checks import check_choice, check_count
from geovae.evaluation.extractors import EXTRACTORS, FeatureCache, content_hash, extract
from geovae.evaluation.extractors import extractor as build_extractor
from geovae.evaluation.frechet import frechet
from geovae.evaluation.neighbour_scores import memorisation
from geovae.evaluation.prd import prd_curve
from geovae.evaluation.score import Numbers, deviations, half_sample_spread, per_class, subsample
from geovae.evaluation.scores import SCORES, headline
from geovae.images import check_images, to_uint8
from geovae.neighbours import Matrix, nearest

DEFAULT_SCORES = ("frechet", "kid", "prd", "precision_recall")
SUBSET = 1000  # samples and held-out images whose nearest training image is searched
SHOWN = 64  # samples whose nearest images the report names
RANDOM_SEEDS = (0, 1, 2)  # of the networks that "random-conv-v1" stands for


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
        other_real: more held-out images, for the baseline `real_...`. Without them the training images (not fair where
            these are augmented), without `train` the halves of `real`.
        reconstructions: of the training images.
        real_labels: (n,), with `fake_labels` for scores within each class.
        fake_labels: (n,).
        latents: memorisation is measured between them too.
    """

    real: Tensor
    fake: Tensor
    train: Tensor | None = None
    other_real: Tensor | None = None
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
        named = {key: getattr(self, key) for key in ("real", "fake", "train", "other_real", "reconstructions")}
        return {key: images for key, images in named.items() if images is not None}

    def eight_bit(self) -> "ImageSets":
        """Return the sets rounded to 8 bits, so that samples score the same before and after they are saved as PNG."""
        rounded: dict[str, Any] = {key: to_uint8(images) for key, images in self.images().items()}
        return replace(self, **rounded)


@dataclass(frozen=True)
class Scorer:
    """How images become numbers: which features, which scores, and where to compute and cache.

    Args:
        extractor: a name of `EXTRACTORS`, a network, or several networks of one `name`. "random-conv-v1" stands for
            three networks: values are means over them, and `<name>_sd` their standard deviation.
        scores: names of `SCORES`.
        seed: of all subsamples.
        batch_size: of the extractor.
        device: of the extractor and the scores.
        cache: of features, for sets that are scored several times.
        progress: show a bar on stderr.
    """

    extractor: str | nn.Module | Sequence[nn.Module] = "random-conv-v1"
    scores: Sequence[str] = DEFAULT_SCORES
    seed: int = 0
    batch_size: int = 50
    device: torch.device | str = "cpu"
    cache: FeatureCache | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        """Check the names, and build the networks: now, not after the samples were drawn."""
        if isinstance(self.scores, str):
            raise ValueError(f"`scores` must be a list of names, got {self.scores!r}")
        for name in self.scores:
            check_choice("scores", name, SCORES)
        check_count(batch_size=self.batch_size)
        _ = self.networks

    @functools.cached_property
    def networks(self) -> list[nn.Module]:
        """The extractor's networks, all of one `name`."""
        if isinstance(self.extractor, str):
            seeds = RANDOM_SEEDS if self.extractor == "random-conv-v1" else ()
            return [build_extractor(self.extractor, seed=seed) for seed in seeds] or [build_extractor(self.extractor)]
        networks = [self.extractor] if isinstance(self.extractor, nn.Module) else list(self.extractor)
        names = {str(getattr(network, "name", "")) for network in networks}
        if len(names) != 1 or not all(names) or not all(hasattr(network, "id") for network in networks):
            raise ValueError(
                f"`extractor` needs networks of one `name`, each with an `id`, got the names {sorted(names)}"
            )
        # nobody else's features may be recorded as `fid`
        for network in networks:
            if network.name in EXTRACTORS and not isinstance(network, EXTRACTORS[str(network.name)]):
                raise ValueError(f"the extractor name {network.name!r} is taken; give the network another `name`")
        return networks

    @property
    def name(self) -> str:
        """The extractor's name."""
        return str(self.networks[0].name)

    def features(self, images: Tensor, network: nn.Module) -> Tensor:
        """Return the features (n, dims) of images on the scorer's device, from the cache where there is one."""
        compute = extract if self.cache is None else self.cache.features
        options: dict[str, Any] = {"batch_size": self.batch_size, "device": self.device, "progress": self.progress}
        return compute(images, network, **options).to(self.device)

    def score(self, *, real: Matrix, fake: Matrix) -> Numbers:
        """Return all scores of feature matrices `real` (n, dims) and `fake` (m, dims), by recorded name."""
        found = {}
        for name in self.scores:
            numbers = SCORES[name].numbers
            for key, value in SCORES[name](real=real, fake=fake).items():
                found[numbers[key].recorded_name(key, self.name)] = value
        return found


def evaluate(sets: ImageSets, scorer: Scorer) -> "Report":
    """Score the samples `sets.fake` against the held-out images `sets.real`.

    All sets are rounded to 8 bits, and `real` and `fake` are reduced to the smaller n. The scores of real images
    against `real` have the prefix `real_` and say what perfect looks like; their own n is `real_n`. Reconstructions
    give the Frechet distance of the samples to them, `reconstructions_...`. The spread `<name>_sd` is over the networks
    of the extractor; of one network it is a half-sample standard error. Memorisation is `nn_pixels_...` and
    `nn_codes_...`.
    """
    sets, seed, networks = sets.eight_bit(), scorer.seed, scorer.networks
    # the Frechet distance falls with n and PRD needs equal histograms: both sets have one n
    n = min(len(sets.real), len(sets.fake))
    rows = {"real": subsample(len(sets.real), n, seed), "fake": subsample(len(sets.fake), n, seed + 1)}
    real, fake = (images[rows[name].to(images.device)] for name, images in (("real", sets.real), ("fake", sets.fake)))
    baseline = _baseline(real, sets.other_real if sets.other_real is not None else sets.train, seed)
    features = functools.cache(scorer.features)  # tensors hash by identity: each set meets each network once

    tables = []
    for network in networks:
        x, y, other_x, other_y = (features(images, network) for images in (real, fake, *baseline))
        table = scorer.score(real=x, fake=y)
        table |= {f"real_{key}": value for key, value in scorer.score(real=other_x, fake=other_y).items()}
        if sets.reconstructions is not None:
            table |= _against_reconstructions(features(sets.reconstructions, network), y, scorer)
        tables.append(table)
    values = {key: float(np.mean([table[key] for table in tables])) for key in tables[0]}
    x, y = features(real, networks[0]), features(fake, networks[0])
    values |= deviations(tables) if len(tables) > 1 else half_sample_spread(scorer.score, real=x, fake=y, seed=seed)
    if sets.real_labels is not None and sets.fake_labels is not None:
        labels = (sets.real_labels.cpu()[rows["real"]], sets.fake_labels.cpu()[rows["fake"]])
        values |= per_class(scorer.score, real=x, fake=y, real_labels=labels[0], fake_labels=labels[1])
    values |= {"n": float(n), "real_n": float(len(baseline[0]))}
    values |= _memorisation(sets, real, fake, seed)

    curve = prd_curve(real=x, fake=y)._asdict() if "prd" in scorer.scores else {}
    return Report(
        values,
        _settings(sets, real, fake, scorer),
        _notes(values, x.shape[1]),
        {key: axis.tolist() for key, axis in curve.items()},
        _nearest_shown(sets, fake, rows["fake"]),
    )


def _baseline(real: Tensor, other: Tensor | None, seed: int) -> tuple[Tensor, Tensor]:
    """Return two sets of real images of one size: `real` against `other`, or the halves of `real`."""
    if other is None:
        # every second image, since sets are often sorted by class
        return real[0::2][: len(real) // 2], real[1::2]
    n = min(len(real), len(other))
    return _subset(real, n, seed + 3), _subset(other, n, seed + 2)


def _against_reconstructions(reconstructions: Tensor, fake: Tensor, scorer: Scorer) -> Numbers:
    """Return the Frechet distance of the features of samples and of reconstructions, at one n."""
    n = min(len(reconstructions), len(fake))
    found = frechet(real=_subset(reconstructions, n, scorer.seed), fake=_subset(fake, n, scorer.seed))
    return {f"reconstructions_{headline(scorer.name)}": found["frechet"], "reconstructions_n": float(n)}


def _memorisation(sets: ImageSets, real: Tensor, fake: Tensor, seed: int) -> Numbers:
    """Return `memorisation` in pixels, and between latents where they are given."""
    if sets.train is None:
        return {}
    # flat views of uint8 images: `nearest` converts them block by block, so that large training sets need no copy
    spaces = {"pixels": (sets.train.flatten(1), fake.flatten(1), real.flatten(1))}
    if sets.latents is not None:
        spaces["codes"] = sets.latents
    values: Numbers = {}
    for space, (train, samples, held_out) in spaces.items():
        subsets = {"fake": _subset(samples, SUBSET, seed), "held_out": _subset(held_out, SUBSET, seed)}
        values |= memorisation(space, train=train, **subsets)
    return values


def _subset(rows: Tensor, n: int, seed: int) -> Tensor:
    """Return `n` rows drawn with `seed`, in their order; `rows` itself where there are no more."""
    return rows if n >= len(rows) else rows[subsample(len(rows), n, seed).to(rows.device)]


def _nearest_shown(sets: ImageSets, fake: Tensor, rows: Tensor) -> dict[str, list[int]]:
    """For the first samples, the index of the nearest image, in pixels, among training images and reconstructions."""
    others = {"train": sets.train, "reconstructions": sets.reconstructions}
    shown = fake[:SHOWN].flatten(1)
    found = {key: nearest(shown, x.flatten(1)).indices.tolist() for key, x in others.items() if x is not None}
    return {"fake": rows[:SHOWN].tolist(), **found} if found else {}


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


def _settings(sets: ImageSets, real: Tensor, fake: Tensor, scorer: Scorer) -> dict[str, Any]:
    """Return what was measured on what, in plain types."""
    images = {key: x for key, x in sets.images().items() if key != "other_real"} | {"real": real, "fake": fake}
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


def _notes(values: Numbers, width: int) -> list[str]:
    """Return the remarks that a reader of the numbers needs, and warn of each."""
    n, real_n, notes = int(values["n"]), int(values["real_n"]), []
    if n < width:
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
    for note in notes:
        warnings.warn(note, stacklevel=3)
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
