"""From a folder of volumes to `oasis/OASIS.npz`: one process a core, resumable, all problems at once."""

import hashlib
import json
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from geovae.checks import check_choice
from geovae.files import atomic_path
from geovae.mri.cohort.derivatives import label_problems
from geovae.mri.cohort.discover import Found, Layout, Session, Wanted, discover
from geovae.mri.cohort.exclude import (
    check_exclusions,
    names_of,
    read_exclusions,
    reason_for,
    subject_of,
    without_excluded,
)
from geovae.mri.cohort.jobs import Execution, Job, Outcome, run_job
from geovae.mri.cohort.masks import with_masks
from geovae.mri.cohort.names import OASIS_FILES
from geovae.mri.cohort.outputs import Finished, write_outputs
from geovae.mri.cohort.process import DEFAULT_STEPS, MASKED, Steps
from geovae.mri.cohort.rows import DESCRIBED
from geovae.mri.cohort.table import Pair, Repeats, find_table, join, read_table, without_table
from geovae.mri.problems import InputProblems, OnError, Problem, as_text, check_choices, plural, shorten
from geovae.mri.processes import run_in_processes


@dataclass(frozen=True)
class Selection(Wanted):
    """Which volumes are prepared, and with which masks and rows of which table.

    Args:
        layout: `oasis1`, `bids`, `flat`, or `auto`, the first of them for which there is a file.
        product: which volume of an OASIS-1 session: `t88_masked` (brain only), `t88`, `subj`, `raw` or `fseg`.
        table: path of the csv, tsv or xlsx; `auto` searches for it; None does without: every label is -1.
        repeats: whether later visits (MR2) are dropped, kept or a problem: `drop`, `keep` or `fail`.
        mask_pattern: glob of the mask files within each volume's folder, in which `{id}` and `{subject}` are replaced;
            None finds OASIS-1's masked volume, and the names that BIDS, FSL, FreeSurfer and ANTs use.
        mask_folder: folder of the mask files, such as `derivatives/fmriprep`; None looks beside each volume, in a
            folder `masks` there, and in the derivatives of a BIDS data set.
        exclude: path of a csv or tsv with the columns `id` (of a session or subject) and `reason`: these are left out,
            and the reasons are kept with the data.

    Raises:
        ValueError: for a value that does not exist.
    """

    layout: Layout = "auto"
    product: str = "t88_masked"
    table: str | Path | None = "auto"
    repeats: Repeats = "drop"
    mask_pattern: str | None = None
    mask_folder: str | None = None
    exclude: str | Path | None = None

    def __post_init__(self) -> None:
        """Check everything before any volume is read."""
        check_choices(self)
        check_choice("product", self.product, OASIS_FILES)

    def exclusions(self) -> dict[str, str]:
        """Return the reasons of what is left out, by id of a session or subject."""
        return read_exclusions(self.exclude) if self.exclude else {}

    def find_masks(self, sessions: list[Session], mask: str) -> Found:
        """Return the sessions with their mask files where `mask`, that of `Steps`, wants them, and problems."""
        asked = mask == "file" or (mask == "auto" and bool(self.mask_pattern or self.mask_folder))
        if not asked and (mask != "auto" or all(s.product in MASKED for s in sessions)):
            return sessions, []
        # `auto` needs a mask file where the volume has a skull and its masked sibling is near
        needed = asked or any(s.product == "t88" for s in sessions)
        return with_masks(sessions, pattern=self.mask_pattern, folder=self.mask_folder, needed=needed)

    def gather(self, source: str | Path, mask: str) -> tuple[list[Pair], list[Problem]]:
        """Return the sessions below `source` with their rows, sorted by id, and problems; `mask` is that of `Steps`.

        Raises:
            FileNotFoundError: if there are no volumes, or no table.
            ValueError: if there are several tables, or one that cannot be read.
        """
        excluded = self.exclusions()
        sessions, problems = discover(source, self.layout, product=self.product, wanted=self)
        known = [name for s in sessions for name in names_of(s)] + [p.where for p in problems]
        sessions = [s for s in sessions if not reason_for(names_of(s), excluded)]
        problems = without_excluded(problems, excluded)
        sessions, missing = self.find_masks(sessions, mask)
        problems += missing
        if self.table is None:
            pairs, more = without_table(sessions, self.repeats)
            return pairs, problems + more + check_exclusions(excluded, known)
        required = DESCRIBED if any(s.id.startswith("OAS1_") for s in sessions) else ()
        rows, wrong = read_table(find_table(source) if self.table == "auto" else self.table, required=required)
        problems += check_exclusions(excluded, [*known, *(row.id for row in rows)])
        rows = [row for row in rows if not reason_for((row.id, subject_of(row.id)), excluded)]
        wrong = without_excluded(wrong, excluded)
        refused = [p.where for p in problems + wrong if not p.warning]
        pairs, more = join(sessions, rows, self.repeats, refused=refused)
        return pairs, problems + wrong + more


DEFAULT_SELECTION, DEFAULT_EXECUTION = Selection(), Execution()


def prepare(
    source: str | Path,
    root: str | Path = "data_folders",
    *,
    selection: Selection = DEFAULT_SELECTION,
    steps: Steps = DEFAULT_STEPS,
    execution: Execution = DEFAULT_EXECUTION,
) -> dict[str, Any]:
    """Write `OASIS.npz`, `manifest.csv`, `qc_table.csv` and `prepare.json` to `oasis` below `root`; return the last.

    Args:
        source: folder with the volumes and the table.
        root: folder of all data sets.
        selection: which volumes and which table.
        steps: what is done to each volume.
        execution: how it runs, and what is written besides.

    Returns:
        JSON: counts, input hash, settings, problems, warnings, files.

    Raises:
        InputProblems: with `on_error="fail"`, all problems of files, volumes and table.
        FileNotFoundError: if there are no volumes, or no table.
    """
    pairs, problems = selection.gather(source, steps.mask)
    if execution.arrays == "nii.gz":
        clashes = label_problems([session for session, _ in pairs])
        problems += clashes
        pairs = [(s, row) for s, row in pairs if s.id not in {problem.where for problem in clashes}]
    folder = Path(root) / "oasis"
    jobs = [Job(session, folder, steps, execution) for session, _ in pairs]
    running = run_in_processes(run_job, jobs, execution.workers)
    outcomes = {o.id: o for o in _with_bar(running, len(jobs), execution.progress)}
    for outcome in outcomes.values():
        problems += [Problem(outcome.id, sentence) for sentence in outcome.problems]
        problems += [Problem(outcome.id, sentence, warning=True) for sentence in outcome.numbers.get("warnings", ())]
    sound = [Finished(s, row, outcomes[s.id]) for s, row in pairs if not outcomes[s.id].problems]
    problems += _check_same_shapes({f.session.id: f.outcome.shape for f in sound})
    most_common = Counter(f.outcome.shape for f in sound).most_common(1)
    finished = [f for f in sound if f.outcome.shape == most_common[0][0]]
    if not finished:
        problems.append(Problem("volumes", "no sound volume is left"))
    report = raise_or_warn(problems, execution.on_error, fatal=not finished)
    settings = {**asdict(selection), **asdict(steps), **execution.settings()}
    # paths of this machine; the rows that were used are in the npz, the masks in the manifest
    del settings["table"], settings["mask_folder"], settings["exclude"]
    settings["excluded"] = selection.exclusions()
    files = write_outputs(folder, finished, settings)
    result = {
        "counts": _counts(outcomes, finished, len(settings["excluded"])),
        "input_hash": _hash(finished),
        "settings": settings,
    }
    result |= {**report, "files": files}
    text = json.dumps(result, indent=1)
    with atomic_path(folder / "prepare.json") as temporary:
        temporary.write_text(text + "\n")
    return dict(json.loads(text))  # what a reader of the file gets: lists, no tuples


def raise_or_warn(problems: Sequence[Problem], on_error: OnError, *, fatal: bool = False) -> dict[str, list[str]]:
    """Raise all problems, or with `skip` warn of them unless they are `fatal`; return problems and warnings as text."""
    wrong = sorted(p for p in problems if not p.warning)
    remarks = sorted(p for p in problems if p.warning)
    if wrong and (on_error == "fail" or fatal):
        raise InputProblems(wrong + remarks)
    if wrong:
        warnings.warn(as_text(wrong) + "\nThe sessions named are left out.", stacklevel=3)
    return {"problems": list(map(str, wrong)), "warnings": list(map(str, remarks))}


def _check_same_shapes(shapes: Mapping[str, tuple[int, ...]]) -> list[Problem]:
    """Return the problem of sessions, by id, whose pictures differ in shape."""
    by_shape: dict[tuple[int, ...], list[str]] = {}
    for id, shape in shapes.items():
        by_shape.setdefault(shape, []).append(id)
    if len(by_shape) <= 1:
        return []
    groups = sorted(by_shape.items(), key=lambda item: -len(item[1]))
    listed = "; ".join(f"{shape}: {shorten(ids, 3)}" for shape, ids in groups)
    return [Problem("shapes", f"the images have mixed shapes ({listed}): pass `shape` to crop and pad them to one")]


def _counts(outcomes: Mapping[str, Outcome], finished: Sequence[Finished], n_excluded: int) -> dict[str, int]:
    labels = Counter(f.row.label for f in finished)
    return {
        "sessions": len(outcomes),
        "used": len(finished),
        "left_out": len(outcomes) - len(finished),
        "excluded": n_excluded,
        "subjects": len({f.session.subject for f in finished}),
        "slices": sum(f.outcome.shape[0] for f in finished),
        "resumed": sum(o.resumed for o in outcomes.values()),
        **{f"label_{label}": labels[label] for label in sorted(labels)},
    }


def _hash(finished: Sequence[Finished]) -> str:
    """Return a hash of the content of all files used, by session."""
    digests = {f.session.id: f.outcome.digest for f in finished}
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def _with_bar(items: Iterable[Outcome], total: int, show: bool) -> Iterable[Outcome]:
    """Return the items, with a bar on stderr while they are read."""
    if not show:
        return items
    from tqdm import tqdm

    interval = 0.5 if sys.stderr.isatty() else 20.0  # a log file gets a line every 20 seconds
    return iter(tqdm(items, total=total, desc=plural(total, "volume"), unit=" volumes", mininterval=interval))
