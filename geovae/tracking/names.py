"""The names of all that a run records: metrics, parameters, tags, artifacts, with units. `docs/names.md` is this file.

Whoever records something under a new name adds a row here and runs `make names`; the tests of whole runs
refuse a name without a row. A word in <angles> stands for a row of its own table below, or, without one, for any
word. A meaning that begins "of `entry`:" says that only that entry point records it; all others are in every
comparison. The slash groups charts in the UI, so that names that belong together begin alike.
"""

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

Kind = Literal["metric", "parameter", "tag", "artifact", "image"]
LOWER, HIGHER = "lower", "higher"


class Row(NamedTuple):
    """What a name means, in which unit, and for a number that judges, which side is better."""

    meaning: str
    unit: str = "-"
    better: str = ""


LOSS_UNIT = "squared error or nats, summed over pixels, mean over images"
LOSSES = {
    "loss": Row("what training minimises", LOSS_UNIT, LOWER),
    "reconstruction": Row("its reconstruction part", LOSS_UNIT, LOWER),
    "kl": Row("divergence of the posterior from the prior", "nats, mean over images"),
    "mmd": Row("maximum mean discrepancy of codes and prior (wae)"),
    "embedding": Row("half the squared norm of the codes (rae)"),
    "decoder_norm": Row("squared norm of the decoder's weights (rae_l2)"),
    "gradient_penalty": Row("squared norm of the decoder's gradient (rae_gp)"),
    "grad_norm": Row("norm of the gradients before clipping, mean over steps"),
}
DIAGNOSTICS = {
    "seconds": Row("time to fit and to draw", "s"),
    "nearest_code": Row("median distance of a sample to its nearest training code", "latent units"),
    "nearest_code_ratio": Row("the same over that between training codes; towards 0 the samples are codes"),
    "n_components": Row("components of the mixture", "count"),
    "temperature": Row("temperature of the metric (Eq. 7)", "latent units"),
    "n_centroids": Row("centroids of the metric", "count"),
    "step_size": Row("step of the leapfrog integrator", "latent units"),
    "codes_above_floor": Row("part of the training codes where the metric is not flat", "part of 1", HIGHER),
    "samples_above_floor": Row("part of the samples where the metric is not flat", "part of 1", HIGHER),
    "acceptance": Row("mean acceptance of the chains", "part of 1"),
    "jump_acceptance": Row("mean acceptance of the jumps between codes", "part of 1"),
    "divergences": Row("chains whose integration blew up", "count", LOWER),
    "log_density": Row("mean log-density at the samples, up to a constant", "nats"),
    "energy": Row("mean energy at the end", "nats"),
    "e_bfmi": Row("energy fraction of missing information, median over chains; below 0.3 is bad", "-", HIGHER),
    "distance_to_start": Row("median distance that a chain moved", "latent units"),
    "distance_to_start_ratio": Row("the same over the distance between training codes"),
    "r_hat": Row("worst R-hat over dimensions; 1 is mixed", "-", LOWER),
    "nested_r_hat": Row("worst nested R-hat, for many short chains", "-", LOWER),
    "ess_bulk": Row("worst effective sample size of the bulk", "draws", HIGHER),
    "ess_tail": Row("worst effective sample size of the tails", "draws", HIGHER),
}
# A prefix `real_` says what real images give, `reconstructions_` compares samples with reconstructions; a suffix `_sd`
# or `_stderr` is the spread of the number, `_class<label>` the number within a class.
SCORES = {
    "fid": Row("Frechet distance of Inception features", "squared feature units", LOWER),
    "fd_<extractor>": Row("Frechet distance of another extractor's features; not FID", "squared feature units", LOWER),
    "kid": Row("kernel distance of Inception features, unbiased in n", "-", LOWER),
    "kid_<extractor>": Row("kernel distance of another extractor's features", "-", LOWER),
    "prd_f8": Row("F8 of the precision-recall curve: recall, are all kinds drawn", "part of 1", HIGHER),
    "prd_f1_8": Row("F1/8 of the same curve: precision, is each sample good", "part of 1", HIGHER),
    "precision": Row("part of the samples within the real neighbourhoods", "part of 1", HIGHER),
    "recall": Row("part of the real images within the samples' neighbourhoods", "part of 1", HIGHER),
    "density": Row("real neighbourhoods around a sample, over their expected number", "-", HIGHER),
    "coverage": Row("part of the real images with a sample in their neighbourhood", "part of 1", HIGHER),
    "neighbour_distance": Row("median distance of a sample to its nearest real image", "feature units"),
    "neighbour_ratio": Row("the same over that between real images"),
    "neighbour_copies": Row("part of the samples that copy a real image", "part of 1", LOWER),
    "nn_<space>_distance": Row("median distance of a sample to its nearest training image", "units of the space"),
    "nn_<space>_ratio": Row("the same over that of held-out images: 1 is as new as real data, 0 a copy"),
    "nn_<space>_auc": Row(
        "probability that a sample lies nearer to the training set than a held-out image", "part of 1"
    ),
    "nn_<space>_close": Row("part of the samples nearer than 95 % of the held-out images", "part of 1", LOWER),
    "nn_<space>_flag": Row("1 where most samples look copied", "0 or 1", LOWER),
    "n": Row("samples scored, and real images they were scored against", "count"),
}
TABLES = {"loss": LOSSES, "diagnostic": DIAGNOSTICS, "score": SCORES}

METRICS = {
    "train/<loss>": Row("over the training images; the step is the epoch", "see losses"),
    "val/<loss>": Row("over the validation images; the step is the epoch", "see losses"),
    "train/learning_rate": Row("learning rate of the epoch"),
    "time/epoch_seconds": Row("duration of the epoch, validation included", "s"),
    "best/val_loss": Row("validation loss of the weights that are kept", LOSS_UNIT, LOWER),
    "best/epoch": Row("the epoch they come from", "epoch"),
    "best/<score>": Row(
        "headline score on validation images of the best sampler (parent: of the best run)", "see scores"
    ),
    "runs": Row("of `sweep`: runs of a configuration that finished; its `best/<score>` is their mean", "count"),
    "changed/<option>": Row("of `sweep`: value of an option from this epoch on, under population based training"),
    "val_score/<sampler>/<score>": Row(
        "samples against the validation images: choices are made by these", "see scores"
    ),
    "score/<sampler>/<score>": Row("samples against the test images: what is reported", "see scores"),
    "score/<score>": Row("test scores of the sampler that is best on validation images", "see scores"),
    "sampler/<sampler>/<diagnostic>": Row("what the sampler says about itself", "see diagnostics"),
    "geometry/pullback_error": Row(
        "posterior against pull-back variances: median relative error (Sec. 4.4)", "-", LOWER
    ),
    "geometry/pullback_ratio": Row("their median ratio; 1 at the optimum"),
    "geometry/pullback_correlation": Row("correlation of their logarithms", "-", HIGHER),
    "geometry/pullback_off_diagonal": Row("median share of the off-diagonal in the pull-back metric", "part of 1"),
    "count/<count>": Row("of `prepare`: sessions, subjects, slices, labels, parts of the split", "count"),
}
PARAMETERS = {
    "cfg.<option>": Row("every option of the run under its dotted name; `config.yaml` holds the same"),
    "sweep.<option>": Row("of `sweep`: how it searches and judges; `sweep.yaml` holds the same and the space"),
    "n_train": Row("training images", "count"),
    "n_val": Row("validation images", "count"),
    "n_test": Row("test images", "count"),
    "settings.<option>": Row("of `prepare`: every setting that brain volumes were prepared with"),
}
TAGS = {
    "model": Row("name of the model"),
    "dataset": Row("name of the data set"),
    "seed": Row("seed of the run"),
    "device_used": Row("`cpu` or `cuda`: what `device` stood for on the machine of the run"),
    "config": Row("fingerprint of the configuration: the same for runs that ask for the same results"),
    "config_over_seeds": Row("the same without the seed: group by it to average over seeds"),
    "best_sampler": Row("the sampler with the lowest headline score on validation images"),
    "role": Row(
        "what a run is for: `comparison`, `sweep` and `study` mark parents; below them `run` in a comparison, `cell` "
        "in a study, `configuration` and its `seed` runs in a sweep; `resume` an invocation that went on with a "
        "sweep; `promotion` moved an alias, `report` compared others"
    ),
    "sweep": Row("of `sweep`: id of the sweep's own run"),
    "configuration": Row("of `sweep`: name of the configuration, the same for its runs"),
    "options": Row("of `sweep`: what a configuration sets of the searched options, as JSON"),
    "sweep.seed": Row("of `sweep`: which of the configuration's runs it is, from 0"),
    "headline": Row("the score by which runs are ranked"),
    "changed": Row("of `sweep`: options that population based training has changed, as JSON"),
    "stop_reason": Row("of `main`, `study` and `sweep`: why a run ended before its last epoch"),
    "failure": Row("of `main`, `study` and `sweep`: why a run failed"),
    "restarts": Row(
        "of `main`, `study` and `sweep`: how often a run went on after its process or node had died", "count"
    ),
    "ray.trial_id": Row("of `main`, `study` and `sweep`: Ray's id of the trial"),
    "ray.job": Row("of `main`, `study` and `sweep`: Ray's id of the driver's job"),
    "ray.node": Row("of `main`, `study` and `sweep`: host, address and process"),
    "best_configuration": Row("of `sweep`: name of the best configuration"),
    "best_run": Row("of `sweep`: id of its best run, whose model is the one to promote"),
    "winner": Row("of a comparison: name of the best run"),
    "study": Row("of `study`: its name, on the parent and on every run"),
    "size": Row("of `study`: full, small or ci"),
    "host": Row("of `study`: the machine that executes it"),
    "cell": Row("of `study`: data, model and seed of a trained model, shared by all that is drawn from it"),
    "variant": Row("of `study`: which variant of the samplers' options was drawn with"),
    "warning.<sampler>": Row("warnings of a sampler"),
    "warning.scores": Row("warnings of the evaluation, such as too few samples for the number of features"),
    "not_finite.<metric>": Row("a number that was NaN or infinite: MLflow would rank it as 0"),
    "sampler": Row("of `generate`: the sampler"),
    "model_uri": Row("of `generate`: where the model came from"),
    "output": Row("of `generate`: the folder of the pictures"),
    "input_hash": Row("of `prepare`: hash of the content of all files that were used"),
    "synthetic": Row("of `cohort`: these are no data of people"),
    "geodesic": Row("of `brains`: the sessions at the ends of the geodesic"),
    "candidate": Row("of `promote`: the run that was held against the champion"),
    "verdict": Row("of `promote`: moved, refused, rolled back; with `dry_run` would move, would roll back"),
    "imported_from": Row("of `import_checkpoint`: name of the file"),
}
ARTIFACTS = {
    "config.yaml": Row("repeats the run: `-P config=config.yaml`"),
    "environment.json": Row("versions and machine"),
    "figures/latent_map.png": Row("codes by class, and samples of each sampler"),
    "figures/pullback.png": Row("posterior variances against the decoder's pull-back metric"),
    "figures/figure1.png": Row("of `figure1`: the paper's Fig. 1"),
    "figures/prd.png": Row("of `evaluate`: precision-recall curve"),
    "figures/nearest.png": Row("of `evaluate`: samples beside their nearest training images"),
    "model/model.safetensors": Row("the model file: weights, codes, samplers' options, scores"),
    "checkpoints/checkpoint.safetensors": Row("the training state, to go on from"),
    "leaderboard.md": Row("of a comparison: runs and samplers, of a sweep: configurations; best first"),
    "leaderboard.csv": Row("of a comparison: all test scores, for programs; of a sweep: all judged configurations"),
    "sweep.yaml": Row("of `sweep`: the space, the flags and how it searches; `-P resume=` reads it"),
    "best.yaml": Row("of `sweep`: the best configuration; `-P config=best.yaml` repeats it"),
    "parallel_coordinates.png": Row("of `sweep`: configurations as lines through their options to their score"),
    "importance.png": Row("of `sweep`: how much of the score's variation each option explains"),
    "leaderboard.png": Row("of a comparison: the same as bars"),
    "report.md": Row("of `study`: the report"),
    "report.html": Row("of `study`, `sweep` and `report`: the page, pictures inside"),
    "scores.csv": Row("of `study`: every number, one row for each data set, model, sampler, seed and score"),
    "figures/<name>.png": Row("of `study`: the report's pictures"),
    "report.json": Row("of `evaluate`: the numbers and how they were made"),
    "build.json": Row("of `prepare`: what was built from what"),
    "problems.txt": Row("of `prepare`: every problem of the input, where it was refused"),
    "inspection.txt": Row("of `inspect`: what a user must check of a folder of brain volumes"),
    "ground_truth.csv": Row("of `cohort`: how each synthetic session was made"),
    "qc/<name>": Row("of `prepare`: how brain volumes look: mosaic, mean, planes, histograms, tables, viewer"),
    "brains/<name>": Row("of `brains`: samples beside real brains, geodesic, latent space by age and CDR, viewer"),
    "brains/nifti/<name>": Row("of `brains`: the first samples as NIfTI, in mm"),
    "predictions-<data>.csv": Row("of `study`, on brains: what each classifier says of each test subject"),
}
IMAGES = {
    "reconstructions": Row("validation images above their reconstructions; the step is the epoch"),
    "brains/geodesic_above_straight_line": Row("of `brains`: decoded along a geodesic, and along the straight line"),
    "samples/<sampler>": Row("64 samples of the trained model; the step is always 0, so that runs line up"),
}
NAMES: dict[Kind, dict[str, Row]] = {
    "metric": METRICS,
    "parameter": PARAMETERS,
    "tag": TAGS,
    "artifact": ARTIFACTS,
    "image": IMAGES,
}


def find(kind: Kind, name: str) -> str | None:
    """Return the row's key that `name` falls under, or None where there is none."""
    return next((key for key in NAMES[kind] if re.fullmatch(_regex(key), name)), None)


def unknown(kind: Kind, names: Iterable[str]) -> list[str]:
    """Return those of `names` that have no row, sorted."""
    return sorted(name for name in names if find(kind, name) is None)


def better(metric: str) -> str:
    """Return `lower`, `higher`, or nothing where a metric such as `score/fid` does not judge."""
    key = find("metric", metric)
    if key is None:
        return ""
    last = metric.rpartition("/")[2]
    table = TABLES.get(key.rpartition("/")[2].strip("<>"))
    rows = {key: METRICS[key]} if table is None else {n: r for n, r in table.items() if re.fullmatch(_open(n), last)}
    return next((row.better for row in rows.values()), "")


def _regex(key: str) -> str:
    """Return the pattern of a key: a placeholder is one of its table's names, or any word without a slash."""
    words = re.split(r"<(\w+)>", key)
    return "".join(_placeholder(word) if i % 2 else re.escape(word) for i, word in enumerate(words))


def _placeholder(name: str) -> str:
    if name == "score":
        stems = "|".join(_open(stem) for stem in SCORES)
        return rf"(real_|reconstructions_)?({stems})(_stderr|_n)?(_class\w+?)?(_sd)?"
    if name in TABLES:
        return "(?:" + "|".join(map(re.escape, TABLES[name])) + ")"
    return ".+" if name in ("option", "metric") else "[^/]+"


def _open(stem: str) -> str:
    """Return the pattern of a score's name, in which <words> are free."""
    return "".join(r"[\w.-]+?" if i % 2 else re.escape(part) for i, part in enumerate(re.split(r"<(\w+)>", stem)))
