"""The brain mask of each session: a file beside the volume, in the derivatives of a BIDS data set, or in a folder."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from glob import escape
from pathlib import Path

from geovae.images import walk_files
from geovae.mri.cohort.discover import Found, Session
from geovae.mri.cohort.names import mask_stems, stem
from geovae.mri.problems import Problem, shorten

T88_MASKED = "{id}_mpr_n*_anon_111_t88_masked_gfc.*"
ENDINGS = (".nii", ".nii.gz", ".img", ".img.gz", ".mgz", ".mgh")


def with_masks(
    sessions: Sequence[Session], *, pattern: str | None = None, folder: str | Path | None = None, needed: bool = True
) -> Found:
    """Return the sessions with their mask files, and a problem for each session without one.

    Args:
        sessions: of one folder.
        pattern: a glob within the volume's folder, in which `{id}` and `{subject}` are replaced; None looks for the
            masked volume of OASIS-1's T88_111, else for the names that BIDS, FSL, FreeSurfer and ANTs use.
        folder: where the masks are, below it in any depth; None looks beside the volume and in BIDS' derivatives.
        needed: False keeps sessions without a mask, with a warning if others have one.

    Raises:
        ValueError: for a pattern that leaves the folder.
        FileNotFoundError: if there is no such folder.
    """
    if pattern and (pattern.startswith("/") or ".." in Path(pattern).parts):
        raise ValueError(f"`mask_pattern` must stay within the folder of each volume, got {pattern[:100]!r}")
    elsewhere = None if folder is None else _by_stem(Path(folder))
    masked, problems, without = [], [], []
    for session in sessions:
        glob = _fill(pattern or (T88_MASKED if session.product == "t88" else ""), session)
        masks = _near(session, glob) if elsewhere is None else _in_folder(session, elsewhere)
        if len(masks) == 1:
            masked.append(replace(session, mask=masks[0]))
        elif masks or needed:
            problems.append(Problem(session.id, _what_is_wrong(session, masks, glob, folder)))
        else:
            without.append(session)
    if masked and without:
        sentence = "no mask file, unlike other sessions: its brain is found by its values"
        problems += [Problem(session.id, sentence, warning=True) for session in without]
    return sorted([*masked, *without], key=lambda session: session.id), problems


def _fill(pattern: str, session: Session) -> str:
    # not str.format, which reads attributes and pads to any length
    return pattern.replace("{id}", escape(session.id)).replace("{subject}", escape(session.subject))


def _near(session: Session, glob: str) -> list[Path]:
    """Return the masks beside the volume that fit a glob; without one, those with the best name that occurs."""
    folder = session.path.parent
    if glob:
        return sorted(p for p in folder.glob(glob) if not p.name.endswith((".hdr", ".hdr.gz")))
    for places in ([folder], [folder / "masks", folder.parent / "masks"], _derivatives(session)):
        own = [stem(session.path)] if places[:1] == [folder / "masks"] else []
        for name in [*own, *mask_stems(session.path)]:
            if found := [p for place in places for end in ENDINGS if (p := place / f"{name}{end}").is_file()]:
                return found
    return []


def _derivatives(session: Session) -> list[Path]:
    """Return the folders in the derivatives of a BIDS data set that correspond to the volume's own."""
    for folder in session.path.parents:
        if folder.name == session.subject:
            inside = session.path.parent.relative_to(folder.parent)
            return sorted(pipeline / inside for pipeline in (folder.parent / "derivatives").glob("*"))
    return []


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    """Return the files below a folder by the stems of their names."""
    if not folder.is_dir():
        raise FileNotFoundError(f"`mask_folder` must be a folder with brain masks, got `{folder}`")
    found: dict[str, list[Path]] = defaultdict(list)
    for path in walk_files(folder, ENDINGS).files:
        found[stem(path)].append(path)
    return found


def _in_folder(session: Session, masks: dict[str, list[Path]]) -> list[Path]:
    """Return the masks of a session among those of a folder, of the best name that occurs."""
    own = [stem(session.path), f"{session.id}_mask", session.id, f"{session.subject}_mask", session.subject]
    for name in [*mask_stems(session.path), *own]:
        found = [p for p in masks.get(name, ()) if p != session.path]
        theirs = [p for p in found if {session.subject, session.path.parent.name} & set(p.parent.parts)]
        if len(found) == 1 or theirs:
            return theirs or found
    return []


def _what_is_wrong(session: Session, masks: Sequence[Path], glob: str, folder: str | Path | None) -> str:
    if len(masks) > 1:
        which = "pass a narrower `mask_pattern`" if glob else "pass `mask_folder`, the folder of one of them"
        return f"{len(masks)} masks ({shorten(map(str, masks))}), one is needed: {which}"
    if glob:
        return f"no mask like `{glob}` in `{session.path.parent}`, one is needed"
    where = f"below `{folder}`" if folder else "beside the volume or in derivatives/"
    names = shorten(mask_stems(session.path), 4)
    return f"no brain mask {where}, such as {names}: pass `mask_pattern` or `mask_folder`, or mask=otsu"
