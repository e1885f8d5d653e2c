"""Find the volumes of a folder: the OASIS-1 distribution, BIDS (also Clinica's output), or a flat folder of files.

Every function returns sessions, one file each, sorted by id, and the problems found. Where a subject can have several
visits, an id is `<subject>_MR<visit>`.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import Literal, get_args

from geovae.checks import check_choice
from geovae.images import walk_files
from geovae.mri.problems import Problem, shorten

Layout = Literal["auto", "oasis1", "bids", "flat"]

# n4 is the number of averaged repeats: n3, n5 and n6 exist
_SUBJECT = r"(?P<subject>OAS1_\d{4})_MR(?P<visit>\d+)_mpr"
_SUFFIX = r"\.(?:hdr|img|nii)(?:\.gz)?"
OASIS_FILES = {
    "t88_masked": rf"{_SUBJECT}_n\d+_anon_111_t88_masked_gfc{_SUFFIX}",
    "t88": rf"{_SUBJECT}_n\d+_anon_111_t88_gfc{_SUFFIX}",
    "fseg": rf"{_SUBJECT}_n\d+_anon_111_t88_masked_gfc_fseg{_SUFFIX}",
    "subj": rf"{_SUBJECT}_n\d+_anon_sbj_111{_SUFFIX}",
    "raw": rf"{_SUBJECT}-1_anon{_SUFFIX}",
}
BIDS_FILE = (
    r"(?P<subject>sub-[A-Za-z0-9]+)(?:_(?P<session>ses-[A-Za-z0-9]+))?(?:_[A-Za-z0-9]+-[A-Za-z0-9]+)*_T1w\.nii(?:\.gz)?"
)
FLAT_FILE = rf"(?P<name>.+?){_SUFFIX}"
NOT_RAW = ("derivatives", "sourcedata", "code")  # of a BIDS data set: what was computed from it, or became it
HINTS = {
    "oasis1": "disc*/OAS1_0001_MR1/PROCESSED/MPRAGE/T88_111/OAS1_0001_MR1_mpr_n4_anon_111_t88_masked_gfc.img",
    "bids": "sub-01[/ses-01]/anat/sub-01[_ses-01]_T1w.nii.gz",
    "flat": "*.nii, *.nii.gz, or pairs of *.hdr and *.img",
}


@dataclass(frozen=True)
class Session:
    """One scan: its file and its subject."""

    id: str  # unique; the key of the table's row
    subject: str
    visit: int  # 1, 2, ... within the subject
    path: Path  # the volume; of an Analyze pair the image file
    product: str  # for OASIS-1 a key of `OASIS_FILES`, else the layout
    mask: Path | None = None  # the brain mask, where one is asked for
    label: str = ""  # of a BIDS session, such as `ses-M000`


Found = tuple[list[Session], list[Problem]]


def discover(source: str | Path, layout: Layout = "auto", *, product: str = "t88_masked") -> Found:
    """Return the sessions below the folder `source`, see `walk_files`, sorted by id, and problems.

    `layout` and `product` are as in `Selection`.

    Raises:
        FileNotFoundError: if nothing fits; it shows the pattern and the files there.
    """
    check_choice("layout", layout, get_args(Layout))
    check_choice("product", product, OASIS_FILES)
    folder = Path(source)
    if not folder.is_dir():
        raise FileNotFoundError(f"`{folder}` is not a folder: `source` must be the folder that holds the volumes")
    files = walk_files(folder, ("",)).files
    finders: dict[str, Callable[[], list[Session]]] = {
        "oasis1": lambda: _oasis1(files, product),
        "bids": lambda: _bids([p for p in files if p.relative_to(folder).parts[0] not in NOT_RAW]),
        "flat": lambda: _flat(files),
    }
    if layout == "auto" and not _oasis1(files, product) and any(p.name.startswith("OAS1_") for p in files):
        layout = "oasis1"  # without the product asked for; the other products are no flat folder
    for name, find in finders.items():
        if layout in ("auto", name) and (sessions := find()):
            return _one_file_each(sessions)
    wanted = ", or ".join(HINTS.values()) if layout == "auto" else HINTS[layout]
    if layout == "oasis1":
        wanted += f" (product `{product}`: {OASIS_FILES[product]})"
    seen = shorten([str(p.relative_to(folder)) for p in files], 8) or "nothing"
    raise FileNotFoundError(f"no volume below `{folder}`: expected {wanted}; {len(files)} files were seen: {seen}")


def with_masks(sessions: Sequence[Session], pattern: str | None = None) -> Found:
    """Return the sessions with their mask files, and a problem for each session without one.

    `pattern` is a glob within the volume's folder, in which `{id}` and `{subject}` are replaced, such as
    `{id}*_mask.nii.gz`; None finds the masked T88_111 volume of an OASIS-1 session.
    """
    masked, problems = [], []
    pattern = pattern or "{id}_mpr_n*_anon_111_t88_masked_gfc.*"
    if pattern.startswith("/") or ".." in Path(pattern).parts:
        raise ValueError(f"`mask_pattern` must stay within the folder of each volume, got {pattern[:100]!r}")
    for session in sessions:
        # not str.format, which reads attributes and pads to any length
        glob = pattern.replace("{id}", escape(session.id)).replace("{subject}", escape(session.subject))
        masks = sorted(p for p in session.path.parent.glob(glob) if not p.name.endswith((".hdr", ".hdr.gz")))
        if len(masks) == 1:
            masked.append(replace(session, mask=masks[0]))
        else:
            what = "no mask" if not masks else f"{len(masks)} masks ({shorten(p.name for p in masks)})"
            problems.append(Problem(session.id, f"{what} like `{glob}` in `{session.path.parent}`, one is needed"))
    return masked, problems


def _matches(files: Sequence[Path], pattern: str) -> list[tuple[Path, re.Match[str]]]:
    """Return files whose whole name matches; of an Analyze pair only the image, or the header if that is alone."""
    matches = [(path, m) for path in files if (m := re.fullmatch(pattern, path.name))]
    images = {_without_suffix(path, ".img") for path, _ in matches if ".img" in path.suffixes}
    return [
        (path, m) for path, m in matches if ".hdr" not in path.suffixes or _without_suffix(path, ".hdr") not in images
    ]


def _without_suffix(path: Path, suffix: str) -> str:
    return str(path).removesuffix(".gz").removesuffix(suffix)


def _oasis1(files: Sequence[Path], product: str) -> list[Session]:
    return [
        Session(f"{m['subject']}_MR{m['visit']}", m["subject"], int(m["visit"]), path, product)
        for path, m in _matches(files, OASIS_FILES[product])
    ]


def _bids(files: Sequence[Path]) -> list[Session]:
    """Return BIDS sessions, numbered within the subject in the order of their names: BIDS names them freely."""
    matches = _matches(files, BIDS_FILE)
    names: dict[str, set[str]] = defaultdict(set)
    for _, m in matches:
        names[m["subject"]].add(m["session"] or "")
    sessions = []
    for path, m in matches:
        visit = sorted(names[m["subject"]]).index(m["session"] or "") + 1
        sessions.append(
            Session(f"{m['subject']}_MR{visit}", m["subject"], visit, path, "bids", label=m["session"] or "")
        )
    return sessions


def _flat(files: Sequence[Path]) -> list[Session]:
    """Return one session a file: a name that ends in `_MR2` is a second visit, any other name a subject of its own."""
    sessions = []
    for path, m in _matches(files, FLAT_FILE):
        visit = re.fullmatch(r"(.+)_MR(\d+)", m["name"])
        subject, number = (visit[1], int(visit[2])) if visit else (m["name"], 1)
        sessions.append(Session(m["name"], subject, number, path, "flat"))
    return sessions


def _one_file_each(sessions: Sequence[Session]) -> Found:
    """Return the sessions with one file, and a problem for each session with several."""
    by_id: dict[str, list[Session]] = defaultdict(list)
    for session in sessions:
        by_id[session.id].append(session)
    problems = [
        Problem(id, f"{len(group)} files for one session ({shorten(s.path.name for s in group)}): keep one of them")
        for id, group in sorted(by_id.items())
        if len(group) > 1
    ]
    return [group[0] for _, group in sorted(by_id.items()) if len(group) == 1], problems
