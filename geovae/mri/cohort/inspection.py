"""What a user must check of a folder before trusting it: its values beside the expected ones, in under a minute."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from geovae.mri.cohort.discover import Session, discover
from geovae.mri.cohort.prepare import DEFAULT_SELECTION, Selection
from geovae.mri.cohort.process import Steps
from geovae.mri.cohort.table import find_table, join, read_table, without_table
from geovae.mri.problems import Problem, plural, shorten
from geovae.mri.steps.affines import PRODUCTS, axes_of
from geovae.mri.steps.header import HEADER_BYTES, read_header
from geovae.mri.steps.mask import brain_numbers
from geovae.mri.steps.read import both_halves, read_place, unpack
from geovae.mri.volume import Volume

AS_STORED = Steps(spacing=None)
BESIDE = "   [OASIS-1: "  # what stands after it is the number of OASIS-1


def inspect(source: str | Path, *, selection: Selection = DEFAULT_SELECTION, sample: int = 3) -> str:
    """Return a text: sessions, file names, headers, table and `sample` volumes of a folder, beside those of OASIS-1.

    Args:
        source: folder with the volumes and the table.
        selection: which volumes and which table.
        sample: number of volumes that are read whole; of the others only the headers.
    """
    sessions, problems = discover(source, selection.layout, product=selection.product, wanted=selection)
    sessions, more = selection.find_masks(sessions, AS_STORED.mask)
    problems += more
    kind = sessions[0].product if sessions else "-"
    lines = [f"`{source}`: {plural(len(sessions), 'session')}, product or layout: {kind}"]
    lines += ["", "Sessions", *_sessions(sessions)]
    lines += ["", "Headers", *_headers(sessions, problems)]
    lines += ["", "Table", *_table(source, sessions, selection.table, problems)]
    lines += ["", f"Volumes ({min(sample, len(sessions))} read whole)", *_volumes(sessions, sample, problems)]
    if not any(s.id.startswith("OAS1_") for s in sessions):
        lines = [line.partition(BESIDE)[0] for line in lines]
    # a set: what is wrong with a file is found with its header and again with its volume
    lines += ["", "Problems", *([f"  - {p}" for p in sorted(set(problems))] or ["  none in what was looked at"])]
    return "\n".join(lines) + "\n"


def _line(what: str, value: object, expected: str = "") -> str:
    return f"  {what}: {value}" + (f"{BESIDE}{expected}]" if expected else "")


def _sessions(sessions: Sequence[Session]) -> list[str]:
    visits = Counter(f"MR{s.visit}" for s in sessions)
    parts = [part for s in sessions for part in s.path.name.split("_")]
    averaged = Counter(part for part in parts if part[:1] == "n" and part[1:].isdigit())
    ends = shorten([sessions[0].id, sessions[-1].id]) if sessions else "-"
    lines = [
        _line("subjects", len({s.subject for s in sessions})),
        _line("visits", _tally(visits), "MR1 416, MR2 20"),
        _line("first and last id", ends, "0001 to 0457, with holes"),
    ]
    if averaged:
        lines.append(_line("averaged repeats in names", _tally(averaged), "mostly n4; n3, n5 and n6 in about 14 %"))
    return lines


def _headers(sessions: Sequence[Session], problems: list[Problem]) -> list[str]:
    """Return the counts of grids, types, axes and origins; a bad header is added to `problems`."""
    shapes: Counter[str] = Counter()
    types: Counter[str] = Counter()
    origins: Counter[str] = Counter()
    axes: dict[str, list[str]] = defaultdict(list)  # ids
    for session in sessions:
        try:
            path, _ = both_halves(session.path)
            content = unpack(path, HEADER_BYTES)
            header = read_header(content, path.name)
            mm = ", ".join(f"{s:g}" for s in header.spacing)
            shapes[f"{header.shape} of ({mm}) mm, stored {len(header.stored)}-D"] += 1
            endian = "big-endian" if header.dtype.byteorder == ">" else "little-endian"
            types[f"{header.kind} {header.dtype.newbyteorder('=')} {endian}"] += 1
            if header.kind == "analyze":
                origins[repr(content[253:263])] += 1
            affine, source, notes = read_place(session.path, affine=AS_STORED.affine, product=session.product)
            axes[f"{axes_of(affine)} by {source}"].append(session.id)
            problems += [Problem(session.id, note, warning=True) for note in notes]
        except (ValueError, OSError) as error:
            problems.append(Problem(session.id, str(error)))
    grid = PRODUCTS.get(sessions[0].product) if sessions else None
    lines = [_line("grids", _tally(shapes), f"{grid.shape} of {grid.spacing} mm, 4-D" if grid else "")]
    lines.append(_line("types", _tally(types), "analyze int16 big-endian"))
    lines += _axes(axes, grid.axes if grid else "")
    if origins:
        lines.append(_line("origin bytes", _tally(origins), "ten spaces: no origin, so the table's affine is used"))
    return lines


def _axes(ids: Mapping[str, Sequence[str]], expected: str) -> list[str]:
    """Return a line for each way in which files lie and what says so; all but the most common name their sessions."""
    groups = sorted(ids.items(), key=lambda group: -len(group[1]))
    lines = [_line(f"axes {name}", f"{len(who)}: {', '.join(who)}") for name, who in groups[1:]]
    return [_line(f"axes {name}", len(who), expected) for name, who in groups[:1]] + lines


def _table(
    source: str | Path, sessions: Sequence[Session], table: str | Path | None, problems: list[Problem]
) -> list[str]:
    """Return the grades and ages of the table; what is wrong with it, or has no partner, is added to `problems`."""
    if table is None:
        problems += without_table(sessions, "keep")[1]
        return ["  none: every label is -1, unknown"]
    try:
        path = find_table(source) if table == "auto" else Path(table)
        rows, wrong = read_table(path, required=())
    except (ValueError, OSError) as error:
        problems.append(Problem("table", str(error)))
        return ["  not found or not readable"]
    pairs, missing = join(sessions, rows, "keep", refused=[p.where for p in wrong])
    problems += wrong + missing
    grades = Counter("blank" if np.isnan(row.cdr) else f"{row.cdr:g}" for row in rows)
    ages = [row.age for row in rows if not np.isnan(row.age)]
    span = f"{min(ages):g} to {max(ages):g} years" if ages else "-"
    return [
        _line("file", f"{path.name}, {plural(len(rows), 'sound row')}, {len(pairs)} joined", "436 rows"),
        _line("CDR", _tally(grades), "0 135, 0.5 70, 1 28, 2 2, blank 201: not assessed, never 0"),
        _line("ages", span, "18 to 96"),
    ]


def _volumes(sessions: Sequence[Session], sample: int, problems: list[Problem]) -> list[str]:
    """Return values, axes and brain of `sample` volumes, evenly spaced; the faults are added to `problems`."""
    lines = []
    for session in sessions[:: max(1, len(sessions) // max(sample, 1))][:sample]:
        try:
            stored = AS_STORED.read(session)
            lines.append(_line(session.id, _describe(session, stored), "maximum about 2900 to 3900"))
            remarks = stored.history[0]["notes"]
            problems += [Problem(session.id, remark, warning=True) for remark in remarks]
        except (ValueError, OSError) as error:
            problems.append(Problem(session.id, str(error)))
    return lines


def _describe(session: Session, stored: Volume) -> str:
    volume, rule = AS_STORED.orient(stored), AS_STORED.mask_rule(session, stored)
    numbers = brain_numbers(volume, AS_STORED.find_brain(session, stored, volume, rule))
    values = f"values {volume.data.min():g} to {volume.data.max():g}, axes {volume.history[-1]['axes_before']}"
    mask = session.mask.name if rule == "file" and session.mask else rule
    brain = f"brain {numbers['brain_ml']} ml by {mask}, centre {numbers['centre_mm']} mm"
    return f"{values} by {volume.history[0]['affine']}, {brain}"


def _tally(counts: "Counter[str]") -> str:
    return ", ".join(f"{name} {n}" for name, n in counts.most_common()) or "none"
