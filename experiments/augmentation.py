"""App. C.3 as a study: do generated images help a classifier of CDR 0 against CDR above 0 when there are few subjects?

Subjects are cross-validated: the test subjects of a fold are held out from all models. Of the others, `size` subjects
train one VAE a class and the classifier, which also gets distorted copies, or samples, of each class.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn.functional import avg_pool2d

from experiments import tables
from experiments.brains import Cohort
from experiments.classifier import predict, score_classifier, train_conv, train_linear
from geovae.checks import check_choice, check_count
from geovae.codes import encode_images
from geovae.data.affine import apply_affine, draw_affine
from geovae.files import atomic_path, read_npz
from geovae.images import to_float, to_uint8
from geovae.models import build_model
from geovae.samplers import SAMPLERS
from geovae.saved_model import SavedModel
from geovae.training import Trainer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAMPLED = ("prior", "mixture", "riemannian", "local", "fine_mixture")
METHODS = ("none", "classical", *SAMPLED)
CLASSIFIERS = ("conv", "linear")
SMALLEST = 4  # training subjects
MEASURES = ("balanced_accuracy", "sensitivity", "specificity")
Labelled = tuple[Tensor, Tensor]  # images (n, 1, h, w), uint8, and their classes (n,)
Spread = dict[tuple[int, str], tuple[float, float]]  # mean and standard deviation over folds, by size and method
Device = torch.device | str


@dataclass(frozen=True, eq=False)
class Task:
    """Images (n, 1, h, w) of assessed subjects, their classes (n,) (1: CDR above 0), subjects (n,) and session ids."""

    images: Tensor
    labels: Tensor
    subjects: np.ndarray
    ids: list[str]


@dataclass(frozen=True)
class Design:
    """The options of the study.

    Args:
        sizes: numbers of training subjects; those of a smaller size are among those of a larger one.
        methods: of `none`, `classical`, `prior`, `mixture`, `riemannian`, `local`, `fine_mixture`.
        folds: of the cross-validation over subjects, stratified by class.
        generated: number of images added to each class: distorted copies, or samples.
        classifier: `conv`, a small convolutional network, or `linear`, a logistic regression on the pixels, which did
            better on few brains in one space.
        network: of the VAE, one for each class.
        width: of its first layer.
        latent_dim: its latent dimensions.
        beta: its weight of the divergence.
        epochs: its training; the epoch of the lowest loss on its own training images is kept, as published.
        early_stop: epochs without a loss lower by 0.1 % before its training ends; None: never.
        learning_rate: its training.
        steps: of the classifier `conv`, the same for all methods.
        seed: of folds, subsets and all training.

    Raises:
        ValueError: for an unknown method or classifier, or no images to add.
    """

    sizes: Sequence[int] = (50, 100, 200)
    methods: Sequence[str] = METHODS
    folds: int = 10
    generated: int = 200
    classifier: str = "conv"
    network: str = "conv_oasis"
    width: int | None = None
    latent_dim: int = 16
    beta: float = 1.0
    epochs: int = 1000
    early_stop: int | None = 60
    learning_rate: float = 1e-4
    steps: int = 600
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what can be checked without the data."""
        check_choice("classifier", self.classifier, CLASSIFIERS)
        if not self.methods or not set(self.methods) <= set(METHODS):
            raise ValueError(f"`methods` must be of {', '.join(METHODS)}, got {', '.join(self.methods) or 'none'}")
        check_count(generated=self.generated)

    def check(self, task: Task) -> None:
        """Raise ValueError if the subjects of the task are too few for the folds and sizes."""
        classes = _classes(task)
        smallest = int(np.bincount(list(classes.values()), minlength=2).min())
        if not 2 <= self.folds <= smallest:
            raise ValueError(f"`folds` must lie in 2..{smallest}, the subjects of the smaller class, got {self.folds}")
        most = len(classes) - -(-len(classes) // self.folds) - 1
        if not self.sizes or min(self.sizes) < SMALLEST or max(self.sizes) > most:
            raise ValueError(
                f"`sizes` must lie in {SMALLEST}..{most}: {len(classes)} assessed subjects leave {most} for training "
                f"with {self.folds} folds; got {', '.join(map(str, self.sizes)) or 'none'}"
            )
        self._check_codes(task)

    def _check_codes(self, task: Task) -> None:
        """Raise ValueError if a class has too few training images for a sampler of the methods."""
        size, folds = min(self.sizes), split_folds(task, self.folds, self.seed)
        labels = [task.labels[rows_of_subjects(task, order[:size])] for order, _ in folds]
        fewest = min(int(torch.bincount(of_fold, minlength=2).min()) for of_fold in labels)
        for method in self.methods:
            if method in SAMPLERS and fewest < SAMPLERS[method].least_codes:
                raise ValueError(
                    f"`sizes` must leave sampler {method} {SAMPLERS[method].least_codes} images of each class: {size} "
                    f"subjects leave {fewest}; choose larger sizes, or `methods` without {method}"
                )


@dataclass(frozen=True, eq=False)
class Trial:
    """One classifier: size, method and fold of its training, probabilities (n,) of the test rows (n,), measures."""

    size: int
    method: str
    fold: int
    rows: np.ndarray
    probability: np.ndarray
    measures: dict[str, float]


def task_of(cohort: Cohort, shrink: int = 1) -> Task:
    """Return the task of a cohort of slices, without subjects that were not assessed, images shrunk by block means.

    Raises:
        ValueError: if a class has no subjects, or the images do not shrink by a whole number.
    """
    if cohort.images.shape[1] != 1:
        raise ValueError("the study needs slices: prepare the data set `oasis`, not volumes")
    h, w = cohort.images.shape[2:]
    if shrink < 1 or h % shrink or w % shrink:
        raise ValueError(f"`shrink` must divide the images of {h} x {w}, got {shrink}")
    assessed = np.flatnonzero(~np.isnan(cohort.cdr))  # OASIS-1 has no CDR of most of its young subjects
    labels = torch.from_numpy(cohort.cdr[assessed] > 0).long()
    if labels.float().mean() in (0.0, 1.0) or len(labels) == 0:
        raise ValueError("the study needs subjects of CDR 0 and of CDR above 0")
    ids = [cohort.ids[row] for row in assessed]
    images = to_uint8(avg_pool2d(to_float(cohort.images[assessed]), shrink))
    return Task(images, labels, np.array([id.partition("_MR")[0] for id in ids]), ids)


def augmentation_study(
    task: Task, design: Design, *, device: Device = "cpu", cache: Path | None = None
) -> Iterator[Trial]:
    """Yield a trial for each fold, size and method.

    `cache` is a folder for the probabilities of finished classifiers; a call with the same options and images reads
    them.

    Raises:
        ValueError: before anything is trained, if a fold leaves too few subjects for training.
    """
    design.check(task)
    fingerprint = _fingerprint(task, design)
    for fold, (order, test) in enumerate(split_folds(task, design.folds, design.seed)):
        for size in design.sizes:
            path = None if cache is None else cache / f"{fingerprint}-{fold}-{size}.npz"
            probabilities = None if path is None else _read_cached(path, design.methods)
            if probabilities is None:
                train = rows_of_subjects(task, order[:size])
                probabilities = _run_fold(task, train, test, design, design.seed + fold, device)
                if path is not None:
                    with atomic_path(path) as temporary:
                        np.savez(temporary, **probabilities)  # type: ignore[arg-type]  # numpy's stub: `allow_pickle`
            for method, p in probabilities.items():
                yield Trial(size, method, fold, test, p, score_classifier(torch.from_numpy(p), task.labels[test]))


def split_folds(task: Task, folds: int, seed: int) -> list[tuple[list[str], np.ndarray]]:
    """Return for each fold its training subjects, each beginning of which is stratified, and its test rows."""
    random = np.random.default_rng(seed)
    classes = _classes(task)
    members = [random.permutation([s for s, label in classes.items() if label == value]) for value in (0, 1)]
    splits = []
    for fold in range(folds):
        tested = {str(s) for group in members for s in group[fold::folds]}
        places: dict[str, float] = {}
        for group in members:
            train = [str(s) for s in group if str(s) not in tested]
            # each subject's place within its class, from 0 to 1: sorting by it mixes the classes evenly
            places |= {s: (i + 0.5) / len(train) for i, s in enumerate(train)}
        splits.append((sorted(places, key=places.__getitem__), rows_of_subjects(task, list(tested))))
    return splits


def rows_of_subjects(task: Task, subjects: Sequence[str]) -> np.ndarray:
    """Return the rows of these subjects."""
    return np.flatnonzero(np.isin(task.subjects, list(subjects)))


def add_images(images: Tensor, labels: Tensor, design: Design, seed: int, device: Device) -> dict[str, Labelled]:
    """Return for each method the images that the classifier gets beside the real ones, and their labels.

    Each class gets `design.generated` images, and one VAE, which all samplers share.
    """
    added: dict[str, list[Tensor]] = {method: [] for method in design.methods}
    for value in (0, 1):
        real = images[labels == value]
        if "classical" in added:
            added["classical"].append(distort(real, design.generated, seed))
        if set(added) & set(SAMPLED):
            for method, drawn in draw_samples(real, design, seed, device).items():
                added[method].append(drawn)
    both = torch.arange(2).repeat_interleave(design.generated)
    none = (images[:0], labels[:0])
    return {method: (torch.cat(parts), both) if parts else none for method, parts in added.items()}


def distort(real: Tensor, n: int, seed: int) -> Tensor:
    """Return `n` of the real images (m, 1, h, w), each shifted, rotated, scaled and sheared a little."""
    generator = Generator().manual_seed(seed)
    rows = torch.randint(len(real), (n,), generator=generator)
    shift = 0.02 * real.shape[2]
    return apply_affine(real[rows], draw_affine(n, generator, degrees=5, pixels=shift, scale=0.05, shear=0.05))


def draw_samples(real: Tensor, design: Design, seed: int, device: Device) -> dict[str, Tensor]:
    """Train one VAE on the images (m, 1, h, w) of a class, and return samples of it by each sampler of the methods."""
    shape = (int(real.shape[1]), int(real.shape[2]), int(real.shape[3]))
    options = {name: getattr(design, name) for name in ("network", "width", "latent_dim", "beta")}
    vae: Any = build_model("vae", shape, seed=seed, **options).to(device)
    training = {name: getattr(design, name) for name in ("epochs", "early_stop", "learning_rate")}
    trainer = Trainer(batch_size=min(20, len(real)), plateau_patience=20, min_delta=0.001, **training)
    state = trainer.start(vae, seed=seed)
    # validated on the training images, as published: a class of few subjects has none to spare
    for _ in trainer.run(state, real, real):
        pass
    vae = state.load_best()
    model = SavedModel(vae, encode_images(vae, real), {})
    few: dict[str, dict[str, Any]] = {  # options that suit few codes
        "mixture": {"n_components": min(10, max(1, len(real) // 10))},
        "riemannian": {"preset": None, "centroids": "all"},
    }
    methods = [method for method in design.methods if method in SAMPLED]
    samplers = {name: model.sampler(name, **few.get(name, {})) for name in methods}
    n = design.generated
    return {name: model.decode(s.sample(n, Generator().manual_seed(seed))) for name, s in samplers.items()}


def summary(trials: Sequence[Trial]) -> dict[tuple[int, str], dict[str, tuple[float, float]]]:
    """Return for each size and method the mean and standard deviation over folds of each measure."""
    measures = {name: _over_folds((t, t.measures[name]) for t in trials) for name in MEASURES}
    return {key: {name: measures[name][key] for name in MEASURES} for key in measures[MEASURES[0]]}


def gains(trials: Sequence[Trial]) -> Spread:
    """Return the balanced accuracy minus that with real images alone, fold by fold."""
    alone = {(t.size, t.fold): t.measures["balanced_accuracy"] for t in trials if t.method == "none"}
    return _over_folds(
        (t, t.measures["balanced_accuracy"] - alone[t.size, t.fold])
        for t in trials
        if t.method != "none" and (t.size, t.fold) in alone
    )


def correlations(trials: Sequence[Trial], task: Task, truth: Mapping[str, float]) -> Spread:
    """Return Spearman's correlation of the probabilities of test subjects with the `truth`, a number by session id."""
    from scipy.stats import spearmanr

    return _over_folds(
        (t, float(spearmanr(t.probability, [truth[task.ids[row]] for row in t.rows]).statistic)) for t in trials
    )


def ceiling(task: Task, truth: Mapping[str, float]) -> float:
    """Return the balanced accuracy of the best threshold on the `truth` itself."""
    values = np.array([truth[id] for id in task.ids])
    positive = values[:, None] >= values  # (n, n): row i is predicted with the value of column j as threshold
    labels = task.labels.numpy()
    return float((positive[labels == 1].mean(0) + (~positive)[labels == 0].mean(0)).max() / 2)


def as_markdown(trials: Sequence[Trial], task: Task, truth: Mapping[str, float] | None = None) -> str:
    """Return the study as a Markdown table; `truth` is the atrophy of each session of a synthetic cohort."""
    classes = list(_classes(task).values())
    folds = len({trial.fold for trial in trials})
    gained, related = gains(trials), correlations(trials, task, truth) if truth else {}
    head = ["training subjects", "added to the real images", "balanced accuracy", "gain", "sensitivity", "specificity"]
    rows: list[list[tables.Cell]] = []
    for (size, method), measures in sorted(summary(trials).items(), key=lambda item: item[0][0]):
        accuracy, *others = ("{:.3f} ± {:.3f}".format(*measures[name]) for name in MEASURES)
        gain = "{:+.3f} ± {:.3f}".format(*gained[size, method]) if (size, method) in gained else None
        correlation = ["{:.2f} ± {:.2f}".format(*related[size, method])] if truth else []
        rows.append([size, method, accuracy, gain, *others, *correlation])
    text = tables.as_markdown([*head, "correlation with the atrophy"] if truth else head, rows) + (
        f"\nCDR 0 ({classes.count(0)} subjects) against CDR above 0 ({classes.count(1)}); mean ± standard deviation "
        f"over {folds} folds of subjects. *Gain*: balanced accuracy beyond that of real images alone, fold by fold. "
        "Folds share training subjects: the deviation is no standard error. Age is correlated with CDR: part of the "
        "accuracy may come from age.\n"
    )
    if truth:
        text += (
            "\n*Correlation*: Spearman's, of the probabilities of test subjects with the factor that made them. "
            f"A threshold on that factor itself reaches a balanced accuracy of {ceiling(task, truth):.3f}.\n"
        )
    return text


def as_figure(trials: Sequence[Trial]) -> "Figure":
    """Return the measures over the number of training subjects, a line for each method."""
    from matplotlib.figure import Figure

    values = summary(trials)
    sizes = sorted({size for size, _ in values})
    methods = list(dict.fromkeys(method for _, method in values))
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    for ax, name in zip(figure.subplots(1, len(MEASURES), sharey=True), MEASURES, strict=True):
        for i, method in enumerate(methods):
            mean, sd = np.array([values[size, method][name] for size in sizes]).T
            place = np.arange(len(sizes)) + 0.12 * (i - (len(methods) - 1) / 2)  # beside each other, not on top
            ax.errorbar(place, mean, sd, marker="o", capsize=3, linewidth=1, label=method)
        ax.axhline(0.5, color="0.7", linewidth=0.8, zorder=0)  # chance
        ax.set_xticks(range(len(sizes)), [str(size) for size in sizes])
        ax.set(xlabel="training subjects", title=name.replace("_", " "), ylim=(0, 1.02))
    figure.legend(*figure.axes[0].get_legend_handles_labels(), fontsize=8, loc="outside right center")
    return figure


def _run_fold(
    task: Task, train: np.ndarray, test: np.ndarray, design: Design, seed: int, device: Device
) -> dict[str, np.ndarray]:
    """Train the models of one fold and size; return the probability of each test row, by method."""
    images, labels = task.images[train], task.labels[train]
    probabilities = {}
    for method, (more_images, more_labels) in add_images(images, labels, design, seed, device).items():
        examples = torch.cat([images, more_images]), torch.cat([labels, more_labels])
        if design.classifier == "linear":
            network = train_linear(*examples)
        else:
            network = train_conv(*examples, steps=design.steps, seed=seed, device=device)
        probabilities[method] = predict(network, task.images[test]).numpy()
    return probabilities


def _fingerprint(task: Task, design: Design) -> str:
    """Return 12 hex digits that two studies share if they have the same images and options."""
    # not of the sizes: a study with one size more reads what the others left
    options = {name: value for name, value in asdict(design).items() if name != "sizes"}
    total = hashlib.sha256(json.dumps([options, task.ids, task.labels.tolist()]).encode())
    total.update(task.images.numpy().tobytes())
    return total.hexdigest()[:12]


def _read_cached(path: Path, methods: Sequence[str]) -> dict[str, np.ndarray] | None:
    """Return the probabilities of the classifiers of a finished fold, by method, or None."""
    try:
        return read_npz(path, methods)
    except (FileNotFoundError, ValueError):  # absent or incomplete: train again
        return None


def _over_folds(values: Iterable[tuple[Trial, float]]) -> Spread:
    """Return mean and standard deviation of the values of all folds, by size and method."""
    groups: dict[tuple[int, str], list[float]] = {}
    for trial, value in values:
        groups.setdefault((trial.size, trial.method), []).append(value)
    return {key: (fmean(group), stdev(group) if len(group) > 1 else 0.0) for key, group in groups.items()}


def _classes(task: Task) -> dict[str, int]:
    """Return the class of each subject, that of its first row."""
    classes: dict[str, int] = {}
    for subject, label in zip(task.subjects.tolist(), task.labels.tolist(), strict=True):
        classes.setdefault(subject, label)
    return classes
