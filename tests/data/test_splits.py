"""Splits are partitions, in proportion; subsets are nested; the digest follows the content."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geovae.data.dataset import Split, Splits, hold_out_last, limit_train, random_splits, stratified_rows


def images(n: int) -> torch.Tensor:
    """Images (n, 1, 2, 2) that carry their number."""
    return torch.arange(n).repeat_interleave(4).reshape(n, 1, 2, 2).to(torch.uint8)


@settings(max_examples=60, deadline=None)
@given(
    classes=st.lists(st.integers(0, 4), min_size=1, max_size=200),
    val=st.floats(0, 0.5),
    test=st.floats(0, 0.49),
    seed=st.integers(0, 99),
)
def test_stratified_rows_partition_every_class_in_proportion(classes, val, test, seed):
    classes = np.array(classes)
    rows = stratified_rows(classes, {"val": val, "test": test}, seed)
    assert sorted(np.concatenate(list(rows.values())).tolist()) == list(range(len(classes)))
    for name, fraction in (("val", val), ("test", test)):
        for c in np.unique(classes):
            share = (classes[rows[name].numpy()] == c).sum()
            assert abs(share - fraction * (classes == c).sum()) <= 2  # roundings of two running totals


def test_small_classes_are_shared_out_together():
    classes = np.arange(30)  # one row a class: rounded class by class, no row would leave the training part
    rows = stratified_rows(classes, {"val": 0.2, "test": 0.1}, seed=0)
    assert {name: len(part) for name, part in rows.items()} == {"val": 6, "test": 3, "train": 21}


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 100), min_size=2, max_size=4), seed=st.integers(0, 99))
def test_subsets_of_one_seed_are_nested(sizes, seed):
    splits = Splits(Split(images(100)), Split(images(20)))
    kept = [limit_train(splits, n, seed) for n in sorted(sizes)]
    for smaller, larger in pairwise(kept):
        for part in ("train", "val"):
            inner, outer = (set(s.parts()[part].images[:, 0, 0, 0].tolist()) for s in (smaller, larger))
            assert inner <= outer
    assert all(len(s.val) == max(1, round(len(s.train) / 5)) for s in kept)


def test_the_whole_training_set_as_a_subset_is_the_training_set():
    splits = Splits(Split(images(50)), Split(images(10)))
    assert torch.equal(limit_train(splits, 50, 7).train.images, splits.train.images)


def test_groups_stay_together():
    subjects = np.array([f"S{i // 3}" for i in range(90)])
    data = Split(images(90), torch.arange(90) // 3 % 2)
    splits = random_splits(data, val_fraction=0.2, test_fraction=0.2, seed=0, source="", groups=subjects)
    owners = [set(subjects[part.images[:, 0, 0, 0]]) for part in splits.parts().values()]
    assert sum(map(len, owners)) == len(set.union(*owners)) == 30
    assert [len(part) for part in splits.parts().values()] == [54, 18, 18]


def test_too_few_images_for_a_split():
    with pytest.raises(ValueError, match="2 images are too few: the val split is empty"):
        random_splits(Split(images(2)), val_fraction=0.1, test_fraction=0, seed=0, source="")


def test_the_last_rows_are_held_out_as_views():
    data = Split(images(10), torch.arange(10))
    first, last = hold_out_last(data, 3)
    assert first.labels.tolist() == [*range(7)]
    assert last.labels.tolist() == [7, 8, 9]
    assert last.images.data_ptr() == data.images[7:].data_ptr()


@pytest.mark.parametrize("n", [0, 10, 11])
def test_holding_out_nothing_or_everything(n):
    with pytest.raises(ValueError, match=f"`val_size` must be between 1 and 9 for 10 images, got {n}"):
        hold_out_last(Split(images(10)), n)


def test_the_digest_follows_content_not_storage():
    train, val = Split(images(20), torch.arange(20)), Split(images(5))
    digest = Splits(train, val).digest
    strided = images(40)[::2] // 2
    assert Splits(Split(strided, torch.arange(40)[::2] // 2), val).digest == digest
    changed = images(20)
    changed[-1, 0, 1, 1] += 1
    assert Splits(Split(changed, torch.arange(20)), val).digest != digest
    assert Splits(Split(images(20), torch.arange(20).flip(0)), val).digest != digest
    assert Splits(Split(images(20)), val).digest != digest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((images(3) / 255,), "a split holds uint8 images, got torch.float32"),
        ((images(0),), "`images` is empty"),
        ((images(3)[:, 0],), r"must be a tensor of shape \(n, c, h, w\), got \(3, 2, 2\)"),
        ((images(3), torch.arange(4)), r"int64 of shape \(3,\), one for each image, got torch.int64 of shape \(4,\)"),
        ((images(3), torch.arange(3.0)), "labels must be int64"),
    ],
)
def test_a_split_checks_what_it_holds(arguments, message):
    with pytest.raises(ValueError, match=message):
        Split(*arguments)


def test_all_parts_have_one_shape():
    with pytest.raises(ValueError, match=r"the val images are \(1, 2, 1\), the training images are \(1, 2, 2\)"):
        Splits(Split(images(3)), Split(images(3)[..., :1]))
