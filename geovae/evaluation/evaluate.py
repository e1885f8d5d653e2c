"""From images to a `Report`: scores of samples, the same of real images and of decoded codes, spread, memorisation."""

import functools
import warnings
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from geovae.evaluation.classifier import ClassifierFeatures, class_shares
from geovae.evaluation.frechet import frechet
from geovae.evaluation.neighbour_scores import memorisation
from geovae.evaluation.prd import prd_curve
from geovae.evaluation.report import ImageSets, Report, notes_on, settings_of
from geovae.evaluation.score import Numbers, deviations, half_sample_spread, per_class, subsample, subset
from geovae.evaluation.scores import Scorer, headline
from geovae.neighbours import code_novelty, nearest, ratio

SUBSET = 1000  # samples and held-out images whose nearest training image is searched
CODES = 5000  # the same for latents, which are small
SHOWN = 64  # samples whose nearest images the report names


class Pair(NamedTuple):
    """Images (n, c, h, w) to be scored against real ones (m, c, h, w)."""

    real: Tensor
    fake: Tensor


def evaluate(sets: ImageSets, scorer: Scorer) -> Report:
    """Score the samples `sets.fake` against the held-out images `sets.real`.

    All sets are rounded to 8 bits. n samples, no more than there are real images, are scored against all real images
    (`reference_n`); the scores that need equal sets take n of both. Two more rows are scored against the same images.
    `real_...`, other real images, says what perfect looks like; `decoded_...`, decoded codes of held-out images, what
    a perfect sampler of the latent space would get with this decoder. Their own n are `real_n` and `decoded_n`, and
    `decoded_ratio` is the Frechet distance of the samples over that of the decoded codes, at `decoded_n`.
    Reconstructions give the Frechet distance of the samples to them, `reconstructions_...`. The spread `<name>_sd` is
    over the networks of the extractor; of one network it is a half-sample standard error, which PRD lacks.
    Memorisation is `nn_pixels_...` and `code_novelty`.
    """
    sets, seed, networks = sets.eight_bit(), scorer.seed, scorer.networks
    rows = subsample(len(sets.fake), len(sets.real), seed + 1)
    real, fake = sets.real, sets.fake[rows.to(sets.fake.device)]
    pairs = {"": Pair(real, fake), "real_": _real_row(sets, len(fake), seed)}
    if sets.decoded is not None:
        pairs["decoded_"] = _decoded_row(sets, sets.decoded, len(fake), seed)
    features = functools.cache(scorer.features)  # tensors hash by identity: each set meets each network once

    tables = []
    for network in networks:
        scored = {key: (features(pair.real, network), features(pair.fake, network)) for key, pair in pairs.items()}
        table = {f"{k}{name}": v for k, (x, y) in scored.items() for name, v in _score(scorer, network, x, y).items()}
        if sets.decoded is not None:
            table["decoded_ratio"] = _over_decoded(scored[""][1], *scored["decoded_"], seed=seed)
        if sets.reconstructions is not None:
            table |= _against_reconstructions(features(sets.reconstructions, network), scored[""][1], scorer)
        tables.append(table)
    values = {key: float(np.mean([table[key] for table in tables])) for key in tables[0]}
    x, y = features(real, networks[0]), features(fake, networks[0])
    # without PRD: ten clusterings of each half would take longer than all other scores together
    spread_of = replace(scorer, scores=[name for name in scorer.scores if name != "prd"])
    compute = functools.partial(_score, spread_of, networks[0])
    values |= deviations(tables) if len(tables) > 1 else half_sample_spread(compute, real=x, fake=y, seed=seed)
    if sets.real_labels is not None and sets.fake_labels is not None:
        labels = (sets.real_labels.cpu(), sets.fake_labels.cpu()[rows])
        values |= per_class(scorer.score, real=x, fake=y, real_labels=labels[0], fake_labels=labels[1])
    values |= {f"{key}n": float(len(pair.fake)) for key, pair in pairs.items()}
    values |= {"reference_n": float(len(real)), "n_features": float(x.shape[1])} | _memorisation(sets, fake, seed)

    notes = notes_on(values)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    curve = _curve(x, y, seed) if "prd" in scorer.scores else {}
    return Report(values, settings_of(sets, fake, scorer), notes, curve, _nearest_shown(sets, fake, rows))


def _score(scorer: Scorer, network: nn.Module, real: Tensor, fake: Tensor) -> Numbers:
    """Return the scores of features, and the distance of the shares of classes where the network is a classifier."""
    found = scorer.score(real=real, fake=fake)
    return found | class_shares(network, real, fake) if isinstance(network, ClassifierFeatures) else found


def _real_row(sets: ImageSets, n: int, seed: int) -> Pair:
    """Return other real images to be scored against `real`, at most `n`; or the halves of `real`."""
    other = sets.other_real if sets.other_real is not None else sets.train
    if other is None:
        # every second image, since sets are often sorted by class
        return Pair(sets.real[0::2], subset(sets.real[1::2], n, seed + 2))
    return Pair(sets.real, subset(other, n, seed + 2))


def _decoded_row(sets: ImageSets, decoded: Tensor, n: int, seed: int) -> Pair:
    """Return decoded codes to be scored, at most `n`, and real images other than those whose codes they are."""
    if sets.other_real is None:
        return Pair(sets.real[0::2], subset(decoded[1::2], n, seed + 2))
    return Pair(sets.real, subset(decoded, n, seed + 2))


def _over_decoded(fake: Tensor, real: Tensor, decoded: Tensor, *, seed: int) -> float:
    """Return the Frechet distance of samples over that of decoded codes, to the same real images at the same n."""
    of_fake, of_decoded = (frechet(real=real, fake=x)["frechet"] for x in (subset(fake, len(decoded), seed), decoded))
    return ratio(of_fake, of_decoded)


def _against_reconstructions(reconstructions: Tensor, fake: Tensor, scorer: Scorer) -> Numbers:
    """Return the Frechet distance of the features of samples and of reconstructions, at one n."""
    n = min(len(reconstructions), len(fake))
    found = frechet(real=subset(reconstructions, n, scorer.seed), fake=subset(fake, n, scorer.seed))
    return {f"reconstructions_{headline(scorer.name)}": found["frechet"], "reconstructions_n": float(n)}


def _memorisation(sets: ImageSets, fake: Tensor, seed: int) -> Numbers:
    """Return `memorisation` in pixels, and the novelty of the latents where they are given."""
    values: Numbers = {}
    if sets.train is not None:
        # flat views of uint8 images: `nearest` converts them block by block, so that large sets need no copy
        samples, held_out = (subset(images, SUBSET, seed).flatten(1) for images in (fake, sets.real))
        values |= memorisation("pixels", train=sets.train.flatten(1), fake=samples, held_out=held_out)
    if sets.latents is not None:
        latents, held_out = (subset(z, CODES, seed) for z in (sets.latents.fake, sets.latents.real))
        values["code_novelty"] = code_novelty(latents, sets.latents.train, held_out)
    return values


def _curve(real: Tensor, fake: Tensor, seed: int) -> dict[str, list[float]]:
    curve: dict[str, Any] = prd_curve(real=subset(real, len(fake), seed), fake=fake)._asdict()
    return {key: axis.tolist() for key, axis in curve.items()}


def _nearest_shown(sets: ImageSets, fake: Tensor, rows: Tensor) -> dict[str, list[int]]:
    """For the first samples, the index of the nearest image, in pixels, among training images and reconstructions."""
    others = {"train": sets.train, "reconstructions": sets.reconstructions}
    shown = fake[:SHOWN].flatten(1)
    found = {key: nearest(shown, x.flatten(1)).indices.tolist() for key, x in others.items() if x is not None}
    return {"fake": rows[:SHOWN].tolist(), **found} if found else {}
