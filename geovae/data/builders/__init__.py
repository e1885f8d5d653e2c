"""Builders: `BUILDERS[name](source, root)` turns an original distribution into the files that its loader reads."""

from collections.abc import Callable
from typing import Any

from geovae.data.builders import celeba, cifar, folder, idx, svhn
from geovae.data.download import Originals

# What `geovae.data.download.fetch` can fetch for them
ORIGINALS: dict[str, Originals] = {
    **idx.ORIGINALS,
    "cifar": cifar.ORIGINALS,
    "celeba": celeba.ORIGINALS,
    "svhn": svhn.ORIGINALS,
}
BUILDERS: dict[str, Callable[..., dict[str, Any]]] = {
    **idx.BUILDERS,
    "cifar": cifar.build,
    "celeba": celeba.build,
    "svhn": svhn.build,
    "folder": folder.build,
}
