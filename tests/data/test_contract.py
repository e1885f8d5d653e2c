"""The contract of every data set in the registry, and of the one that the tutorial writes:

* options are keywords with documented defaults, among them `seed` and `train_size`; `root` means that it reads files;
* it gives uint8 images (n, c, h, w) of the shape announced, that use the range, with int64 labels or none;
* no image is in two splits; the seed decides what is random, and the global generators are not touched;
* `train_size` gives nested subsets, and a fifth as many images for validation;
* every option has an effect; a bad value is refused before any file is opened; a missing file is named.
"""

import inspect
import pickle
import re
import types
import typing
from pathlib import Path

import numpy as np
import pytest
import torch

from geovae.data import DATASETS, MissingData
from tests.data.conftest import reads_files, small_options

TUTORIAL = Path(__file__).parents[2] / "docs/tutorials/data.md"


def datasets():
    """Return the registry's members, and the data set of the tutorial, without leaving it in the registry."""
    block = re.search(r"^```python\n(.*?)^```$", TUTORIAL.read_text(), re.MULTILINE | re.DOTALL)[1]
    members, space = dict(DATASETS), {}
    exec(compile(block, str(TUTORIAL), "exec"), space)
    assert DATASETS["squares"] is space["DATASET"]
    DATASETS.clear()
    DATASETS.update(members)
    return {"the tutorial's squares": space["DATASET"]} | members


MEMBERS = datasets()
every_data_set = pytest.mark.parametrize("name", MEMBERS)


def options_of(name):
    """Return the kinds that each option admits: {"size": (int, None)}."""
    hints = typing.get_type_hints(MEMBERS[name].load)
    unions = (typing.Union, types.UnionType)
    return {
        option: typing.get_args(kind) if typing.get_origin(kind) in unions else (kind,)
        for option, kind in hints.items()
        if option != "return"
    }


def contents(part) -> list[bytes]:
    return [image.numpy().tobytes() for image in part.images]


@pytest.fixture
def load(load_small):
    return lambda name, **options: load_small(name, MEMBERS[name], **options)


@every_data_set
def test_the_signature_is_plain_keywords_with_documented_defaults(name):
    function = MEMBERS[name].load
    signature = inspect.signature(function)
    for option in signature.parameters.values():
        assert option.kind is inspect.Parameter.KEYWORD_ONLY
        assert option.default is not inspect.Parameter.empty
        assert f"        {option.name}: " in function.__doc__
    assert {"seed", "train_size"} <= set(signature.parameters)


@every_data_set
def test_images_are_bytes_of_the_announced_shape(name, load):
    splits = load(name)
    for part in splits.parts().values():
        assert part.images.dtype == torch.uint8
        assert part.images.ndim == 4
        assert part.images.min() < 25
        assert part.images.max() > 230
        assert part.labels is None or (part.labels.dtype == torch.int64 and part.labels.shape == (len(part),))
    assert MEMBERS[name].image_shape in (None, splits.image_shape)
    assert splits.source


@every_data_set
def test_no_image_is_in_two_splits(name, load):
    parts = [contents(part) for part in load(name).parts().values()]
    together = [image for part in parts for image in set(part)]
    assert len(together) == len(set(together))
    assert all(parts)


@every_data_set
def test_the_seed_decides(name, load):
    n = 20
    first, again, other = (load(name, seed=seed, train_size=n) for seed in (3, 3, 4))
    assert first.digest == again.digest
    assert first.digest != other.digest
    assert contents(first.train) == contents(again.train)
    assert contents(first.train) != contents(other.train)


@every_data_set
def test_the_global_generators_are_not_touched(name, load):
    before, before_numpy = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    load(name, train_size=10)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.random.get_state()[1].tolist() == before_numpy  # noqa: NPY002


@every_data_set
def test_small_training_sets_are_nested_and_have_a_fifth_for_validation(name, load):
    full, ten, twenty = (load(name, train_size=n) for n in (None, 10, 20))
    assert [len(s.train) for s in (ten, twenty)] == [10, 20]
    assert [len(s.val) for s in (ten, twenty)] == [2, 4]
    for part in ("train", "val"):
        small, larger, whole = (set(contents(s.parts()[part])) for s in (ten, twenty, full))
        assert small < larger < whole
    assert (full.test is None) == (ten.test is None)
    if full.test is not None:
        assert contents(full.test) == contents(ten.test)


def other_value(option, kinds, default):
    """Return another admitted value of an option."""
    for kind in kinds:
        if typing.get_origin(kind) is typing.Literal:
            return next(value for value in typing.get_args(kind) if value != default)
        if kind is bool:
            return not default
        if kind is int:
            return 12 if default is None else max(1, default // 2) if default else 1
        if kind is float:
            return 0.3
    raise AssertionError(f"no other value of {option!r} is known for {kinds}")


OWN_TESTS = {"root", "path", "on_error"}  # what files say of them is tested below


@pytest.mark.parametrize(("name", "option"), [(n, o) for n in MEMBERS for o in options_of(n) if o not in OWN_TESTS])
def test_every_option_has_an_effect(name, option, load, all_layouts):
    used = {o: p.default for o, p in inspect.signature(MEMBERS[name].load).parameters.items()}
    used |= small_options(name, MEMBERS[name], all_layouts) | {"train_size": 20}
    other = other_value(option, options_of(name)[option], used[option])
    assert load(name, train_size=20).digest != load(name, **{"train_size": 20, option: other}).digest


@pytest.mark.parametrize("name", [name for name in MEMBERS if "on_error" in options_of(name)])
def test_a_damaged_picture_is_an_error_or_left_out(name, load, tmp_path, all_layouts):
    small_options(name, MEMBERS[name], all_layouts)
    copy = tmp_path / name
    for path in (all_layouts / name).rglob("*"):
        target = copy / path.relative_to(all_layouts / name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            target.symlink_to(path)
    damaged = min(copy.rglob("*.png"))
    damaged.unlink()
    damaged.write_bytes(b"<html>")
    with pytest.raises(ValueError, match=f"1 of [0-9]+ images .* cannot be used: {damaged.name}: cannot be decoded"):
        load(name, root=str(tmp_path))
    with pytest.warns(UserWarning, match=f"1 of [0-9]+ images .*{damaged.name}"):
        assert load(name, root=str(tmp_path), on_error="skip")


def bad_values(option, kinds):
    """Return values that no option of these kinds may admit: whole numbers are counts, fractions leave something."""
    for kind in kinds:
        if typing.get_origin(kind) is typing.Literal:
            yield "nonsense"
        if kind is int:
            yield from (-1, 2.5, True, float("nan"))
        if kind is float:
            yield float("nan")
            yield from (1.0, -0.1) if option.endswith("_fraction") else ()


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [(n, o, value) for n in MEMBERS for o, kinds in options_of(n).items() for value in bad_values(o, kinds)],
)
def test_a_bad_value_is_refused_by_name_before_any_file_is_opened(name, option, value):
    root = {"root": "/nowhere"} if reads_files(MEMBERS[name]) else {}
    with pytest.raises(ValueError, match=rf"`{option}`.* got {re.escape(repr(value))}"):
        MEMBERS[name](**root, **{option: value})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("patches", {"stride": 33}, "`stride` must be at most 32, got 33"),
        ("rings_discs", {"n": 3}, "`n` must be a whole number of at least 10, got 3"),
    ],
)
def test_a_value_beyond_the_range_of_one_data_set_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        DATASETS[name](**options)


@pytest.mark.parametrize("name", [n for n in MEMBERS if {"val_fraction", "test_fraction"} <= options_of(n).keys()])
@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.7, 0.6)])
def test_fractions_that_leave_nothing_to_train_on_are_refused_before_any_file_is_opened(name, fractions):
    options = {"root": "/nowhere"} if reads_files(MEMBERS[name]) else {}
    options |= dict(zip(("val_fraction", "test_fraction"), fractions, strict=True))
    with pytest.raises(ValueError, match=rf"`val_fraction` \+ `test_fraction` must be below 1, got {sum(fractions):g}"):
        MEMBERS[name](**options)


@every_data_set
def test_an_empty_training_set_and_more_images_than_there_are(name, load):
    with pytest.raises(ValueError, match="`train_size` must be a whole number of at least 1, got 0"):
        load(name, train_size=0)
    with pytest.raises(ValueError, match=r"`train_size` must be at most [0-9]+, the training images; got 99999"):
        load(name, train_size=99_999)


@pytest.mark.parametrize("name", [name for name in MEMBERS if reads_files(MEMBERS[name])])
def test_a_missing_file_is_named_with_the_way_to_get_it(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"`{tmp_path}/.*` does not exist: .*(build|make|put)") as raised:
        MEMBERS[name](root=str(tmp_path))
    assert "mlflow" not in str(raised.value)


def test_the_error_of_missing_files_keeps_what_builds_them_between_processes():
    error = pickle.loads(pickle.dumps(MissingData("none", "oasis", {"arrays": "npy"})))  # noqa: S301
    assert (str(error), error.dataset, error.options) == ("none", "oasis", {"arrays": "npy"})
