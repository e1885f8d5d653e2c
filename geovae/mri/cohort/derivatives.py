"""Volumes as a data set of BIDS derivatives, which pybids, nilearn and fMRIPrep's tools find by its names.

`<root>/dataset_description.json` and `sub-<label>[/ses-<label>]/anat/..._desc-<what>_T1w.nii.gz`, each with a JSON
file of the same name that says how it was made. Labels hold letters and digits alone, so OAS1_0001 is `sub-OAS10001`.
"""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from geovae import __version__
from geovae.files import atomic_path
from geovae.mri.cohort.discover import Session
from geovae.mri.cohort.process import ALIGNED
from geovae.mri.problems import Problem, shorten
from geovae.mri.steps.restore import Space, write_nifti
from geovae.mri.volume import Volume

BIDS_VERSION = "1.10.0"
What = Literal["preproc", "generated"]
SPACES: dict[Space, tuple[str, str]] = {  # label of `space-`, and the reference: what has no label keeps the scanner's
    "talairach": ("Talairach", "the atlas of Talairach and Tournoux, 1988, as in OASIS-1's T88_111"),
    "mni": ("MNI152Lin", "MNI152Lin"),
}


def derivative_path(root: Path, subject: str, session: str = "", *, space: Space, what: What) -> Path:
    """Return the path of a volume below the data set's `root`; the names of subject and session become labels."""
    parts = [f"sub-{bids_label(subject)}", *([f"ses-{bids_label(session)}"] if session else [])]
    named = [f"space-{SPACES[space][0]}"] if space in SPACES else []
    return root.joinpath(*parts, "anat", "_".join([*parts, *named, f"desc-{what}", "T1w.nii.gz"]))


def session_path(root: Path, session: Session) -> Path:
    """Return the path of the prepared volume of a session."""
    visit = session.label or str(session.visit)
    return derivative_path(root, session.subject, visit, space=space_of(session), what="preproc")


def space_of(session: Session) -> Space:
    """Return what the millimetres of a session's volume refer to."""
    return "talairach" if session.product in ALIGNED else "aligned"


def bids_label(name: str) -> str:
    """Return the letters and digits of a name, without the prefix that BIDS puts before it."""
    return re.sub(r"[^0-9A-Za-z]", "", re.sub(r"^(sub|ses)-", "", name))


def label_problems(sessions: Sequence[Session]) -> list[Problem]:
    """Return a problem for each session whose subject BIDS cannot name, or not apart from another."""
    subjects: dict[str, set[str]] = defaultdict(set)
    for session in sessions:
        subjects[bids_label(session.subject)].add(session.subject)
    problems = []
    for session in sessions:
        label = bids_label(session.subject)
        same = shorten(sorted(subjects[label]))
        if not label:
            problems.append(
                Problem(session.id, "has no letter or digit for its name in BIDS: rename it, or pass arrays='npy'")
            )
        elif len(subjects[label]) > 1:
            what = f"{same} would all be `sub-{label}` in BIDS: rename all but one, or pass arrays='npy'"
            problems.append(Problem(session.id, what))
    return problems


def write_derivative(volume: Volume, path: Path, sidecar: Mapping[str, Any], *, space: Space) -> Path:
    """Write a volume at a path of `derivative_path`, with its sidecar; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    reference = SPACES[space][1] if space in SPACES else "orig"
    _write_json(path.with_name(path.name.replace(".nii.gz", ".json")), {"SpatialReference": reference, **sidecar})
    return write_nifti(volume, path, space=space)


def write_description(root: Path, name: str, description: str) -> Path:
    """Write `dataset_description.json` of a data set of derivatives; return its path."""
    made = {"Name": "geovae", "Version": __version__, "Description": description}
    content = {"Name": name, "BIDSVersion": BIDS_VERSION, "DatasetType": "derivative", "GeneratedBy": [made]}
    return _write_json(root / "dataset_description.json", content)


def _write_json(path: Path, content: Mapping[str, Any]) -> Path:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path
