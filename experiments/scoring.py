"""Scores of every sampler's images against both held-out parts, beside real images and decoded held-out codes."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from experiments.planes import directions_of_model, plane_grid
from geovae.data import Split, Splits
from geovae.evaluation import ImageSets, Latents, Scorer, evaluate
from geovae.images import as_pictures
from geovae.saved_model import SavedModel
from geovae.tracking import Tracker


class HeldOut(NamedTuple):
    """One held-out part as it is scored: pictures (n, c, h, w), codes (n, d), and pictures of the decoded codes."""

    images: Tensor
    codes: Tensor
    decoded: Tensor


def _held_out(saved: SavedModel, part: Split | None) -> HeldOut | None:
    if part is None:
        return None
    codes = saved.encode(part.images).mu
    return HeldOut(as_pictures(part.images), codes, as_pictures(saved.decode(codes)))


def score_samples(
    saved: SavedModel,
    latents: Mapping[str, Tensor],
    splits: Splits,
    scorers: Mapping[str, Scorer],
    tracker: Tracker,
) -> dict[str, dict[str, dict[str, float]]]:
    """Decode and score each sampler's latents against both held-out parts; return {kind: {sampler: {score: value}}}."""
    scored: dict[str, dict[str, dict[str, float]]] = {kind: {} for kind in scorers}
    notes: dict[str, list[str]] = {}  # each with the samplers that it is about
    train, val, test = as_pictures(splits.train.images), _held_out(saved, splits.val), _held_out(saved, splits.test)
    held_out = {"val_score": (val, test), "score": (test, val)}
    for name, z in latents.items():
        images = as_pictures(saved.decode(z))
        tracker.image(f"samples/{name}", plane_grid(images[:64], directions_of_model(saved.meta)))
        for kind, (real, other) in held_out.items():
            if real is not None:
                sets = _image_sets(train, images, real, other, Latents(saved.codes.mu, z, real.codes))
                report = evaluate(sets, scorers[kind])
                scored[kind][name] = report.values
                for note in report.notes:
                    notes.setdefault(note, []).append(name)
                tracker.metrics({f"{kind}/{name}/{key}": value for key, value in report.values.items()})
    if notes:
        texts = [note if set(about) == set(latents) else f"{', '.join(about)}: {note}" for note, about in notes.items()]
        tracker.tags({"warning.scores": "; ".join(texts)})
    return scored


def _image_sets(train: Tensor, fake: Tensor, real: HeldOut, other: HeldOut | None, latents: Latents) -> ImageSets:
    """Return samples, real images and the rows beside them: other real images, and decoded codes of those.

    Few others (a fifth of a subsample) say less than the halves of `real`.
    """
    if other is None or 2 * len(other.images) < len(real.images):
        return ImageSets(real.images, fake, train, decoded=real.decoded, latents=latents)
    return ImageSets(real.images, fake, train, other_real=other.images, decoded=other.decoded, latents=latents)
