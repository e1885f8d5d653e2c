"""The augmentation study: subjects never leak, sizes are nested, and the factor that made the images is found again."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import experiments.augmentation
from experiments.augmentation import (
    METHODS,
    Design,
    Task,
    Trial,
    as_figure,
    as_markdown,
    augmentation_study,
    ceiling,
    correlations,
    gains,
    rows_of_subjects,
    split_folds,
    summary,
    task_of,
)
from experiments.brains import Cohort
from experiments.classifier import predict, score_classifier, train_conv, train_linear
from experiments.planes import UNKNOWN
from geovae.mri import Volume
from geovae.mri.steps.slices import cut_plane
from geovae.mri.synthetic.anatomy import draw_anatomy
from geovae.mri.synthetic.scanner import scan

TINY = {"network": "mlp", "width": 24, "latent_dim": 2, "epochs": 4, "learning_rate": 1e-3, "steps": 40}


def task(n0=24, n1=18, size=16, seed=0):
    """Blobs whose size says the class, two scans of every third subject."""
    random = np.random.default_rng(seed)
    labels = np.array([0] * n0 + [1] * n1)
    ids = [f"S{i:03d}_MR{visit}" for i in range(n0 + n1) for visit in ((1, 2) if i % 3 == 0 else (1,))]
    subjects = np.array([id.partition("_MR")[0] for id in ids])
    rows = np.array([int(s[1:]) for s in subjects])
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size),) * 2, indexing="ij"))
    radius = 0.4 + 0.3 * labels[rows] + random.normal(0, 0.03, len(rows))
    images = ((grid**2).sum(0)[None] < radius[:, None, None] ** 2) * 200 + random.integers(
        0, 40, (len(rows), size, size)
    )
    return Task(torch.from_numpy(images.astype(np.uint8))[:, None], torch.from_numpy(labels[rows]), subjects, ids)


@settings(max_examples=30, deadline=None)
@given(n0=st.integers(6, 40), n1=st.integers(6, 40), folds=st.integers(2, 6), seed=st.integers(0, 9))
def test_every_subject_is_tested_once_and_never_trained_on_then(n0, n1, folds, seed):
    given = task(n0, n1, size=4)
    found = split_folds(given, folds, seed)
    assert sorted(np.concatenate([test for _, test in found]).tolist()) == list(range(len(given.labels)))
    for order, test in found:
        assert not set(order) & set(given.subjects[test])
        assert len(order) + len(set(given.subjects[test])) == n0 + n1
        for size in (10, len(order)):
            chosen = given.labels[rows_of_subjects(given, order[:size])]
            subjects = given.subjects[rows_of_subjects(given, order[:size])]
            positive = len(set(subjects[chosen.numpy() == 1]))
            assert abs(positive / size - n1 / (n0 + n1)) <= 0.5 / folds + 1.5 / size


@pytest.mark.slow
def test_the_study_runs_every_method_on_every_fold_and_size_alike():
    given = task()
    trials = list(augmentation_study(given, Design(sizes=(12, 20), folds=2, generated=6, **TINY)))
    assert len(trials) == 2 * 2 * len(METHODS)
    some = {"sizes": (12,), "folds": 2, "generated": 6, "methods": ("prior", "none")}
    again = {(t.method, t.fold): t.measures for t in augmentation_study(given, Design(**some, **TINY))}
    assert again == {(t.method, t.fold): t.measures for t in trials if t.size == 12 and t.method in ("prior", "none")}
    found = summary(trials)
    assert found.keys() == {(size, method) for size in (12, 20) for method in METHODS}
    table = as_markdown(trials, given)
    assert table.count("±") == 3 * len(found) + len(found) - 2 + 1  # no gain of real images alone; the note
    assert "CDR 0 (24 subjects) against CDR above 0 (18)" in table
    assert [ax.get_title() for ax in as_figure(trials).axes] == ["balanced accuracy", "sensitivity", "specificity"]
    best = max(mean for (_, method), row in found.items() if method == "none" for mean, _ in [row["balanced_accuracy"]])
    assert best > 0.8


def said(method, fold, rows, probability):
    labels = torch.tensor([0, 0, 1, 1])
    p = np.array(probability)
    return Trial(9, method, fold, np.array(rows), p, score_classifier(torch.from_numpy(p), labels[rows]))


def test_gains_are_paired_and_correlations_are_those_of_ranks():
    given = Task(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 0, 1, 1]), np.array([*"abcd"]), [*"abcd"])
    truth = {"a": 0.1, "b": 0.2, "c": 0.15, "d": 0.9}
    trials = [
        said("none", 0, [0, 1, 2, 3], [0.1, 0.9, 0.8, 0.2]),  # half right
        said("none", 1, [0, 1, 2, 3], [0.1, 0.2, 0.8, 0.9]),
        said("prior", 0, [0, 1, 2, 3], [0.1, 0.2, 0.8, 0.9]),
        said("prior", 1, [0, 1, 2, 3], [0.1, 0.2, 0.8, 0.3]),
    ]
    assert gains(trials) == {(9, "prior"): (pytest.approx(0.125), pytest.approx(np.std([0.5, -0.25], ddof=1)))}
    # ranks 1 2 3 4 against 1 3 2 4: 1 - 6 (1 + 1) / (4 (16 - 1)) = 0.8; 1 4 3 2 against 1 3 2 4: 1 - 6 (1 + 1 + 4) / 60
    assert correlations(trials, given, truth)[9, "none"][0] == pytest.approx((0.4 + 0.8) / 2)
    assert ceiling(given, truth) == 0.75  # everything from 0.15 on, or 0.9 alone
    text = as_markdown(trials, given, truth)
    assert "| 9 | prior | 0.875 ± 0.177 | +0.125 ± 0.530 |" in text
    assert "| 9 | none | 0.750 ± 0.354 | – |" in text
    assert "reaches a balanced accuracy of 0.750" in text
    assert "correlation" not in as_markdown(trials, given)


def test_the_probabilities_of_finished_classifiers_are_read_again(tmp_path, monkeypatch):
    given, options = task(), {"sizes": (8,), "folds": 2, "generated": 3, "methods": ("none", "classical"), "steps": 3}
    first = list(augmentation_study(given, Design(**options), cache=tmp_path))
    sorted(tmp_path.iterdir())[1].write_bytes(b"killed while it was written")
    asked = []
    known = experiments.augmentation.train_conv
    monkeypatch.setattr("experiments.augmentation.train_conv", lambda *a, **o: asked.append(1) or known(*a, **o))
    again = list(augmentation_study(given, Design(**options), cache=tmp_path))
    assert [(t.method, t.fold, t.measures) for t in again] == [(t.method, t.fold, t.measures) for t in first]
    assert len(asked) == 2  # the methods of the spoilt fold
    list(augmentation_study(given, Design(**options | {"steps": 4}), cache=tmp_path))
    assert len(asked) == 2 + 4, "other options are other classifiers"


def test_measures_are_those_of_their_definition():
    measures = score_classifier(torch.tensor([0.9, 0.2, 0.6, 0.1, 0.7]), torch.tensor([1, 1, 1, 0, 0]))
    assert measures == {"balanced_accuracy": pytest.approx((2 / 3 + 0.5) / 2), "sensitivity": 2 / 3, "specificity": 0.5}


@pytest.mark.parametrize("penalty", [0.1, 10.0])
def test_the_linear_classifier_is_where_its_objective_has_no_slope(penalty):
    given = task(n0=20, n1=9)
    weight, bias = (
        p.detach().double()[1] for p in train_linear(given.images, given.labels, penalty=penalty).parameters()
    )
    pixels = given.images.flatten(1).double() / 255
    mean, scale = pixels.mean(0), pixels.var(0).mean().sqrt()
    counts = torch.bincount(given.labels)
    share = len(given.labels) / (2 * counts[given.labels])  # both classes weigh the same

    def steepest(w, b):
        w, b = w.requires_grad_(), b.requires_grad_()
        logits = (pixels - mean) / scale @ w + b
        losses = torch.nn.functional.softplus(torch.where(given.labels == 1, -logits, logits))
        objective = (share * losses).sum() + penalty / 2 * w.square().sum()
        return max(float(slope.abs().max()) for slope in torch.autograd.grad(objective, [w, b]))

    assert steepest(weight * scale, bias + weight @ mean) < 1e-3 * steepest(0 * weight, 0 * bias)


def test_the_linear_classifier_separates_the_classes_by_its_network():
    given = task()
    network = train_linear(given.images, given.labels)
    probability = predict(network, given.images)
    assert probability.shape == (len(given.labels),)
    assert score_classifier(probability, given.labels)["balanced_accuracy"] == 1
    design = Design(sizes=(12,), folds=2, generated=3, methods=("none",), classifier="linear")
    assert all(t.measures["balanced_accuracy"] > 0.8 for t in augmentation_study(given, design))


@pytest.mark.slow
def test_the_known_factor_of_the_synthetic_cohort_is_found_again():
    """Atrophy opened the ventricles: the classifiers tell the wide from the narrow ones of subjects they never saw."""
    atrophy = np.array([0.1, 0.9] * 20)
    pictures = []
    for i, value in enumerate(atrophy):
        generator = np.random.default_rng([1, i])
        values = scan(draw_anatomy(generator, value), generator, voxel=4)[::-1].astype(np.float32)
        plane = cut_plane(Volume(values, np.diag([4.0, 4.0, 4.0, 1.0])), "axial", 0.5).data
        pictures.append(np.rint(255 * np.clip(plane / np.percentile(plane[plane > 0], 99), 0, 1)).astype(np.uint8))
    ids = [f"S{i:03d}_MR1" for i in range(len(atrophy))]
    images, labels = torch.from_numpy(np.stack(pictures))[:, None], torch.from_numpy(atrophy > 0.5).long()
    given = Task(images, labels, np.array([id[:4] for id in ids]), ids)
    methods = ("none", "classical", "riemannian")
    options = {"network": "mlp", "width": 64, "latent_dim": 4, "epochs": 60, "learning_rate": 1e-3, "steps": 80}
    trials = list(augmentation_study(given, Design(sizes=(25,), methods=methods, folds=3, generated=20, **options)))
    for method in methods:
        assert summary(trials)[25, method]["balanced_accuracy"][0] > 0.75, method


def test_a_cohort_becomes_a_task():
    cdr = np.array([np.nan, 0, 0.5, 1, 0], np.float32)
    images = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 1, 8, 4).contiguous()
    ids = [f"OAS1_000{i}_MR1" for i in range(5)]
    cohort = Cohort(images, ids, np.zeros(5), cdr, np.stack([np.eye(4)] * 5), {}, np.zeros(5))
    made = task_of(cohort, shrink=4)
    assert made.labels.tolist() == [0, 1, 1, 0]
    assert made.images.shape == (4, 1, 2, 1)
    assert made.images.flatten(1)[:, 0].tolist() == [1, 2, 3, 4]
    assert made.subjects.tolist() == ["OAS1_0001", "OAS1_0002", "OAS1_0003", "OAS1_0004"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"sizes": (10, 60)}, r"`sizes` must lie in 4..20: 42 assessed subjects leave .* with 2 folds; got 10, 60"),
        ({"sizes": ()}, r"`sizes` must lie in .*; got none"),
        (
            {"sizes": (4, 10)},
            r"`sizes` must leave sampler local 3 images of each class: 4 subjects leave 2; choose larger",
        ),
        ({"folds": 19}, r"`folds` must lie in 2..18, the subjects of the smaller class, got 19"),
        (
            {"methods": ("flow",)},
            r"`methods` must be of none, classical, prior, mixture, riemannian, local, fine_mixture, got flow",
        ),
        ({"generated": 0}, r"`generated` must be a whole number of at least 1, got 0"),
        ({"classifier": "forest"}, r"`classifier` must be one of conv, linear, got 'forest'"),
    ],
)
def test_bad_studies_have_their_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Design(**({"sizes": (10,), "folds": 2, "generated": 5} | options)).check(task())


def test_bad_tasks_have_their_sentence():
    one = {
        "ids": ["a"] * 3,
        "age": np.zeros(3),
        "affines": np.stack([np.eye(4)] * 3),
        "settings": {},
        "directions": UNKNOWN,
    }
    slices, volumes = torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.zeros(3, 8, 8, 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match="the study needs slices"):
        task_of(Cohort(volumes, cdr=np.array([0, 1, 0.0]), **one))
    with pytest.raises(ValueError, match="`shrink` must divide the images of 8 x 8, got 3"):
        task_of(Cohort(slices, cdr=np.array([0, 1, 0.0]), **one), shrink=3)
    with pytest.raises(ValueError, match="needs subjects of CDR 0 and of CDR above 0"):
        task_of(Cohort(slices, cdr=np.array([0, np.nan, 0.0]), **one))
    with pytest.raises(ValueError, match=r"needs images of both classes, got \[2, 0\]"):
        train_conv(slices[:2], torch.zeros(2))
    with pytest.raises(ValueError, match=r"needs images of both classes, got \[0, 2\]"):
        train_linear(slices[:2], torch.ones(2))
