"""A progress bar on the error stream, only where it is asked for."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def track(items: Iterable[T], total: int, title: str, show: bool) -> Iterator[T]:
    """Yield `items`, with a bar of `total` steps if `show` is true."""
    if not show:
        yield from items
        return
    from tqdm import tqdm

    yield from tqdm(items, total=total, desc=title, unit=" images")
