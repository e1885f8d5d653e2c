"""A synthetic cohort on disk, with the layout and bytes of OASIS-1: for tests and demonstrations, never for findings.

No file is OASIS data: brains are deformed from the MNI152 template (`anatomy.py`). One known factor, atrophy, opens the
ventricles. It grows with age and with CDR, so a model or a classifier should find it.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from geovae.files import atomic_path
from geovae.mri.cohort.outputs import write_csv
from geovae.mri.processes import run_in_processes
from geovae.mri.synthetic.anatomy import draw_anatomy
from geovae.mri.synthetic.scanner import grid_of, scan, write_analyze

NOTE = """These files are SYNTHETIC. They are no OASIS data: each brain is the MNI152 template (ICBM 2009a, as it comes
with nilearn) under a random smooth deformation, with the layout and the file format of OASIS-1. ground_truth.csv
holds how each was made. They serve to test and to show software; nothing about people can be learned from them.
"""
COLUMNS = ("ID", "M/F", "Hand", "Age", "Educ", "SES", "MMSE", "CDR", "eTIV", "nWBV", "ASF", "Delay")
AVERAGED = (4, 4, 3, 4, 5, 4, 4, 6)  # repeats in a file's name
PATHS = {
    "t88_masked": ("PROCESSED/MPRAGE/T88_111", "mpr_n{n}_anon_111_t88_masked_gfc"),
    "fseg": ("FSL_SEG", "mpr_n{n}_anon_111_t88_masked_gfc_fseg"),
    "subj": ("PROCESSED/MPRAGE/SUBJ_111", "mpr_n{n}_anon_sbj_111"),
    "raw": ("RAW", "mpr-1_anon"),
}
MOST = 9000  # subjects; every twelfth number is left out
EXTRA_ATROPHY = {0.0: 0.0, 0.5: 0.22, 1.0: 0.4, 2.0: 0.55}


@dataclass(frozen=True)
class Truth:
    """How one session was made: age in years, CDR (NaN: not assessed), atrophy (0 to about 1), ventricles in ml."""

    id: str
    subject: str
    visit: int
    averaged: int
    sex: str
    age: int
    cdr: float
    atrophy: float
    ventricle_ml: float = math.nan


def write_cohort(
    folder: str | Path,
    *,
    subjects: int = 12,
    seed: int = 0,
    voxel: float = 1.0,
    products: Sequence[str] = ("t88_masked",),
    repeats: int = 1,
    workers: int | None = 1,
) -> list[Truth]:
    """Write a synthetic OASIS-1 tree below `folder` and return its ground truth, sorted by id.

    Args:
        folder: gets `discN/OAS1_XXXX_MRn/...`, `oasis_cross-sectional.csv`, `ground_truth.csv` and a note.
        subjects: how many; their numbers have holes, as in OASIS-1.
        seed: the same seed gives the same bytes, whatever the number of workers.
        voxel: edge in mm; 1 is the full size, 176 x 208 x 176, and 2 or 4 give small volumes for tests.
        products: of `t88_masked`, `fseg`, `subj`, `raw`.
        repeats: the first `repeats` subjects have an MR2.
        workers: number of processes; None for one a core.

    Raises:
        ValueError: for numbers or products that do not exist.
        FileNotFoundError: if nilearn is not installed.
    """
    check_cohort(subjects, repeats, workers, products, voxel)
    folder = Path(folder)
    write = partial(write_session, folder, seed=seed, voxel=voxel, products=tuple(products))
    truths = sorted(run_in_processes(write, plan(subjects, repeats, seed), workers), key=lambda truth: truth.id)
    _write_table(folder / "oasis_cross-sectional.csv", truths, seed)
    write_csv(folder / "ground_truth.csv", [asdict(t) for t in truths])
    with atomic_path(folder / "SYNTHETIC.txt") as temporary:
        temporary.write_text(NOTE)
    return truths


def check_cohort(subjects: int, repeats: int, workers: int | None, products: Sequence[str], voxel: float) -> None:
    """Raise ValueError for arguments of `write_cohort` with which no cohort can be written."""
    if subjects < 1 or not 0 <= repeats <= subjects or (workers is not None and workers < 1):
        raise ValueError(
            "`subjects` and `workers` must be at least 1, `repeats` from 0 to `subjects`, "
            f"got {subjects}, {workers} and {repeats}"
        )
    if subjects > MOST:
        raise ValueError(f"`subjects` must be at most {MOST}, got {subjects}: a subject's number has four digits")
    if not products or not set(products) <= set(PATHS):
        raise ValueError(f"`products` must be of {', '.join(PATHS)}, got {list(products)}")
    for product in products:
        grid_of(product, voxel)


def plan(subjects: int, repeats: int, seed: int) -> list[Truth]:
    """Return the sessions to make, sorted by id: about half young and not assessed, half old with a CDR."""
    numbers = [n for n in range(1, 2 * subjects + 9) if n % 12 != 8][:subjects]  # 8, 20, 32, ... are holes
    truths = []
    for position, number in enumerate(numbers):
        generator = np.random.default_rng([seed, number])
        old = position % 2 == 0
        age = int(generator.integers(60, 97) if old else generator.integers(18, 60))
        cdr = float(generator.choice([0.0, 0.5, 1.0, 2.0], p=[0.5, 0.3, 0.17, 0.03])) if old else math.nan
        extra = 0.0 if math.isnan(cdr) else EXTRA_ATROPHY[cdr]
        atrophy = float(np.clip(0.45 * (age - 18) / 78 + extra + generator.normal(0, 0.04), 0, 1))
        sex = "MF"[int(generator.integers(2))]
        name, averaged = f"OAS1_{number:04d}", AVERAGED[position % len(AVERAGED)]
        visits = (1, 2) if position < repeats else (1,)
        truths += [Truth(f"{name}_MR{v}", name, v, averaged, sex, age, cdr, atrophy) for v in visits]
    return truths


def write_session(folder: Path, truth: Truth, *, seed: int, voxel: float, products: tuple[str, ...]) -> Truth:
    """Write the files of one session; return its truth with the volume of the ventricles."""
    number = int(truth.subject[-4:])
    # A generator for each subject, and one for each visit: the same brain scanned twice, in whatever process.
    anatomy = draw_anatomy(np.random.default_rng([seed, number, 0]), truth.atrophy)
    generator = np.random.default_rng([seed, number, truth.visit])
    home = folder / f"disc{1 + number // 40}" / truth.id
    for product in products:
        path, name = PATHS[product]
        data = scan(anatomy, generator, product=product, voxel=voxel)
        image = home / path / f"{truth.id}_{name.format(n=truth.averaged)}.img"
        write_analyze(image, data, grid_of(product, voxel)[1])
    lines = [f"SESSION ID: {truth.id}", f"AGE: {truth.age}", f"M/F: {truth.sex}", f"CDR: {_cell(truth.cdr)}"]
    with atomic_path(home / f"{truth.id}.txt") as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    return replace(truth, ventricle_ml=round(anatomy.ventricle_ml(), 3))


def _write_table(path: Path, truths: Sequence[Truth], seed: int) -> None:
    """Write the table with OASIS-1's columns; blanks where a subject was not assessed."""
    rows = []
    for truth in truths:
        generator = np.random.default_rng([seed, int(truth.subject[-4:]), 99])
        assessed = not math.isnan(truth.cdr)
        tiv = int(generator.normal(1480, 150))
        mmse = int(np.clip(29 - 6 * (truth.cdr if assessed else 0) + generator.normal(0, 1), 5, 30))
        cells: list[Any] = [truth.id, truth.sex, "R", truth.age]
        cells += [int(generator.integers(1, 6)), int(generator.integers(1, 6)), mmse] if assessed else ["", "", ""]
        cells += [_cell(truth.cdr), tiv, round(0.86 - 0.12 * truth.atrophy, 3), round(1755 / tiv, 3)]
        rows.append([*cells, "N/A" if truth.visit == 1 else int(generator.integers(1, 90))])
    write_csv(path, [dict(zip(COLUMNS, row, strict=True)) for row in rows])


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:g}"
