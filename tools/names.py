"""The names of all that a run records, with meanings and units; writes docs/names.md: `make names`.

Scores (`numbers`), samplers (`diagnostics`) and models (`losses`) declare their own numbers, gathered here; everything
else has its row in this file. To record something under a new name, add a row and run `make names`: the tests of whole
runs refuse a name without one. A word in <angles> stands for a name of its table, or, without one, for any word. A
meaning that begins "of `entry`:" says that only that entry point records it. The slash groups charts in MLflow's UI, so
that names that belong together begin alike.
"""

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from geovae.evaluation import recorded_numbers
from geovae.models import MODELS
from geovae.samplers import SAMPLERS

PAGE = Path(__file__).parents[1] / "docs" / "names.md"
METRICS = {
    "train/<loss>": "over the training images; the step is the epoch",
    "val/<loss>": "over the validation images; the step is the epoch",
    "train/learning_rate": "learning rate of the epoch",
    "time/epoch_seconds": "duration of the epoch, validation included [s]",
    "best/val_loss": (
        "validation loss of the weights that are kept [squared error or nats, summed over pixels, mean over images]; "
        "lower is better"
    ),
    "best/epoch": "the epoch they come from [epoch]",
    "best/undertrained": "1 where the validation loss was still falling when the epochs were used up, else 0",
    "best/<score>": "headline score on validation images of the best sampler (parent: of the best run)",
    "val_score/<sampler>/<score>": "samples against the validation images: choices are made by these",
    "score/<sampler>/<score>": "samples against the test images: what is reported",
    "score/<score>": "test scores of the sampler that is best on validation images",
    "sampler/<sampler>/<diagnostic>": "what the sampler says about itself",
    "geometry/pullback_error": (
        "posterior against pull-back variances: median relative error (Sec. 4.4); lower is better"
    ),
    "geometry/pullback_ratio": "their median ratio; 1 at the optimum",
    "geometry/pullback_correlation": "correlation of their logarithms; higher is better",
    "geometry/pullback_off_diagonal": "median share of the off-diagonal in the pull-back metric [part of 1]",
    "runs": "of `sweep`: runs of a configuration that finished; its `best/<score>` is their mean [count]",
    "changed/<option>": "of `sweep`: value of an option from this epoch on, under population based training",
    "system/<what>": "of `MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=true`: processor, memory, disk, network, GPU, by MLflow",
    "count/<count>": "of `prepare`: sessions, subjects, slices, labels [count]",
}
PARAMETERS = {
    "cfg.<option>": "every option of the run under its dotted name; `config.yaml` holds the same",
    "n_train": "training images [count]",
    "n_val": "validation images [count]",
    "n_test": "test images [count]",
    "sweep.<option>": "of `sweep`: how it searches and judges; `sweep.yaml` holds the same and the space",
    "settings.<option>": "of `prepare`: every setting that brain volumes were prepared with",
}
TAGS = {
    "model": "name of the model",
    "dataset": "name of the data set",
    "seed": "seed of the run",
    "device_used": "`cpu` or `cuda`: what `device` stood for on the machine of the run",
    "geovae.token": "names the request that created the run: one whose answer was lost is not repeated",
    "precision_used": "`fp32`, `tf32` or `bf16`: what `training.precision` stood for there",
    "config": "fingerprint of the configuration: the same for runs that ask for the same results",
    "config_over_seeds": "the same without the seed: group by it to average over seeds",
    "undertrained": "how a training ended whose validation loss was still falling at its last epoch",
    "best_sampler": (
        "the sampler with the lowest headline score on validation images, among those that do not copy if there are any"
    ),
    "headline": "the score by which runs are ranked",
    "extractor_id": "the exact weights of the features: scores of others do not compare",
    "warning.<sampler>": "warnings of a sampler",
    "warning.scores": "warnings of the evaluation, such as too few samples for the number of features",
    "not_finite.<metric>": "a number that was NaN or infinite: MLflow would rank it as 0",
    "role": (
        "what a run is for: `comparison`, `sweep` and `study` mark parents; below them `run` in a comparison, `cell` "
        "in a study, `configuration` and its `seed` runs in a sweep; `resume` an invocation that went on in another "
        "run; `promotion` moved an alias, `report` compared others"
    ),
    "sweep": "of `sweep`: id of the sweep's own run",
    "configuration": "of `sweep`: name of the configuration, the same for its runs",
    "options": "of `sweep`: what a configuration sets of the searched options, as JSON",
    "sweep.seed": "of `sweep`: which of the configuration's runs it is, from 0",
    "changed": "of `sweep`: options that population based training has changed, as JSON",
    "stop_reason": "of `main`, `study` and `sweep`: why a run ended early; of all: that its process died",
    "failure": "of `main`, `study` and `sweep`: why a run failed",
    "restarts": "of `main`, `study` and `sweep`: how often a run went on after its process or node had died [count]",
    "ray.trial_id": "of `main`, `study` and `sweep`: Ray's id of the trial",
    "ray.job": "of `main`, `study` and `sweep`: Ray's id of the driver's job",
    "ray.node": "of `main`, `study` and `sweep`: host, address and process",
    "best_configuration": "of `sweep`: name of the best configuration",
    "best_run": "of `sweep`: id of its best run, whose model is the one to promote",
    "winner": "of a comparison: name of the best run",
    "study": "of `study`: its name, on the parent and on every run",
    "size": "of `study`: full, medium, small or ci",
    "resumed": "of `train`: the run in which this invocation went on",
    "cell": "of `study`: data, model and seed of a trained model, shared by all that is drawn from it",
    "variant": "of `study`: which variant of the samplers' options was drawn with",
    "sampler": "of `generate`: the sampler",
    "model_uri": "of `generate`: where the model came from",
    "output": "of `generate`: the folder of the pictures",
    "input_hash": "of `prepare`: hash of the content of all files that were used",
    "synthetic": "of `cohort`: these are no data of people",
    "geodesic": "of `brains`: the sessions at the ends of the geodesic",
    "candidate": "of `promote`: the run that was held against the champion",
    "verdict": "of `promote`: moved, refused, rolled back; with `dry_run` would move, would roll back",
    "imported_from": "of `import_checkpoint` and `adopt`: name of the file or folder",
}
ARTIFACTS = {
    "config.yaml": "repeats the run: `-P config=config.yaml`",
    "environment.json": "versions and machine",
    "figures/latent_map.png": "codes by class, and samples of each sampler",
    "figures/pullback.png": "posterior variances against the decoder's pull-back metric",
    "model/model.safetensors": "the model file: weights, codes, samplers' options, scores",
    "checkpoints/checkpoint.safetensors": (
        "the training state, to go on from; uploaded with `keep_checkpoint`, or where it is not larger than the model"
    ),
    "figures/prd.png": "of `evaluate`: precision-recall curve",
    "figures/nearest.png": "of `evaluate`: samples beside their nearest training images",
    "leaderboard.md": "of a comparison: runs and samplers, of a sweep: configurations; best first",
    "leaderboard.json": "of a comparison: all test scores, for `mlflow.load_table`",
    "leaderboard.csv": "of `sweep`: all judged configurations",
    "sweep.yaml": "of `sweep`: the space, the flags and how it searches; `-P resume=` reads it",
    "best.yaml": "of `sweep`: the best configuration; `-P config=best.yaml` repeats it",
    "parallel_coordinates.png": "of `sweep`: configurations as lines through their options to their score",
    "importance.png": "of `sweep`: how much of the score's variation each option explains",
    "leaderboard.png": "of a comparison: the same as bars",
    "report.md": "of `study`: the report",
    "report.html": "of `study`, `sweep` and `report`: the page, pictures inside",
    "scores.csv": "of `study`: every number, one row for each data set, model, sampler, seed and score",
    "figures/<name>.png": "of `study`: the report's pictures",
    "report.json": "of `evaluate`: the numbers and how they were made",
    "build.json": "of `prepare`: what was built from what",
    "problems.txt": "of `prepare`: every problem of the input, where it was refused",
    "inspection.txt": "of `inspect`: what a user must check of a folder of brain volumes",
    "ground_truth.csv": "of `cohort`: how each synthetic session was made",
    "qc/<name>": "of `prepare`: how brain volumes look: `report.html`, its figures, tables, viewer",
    "brains/<name>": "of `brains`: samples beside real brains, geodesic, latent space by age and CDR, viewer",
    "brains/nifti/<name>": "of `brains`: the first samples as NIfTI in mm, named as in BIDS",
    "predictions-<data>.csv": "of `study`, on brains: what each classifier says of each test subject",
}
IMAGES = {
    "reconstructions": "validation images above their reconstructions; the step is the epoch",
    "samples/<sampler>": "64 samples of the trained model; the step is always 0, so that runs line up",
}
LOSSES = {name: meaning for model in MODELS.values() for name, meaning in model.losses.items()} | {
    "grad_norm": "norm of the gradients before clipping, mean over steps",
}
DIAGNOSTICS = {"seconds": "time to fit and to draw [s]"} | {
    name: meaning for sampler in SAMPLERS.values() for name, meaning in sampler.diagnostics.items()
}
SCORES = {
    name: f"{number.meaning}{f' [{number.unit}]' if number.unit != '-' else ''}"
    + (f"; {number.better} is better" if number.better else "")
    for name, number in recorded_numbers().items()
}
NAMES: dict[str, dict[str, str]] = {
    "metric": METRICS,
    "parameter": PARAMETERS,
    "tag": TAGS,
    "artifact": ARTIFACTS,
    "image": IMAGES,
}
TABLES: dict[str, dict[str, str]] = {"loss": LOSSES, "diagnostic": DIAGNOSTICS, "score": SCORES}

HEAD = """# Names of what a run records

Generated by `make names` from `tools/names.py` and from what scores, samplers and models declare. Units stand in square
brackets. "of `sweep`" marks what only that entry point records; all others are in every comparison. A word in
`<angles>` stands for a name of its table below, or for any name where there is no such table. MLflow groups charts by
what stands before the first slash, so `train/`, `val/`, `score/`, `sampler/` are groups in the UI without any
configuration.

Searches, in the UI's field or in `search_runs`; a name with a slash or a dot stands in double quotes or backticks:

```
metrics."score/fid" < 20 and tags.model = 'vae'
metrics."score/fd_random-conv-v1" < 7 and tags.dataset = 'digits'
params."cfg.model.latent_dim" = '10' and metrics."best/val_loss" < 30
tags.role = 'comparison'
tags.mlflow.parentRunId = 'RUN_ID'
```

The model's name is a *tag* (and `cfg.model.name` a parameter). A parameter called plain `model` may exist too: those
without `cfg.` are what `mlflow run` itself wrote down of its command line, quoted for a shell (`''` is "not given"),
and MLflow takes no second value for a key. Ours all begin with `cfg.` or `n_`.

`score/<score>` is what to compare runs by: test images, and the sampler that was chosen on validation images. A score
that is NaN or infinite is never a metric but a tag `not_finite.<metric>`: MLflow would rank it as 0.
"""
TAIL = """
## Data sets

A run names its inputs `<dataset>-train`, `<dataset>-val`, `<dataset>-test` with the context of the same name; the
digest is a hash of the content, the same wherever and whenever the same images were read.
"""


def find(kind: str, name: str) -> str | None:
    """Return the key of the row that `name` falls under, or None where there is none."""
    return next((key for key in NAMES[kind] if re.fullmatch(_pattern(key), name)), None)


def unknown(kind: str, names: Iterable[str]) -> list[str]:
    """Return those of `names` that have no row, sorted."""
    return sorted(name for name in names if find(kind, name) is None)


def _pattern(key: str) -> str:
    """Return the regular expression of a key: a placeholder is a name of its table, or any word without a slash."""
    words = re.split(r"<(\w+)>", key)
    return "".join(_placeholder(word) if i % 2 else re.escape(word) for i, word in enumerate(words))


def _placeholder(word: str) -> str:
    if word == "score":
        stems = "|".join(re.sub(r"<\w+>", r"[\\w.-]+?", re.escape(name)) for name in SCORES)
        return rf"(real_|decoded_|reconstructions_)?({stems})(_n)?(_class\w+?)?(_sd)?"
    if word in TABLES:
        return "(?:" + "|".join(map(re.escape, TABLES[word])) + ")"
    return ".+" if word in ("option", "metric") else "[^/]+"


def as_markdown() -> str:
    """Return the page."""
    parts = [
        HEAD,
        *_table("Metrics", METRICS),
        *_table("`<loss>`", LOSSES),
        *_table("`<score>`", SCORES),
        "A prefix `real_` says what real images give beside the same reference (what perfect looks like), `decoded_` "
        "what decoded codes of other held-out images give (what a perfect sampler of the latent space would get), "
        "`reconstructions_` compares the samples with reconstructions; a suffix `_sd` or `_stderr` is the spread of "
        "the number, `_class<label>` the number within one class.\n",
        *_table("`<diagnostic>`", DIAGNOSTICS),
        *_table("Parameters", PARAMETERS),
        *_table("Tags", TAGS),
        *_table("Artifacts", ARTIFACTS),
        *_table("Images with steps", IMAGES),
    ]
    return "\n".join(parts) + TAIL


def _table(title: str, rows: Mapping[str, str]) -> list[str]:
    lines = [f"\n## {title}\n", "| name | meaning |", "|---|---|"]
    return [*lines, *(f"| `{name}` | {meaning} |" for name, meaning in rows.items()), ""]


if __name__ == "__main__":
    PAGE.write_text(as_markdown())
    sys.stdout.write(f"{PAGE}\n")
