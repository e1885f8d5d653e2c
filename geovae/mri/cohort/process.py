"""All steps of one volume: read, check, orient, resample, mask, normalise, crop, slice, picture, quantise."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from geovae.checks import check_positive
from geovae.mri.cohort.discover import Session
from geovae.mri.problems import check_choices, raise_if
from geovae.mri.steps.affines import AffinePolicy
from geovae.mri.steps.crop import Centre, Shape3, crop_or_pad, window
from geovae.mri.steps.mask import (
    MaskRule,
    border_value,
    brain_mask,
    brain_numbers,
    check_mask,
    check_millilitres,
    fill_nan,
    is_surrounded,
    strip,
)
from geovae.mri.steps.normalise import PERCENTILES, Quantisation, check_percentiles, normalise, quantise
from geovae.mri.steps.orient import canonical, oblique_warning, resample
from geovae.mri.steps.quality import quality_numbers
from geovae.mri.steps.read import check_affine, check_values, read_volume
from geovae.mri.steps.slices import AXES, Axis, Unit, View, cut_plane, cut_planes, to_image
from geovae.mri.volume import Volume

MaskChoice = Literal["auto", "nonzero", "file", "background", "otsu", "none"]
CentreChoice = Literal["auto", "grid", "mass"]
T88_SHAPE = (176, 208, 176)
MASKED = ("t88_masked", "fseg")  # products of OASIS-1 without a skull
ALIGNED = (*MASKED, "t88")  # products of OASIS-1 in the grid of the atlas
THUMB_STEP = 4  # voxels
BINS = 128  # of the histograms
PERCENTAGES = (1, 25, 50, 75, 99)  # percentiles in the table of quality control


@dataclass(frozen=True)
class Steps:
    """What is done to each volume.

    Args:
        affine: `table`, `header`, `identity`, or `auto`: the header's, and for files of OASIS-1 whose header says
            nothing (Analyze) or holds a converter's guess, the table's.
        spacing: edge of a voxel in mm; None keeps the file's.
        nan_background: voxels that are NaN are background, as SPM and FSL write it; otherwise they are an error.
        mask: `nonzero`, `file`, `background` (voxels that are neither NaN nor of the value that surrounds the brain),
            `otsu` (the head: voxels above Otsu's threshold), `none`, or `auto`: the mask file of the session if it has
            one, `nonzero` for OASIS-1's masked products, `background` where NaN or a value that is not the lowest
            surrounds the brain, else `otsu`.
        stripped: set everything outside of the mask to 0.
        percentiles: the two percentiles inside the mask that become 0 and 1.
        shape: voxels (x, y, z) to crop or pad to; None keeps each volume's own, which must then agree.
        centre: crop about the middle of the `grid`, the centre of `mass`, or `auto`: grid for T88, else mass.
        axis: `axial`, `coronal` or `sagittal`.
        at: positions of the slices, one or several for each session.
        unit: of `at`: `fraction`, `mm` or `index`.
        view: `radiological` (the patient's left on the right, as numpy.rot90 of a stored T88_111 plane gives, and so
            the published file) or `neurological`.
        quantisation: `image` (each picture from 0 to 255, as the loader requires) or `volume`.

    Raises:
        ValueError: for values that suit no volume.
    """

    affine: AffinePolicy = "auto"
    spacing: float | None = 1.0
    nan_background: bool = False
    mask: MaskChoice = "auto"
    stripped: bool = False
    percentiles: tuple[float, float] = PERCENTILES
    shape: Shape3 | None = T88_SHAPE
    centre: CentreChoice = "auto"
    axis: Axis = "axial"
    at: Sequence[float] = (0.5,)
    unit: Unit = "fraction"
    view: View = "radiological"
    quantisation: Quantisation = "image"

    def __post_init__(self) -> None:
        """Check everything that can be checked before a volume is read."""
        check_choices(self)
        check_percentiles(self.percentiles)
        if self.shape is not None and (len(self.shape) != 3 or min(self.shape) < 2):
            raise ValueError(f"`shape` must be three numbers above 1 (x, y, z), got {tuple(self.shape)}")
        if self.spacing is not None:
            check_positive(spacing=self.spacing)
        if not self.at or len(set(self.at)) < len(self.at):
            raise ValueError(f"`at` must name at least one position and none twice, got {list(self.at)}")

    def read(self, session: Session) -> Volume:
        """Return a session's volume (x, y, z) as stored, with NaN where `nan_background` allows it.

        Raises:
            FileNotFoundError: for a missing file.
            ValueError: for anything unfit, in sentences.
        """
        volume = read_volume(session.path, affine=self.affine, product=session.product)
        values = np.nan_to_num(volume.data, posinf=np.inf, neginf=-np.inf) if self.nan_background else volume.data
        raise_if([*check_values(values), *check_affine(volume.affine)])
        return volume

    def orient(self, volume: Volume) -> Volume:
        """Return a volume as stored (x, y, z) in RAS order, with voxels of `spacing` mm and background for NaN."""
        volume = canonical(fill_nan(volume))
        if self.spacing is None:
            return volume
        # beyond the grid lies more of the background: 0 may be the middle of the brain's grey
        return resample(volume, self.spacing, outside=border_value(volume.data))

    def mask_rule(self, session: Session, stored: Volume) -> MaskRule:
        """Return the rule of a session's mask, from its volume as stored."""
        if self.mask != "auto":
            return self.mask
        if session.mask:
            return "file"
        if session.product in MASKED:
            return "nonzero"
        return "background" if np.isnan(stored.data).any() or is_surrounded(stored.data) else "otsu"

    def find_brain(self, session: Session, stored: Volume, volume: Volume, rule: MaskRule) -> np.ndarray:
        """Return the brain mask (x, y, z) of the oriented `volume`; one on the `stored` grid takes the same steps."""
        mask = None
        if rule == "file" and session.mask:
            mask = read_volume(session.mask, affine=self.affine, product=session.product)
            mask = self.orient(mask.after("mask", (mask.data > 0).astype(np.float32)))
        elif rule == "background":
            inside = ~np.isnan(stored.data) & (stored.data != border_value(stored.data))
            mask = self.orient(stored.after("mask", inside.astype(np.float32)))
        brain = brain_mask(volume, rule, mask)
        raise_if(check_mask(brain))
        return brain

    def centre_for(self, session: Session) -> Centre:
        """Return the centre of the crop: volumes in T88's grid are aligned already, others are centred on the brain."""
        if self.centre == "auto":
            return "grid" if session.product in ALIGNED else "mass"
        return self.centre


@dataclass(frozen=True, eq=False)
class Processed:
    """What is kept of one volume."""

    volume: Volume  # (x, y, z) in [0, 1], RAS
    pictures: np.ndarray  # uint8 (k, h, w)
    affines: np.ndarray  # (k, 4, 4), mm, of the planes as volumes of one voxel along the axis
    slice_mm: np.ndarray  # (k,), positions along the axis
    middle: dict[str, np.ndarray]  # uint8, the middle axial (x, y), coronal (x, z) and sagittal (y, z) planes
    middle_mask: dict[str, np.ndarray]  # bool, of the brain
    thumb: np.ndarray  # uint8, every fourth voxel of `volume`
    before: tuple[np.ndarray, np.ndarray]  # counts (128,) of every fourth value of the file, and edges (129,)
    after: np.ndarray  # counts (128,) of values from 0 to 1
    numbers: dict[str, Any]  # JSON: limits, brain volume (ml), centre of mass (mm), percentiles, history, warnings


DEFAULT_STEPS = Steps()


def process(session: Session, steps: Steps = DEFAULT_STEPS) -> Processed:
    """Return the pictures and numbers of one session.

    Raises:
        FileNotFoundError: for a missing file.
        ValueError: for anything unfit, in sentences.
    """
    stored = steps.read(session)
    volume, rule = steps.orient(stored), steps.mask_rule(session, stored)
    brain = steps.find_brain(session, stored, volume, rule)
    grey = normalise(volume, brain, steps.percentiles)
    # afterwards: 0 is black now, whatever it was before; and what surrounds a stripped brain is black
    if steps.stripped or (rule in ("nonzero", "background") and grey.history[-1]["low"] < 0):
        grey = strip(grey, brain)
    if steps.shape is not None:
        grey = crop_or_pad(grey, steps.shape, centre=steps.centre_for(session), mask=brain)
    middle, middle_mask = middle_planes(grey), _middle_mask(brain, grey)
    planes = cut_planes(grey, steps.axis, steps.at, steps.unit)
    thumb = np.rint(_every_fourth(grey.data) * 255).astype(np.uint8)
    return Processed(
        volume=grey,
        pictures=np.stack([quantise(to_image(p.data, steps.axis, steps.view), steps.quantisation) for p in planes]),
        affines=np.stack([p.affine for p in planes]),
        slice_mm=np.array([p.mm for p in planes]),
        middle=middle,
        middle_mask=middle_mask,
        thumb=thumb,
        before=np.histogram(_every_fourth(volume.data), bins=BINS),
        after=np.histogram(thumb[thumb > 0], bins=BINS, range=(0, 255))[0],
        numbers=_numbers(volume, brain, grey, rule) | quality_numbers(middle, middle_mask),
    )


def middle_planes(volume: Volume) -> dict[str, np.ndarray]:
    """Return the middle axial (x, y), coronal (x, z) and sagittal (y, z) planes, uint8, of values in [0, 1]."""
    return {axis: np.rint(cut_plane(volume, axis).data * 255).astype(np.uint8) for axis in get_args(Axis)}


def _middle_mask(brain: np.ndarray, grey: Volume) -> dict[str, np.ndarray]:
    """Return the planes of a mask (x, y, z) where those of `middle_planes` lie, after the crop of `grey`."""
    start = next((step["start"] for step in grey.history if step["step"] == "crop"), (0, 0, 0))
    inside = window(brain, np.array(start), grey.shape)
    return {axis: np.moveaxis(inside, i, 0)[round(0.5 * (grey.shape[i] - 1))].copy() for axis, i in AXES.items()}


def _numbers(volume: Volume, brain: np.ndarray, grey: Volume, rule: MaskRule) -> dict[str, Any]:
    """Return the numbers of an oriented volume, its mask, and the finished volume."""
    steps = {step["step"]: step for step in grey.history}
    numbers = {"mask_rule": rule, "obliquity_degrees": steps["canonical"]["obliquity_degrees"]}
    numbers |= brain_numbers(volume, brain)
    # Every fourth voxel along each axis: percentiles of all voxels would take longer than all the other steps.
    sample, inside = _every_fourth(volume.data), _every_fourth(brain)
    percentiles = np.percentile(sample[inside] if inside.any() else sample, PERCENTAGES)
    numbers |= {f"p{q}": round(float(v), 3) for q, v in zip(PERCENTAGES, percentiles, strict=True)}
    numbers |= {"low": steps["normalise"]["low"], "high": steps["normalise"]["high"]}
    numbers["brain_voxels_lost"] = steps.get("crop", {}).get("brain_voxels_lost", 0)
    remarks = [*_warnings(steps), *check_millilitres(float(numbers["brain_ml"]))]
    if rule == "otsu" and border_value(brain) > 0.5:
        remarks.append(
            "the border of the grid is brighter than Otsu's threshold: is the background bright? Pass a mask"
        )
    return numbers | {"warnings": remarks, "history": list(grey.history)}


def _warnings(steps: dict[str, Any]) -> list[str]:
    """Return what a user should check, from the steps of a volume by name."""
    warnings = [*steps["read"]["notes"], *oblique_warning(steps["canonical"]["obliquity_degrees"])]
    if steps["read"]["affine"] == "guess":
        warnings.append(
            "Analyze files do not store left and right: LAS is assumed, as by nibabel; check the sides, or set `affine`"
        )
    return warnings


def _every_fourth(data: np.ndarray) -> np.ndarray:
    return data[::THUMB_STEP, ::THUMB_STEP, ::THUMB_STEP]
