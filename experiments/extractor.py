"""Which features the scores of a run compare: what `extractor: auto` stands for on its data set.

The data set's own classifier, else one trained on its labels, else Inception where its weights are, else random-conv.
"""

import functools
import inspect
import json
from collections.abc import Mapping
from typing import Any

from torch import nn

from geovae.data import DATASETS, Split
from geovae.evaluation import choose_extractor, is_trained_name, trained_classifier, trained_name
from geovae.images import as_pictures


def resolve_extractor(name: str, data: Mapping[str, Any]) -> str:
    """Return the extractor that `name` stands for on the data set of the configuration `data`.

    `auto` stays `auto` where only the data can tell and their files are not here; a run cannot begin there either.

    Raises:
        FileNotFoundError, ValueError: as `choose_extractor`.
        ValueError: also for the name of a classifier of other data.
    """
    default = DATASETS[data["name"]].extractor
    if default is None or not (name == "auto" or is_trained_name(name)):
        return choose_extractor(name)
    if name == "auto" and default != "trained":
        return default
    try:
        here = _trained_name(json.dumps(dict(data), sort_keys=True))
    except FileNotFoundError:
        return name
    if name not in ("auto", here):
        raise ValueError(
            f"`extractor` {name} was trained on other images than the training split of {data['name']!r}, whose own is "
            f"{here}: scores by it compare with no others here; use auto"
        )
    return here or choose_extractor("auto")


def load_extractor(name: str, data: Mapping[str, Any]) -> str | nn.Module:
    """Return what `Scorer` takes for a resolved extractor: of `net-1a2b3c4d` the network, trained if not cached."""
    if not is_trained_name(name):
        return name
    train = _training_split(data)
    return trained_classifier(as_pictures(train.images), train.labels)


@functools.cache  # a study resolves hundreds of configurations
def _trained_name(data: str) -> str | None:
    train = _training_split(json.loads(data))
    return trained_name(as_pictures(train.images), train.labels)


def _training_split(data: Mapping[str, Any]) -> Split:
    """Return all training images, without subsampling and augmentation: runs that differ in these compare."""
    dataset = DATASETS[data["name"]]
    options = {key: value for key, value in data.items() if key not in ("name", "train_size", "augment")}
    # the tests' images are not needed
    quick = {"test_images": False} if "test_images" in inspect.signature(dataset.load).parameters else {}
    return dataset(**options | quick).train
