"""App. C.3 as a study: do generated images help a classifier of CDR 0 against CDR above 0 when there are few subjects?

Subjects are cross-validated: those of a fold's test are seen by no model. Of the others so many as asked for train one
generative model a class and the classifier; the classifier then also gets distorted copies, or samples, of each class.
"""

import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn.functional import avg_pool2d

from experiments.brains import Cohort
from experiments.classifier import judge_classifier, probabilities, train_conv, train_linear
from geovae.codes import encode_images
from geovae.data.affine import apply_affine, draw_affine
from geovae.images import to_float, to_uint8
from geovae.models import build_model
from geovae.mri.cohort.export import atomic
from geovae.samplers import SAMPLERS
from geovae.saved_model import SavedModel
from geovae.training import Trainer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLAIN = ("none", "classical")
SAMPLED = ("prior", "mixture", "riemannian")
METHODS = (*PLAIN, *SAMPLED)
CLASSIFIERS = ("conv", "linear")
SMALLEST = 4  # training subjects
MEASURES = ("balanced_accuracy", "sensitivity", "specificity")


@dataclass(frozen=True, eq=False)
class Trial:
    """One classifier: how it was trained, what it says of the test subjects' images, and its measures."""

    size: int
    method: str
    fold: int
    rows: np.ndarray
    probability: np.ndarray
    measures: dict[str, float]


@dataclass(frozen=True, eq=False)
class Task:
    """Images (n, 1, h, w) of assessed subjects, their class (n,) (1: CDR above 0), and whose they are (n,)."""

    images: Tensor
    labels: Tensor
    subjects: np.ndarray
    ids: list[str]


def task_of(cohort: Cohort, shrink: int = 1) -> Task:
    """Return the task of a cohort of slices; those not assessed are left out, images shrink by means over blocks.

    Raises:
        ValueError: if a class has no subjects, or the images do not shrink by a whole number.
    """
    if cohort.images.shape[1] != 1:
        raise ValueError("the study takes slices: prepare the data set `oasis`, not volumes")
    h, w = cohort.images.shape[2:]
    if shrink < 1 or h % shrink or w % shrink:
        raise ValueError(f"`shrink` must divide the images of {h} x {w}, got {shrink}")
    assessed = np.flatnonzero(~np.isnan(cohort.cdr))
    labels = torch.from_numpy(cohort.cdr[assessed] > 0).long()
    if labels.float().mean() in (0.0, 1.0) or len(labels) == 0:
        raise ValueError("the study needs subjects of CDR 0 and of CDR above 0")
    ids = [cohort.ids[row] for row in assessed]
    images = to_uint8(avg_pool2d(to_float(cohort.images[assessed]), shrink))
    return Task(images, labels, np.array([id.partition("_MR")[0] for id in ids]), ids)


def augmentation_study(
    task: Task,
    *,
    sizes: Sequence[int] = (50, 100, 200),
    methods: Sequence[str] = METHODS,
    folds: int = 10,
    generated: int = 200,
    classifier: str = "conv",
    network: str = "conv_oasis",
    width: int | None = None,
    latent_dim: int = 16,
    beta: float = 1.0,
    epochs: int = 1000,
    learning_rate: float = 1e-4,
    steps: int = 600,
    seed: int = 0,
    device: torch.device | str = "cpu",
    keep: Path | None = None,
) -> Iterator[Trial]:
    """Yield a trial for each fold, size and method.

    Args:
        task: see `task_of`.
        sizes: numbers of training subjects; those of a smaller size are among those of a larger one.
        methods: of `none`, `classical`, `prior`, `mixture`, `riemannian`.
        folds: of the cross-validation over subjects, stratified by class.
        generated: images that each class gets in addition: distorted copies, or samples.
        classifier: `conv`, a small convolutional network, or `linear`, a logistic regression on the pixels, which did
            better on few brains in one space.
        network: of the VAE, one for each class.
        width: of its first layer.
        latent_dim: its latent dimensions.
        beta: its weight of the divergence.
        epochs: its training; the epoch of the lowest loss on its own training images is kept, as published.
        learning_rate: its training.
        steps: of the classifier `conv`, the same for all methods.
        seed: of folds, subsets and all training.
        device: where to compute.
        keep: folder for what each classifier said; what a call with the same options and images left there is not
            repeated.

    Raises:
        ValueError: before anything is trained, for unknown methods or more subjects than a fold leaves for training.
    """
    check_study(task, sizes, methods, folds, generated, classifier)
    model = {"network": network, "width": width, "latent_dim": latent_dim, "beta": beta}
    training = {"epochs": epochs, "learning_rate": learning_rate}
    mark = _mark(task, [list(methods), folds, generated, classifier, model, training, steps, seed])
    for fold, (order, test) in enumerate(split_folds(task, folds, seed)):
        for size in sizes:
            path = None if keep is None else keep / f"{mark}-{fold}-{size}.npz"
            said = None if path is None else _read_said(path, methods)
            if said is None:
                rows = rows_of_subjects(task, order[:size])
                images, labels = task.images[rows], task.labels[rows]
                more = additions(images, labels, methods, generated, model, training, seed + fold, device)
                said = {}
                for method, (extra_images, extra_labels) in more.items():
                    given = torch.cat([images, extra_images]), torch.cat([labels, extra_labels])
                    if classifier == "linear":
                        trained = train_linear(*given)
                    else:
                        trained = train_conv(*given, steps=steps, seed=seed + fold, device=device)
                    said[method] = probabilities(trained, task.images[test]).numpy()
                if path is not None:
                    with atomic(path) as partial:
                        np.savez(partial, **said)  # type: ignore[arg-type]
            for method, p in said.items():
                yield Trial(size, method, fold, test, p, judge_classifier(torch.from_numpy(p), task.labels[test]))


def check_study(
    task: Task, sizes: Sequence[int], methods: Sequence[str], folds: int, generated: int, classifier: str = "conv"
) -> None:
    """Raise ValueError for what cannot be studied with these subjects."""
    if classifier not in CLASSIFIERS:
        raise ValueError(f"`classifier` must be of {', '.join(CLASSIFIERS)}, got {classifier}")
    unknown = [name for name in methods if name not in METHODS]
    if unknown or not methods:
        raise ValueError(f"`methods` must be of {', '.join(METHODS)}, got {', '.join(methods) or 'none'}")
    if generated < 1:
        raise ValueError(f"`generated` must be at least 1, got {generated}")
    classes = _classes(task)
    smallest = int(np.bincount(list(classes.values()), minlength=2).min())
    if not 2 <= folds <= smallest:
        raise ValueError(f"`folds` must lie in 2..{smallest}, the subjects of the smaller class, got {folds}")
    most = len(classes) - -(-len(classes) // folds) - 1
    if not sizes or min(sizes) < SMALLEST or max(sizes) > most:
        raise ValueError(
            f"`sizes` must lie in {SMALLEST}..{most}: {len(classes)} assessed subjects leave so many for training with "
            f"{folds} folds; got {', '.join(map(str, sizes)) or 'none'}"
        )


def split_folds(task: Task, folds: int, seed: int) -> list[tuple[list[str], np.ndarray]]:
    """Return for each fold its training subjects, in an order of which every start is stratified, and its test rows."""
    random = np.random.default_rng(seed)
    classes = _classes(task)
    members = [random.permutation([s for s, label in classes.items() if label == value]) for value in (0, 1)]
    found = []
    for fold in range(folds):
        tested = {str(s) for group in members for s in group[fold::folds]}
        # each subject's place within its class, from 0 to 1: sorting by it mixes the classes evenly
        places = {
            str(s): (i + 0.5) / len(kept)
            for kept in ([s for s in group if s not in tested] for group in members)
            for i, s in enumerate(kept)
        }
        test = np.flatnonzero(np.isin(task.subjects, list(tested)))
        found.append((sorted(places, key=lambda s, places=places: places[s]), test))  # type: ignore[misc]
    return found


def rows_of_subjects(task: Task, subjects: Sequence[str]) -> np.ndarray:
    """Return the rows of these subjects."""
    return np.flatnonzero(np.isin(task.subjects, list(subjects)))


def additions(
    images: Tensor,
    labels: Tensor,
    methods: Sequence[str],
    n: int,
    model: dict[str, Any],
    training: dict[str, Any],
    seed: int,
    device: torch.device | str,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return for each method what the classifier gets beside the real images: `n` images a class, and their labels."""
    found: dict[str, list[Tensor]] = {method: [] for method in methods}
    for value in (0, 1):
        real = images[labels == value]
        if "classical" in found:
            found["classical"].append(distorted(real, n, seed))
        wanted = [method for method in methods if method in SAMPLED]
        if wanted:
            for method, drawn in samples(real, wanted, n, model, training, seed, device).items():
                found[method].append(drawn)
    none = (images[:0], labels[:0])
    both = torch.arange(2).repeat_interleave(n)
    return {method: (torch.cat(parts), both) if parts else none for method, parts in found.items()}


def distorted(real: Tensor, n: int, seed: int) -> Tensor:
    """Return `n` of the real images (m, 1, h, w), each shifted, turned, scaled and sheared a little."""
    generator = Generator().manual_seed(seed)
    rows = torch.randint(len(real), (n,), generator=generator)
    shift = 0.02 * real.shape[2]
    return apply_affine(real[rows], draw_affine(n, generator, degrees=5, pixels=shift, scale=0.05, shear=0.05))


def samples(
    real: Tensor,
    methods: Sequence[str],
    n: int,
    model: dict[str, Any],
    training: dict[str, Any],
    seed: int,
    device: torch.device | str,
) -> dict[str, Tensor]:
    """Train one VAE on the images (m, 1, h, w) of a class, and return `n` samples of it by each sampler."""
    shape = (int(real.shape[1]), int(real.shape[2]), int(real.shape[3]))
    vae: Any = build_model("vae", shape, seed=seed, **model).to(device)
    trainer = Trainer(batch_size=min(20, len(real)), plateau_patience=20, **training)
    state = trainer.start(vae, seed=seed)
    for _ in trainer.run(state, real, real):
        pass
    vae = state.load_best()
    codes = encode_images(vae, real)
    options: dict[str, dict[str, Any]] = {
        "mixture": {"n_components": min(10, max(1, len(real) // 10))},
        "riemannian": {"centroids": "all"},
    }
    saved = SavedModel(vae, codes, {})
    fitted = {name: SAMPLERS[name](**options.get(name, {})).fit(codes) for name in methods}
    return {name: saved.decode(one.sample(n, Generator().manual_seed(seed))) for name, one in fitted.items()}


def summary(trials: Sequence[Trial]) -> dict[tuple[int, str], dict[str, tuple[float, float]]]:
    """Return for each size and method the mean and standard deviation over folds of each measure."""
    groups: dict[tuple[int, str], list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.size, trial.method), []).append(trial)
    return {
        key: {name: _mean_sd([t.measures[name] for t in group]) for name in MEASURES} for key, group in groups.items()
    }


def gains(trials: Sequence[Trial]) -> dict[tuple[int, str], tuple[float, float]]:
    """Return the mean and standard deviation over folds of the balanced accuracy beyond that of real images alone."""
    accuracy = {(t.size, t.method, t.fold): t.measures["balanced_accuracy"] for t in trials}
    groups: dict[tuple[int, str], list[float]] = {}
    for (size, method, fold), value in accuracy.items():
        if method != "none" and (size, "none", fold) in accuracy:
            groups.setdefault((size, method), []).append(value - accuracy[size, "none", fold])
    return {key: _mean_sd(values) for key, values in groups.items()}


def correlations(
    trials: Sequence[Trial], task: Task, truth: Mapping[str, float]
) -> dict[tuple[int, str], tuple[float, float]]:
    """Return the mean and standard deviation over folds of Spearman's correlation of what classifiers say of the test
    subjects with the `truth`, a number for each session.
    """
    from scipy.stats import spearmanr

    groups: dict[tuple[int, str], list[float]] = {}
    for t in trials:
        known = [truth[task.ids[row]] for row in t.rows]
        groups.setdefault((t.size, t.method), []).append(float(spearmanr(t.probability, known).statistic))
    return {key: _mean_sd(values) for key, values in groups.items()}


def ceiling(task: Task, truth: Mapping[str, float]) -> float:
    """Return the balanced accuracy of the best threshold on the `truth` itself."""
    known = np.array([truth[id] for id in task.ids])
    said = known[:, None] >= known
    labels = task.labels.numpy()
    return float((said[labels == 1].mean(0) + (~said)[labels == 0].mean(0)).max() / 2)


def as_markdown(trials: Sequence[Trial], task: Task, truth: Mapping[str, float] | None = None) -> str:
    """Return the study as a Markdown table; `truth` is the atrophy of each session of a synthetic cohort."""
    classes = list(_classes(task).values())
    folds = len({trial.fold for trial in trials})
    gained, related = gains(trials), correlations(trials, task, truth) if truth else {}
    head = ["training subjects", "added to the real images", "balanced accuracy", "gain", "sensitivity", "specificity"]
    head += ["correlation with the atrophy"] if truth else []
    lines = [head, ["---"] * len(head)]
    for (size, method), measures in sorted(summary(trials).items(), key=lambda item: item[0][0]):
        accuracy, *others = ("{:.3f} ± {:.3f}".format(*measures[name]) for name in MEASURES)
        gain = "{:+.3f} ± {:.3f}".format(*gained[size, method]) if (size, method) in gained else "–"
        cells = [str(size), method, accuracy, gain, *others]
        lines.append([*cells, "{:.2f} ± {:.2f}".format(*related[size, method])] if truth else cells)
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines) + (
        f"\n\nCDR 0 ({classes.count(0)} subjects) against CDR above 0 ({classes.count(1)}); mean ± standard deviation "
        f"over {folds} folds of subjects. *Gain*: balanced accuracy beyond that of real images alone, fold by fold. "
        "Folds share training subjects: the deviation is no standard error. Age goes along with CDR: part of what is "
        "told apart may be age.\n"
    )
    if truth:
        text += (
            "\n*Correlation*: Spearman's, of what a classifier says of test subjects with the factor that made them. "
            f"A threshold on that factor itself reaches a balanced accuracy of {ceiling(task, truth):.3f}.\n"
        )
    return text


def as_figure(trials: Sequence[Trial]) -> "Figure":
    """Return the measures over the number of training subjects, a line for each method."""
    from matplotlib.figure import Figure

    found = summary(trials)
    sizes = sorted({size for size, _ in found})
    methods = list(dict.fromkeys(method for _, method in found))
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    for ax, name in zip(figure.subplots(1, len(MEASURES), sharey=True), MEASURES, strict=True):
        for i, method in enumerate(methods):
            mean, sd = np.array([found[size, method][name] for size in sizes]).T
            place = np.arange(len(sizes)) + 0.12 * (i - (len(methods) - 1) / 2)
            ax.errorbar(place, mean, sd, marker="o", capsize=3, linewidth=1, label=method)
        ax.axhline(0.5, color="0.7", linewidth=0.8, zorder=0)
        ax.set_xticks(range(len(sizes)), [str(size) for size in sizes])
        ax.set(xlabel="training subjects", title=name.replace("_", " "), ylim=(0, 1.02))
    figure.axes[0].legend(fontsize=8, loc="lower right")
    return figure


def _mark(task: Task, asked: list[Any]) -> str:
    """Return 12 digits that two studies share if they ask the same of the same images."""
    known = hashlib.sha256(json.dumps([asked, task.ids, task.labels.tolist()]).encode())
    known.update(task.images.numpy().tobytes())
    return known.hexdigest()[:12]


def _read_said(path: Path, methods: Sequence[str]) -> dict[str, np.ndarray] | None:
    """Return what the classifiers of a finished fold said, by method, or None."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {method: archive[method] for method in methods}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _mean_sd(values: Sequence[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _classes(task: Task) -> dict[str, int]:
    """Return the class of each subject, that of its first row."""
    found: dict[str, int] = {}
    for subject, label in zip(task.subjects.tolist(), task.labels.tolist(), strict=True):
        found.setdefault(subject, label)
    return found
