"""What every figure of a plane prints, because the voxels of a brain do not show it: sides, millimetres, convention."""

import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geovae.checks import check_choice

if TYPE_CHECKING:
    from matplotlib.axes import Axes

VIEWS = ("neurological", "radiological")
PLANES: dict[str, tuple[int, int]] = {"sagittal": (1, 2), "coronal": (0, 2), "axial": (0, 1)}  # axes across and up
SIDES = (("L", "R"), ("P", "A"), ("I", "S"))
CHARACTER, LINE = 6, 14  # pixels across and down that written text takes
MARGIN = 0.04  # of a letter's middle from the edge, as a share of the picture's width


@dataclass(frozen=True)
class Directions:
    """The letters of a picture's sides, each with its place, and the sentence below the figure.

    A place is (x, y) from the lower left corner of the picture, in shares of its width and height.
    """

    letters: Sequence[tuple[float, float, str]]
    caption: str

    def mark(self, ax: "Axes", size: float, color: str = "yellow") -> None:
        """Write the letters on a picture."""
        for x, y, letter in self.letters:
            style: dict[str, Any] = {"color": color, "ha": "center", "va": "center", "fontweight": "bold"}
            ax.text(x, y, letter, transform=ax.transAxes, fontsize=size, **style)

    def write(self, grid: np.ndarray, *, rows: int = 1, columns: int = 1, padding: int = 0) -> np.ndarray:
        """Return a gray `image_grid` (h, w) with the letters on each of its pictures, and the caption below."""
        from PIL import Image, ImageDraw, ImageFont

        font, (height, width) = ImageFont.load_default(10), grid.shape
        lines = textwrap.wrap(self.caption, width // CHARACTER)
        page = Image.new("L", (width, height + LINE * len(lines)))
        page.paste(Image.fromarray(grid))
        draw = ImageDraw.Draw(page)
        down, across = (height - padding) / rows, (width - padding) / columns
        for row, column in itertools.product(range(rows), range(columns)):
            for x, y, letter in self.letters:
                left = padding + column * across + _within(x * (across - padding), across - padding)
                top = padding + row * down + _within((1 - y) * (down - padding), down - padding)
                draw.text((left, top), letter, fill=255, font=font, anchor="mm")
        draw.multiline_text((3, height), "\n".join(lines), fill=255, font=font, spacing=2)
        return np.asarray(page)


def _within(at: float, size: float) -> float:
    """Return the middle of a letter, moved so that the letter lies within the picture."""
    return min(max(at, CHARACTER), size - CHARACTER)


def directions_of_slices(axis: str, view: str, mm: Sequence[float]) -> Directions:
    """Return the directions of pictures perpendicular to `axis`, cut at the positions `mm` along it."""
    check_choice("axis", axis, PLANES)
    across, up = PLANES[axis]
    mirrored = _is_mirrored(view)
    through = "xyz"[3 - across - up]
    low, high = (f"{edge:g}" for edge in (min(mm), max(mm)))
    where = low if low == high else f"{low} to {high}"
    return Directions(edge_letters(across, up, mirrored), f"{axis}, {through} = {where} mm; {convention(axis, view)}")


def directions_of_volumes(shape: Sequence[int], affine: np.ndarray) -> Directions:
    """Return the directions of `as_pictures` of volumes (x, y, z): three middle planes side by side, neurological."""
    middle = affine[:3, :3] @ [n // 2 for n in shape] + affine[:3, 3]
    width, height = sum(shape[across] for across, _ in PLANES.values()), max(shape[up] for _, up in PLANES.values())
    letters, left = [], 0
    for across, up in PLANES.values():
        bottom = height - (height - shape[up]) // 2 - shape[up]  # what is to spare is halved, the larger half below
        for x, y, letter in edge_letters(across, up, mirrored=False):
            letters.append(((left + x * shape[across]) / width, (bottom + y * shape[up]) / height, letter))
        left += shape[across]
    places = ", ".join(f"{name} {'xyz'[i]} = {middle[i]:.0f}" for i, name in enumerate(PLANES))
    return Directions(letters, f"{places} mm; {convention('axial', VIEWS[0])}")


def convention(axis: str, view: str) -> str:
    """Return the convention of a view in words."""
    if axis == "sagittal":
        return f"{view}: the front (A) is on the {'left' if _is_mirrored(view) else 'right'}"
    return f"{view}: the patient's left (L) is on the {'right' if _is_mirrored(view) else 'left'}"


def _is_mirrored(view: str) -> bool:
    check_choice("view", view, VIEWS)
    return view == "radiological"


def edge_letters(across: int, up: int, mirrored: bool) -> list[tuple[float, float, str]]:
    """Return the letters of the four sides of a plane: left, right, top, bottom."""
    left, right = SIDES[across][::-1] if mirrored else SIDES[across]
    bottom, top = SIDES[up]
    return [(MARGIN, 0.5, left), (1 - MARGIN, 0.5, right), (0.5, 1 - MARGIN, top), (0.5, MARGIN, bottom)]
