"""The whole way of one volume: read, validate, orient, resample, mask, normalise, crop, slice, picture, quantise."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from geovae.mri.cohort.discover import Session
from geovae.mri.steps.affines import AffinePolicy
from geovae.mri.steps.checks import check_affine, check_mask, check_values, oblique_warning, raise_if
from geovae.mri.steps.crop import Centre, Shape3, crop_or_pad
from geovae.mri.steps.mask import MaskRule, brain_mask, brain_numbers, strip
from geovae.mri.steps.normalise import PERCENTILES, normalise
from geovae.mri.steps.orient import canonical, resample
from geovae.mri.steps.quantise import Quantisation, quantise
from geovae.mri.steps.read import read_volume
from geovae.mri.steps.slices import Axis, Unit, View, cut_plane, cut_planes, to_image
from geovae.mri.volume import Volume

T88_SHAPE = (176, 208, 176)
THUMB_STEP = 4  # voxels
BINS = 128
CHOICES = {
    "affine": get_args(AffinePolicy),
    "mask": ("auto", *get_args(MaskRule)),
    "centre": ("auto", *get_args(Centre)),
    "axis": get_args(Axis),
    "unit": get_args(Unit),
    "view": get_args(View),
    "quantisation": get_args(Quantisation),
}
STEPS = tuple(CHOICES) + ("spacing", "stripped", "percentiles", "shape", "at")  # what `process` can be told
ORTHOGONAL: tuple[Axis, ...] = ("axial", "coronal", "sagittal")


@dataclass(frozen=True, eq=False)
class Processed:
    """What is kept of one volume.

    Attributes:
        volume: float32 (x, y, z) in [0, 1], RAS.
        pictures: uint8 (k, h, w).
        affines: (k, 4, 4), mm, of the planes as volumes of one voxel along the axis.
        slice_mm: (k,), where they lie along the axis.
        thumb: uint8, every fourth voxel of `volume`.
        before: counts (128,) of the values of the volume as read, and their edges (129,): every fourth voxel.
        after: counts (128,) of values from 0 to 1.
        numbers: JSON: limits, brain volume, centre of mass, percentiles, history, warnings.
    """

    volume: Volume
    pictures: np.ndarray
    affines: np.ndarray
    slice_mm: np.ndarray
    thumb: np.ndarray
    before: tuple[np.ndarray, np.ndarray]
    after: np.ndarray
    numbers: dict[str, Any]


def process(
    session: Session,
    *,
    affine: AffinePolicy = "auto",
    spacing: float | None = 1.0,
    mask: MaskRule | Literal["auto"] = "auto",
    stripped: bool = False,
    percentiles: tuple[float, float] = PERCENTILES,
    shape: Shape3 | None = T88_SHAPE,
    centre: Centre | Literal["auto"] = "auto",
    axis: Axis = "axial",
    at: Sequence[float] = (0.5,),
    unit: Unit = "fraction",
    view: View = "radiological",
    quantisation: Quantisation = "image",
) -> Processed:
    """Return the pictures and numbers of one session; the arguments are those of `geovae.mri.prepare`.

    Raises:
        FileNotFoundError: for a missing file.
        ValueError: for anything unfit, in sentences.
    """
    volume, warnings = prepare_volume(session, affine, spacing)
    brain = session_mask(session, volume, affine, spacing, mask)
    raise_if(check_mask(brain))
    angle = next(step["obliquity_degrees"] for step in volume.history if step["step"] == "canonical")
    numbers = {"obliquity_degrees": angle, **brain_numbers(volume, brain)}
    sample = volume.data[::THUMB_STEP, ::THUMB_STEP, ::THUMB_STEP]
    inside = brain[::THUMB_STEP, ::THUMB_STEP, ::THUMB_STEP]
    before = np.histogram(sample, bins=BINS)
    marks = np.percentile(sample[inside] if inside.any() else sample, (1, 25, 50, 75, 99))
    grey = normalise(strip(volume, brain) if stripped else volume, brain, percentiles)
    if shape is not None:
        rule = centre_rule(session, centre)
        grey = crop_or_pad(grey, shape, centre=rule, mask=brain)
    planes = cut_planes(grey, axis, at, unit)
    pictures = np.stack([quantise(to_image(p.data, axis, view), quantisation) for p in planes])
    thumb = np.rint(grey.data[::THUMB_STEP, ::THUMB_STEP, ::THUMB_STEP] * 255).astype(np.uint8)
    numbers |= {f"p{q}": round(float(v), 3) for q, v in zip((1, 25, 50, 75, 99), marks, strict=True)}
    numbers |= limits_and_losses(grey)
    numbers |= {"warnings": warnings, "history": list(grey.history)}
    after = np.histogram(thumb[thumb > 0], bins=BINS, range=(0, 255))[0]
    return Processed(
        volume=grey,
        pictures=pictures,
        affines=np.stack([p.affine for p in planes]),
        slice_mm=np.array([p.mm for p in planes]),
        thumb=thumb,
        before=before,
        after=after,
        numbers=numbers,
    )


def check_steps(steps: dict[str, Any]) -> None:
    """Raise ValueError for arguments of `process` that suit no volume, before any is read."""
    for name, allowed in CHOICES.items():
        if steps[name] not in allowed:
            raise ValueError(f"`{name}` must be one of {', '.join(allowed)}, got {steps[name]!r}")
    low, high = steps["percentiles"]
    if not 0 <= low < high <= 100:
        raise ValueError(f"`percentiles` must be 0 <= low < high <= 100, got {low:g} and {high:g}")
    if steps["shape"] is not None and (len(steps["shape"]) != 3 or min(steps["shape"]) < 2):
        raise ValueError(f"`shape` must be three numbers above 1 (x, y, z), got {tuple(steps['shape'])}")
    if steps["spacing"] is not None and not steps["spacing"] > 0:
        raise ValueError(f"`spacing` must be above 0 mm, got {steps['spacing']}")
    if not steps["at"] or len(set(steps["at"])) < len(steps["at"]):
        raise ValueError(f"`at` must name at least one position and none twice, got {list(steps['at'])}")


def prepare_volume(session: Session, affine: AffinePolicy, spacing: float | None) -> tuple[Volume, list[str]]:
    """Return a session's volume (x, y, z), read, checked, in RAS order and of cubes of `spacing` mm; and warnings."""
    volume = read_volume(session.path, affine=affine, product=session.product)
    raise_if([*check_values(volume.data), *check_affine(volume.affine)])
    warnings = oblique_warning(volume.affine)
    if volume.history[0]["format"] == "analyze" and volume.history[0]["affine"] == "header":
        warnings.append(
            "Analyze says nothing of left and right: LAS is assumed, as nibabel does; check, or see `affine`"
        )
    volume = canonical(volume)
    return (volume if spacing is None else resample(volume, spacing)), warnings


def session_mask(
    session: Session, volume: Volume, affine: AffinePolicy, spacing: float | None, rule: MaskRule | Literal["auto"]
) -> np.ndarray:
    """Return the brain mask (x, y, z) of a prepared volume; a mask file goes the way of its volume.

    `auto` takes the mask file if the session has one, voxels that are not zero for OASIS-1's masked products, else
    Otsu's threshold.
    """
    if rule == "auto":
        masked = session.product in ("t88_masked", "fseg")
        rule = "file" if session.mask else "nonzero" if masked else "otsu"
    if rule == "file" and session.mask:
        file = read_volume(session.mask, affine=affine, product=session.product)
        file = canonical(file)
        return brain_mask(volume, rule, file if spacing is None else resample(file, spacing))
    return brain_mask(volume, rule)


def centre_rule(session: Session, centre: Centre | Literal["auto"]) -> Centre:
    """Return what to crop about: volumes in T88's grid are aligned already, others are centred on the brain."""
    if centre == "auto":
        return "grid" if session.product in ("t88_masked", "t88", "fseg") else "mass"
    return centre


def middle_planes(volume: Volume) -> dict[str, np.ndarray]:
    """Return the axial (x, y), coronal (x, z) and sagittal (y, z) planes half way, uint8 of values in [0, 1]."""
    return {axis: np.rint(cut_plane(volume, axis).data * 255).astype(np.uint8) for axis in ORTHOGONAL}


def limits_and_losses(volume: Volume) -> dict[str, Any]:
    """Return low and high of the normalisation, and brain voxels that were cropped away, from the history."""
    steps = {step["step"]: step for step in volume.history}
    lost = steps.get("crop", {}).get("brain_voxels_lost", 0)
    return {"low": steps["normalise"]["low"], "high": steps["normalise"]["high"], "brain_voxels_lost": lost}
