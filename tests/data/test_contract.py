"""The contract of every loader in the registry:

* it takes keywords only, among them `root`, `seed` and `train_size`, all with defaults and documented;
* it gives uint8 images (n, c, h, w) of the shape announced, that use the range, with int64 labels or none;
* no image is in two splits; the seed decides what is random, and the global generators are not touched;
* `train_size` gives nested subsets, and a fifth as many images for validation;
* a bad option is refused before any file is opened; a missing file is named, with the way to get it.
"""

import inspect

import numpy as np
import pytest
import torch

from geovae.data import DATASETS

FROM_FILES = tuple(name for name in DATASETS if DATASETS[name].reads_files)
every_loader = pytest.mark.parametrize("name", DATASETS)


def contents(part) -> list[bytes]:
    return [image.numpy().tobytes() for image in part.images]


@every_loader
def test_the_signature_is_plain_keywords_with_documented_defaults(name):
    load = DATASETS[name].load
    signature = inspect.signature(load)
    for option in signature.parameters.values():
        assert option.kind is inspect.Parameter.KEYWORD_ONLY
        assert option.default is not inspect.Parameter.empty
        assert f"        {option.name}: " in load.__doc__
    assert {"seed", "train_size"} <= set(signature.parameters)


@every_loader
def test_images_are_bytes_of_the_announced_shape(name, load_small):
    splits = load_small(name)
    for part in splits.parts().values():
        assert part.images.dtype == torch.uint8
        assert part.images.ndim == 4
        assert part.images.min() < 25
        assert part.images.max() > 230
        assert part.labels is None or (part.labels.dtype == torch.int64 and part.labels.shape == (len(part),))
    assert splits.image_shape == (DATASETS[name].image_shape or (3, 20, 24))
    assert splits.source


@every_loader
def test_no_image_is_in_two_splits(name, load_small):
    parts = [contents(part) for part in load_small(name).parts().values()]
    together = [image for part in parts for image in set(part)]
    assert len(together) == len(set(together))
    assert all(parts)


@every_loader
def test_the_seed_decides(name, load_small):
    n = 20
    first, again, other = (load_small(name, seed=seed, train_size=n) for seed in (3, 3, 4))
    assert first.digest == again.digest
    assert first.digest != other.digest
    assert contents(first.train) == contents(again.train)
    assert contents(first.train) != contents(other.train)


@every_loader
def test_the_global_generators_are_not_touched(name, load_small):
    before, before_numpy = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    load_small(name, train_size=10)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.random.get_state()[1].tolist() == before_numpy  # noqa: NPY002


@every_loader
def test_small_training_sets_are_nested_and_have_a_fifth_for_validation(name, load_small):
    full, ten, twenty = (load_small(name, train_size=n) for n in (None, 10, 20))
    assert [len(s.train) for s in (ten, twenty)] == [10, 20]
    assert [len(s.val) for s in (ten, twenty)] == [2, 4]
    for part in ("train", "val"):
        small, larger, whole = (set(contents(s.parts()[part])) for s in (ten, twenty, full))
        assert small < larger < whole
    assert (full.test is None) == (ten.test is None)
    if full.test is not None:
        assert contents(full.test) == contents(ten.test)


BAD_OPTIONS = [
    ("seed", -1, "`seed` must be a whole number of at least 0, got -1"),
    ("train_size", 0, "`train_size` must be a whole number of at least 1, got 0"),
    ("train_size", 2.5, "`train_size` must be a whole number of at least 1, got 2.5"),
    ("val_size", 0, "`val_size` must be a whole number of at least 1, got 0"),
    ("val_fraction", 1.0, r"`val_fraction` must lie in \[0, 1\), got 1.0"),
    ("val_fraction", float("nan"), r"`val_fraction` must lie in \[0, 1\), got nan"),
    ("test_fraction", 0.95, "must be below 1"),
    ("split", "random", "`split` must be one of disjoint, published_overlapping, got 'random'"),
    ("on_error", "ignore", "`on_error` must be one of fail, skip, got 'ignore'"),
    ("augment", -1, "`augment` must be a whole number of at least 0"),
    ("stride", 0, "`stride` must be a whole number of at least 1"),
    ("stride", 33, "`stride` must be at most 32, got 33"),
    ("n", 3, "`n` must be a whole number of at least 10, got 3"),
    ("size", 0, "`size` must be a whole number of at least 1, got 0"),
    ("channels", 2, "`channels` must be 1 or 3, got 2"),
]


@pytest.mark.parametrize(
    ("name", "option", "value", "message"),
    [(n, *case) for n in DATASETS for case in BAD_OPTIONS if case[0] in inspect.signature(DATASETS[n].load).parameters],
)
def test_a_bad_option_is_refused_before_any_file_is_opened(name, option, value, message):
    with pytest.raises(ValueError, match=message):
        DATASETS[name](**({"root": "/nowhere"} if DATASETS[name].reads_files else {}), **{option: value})


@every_loader
def test_more_training_images_than_there_are(name, load_small):
    with pytest.raises(ValueError, match=r"`train_size` must be at most [0-9]+, the training images; got 99999"):
        load_small(name, train_size=99_999)


@pytest.mark.parametrize("name", FROM_FILES)
def test_a_missing_file_is_named_with_the_way_to_get_it(name, tmp_path):
    folder = name.replace("_", "/")  # oasis/volumes
    with pytest.raises(FileNotFoundError, match=f"`{tmp_path}/{folder}.*` does not exist: .*(build|make|put)"):
        DATASETS[name](root=str(tmp_path))
