"""The card of a registered version: what the registry's page shows to those who may use the model."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from experiments.leaderboard import COPIES, NOVELTY, RATIO, kid_of
from experiments.tables import Cell, as_markdown
from geovae.evaluation import LEAST_NOVELTY, better, is_biased, is_weak, recorded_numbers
from mlflow_projects.registry.evidence import Evidence

if TYPE_CHECKING:
    from mlflow.entities import Run

COUNTS = ("n", "reference_n", "n_features")
DIAGNOSTICS = ("acceptance", "divergences", "nested_r_hat", "ess_bulk", "samples_above_floor", "nearest_code_ratio")


def card(meta: Mapping[str, Any], run: "Run", evidence: Evidence) -> str:
    """Return the card as Markdown, from a model file's header, its run and its evidence."""
    data, metrics = meta["data"]["name"], run.data.metrics
    parts = [
        # plain: the list of versions shows its beginning as text
        f"{meta['model']} on {data}, drawn with the {evidence.sampler} sampler: {evidence}",
        f"Images of {' x '.join(map(str, [n for n in meta['image_shape'] if n > 1]))}. Trained on `{data}` "
        f"({run.data.params.get('n_train', '?')} images, "
        f"digest `{evidence.digest[:12]}`), chosen on validation images.",
        _scores(metrics, evidence),
        _memorisation(metrics),
        _diagnostics(metrics, run.data.tags, evidence.sampler),
        _use(evidence.sampler),
        _intent(data),
    ]
    return "\n\n".join(part for part in parts if part)


def _scores(metrics: Mapping[str, float], evidence: Evidence) -> str:
    """Return the test scores beside what real images score, the kernel distance beside the Frechet distance."""
    names = [evidence.headline, kid_of(evidence.headline), *(key for key in recorded_numbers() if key not in COUNTS)]
    rows: list[list[Cell]] = [
        [
            key,
            *(metrics.get(f"score/{name}") for name in (key, f"{key}_sd", f"real_{key}", f"decoded_{key}")),
            better(f"score/{key}"),
        ]
        for key in dict.fromkeys(names)
        if f"score/{key}" in metrics
    ]
    if not rows:
        return ""
    n = metrics.get("score/n", float("nan"))
    head = f"**Scores** on test images, {n:.0f} samples, features of `{evidence.extractor}`:"
    values = {key.removeprefix("score/"): value for key, value in metrics.items() if key.count("/") == 1}
    notes = [
        "This is not FID: the features are not Inception's." * (evidence.headline != "fid"),
        "**Weak**: such features see noise and blur, but cannot rank samplers." * is_weak(evidence.headline),
        "**Biased**: n is below the number of features; read the kernel distance." * is_biased(values),
    ]
    titles = ["score", "value", "spread", "real against real", "decoded held-out codes", "better"]
    return f"{head}\n\n{as_markdown(titles, rows)}\n{' '.join(filter(None, notes))}".rstrip()


def _memorisation(metrics: Mapping[str, float]) -> str:
    ratio = metrics.get(f"score/{RATIO}")
    if ratio is None:
        return ""
    novelty = metrics.get(f"score/{NOVELTY}")
    mark = f"; it **{COPIES}**" if novelty is not None and novelty < LEAST_NOVELTY else ""
    in_codes = "" if novelty is None else f", its latents {novelty:.2f} times as far from training codes{mark}"
    return (
        f"**Memorisation**: the median sample lies {ratio:.2f} times as far from its nearest training image as a "
        f"held-out image does{in_codes} (1 is as new as real data, 0 a copy)."
    )


def _diagnostics(metrics: Mapping[str, float], tags: Mapping[str, str], sampler: str) -> str:
    values = {key: metrics.get(f"sampler/{sampler}/{key}") for key in DIAGNOSTICS}
    text = ", ".join(f"{key} {value:.3g}" for key, value in values.items() if value is not None)
    warning = tags.get(f"warning.{sampler}")
    return f"**Sampler**: {text}." + (f" Warning: {warning}" if warning else "") if text else ""


def _use(sampler: str) -> str:
    return (
        "**Use**: `predict(None, params={...})`. `mode` draw: `n` images with `sampler` "
        f"(default {sampler}) and `seed`, of the classes `labels` where the data have them. With an input: encode, "
        "reconstruct (images as numbers 0 to 255 or base64 PNG), decode (latents), interpolate (two of either, `n` "
        "steps). `format` array or png. The same seed gives the same images."
    )


def _intent(data: str) -> str:
    return (
        f"**Intended for** research on generative models of images like those of `{data}`. Samples are not real data: "
        "do not draw medical or other conclusions about people from them."
    )
