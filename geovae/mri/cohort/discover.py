"""Find the volumes of a folder: the OASIS-1 distribution, BIDS (also derivatives of it), or any folder of files.

Every function returns sessions, one file each, sorted by id, and the problems found. Where a subject can have several
visits, an id is `<subject>_MR<visit>`.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal, get_args

from geovae.checks import check_choice
from geovae.images import walk_files
from geovae.mri.cohort.names import BIDS_FILE, FLAT_FILE, HINTS, NOT_RAW, OASIS_FILES, entities, mask_stems, stem
from geovae.mri.problems import Problem, shorten

Layout = Literal["auto", "oasis1", "bids", "flat"]
ENTITIES = ("space", "desc", "run", "acq")  # of BIDS, in the order in which a message offers them
ABSENT = "none"


@dataclass(frozen=True)
class Wanted:
    """Which files of a folder are its volumes.

    Args:
        pattern: glob of the end of a path, such as `*/mri/T1.mgz`. Where the name of the file is given in full, it is
            the same for everybody: the folders for which the asterisks stand then name the subject, and the visit.
        suffix: of BIDS: `T1w`, `T2w`, `FLAIR`, ...
        space: of BIDS: the value of this entity, or `none` for the files without it; None takes either.
        desc: as `space`.
        run: as `space`.
        acq: as `space`.
    """

    pattern: str | None = None
    suffix: str = "T1w"
    space: str | None = None
    desc: str | None = None
    run: str | None = None
    acq: str | None = None

    def admits(self, name: str) -> bool:
        """Return whether the entities of a BIDS file name are those wanted."""
        found = entities(name)
        asked = {key: value for key in ENTITIES if (value := getattr(self, key)) is not None}
        return all(_index(found.get(key, ABSENT)) == _index(value) for key, value in asked.items())


@dataclass(frozen=True)
class Session:
    """One scan: its file and its subject."""

    id: str  # unique; the key of the table's row
    subject: str
    visit: int  # 1, 2, ... within the subject
    path: Path  # the volume; of an Analyze pair the image file
    product: str  # for OASIS-1 a key of `OASIS_FILES`, else the layout
    mask: Path | None = None  # the brain mask, where there is one
    label: str = ""  # of a BIDS session, such as `ses-M000`


Found = tuple[list[Session], list[Problem]]
ANY = Wanted()


def discover(
    source: str | Path, layout: Layout = "auto", *, product: str = "t88_masked", wanted: Wanted = ANY
) -> Found:
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
    seen = walk_files(folder, ("",)).files
    files = [path for path in seen if wanted.pattern is None or path.relative_to(folder).match(wanted.pattern)]
    raw = [path for path in files if not set(path.relative_to(folder).parts) & set(NOT_RAW)]
    finders: dict[str, Callable[[], list[Session]]] = {
        "oasis1": lambda: _oasis1(files, product),
        "bids": lambda: _bids(raw, wanted),
        "flat": lambda: _flat(files, wanted.pattern),
    }
    if layout == "auto" and (known := _recognise(files, product)):
        layout = known  # without what was asked for: the other files are no flat folder
    for name, find in finders.items():
        if layout in ("auto", name) and (sessions := find()):
            return _one_file_each(sessions)
    raise FileNotFoundError(_what_is_missing(folder, layout, product, wanted, seen))


def _recognise(files: Sequence[Path], product: str) -> Layout | None:
    """Return the layout that file names show beyond doubt."""
    if _oasis1(files, product):
        return "oasis1"
    if any(p.name.startswith("OAS1_") for p in files):
        return "oasis1"
    in_subjects = (p for p in files if any(part.startswith("sub-") for part in p.parts[:-1]))
    return "bids" if any(re.fullmatch(BIDS_FILE, p.name) for p in in_subjects) else None


def _what_is_missing(folder: Path, layout: str, product: str, wanted: Wanted, files: Sequence[Path]) -> str:
    """Return the sentence of a folder in which nothing was found."""
    expected = ", or ".join(HINTS.values()) if layout == "auto" else HINTS[layout]
    if layout == "oasis1":
        expected += f" (product `{product}`: {OASIS_FILES[product]})"
    asked = {name: value for name, value in vars(wanted).items() if name in vars(ANY) and value != vars(ANY)[name]}
    if asked:
        expected += f" with {', '.join(f'{name}={value}' for name, value in asked.items())}"
    if layout == "bids":
        expected += "; `suffix`, `space`, `desc`, `run`, `acq` and `pattern` choose another file"
    seen = shorten([str(p.relative_to(folder)) for p in files], 8) or "nothing"
    return f"no volume below `{folder}`: expected {expected}; {len(files)} files were seen: {seen}"


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


def _bids(files: Sequence[Path], wanted: Wanted) -> list[Session]:
    named = [(path, m) for path, m in _matches(files, BIDS_FILE) if m["suffix"] == wanted.suffix]
    return _number([(m["subject"], m["session"] or "", path) for path, m in named if wanted.admits(path.name)], "bids")


def _number(scans: Sequence[tuple[str, str, Path]], product: str) -> list[Session]:
    """Return the sessions of subject, label and file, numbered in the order of their labels: BIDS names them freely."""
    labels: dict[str, set[str]] = defaultdict(set)
    for subject, label, _ in scans:
        labels[subject].add(label)
    visits = {(subject, label): sorted(labels[subject]).index(label) + 1 for subject, label, _ in scans}
    return [
        Session(f"{subject}_MR{visits[subject, label]}", subject, visits[subject, label], path, product, label=label)
        for subject, label, path in scans
    ]


def _flat(files: Sequence[Path], pattern: str | None) -> list[Session]:
    """Return one session a file; brain masks beside other files are none.

    A name that ends in `_MR2` is a second visit, any other name a subject of its own.
    """
    matches = _matches(files, FLAT_FILE)
    masks = {(path.parent, mask) for path, _ in matches for mask in mask_stems(path) if mask != stem(path)}
    scans = [(path, m["name"]) for path, m in matches if (path.parent, m["name"]) not in masks]
    folders = _folders_with_asterisks(pattern)
    if len(folders) > 1:
        return _number([(p.parts[folders[0]], "_".join(p.parts[i] for i in folders[1:]), p) for p, _ in scans], "flat")
    return [_named(path.absolute().parts[folders[0]] if folders else name, path) for path, name in scans]


def _folders_with_asterisks(pattern: str | None) -> list[int]:
    """Return which parts of a path name its subject and visit, counted from the end; none where the file does."""
    parts = PurePath(pattern or "*").parts
    if any(letter in parts[-1] for letter in "*?["):
        return []
    found = [i - len(parts) for i, part in enumerate(parts) if any(letter in part for letter in "*?[")]
    return found or [-2]


def _named(name: str, path: Path) -> Session:
    """Return the session of a name, in which that of an OASIS-1 session counts: copies of the data wrap it."""
    if match := re.search(r"OAS1_\d{4}_MR\d+", name):
        name = match[0]
    visit = re.fullmatch(r"(.+)_MR(\d+)", name)
    subject, number = (visit[1], int(visit[2])) if visit else (name, 1)
    return Session(name, subject, number, path, "flat")


def _one_file_each(sessions: Sequence[Session]) -> Found:
    """Return the sessions with one file, and a problem for each session with several."""
    by_id: dict[str, list[Session]] = defaultdict(list)
    for session in sessions:
        by_id[session.id].append(session)
    several = {id: [s.path for s in group] for id, group in sorted(by_id.items()) if len(group) > 1}
    problems = [
        Problem(id, f"{len(paths)} files for one session ({shorten(_apart(paths))}): {_how_to_choose(paths)}")
        for id, paths in several.items()
    ]
    return [group[0] for _, group in sorted(by_id.items()) if len(group) == 1], problems


def _apart(paths: Sequence[Path]) -> list[str]:
    """Return what tells files apart: their folders if their names are equal, else the names without the subject."""
    if len({p.name for p in paths}) == 1:
        return [str(PurePath(*p.parts[-2:])) for p in paths]
    return [re.sub(r"^sub-[A-Za-z0-9]+_(ses-[A-Za-z0-9]+_)?", "", p.name) for p in paths]


def _how_to_choose(paths: Sequence[Path]) -> str:
    """Return the option that chooses one of the files of a session."""
    for key in ENTITIES:
        values = [entities(path.name).get(key, ABSENT) for path in paths]
        if len(set(values)) > 1:
            return "pass " + " or ".join(f"{key}={value}" for value in dict.fromkeys(values))
    if len({path.name for path in paths}) == 1:
        return f"where each folder is a subject, pass pattern='*/{paths[0].name}'"
    return f"pass `pattern`, such as '*{paths[0].name[len(paths[0].name) // 2 :]}'"


def _index(value: str) -> str:
    """Return a value of an entity, an index without its leading zeros: run-01 is run 1."""
    return str(int(value)) if value.isdigit() else value
