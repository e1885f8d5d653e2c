"""Images in and out: tensors and their checks, folders of files, picture files, grids."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geovae.images.folders import Found, walk_files

if TYPE_CHECKING:
    from geovae.images.tensors import as_pictures, check_images, comparison_grid, image_grid, to_float, to_uint8

__all__ = [
    "Found",
    "as_pictures",
    "check_images",
    "comparison_grid",
    "image_grid",
    "to_float",
    "to_uint8",
    "walk_files",
]


def __getattr__(name: str) -> Any:
    """Import torch with the first function of tensors: workers of `geovae.mri` walk folders, and start without it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("geovae.images.tensors"), name)
