"""One job for each session. It leaves a small file, the state, which makes `prepare` resumable and holds the pixels.

A state records the key of its settings and its input files. A state with another key, or one that cannot be read, is
written again.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from geovae.checks import check_count, check_positive
from geovae.files import atomic_path, read_npz
from geovae.mri.cohort.derivatives import session_path, space_of, write_derivative
from geovae.mri.cohort.discover import Session
from geovae.mri.cohort.process import MASKED, Processed, Steps, process
from geovae.mri.problems import OnError, Unfit, check_choices
from geovae.mri.steps.orient import resample
from geovae.mri.steps.read import both_halves
from geovae.mri.volume import Volume

Arrays = Literal["none", "npy", "nii.gz"]
DERIVATIVES = "derivatives"  # folder of the data set
FORM = 2  # of the states: one that was written in another form is written again
SMALL = ("digest", "numbers", "affines", "slice_mm", "pictures")  # what an `Outcome` needs of a state


@dataclass(frozen=True)
class Execution:
    """How `prepare` runs, and what it writes beside the pictures.

    Args:
        arrays: also write each volume: `npy`, uint8, to `oasis/volumes/<id>.npy`; `nii.gz`, float32 from 0 to 1, as a
            data set of BIDS derivatives to `oasis/derivatives/`.
        arrays_spacing: voxels of these, mm; None keeps them.
        on_error: `fail` raises one report of all problems and writes no npz; `skip` leaves bad sessions out and warns.
        workers: number of processes; None for one a core.
        progress: show a bar with the time left.
        resume: use what an earlier call with the same settings and files has finished.

    Raises:
        ValueError: for a value that does not exist.
    """

    arrays: Arrays = "none"
    arrays_spacing: float | None = None
    on_error: OnError = "fail"
    workers: int | None = None
    progress: bool = True
    resume: bool = True

    def __post_init__(self) -> None:
        """Check everything before any volume is read."""
        check_choices(self)
        if self.workers is not None:
            check_count(workers=self.workers)
        if self.arrays_spacing is not None:
            check_positive(arrays_spacing=self.arrays_spacing)

    def settings(self) -> dict[str, Any]:
        """Return the options that change what is written."""
        return {"arrays": self.arrays, "arrays_spacing": self.arrays_spacing}


@dataclass(frozen=True)
class Job:
    """What a worker needs: the session, the folder of the data set, and the options."""

    session: Session
    folder: Path
    steps: Steps
    execution: Execution

    def key(self) -> str:
        """Return a hash of the settings and of name, size and time of change of the input files."""
        # not of their content, which takes as long to read as the volume
        files = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in input_files(self.session)]
        settings = asdict(self.steps) | self.execution.settings()
        return hashlib.sha256(json.dumps([FORM, self.session.id, files, settings], sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the main process keeps of a session, by its id: no pixels; with `problems`, nothing else."""

    id: str
    problems: tuple[str, ...] = ()
    resumed: bool = False  # finished by an earlier call
    digest: str = ""  # of the content of its input files
    shape: tuple[int, ...] = ()  # (k, h, w) of its pictures
    numbers: dict[str, Any] = field(default_factory=dict)  # see `Processed`
    affines: np.ndarray = field(default_factory=lambda: np.zeros((0, 4, 4)))  # (k, 4, 4), mm
    slice_mm: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (k,) positions of the slices


def run_job(job: Job) -> Outcome:
    """Process a session unless it is finished already; return its problems, or what its state holds."""
    path = state_path(job.folder, job.session.id)
    array = array_path(job.folder, job.session, job.execution.arrays)
    try:
        key = job.key()
        state = load_state(path, key, SMALL) if job.execution.resume else None
        if state is not None and (array is None or array.exists()):
            return _outcome(job.session.id, state, resumed=True)
        done = process(job.session, job.steps)
        if array is not None:
            done.numbers["array_affine"] = _write_array(done, array, job).tolist()
        content = hashlib.blake2b(digest_size=16)
        for file in input_files(job.session):
            content.update(file.read_bytes())
        digest = content.hexdigest()
        save_state(path, key, digest, done)
        return _outcome(job.session.id, vars(done) | {"digest": digest})
    except Unfit as error:
        return Outcome(job.session.id, problems=error.sentences)
    except (ValueError, OSError) as error:
        return Outcome(job.session.id, problems=(str(error),))


def state_path(folder: Path, id: str) -> Path:
    """Return the path of a session's state."""
    return folder / "subjects" / f"{id}.npz"


def array_path(folder: Path, session: Session, arrays: Arrays) -> Path | None:
    """Return the path of a session's array, None if none is wanted."""
    if arrays == "nii.gz":
        return session_path(folder / DERIVATIVES, session)
    return None if arrays == "none" else folder / "volumes" / f"{session.id}.npy"


def load_state(path: Path, key: str | None = None, names: Sequence[str] | None = None) -> dict[str, Any] | None:
    """Return the arrays `names` (None: all) of a state; None if it is missing, damaged or of another `key`."""
    try:
        if key is not None and str(read_npz(path, ["key"])["key"]) != key:
            return None
        state: dict[str, Any] = read_npz(path, names)
        if "numbers" in state:
            state["numbers"] = json.loads(str(state["numbers"]))
    except (FileNotFoundError, ValueError):
        return None
    return state


def input_files(session: Session) -> list[Path]:
    """Return the files of a session that exist."""
    files: list[Path] = []
    for path in filter(None, (session.path, session.mask)):
        try:
            files += dict.fromkeys(both_halves(path))
        except (ValueError, FileNotFoundError):  # reading it reports the missing half
            files += [path] * path.is_file()
    return files


def save_state(path: Path, key: str, digest: str, done: Processed) -> None:
    """Write one finished session, atomically."""
    planes = {f"plane_{axis}": plane for axis, plane in done.middle.items()}
    planes |= {f"mask_{axis}": mask for axis, mask in done.middle_mask.items()}
    with atomic_path(path) as temporary:
        np.savez(
            temporary,
            key=key,
            digest=digest,
            numbers=json.dumps(done.numbers),
            pictures=done.pictures,
            affines=done.affines,
            slice_mm=done.slice_mm,
            thumb=done.thumb,
            grid_affine=done.volume.affine,
            before=done.before[0],
            before_edges=done.before[1],
            after=done.after,
            **planes,  # type: ignore[arg-type]  # numpy's stub gives every keyword the type of `allow_pickle`
        )


def _write_array(done: Processed, path: Path, job: Job) -> np.ndarray:
    """Write a volume in [0, 1] as uint8 `.npy` (x, y, z) or as `.nii.gz` (0 to 1); return its affine."""
    volume, spacing = done.volume, job.execution.arrays_spacing
    if spacing is not None:
        volume = resample(volume, spacing)
    if job.execution.arrays == "nii.gz":
        write_derivative(volume, path, _sidecar(job, volume), space=space_of(job.session))
    else:
        with atomic_path(path) as temporary:
            np.save(temporary, np.rint(volume.data * 255).astype(np.uint8))
    return volume.affine


def _sidecar(job: Job, volume: Volume) -> dict[str, Any]:
    """Return what BIDS wants to know of a prepared volume, and its steps."""
    about: dict[str, Any] = {
        "Description": "Grey from 0 to 1 by percentiles inside the brain mask",
        "Units": "arbitrary",
    }
    about |= {"Session": job.session.id, "Sources": [file.name for file in input_files(job.session)]}
    is_stripped = job.steps.stripped or job.session.product in MASKED
    return {**about, "SkullStripped": is_stripped, "Steps": volume.history}


def _outcome(id: str, state: dict[str, Any], resumed: bool = False) -> Outcome:
    small = {name: state[name] for name in ("numbers", "affines", "slice_mm")}
    return Outcome(id, (), resumed, str(state["digest"]), tuple(state["pictures"].shape), **small)
