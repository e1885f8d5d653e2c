"""From a folder of volumes to `oasis/OASIS.npz`: one process a core, resumable, all problems at once."""

import hashlib
import json
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from geovae.mri.cohort.discover import Layout, discover, with_masks
from geovae.mri.cohort.export import atomic
from geovae.mri.cohort.jobs import run_all, state_path
from geovae.mri.cohort.outputs import Pair, write_outputs
from geovae.mri.cohort.process import STEPS, T88_SHAPE, check_steps
from geovae.mri.cohort.split import check_fractions, check_split, split_subjects
from geovae.mri.cohort.table import Repeats, find_table, join, read_table, without_table
from geovae.mri.problems import InputProblems, OnError, Problem, as_text, count
from geovae.mri.steps.affines import AffinePolicy
from geovae.mri.steps.checks import check_same_shapes
from geovae.mri.steps.crop import Centre, Shape3
from geovae.mri.steps.mask import MaskRule
from geovae.mri.steps.quantise import Quantisation
from geovae.mri.steps.slices import Axis, Unit, View

Arrays = Literal["none", "npy", "nii.gz"]


def prepare(
    source: str | Path,
    root: str | Path = "data_folders",
    *,
    layout: Layout = "auto",
    product: str = "t88_masked",
    table: str | Path | None = "auto",
    repeats: Repeats = "drop",
    affine: AffinePolicy = "auto",
    spacing: float | None = 1.0,
    mask: MaskRule | Literal["auto"] = "auto",
    mask_pattern: str | None = None,
    stripped: bool = False,
    percentiles: tuple[float, float] = (0.0, 99.5),
    shape: Shape3 | None = T88_SHAPE,
    centre: Centre | Literal["auto"] = "auto",
    axis: Axis = "axial",
    at: Sequence[float] = (0.5,),
    unit: Unit = "fraction",
    view: View = "radiological",
    quantisation: Quantisation = "image",
    val_fraction: float = 1 / 6,
    test_fraction: float = 0.0,
    seed: int = 0,
    arrays: Arrays = "none",
    arrays_spacing: float | None = None,
    on_error: OnError = "fail",
    workers: int | None = None,
    progress: bool = True,
    resume: bool = True,
) -> dict[str, Any]:
    """Write `OASIS.npz`, `manifest.csv`, `qc_table.csv` and `prepare.json` to `oasis` below `root`; return the last.

    Args:
        source: folder with the volumes and the table.
        root: folder of all data sets.
        layout: `oasis1`, `bids`, `flat`, or `auto`.
        product: which volume of an OASIS-1 session.
        table: path of the csv, tsv or xlsx; `auto` searches for it; None goes without: every label is -1.
        repeats: whether later visits (MR2) are dropped, kept or a problem.
        affine: `table`, `header`, `identity`, or `auto`: table for OASIS-1, else header.
        spacing: edge of a voxel in mm; None keeps the file's.
        mask: `nonzero`, `file`, `otsu`, `none`, or `auto`, see `session_mask`.
        mask_pattern: for `file`, see `with_masks`; None finds OASIS-1's masked volume.
        stripped: set everything outside of the mask to 0.
        percentiles: inside the mask, that become 0 and 1.
        shape: voxels (x, y, z) to crop or pad to; None keeps each volume's own, which must then agree.
        centre: crop about the middle of the `grid`, the centre of `mass`, or `auto`: grid for T88, else mass.
        axis: `axial`, `coronal` or `sagittal`.
        at: positions of the slices, one or several a session.
        unit: of `at`: `fraction`, `mm` or `index`.
        view: `radiological` (the patient's left on the right: what numpy.rot90 of a T88_111 plane as stored gives, and
            so the published file) or `neurological`.
        quantisation: `image` (each from 0 to 255, what the loader takes) or `volume`.
        val_fraction: share of subjects in the column `split`.
        test_fraction: share of subjects in the column `split`.
        seed: of the split.
        arrays: also write each volume, uint8, to `oasis/volumes/<id>.npy` or `.nii.gz`.
        arrays_spacing: voxels of these, mm; None keeps them.
        on_error: `fail` raises one report of all problems and writes no npz; `skip` leaves bad sessions out and warns.
        workers: processes; by default one a core.
        progress: show a bar with the time left.
        resume: use what an earlier call with the same settings and files has finished.

    Returns:
        JSON: counts, input hash, settings, problems, warnings, files.

    Raises:
        InputProblems: with `fail`, all problems of files, volumes and table.
        FileNotFoundError: if there are no volumes, or no table.
    """
    steps: dict[str, Any] = {"affine": affine, "spacing": spacing, "mask": mask, "stripped": stripped}
    steps |= {"percentiles": list(percentiles), "shape": list(shape) if shape else None, "centre": centre, "axis": axis}
    steps |= {"at": list(at), "unit": unit, "view": view, "quantisation": quantisation}
    extra = {"arrays": arrays, "arrays_spacing": arrays_spacing}
    chosen: dict[str, Any] = {"layout": layout, "product": product, "repeats": repeats, "mask_pattern": mask_pattern}
    chosen |= {"val_fraction": val_fraction, "test_fraction": test_fraction, "seed": seed}
    check_options(on_error, arrays, workers, val_fraction, test_fraction)
    check_steps(steps)
    pairs, problems = gather(source, layout, product, table, repeats, mask, mask_pattern)
    folder = Path(root) / "oasis"
    jobs = [(session, state_path(folder, session), steps, extra, resume) for session, _ in pairs]
    outcomes = dict(_bar(run_all(jobs, workers), len(jobs), progress))
    for id, outcome in outcomes.items():
        problems += [Problem(id, sentence) for sentence in outcome["problems"]]
        problems += [Problem(id, sentence, warning=True) for sentence in outcome["warnings"]]
    sound = [(s, row) for s, row in pairs if not outcomes[s.id]["problems"]]
    shapes = {s.id: outcomes[s.id]["shape"] for s, _ in sound}
    problems += [Problem("shapes", sentence) for sentence in check_same_shapes(shapes)]
    sound = [(s, row) for s, row in sound if shapes[s.id] == _most_common(shapes)]
    problems += _no_session_left(sound)
    split, remarks = _split(sound, val_fraction, test_fraction, seed)
    report = judge([*problems, *remarks], on_error, fatal=not sound)
    digests = {s.id: outcomes[s.id]["digest"] for s, _ in sound}
    settings = {**chosen, **steps, **extra}
    files = write_outputs(folder, sound, [outcomes[s.id] for s, _ in sound], split, settings)
    result = {"counts": _counts(pairs, sound, split, outcomes), "input_hash": _hash(digests), "settings": settings}
    result |= {**report, "files": files}
    with atomic(folder / "prepare.json") as partial:
        partial.write_text(json.dumps(result, indent=1) + "\n")
    return result


def check_request(request: Mapping[str, Any]) -> None:
    """Raise for arguments of `prepare`, by name, that suit no volume, and a source that holds none; nothing is read.

    Raises:
        ValueError: for an option.
        FileNotFoundError: for the source.
    """
    check_options(*(request[k] for k in ("on_error", "arrays", "workers", "val_fraction", "test_fraction")))
    check_steps({name: request[name] for name in STEPS})
    discover(request["source"], request["layout"], product=request["product"])


def check_options(on_error: str, arrays: str, workers: int | None, val_fraction: float, test_fraction: float) -> None:
    """Raise ValueError for a choice that does not exist, before any volume is read."""
    if on_error not in ("fail", "skip"):
        raise ValueError(f"`on_error` must be fail or skip, got {on_error!r}")
    if arrays not in ("none", "npy", "nii.gz"):
        raise ValueError(f"`arrays` must be none, npy or nii.gz, got {arrays!r}")
    if workers is not None and workers < 1:
        raise ValueError(f"`workers` must be at least 1, got {workers}")
    check_fractions(val_fraction, test_fraction)


def gather(
    source: str | Path,
    layout: Layout,
    product: str,
    table: str | Path | None,
    repeats: Repeats,
    mask: str,
    mask_pattern: str | None,
) -> tuple[list[Pair], list[Problem]]:
    """Return the sessions with their rows of the table, sorted by id, and the problems met so far."""
    sessions, problems = discover(source, layout, product=product)
    if mask == "file" or (mask == "auto" and (product == "t88" or mask_pattern)):
        sessions, without = with_masks(sessions, mask_pattern)
        problems += without
    if table is None:
        pairs, more = without_table(sessions, repeats)
        return pairs, problems + more
    required = ("id", "sex", "age", "cdr") if any(s.id.startswith("OAS1_") for s in sessions) else ("id",)
    rows, wrong = read_table(find_table(source) if table == "auto" else table, required=required)
    pairs, more = join(sessions, rows, repeats)
    return pairs, problems + wrong + more


def judge(problems: Sequence[Problem], on_error: OnError, *, fatal: bool = False) -> dict[str, list[str]]:
    """Return problems and warnings as text; with `fail` raise if there are problems, with `skip` warn."""
    wrong = sorted(p for p in problems if not p.warning)
    remarks = sorted(p for p in problems if p.warning)
    if wrong and (on_error == "fail" or fatal):
        raise InputProblems(wrong + remarks)
    if wrong:
        warnings.warn(as_text(wrong) + "\nThe sessions named are left out.", stacklevel=3)
    return {"problems": list(map(str, wrong)), "warnings": list(map(str, remarks))}


def _split(
    pairs: Sequence[Pair], val_fraction: float, test_fraction: float, seed: int
) -> tuple[np.ndarray, list[Problem]]:
    """Return the part of each session (n,), and remarks; one that cannot be drawn is a problem."""
    subjects = [session.subject for session, _ in pairs]
    try:
        split, remarks = split_subjects(
            subjects, [row.label for _, row in pairs], val_fraction=val_fraction, test_fraction=test_fraction, seed=seed
        )
    except ValueError as error:
        return np.full(len(pairs), "train"), [Problem("split", str(error))]
    return split, remarks + check_split(subjects, split.tolist())


def _no_session_left(pairs: Sequence[Pair]) -> list[Problem]:
    return [] if pairs else [Problem("volumes", "no sound volume is left")]


def _most_common(shapes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    values = list(shapes.values())
    return max(values, key=values.count, default=())


def _counts(
    pairs: Sequence[Pair], sound: Sequence[Pair], split: np.ndarray, outcomes: dict[str, dict[str, Any]]
) -> dict[str, int]:
    counts = {"sessions": len(pairs), "used": len(sound), "left_out": len(pairs) - len(sound)}
    counts |= {"subjects": len({s.subject for s, _ in sound}), "slices": sum(outcomes[s.id]["rows"] for s, _ in sound)}
    counts |= {"resumed": sum(o["resumed"] for o in outcomes.values())}
    counts |= {f"split_{part}": int((split == part).sum()) for part in sorted(set(split.tolist()))}
    labels = [row.label for _, row in sound]
    return counts | {f"label_{label}": labels.count(label) for label in sorted(set(labels))}


def _hash(digests: dict[str, str]) -> str:
    """Return a hash of the content of all files used, by session."""
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def _bar(items: Iterable[Any], total: int, show: bool) -> Iterable[Any]:
    if not show:
        return items
    from tqdm import tqdm

    pace = 0.5 if sys.stderr.isatty() else 20.0  # a log file gets a line every 20 seconds
    return tqdm(items, total=total, desc=count(total, "volume"), unit=" volumes", mininterval=pace)
