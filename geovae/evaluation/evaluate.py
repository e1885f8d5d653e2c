"""From images to a `Report`: scores at one n, the real-versus-real row, spread, memorisation, and how it was done."""

import platform
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geovae import __version__
from geovae.evaluation.cache import FeatureCache, content_hash
from geovae.evaluation.features import EXTRACTORS, extract
from geovae.evaluation.features import extractor as build_extractor
from geovae.evaluation.image_sets import ImageSets, check_sets, cut, prepare
from geovae.evaluation.neighbours import memorisation, nearest
from geovae.evaluation.prd import prd_curve
from geovae.evaluation.report import Report
from geovae.evaluation.rows import Features, Numbers, class_rows, mean_and_spread, network_rows
from geovae.evaluation.scores import SCORES, reported_name
from geovae.images import to_uint8

Codes = Mapping[str, Tensor]

SPACES = ("pixels", "features")
SUBSET = 1000  # samples and held-out images whose nearest training image is looked for
SHOWN = 64  # samples whose nearest images the report names


def evaluate(
    *,
    real: Tensor,
    fake: Tensor,
    train: Tensor | None = None,
    reconstructions: Tensor | None = None,
    other_real: Tensor | None = None,
    extractor: str | nn.Module | Sequence[nn.Module] = "random-conv-v1",
    scores: Sequence[str] = ("frechet", "kid", "prd", "precision_recall"),
    real_labels: Tensor | None = None,
    fake_labels: Tensor | None = None,
    codes: Codes | None = None,
    memorisation_in: Sequence[str] = ("pixels",),
    repeats: int = 5,
    eight_bit: bool = True,
    seed: int = 0,
    batch_size: int = 50,
    device: torch.device | str = "cpu",
    cache: FeatureCache | None = None,
    progress: bool = False,
) -> Report:
    """Score the samples `fake` against the held-out images `real`, all (n, c, h, w), uint8 or float in [0, 1].

    Both are cut, with `seed`, to the smaller n. The same scores of `other_real` against `real` carry the prefix `real_`
    and say what perfect looks like; their own n is `real_n`. `other_real` are more held-out images; without them it is
    the training images (not a fair row where these are augmented), without `train` the halves of `real`.

    `train` also gives memorisation (`nn_<space>_...`, see `memorisation`) in each space of `memorisation_in` ("pixels",
    "features") and, where `codes` holds latents (n, d) of "train", "real" and "fake", in "codes". `reconstructions`
    give the Frechet distance of the samples to them. With labels (n,) of `real` and `fake`, scores follow for each
    class.

    "random-conv-v1" means three networks: values are means and `<name>_sd` their spread. One network's spread is a
    half-sample standard error from `repeats` halves (0: none). `eight_bit` rounds all images to 8 bits first, as if
    each set came from PNG files.
    """
    _check_names("scores", scores, tuple(SCORES))
    _check_names("memorisation_in", memorisation_in, SPACES)
    check_sets(
        real=real,
        fake=fake,
        train=train,
        reconstructions=reconstructions,
        other_real=other_real,
        real_labels=real_labels,
        fake_labels=fake_labels,
    )
    if codes is not None and set(codes) != {"train", "fake", "real"}:
        raise ValueError(f"`codes` needs train, fake and real, got {', '.join(codes) or 'none'}")
    networks = _networks(extractor)
    sets = prepare(
        real=real,
        fake=fake,
        train=train,
        reconstructions=reconstructions,
        other_real=other_real,
        eight_bit=eight_bit,
        seed=seed,
    )
    take = extract if cache is None else cache.features
    features = _remembering(
        lambda x, network: take(x, network, batch_size=batch_size, device=device, progress=progress).to(device)
    )
    seen = {"real": features(sets.real, networks[0]), "fake": features(sets.fake, networks[0])}
    tables = [network_rows(sets, network, features, scores, seed) for network in networks]
    values = mean_and_spread(tables, scores, **seen, repeats=repeats, seed=seed)
    if real_labels is not None and fake_labels is not None:
        values |= class_rows(sets, {"real": real_labels, "fake": fake_labels}, networks[0], features, scores)
    values = {reported_name(key, str(networks[0].name)): value for key, value in values.items()}
    values |= {"n": float(len(sets.fake)), "real_n": float(len(sets.row_real))}
    values |= _memorisation(sets, networks[0], features, memorisation_in, codes, seed)
    settings = _settings(sets, networks, eight_bit, seed) | {
        "real_row": _row_name(other_real, train),
        "scores": list(scores),
        "memorisation_in": list(memorisation_in),
        "repeats": repeats,
        "batch_size": batch_size,
        "device": str(device),
    }
    notes = _notes(values, sets, seen["fake"].shape[1])
    for note in notes:
        warnings.warn(note, stacklevel=2)
    curve = prd_curve(real=seen["real"], fake=seen["fake"]) if "prd" in scores else None
    points = {} if curve is None else {key: axis.tolist() for key, axis in curve._asdict().items()}
    return Report(values, settings, notes, points, _nearest_shown(sets))


def default_extractors(name: str, *, seeds: Sequence[int] = (0, 1, 2)) -> list[nn.Module]:
    """Return the networks that `evaluate` means by `name`: random-conv-v1 with several seeds, any other one alone."""
    if name == "random-conv-v1":
        return [build_extractor(name, seed=seed) for seed in seeds]
    return [build_extractor(name)]


def _check_names(argument: str, names: Sequence[str], valid: tuple[str, ...]) -> None:
    unknown = names if isinstance(names, str) else [name for name in names if name not in valid]
    if unknown:
        raise ValueError(f"`{argument}` must be a list of {', '.join(valid)}, got {unknown!r}")


def _networks(extractor: str | nn.Module | Sequence[nn.Module]) -> list[nn.Module]:
    if isinstance(extractor, str):
        return default_extractors(extractor)
    networks = [extractor] if isinstance(extractor, nn.Module) else list(extractor)
    names = {str(getattr(network, "name", "")) for network in networks}
    if len(names) != 1 or not all(names) or not all(hasattr(network, "id") for network in networks):
        raise ValueError(f"`extractor` needs networks of one `name`, each with an `id`, got the names {sorted(names)}")
    for network in networks:
        if network.name in EXTRACTORS and not isinstance(network, EXTRACTORS[str(network.name)]):
            raise ValueError(f"the extractor name {network.name!r} is taken; give the network another `name`")
    return networks


def _remembering(take: Features) -> Features:
    """Keep what `take` returns, so that each set meets each network once."""
    known: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def features(images: Tensor, network: nn.Module) -> Tensor:
        key = (id(images), id(network))
        if key not in known:
            known[key] = (images, take(images, network))  # holding the images keeps their id theirs
        return known[key][1]

    return features


def _memorisation(
    sets: ImageSets, network: nn.Module, features: Features, spaces: Sequence[str], codes: Codes | None, seed: int
) -> Numbers:
    """`memorisation` in each space, as `nn_<space>_<key>`, and `nn_<space>_flag`: 1 where most samples look copied.

    Held-out points are those of `real`: when more than half of the samples lie nearer to the training set than 95 % of
    the held-out points do, the sampler is taken to hand back its training set.
    """
    if sets.train is None:
        return {}
    found = {}
    if "pixels" in spaces:
        train, fake, real = (to_uint8(x).flatten(1) for x in (sets.train, sets.fake, sets.real))
        found["pixels"] = _of_subsets(train, fake, real, seed)
    if "features" in spaces:
        train, fake, real = (features(x, network) for x in (sets.train, sets.fake, sets.real))
        found["features"] = _of_subsets(train, fake, real, seed)
    if codes is not None:
        found["codes"] = _of_subsets(codes["train"], codes["fake"], codes["real"], seed)
    values: Numbers = {}
    for space, numbers in found.items():
        values |= {key.replace("nn_", f"nn_{space}_"): value for key, value in numbers.items()}
        values[f"nn_{space}_flag"] = float(numbers["nn_close"] > 0.5)
    return values


def _of_subsets(train: Tensor, fake: Tensor, real: Tensor, seed: int) -> Numbers:
    return memorisation(train=train, fake=cut(fake, SUBSET, seed), held_out=cut(real, SUBSET, seed))


def _row_name(other_real: Tensor | None, train: Tensor | None) -> str:
    if other_real is not None:
        return "other real images against real"
    return "train against real" if train is not None else "two halves of real"


def _nearest_shown(sets: ImageSets) -> dict[str, list[int]]:
    """For the first samples, the index of the nearest image, in pixels, among training images and reconstructions."""
    others = {"train": sets.train, "reconstructions": sets.reconstructions}
    shown = to_uint8(sets.fake[:SHOWN]).flatten(1)
    found = {key: nearest(shown, to_uint8(x).flatten(1)).indices for key, x in others.items() if x is not None}
    rows = {"fake": sets.rows["fake"][:SHOWN]} if found else {}
    return {key: indices.tolist() for key, indices in (rows | found).items()}


def _settings(sets: ImageSets, networks: Sequence[nn.Module], eight_bit: bool, seed: int) -> dict[str, Any]:
    """What was measured on what, in plain types."""
    images = {"train": sets.train, "reconstructions": sets.reconstructions, "real": sets.real, "fake": sets.fake}
    return {
        "extractor": str(networks[0].name),
        "extractors": [str(network.id) for network in networks],
        "n": len(sets.fake),
        "real": content_hash(sets.real),
        "eight_bit": eight_bit,
        "seed": seed,
        "score_seed": 0,  # the default of every score
        "images": {
            name: {"sha256": content_hash(x), "shape": list(x.shape), "dtype": str(x.dtype).removeprefix("torch.")}
            for name, x in images.items()
            if x is not None
        },
        "versions": {
            "geovae": __version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
        },
    }


def _notes(values: Numbers, sets: ImageSets, width: int) -> list[str]:
    """Remarks that a reader of the numbers needs."""
    n, row, notes = len(sets.fake), len(sets.row_real), []
    if n < width:
        notes.append(
            f"n = {n} is below the {width} features: the Frechet distance is strongly biased; read KID beside it"
        )
    if row != n:
        notes.append(f"the real-versus-real row is at n = {row}, not {n}: its Frechet distance and PRD do not compare")
    flagged = [key.split("_")[1] for key, value in values.items() if key.endswith("_flag") and value]
    if flagged:
        notes.append(f"memorisation: most samples lie closer to a training image than new data would, in {flagged}")
    return notes
