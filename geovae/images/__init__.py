"""Images in and out: tensors and their checks, folders of files, picture files, grids."""

from geovae.images.folders import Found, walk_files
from geovae.images.pictures import list_images, match_channels, read_images
from geovae.images.tensors import as_pictures, check_images, comparison_grid, image_grid, to_float, to_uint8

__all__ = [
    "Found",
    "as_pictures",
    "check_images",
    "comparison_grid",
    "image_grid",
    "list_images",
    "match_channels",
    "read_images",
    "to_float",
    "to_uint8",
    "walk_files",
]
