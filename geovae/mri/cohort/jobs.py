"""One session a job, in processes of their own; what a job leaves behind is a file, so that a call can be resumed."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from geovae.mri.cohort.discover import Session
from geovae.mri.cohort.export import atomic
from geovae.mri.cohort.process import process
from geovae.mri.cohort.state import input_digest, load_state, save_state, state_key
from geovae.mri.problems import Unfit
from geovae.mri.steps.orient import resample
from geovae.mri.steps.restore import write_nifti
from geovae.mri.volume import Volume

SUMMARY = ("digest", "numbers", "affines", "slice_mm", "pictures")


def run_all(jobs: Sequence[tuple[Any, ...]], workers: int | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (id, outcome) of each job as it ends, from processes of their own if there are several workers."""
    workers = min(workers or cores(), len(jobs))
    if workers <= 1:
        yield from map(run_one, jobs)
        return
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        with bare_main():
            futures = [pool.submit(run_one, job) for job in jobs]  # this starts all workers
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def run_one(job: tuple[Session, Path, dict[str, Any], dict[str, Any], bool]) -> tuple[str, dict[str, Any]]:
    """Return a session's id and outcome: its problems, or what its file says; a finished session is not done again."""
    session, path, steps, extra, resume = job
    outcome: dict[str, Any] = {"problems": [], "warnings": [], "digest": "", "shape": (), "resumed": False}
    try:
        key = state_key(session, steps | extra)
        state = load_state(path, key, SUMMARY) if resume else None
        if state is not None and array_path(path, extra["arrays"]).exists():
            return session.id, outcome | summary(state) | {"resumed": True}
        done = process(session, **steps)
        done.numbers.update(write_array(done.volume, array_path(path, extra["arrays"]), extra))
        digest = input_digest(session)
        save_state(path, key, digest, done)
        return session.id, outcome | summary(vars(done) | {"digest": digest})
    except Unfit as error:
        return session.id, outcome | {"problems": list(error.sentences)}
    except (ValueError, OSError) as error:
        return session.id, outcome | {"problems": [str(error)]}


def write_array(volume: Volume, path: Path, extra: dict[str, Any]) -> dict[str, Any]:
    """Write a volume in [0, 1] as uint8 `.npy` (x, y, z) or as `.nii.gz` (0 to 1), if wanted; return its affine."""
    if extra["arrays"] == "none":
        return {}
    if extra["arrays_spacing"] is not None:
        volume = resample(volume, extra["arrays_spacing"])
    if extra["arrays"] == "nii.gz":
        write_nifti(volume, path)
    else:
        with atomic(path) as partial:
            np.save(partial, np.rint(volume.data * 255).astype(np.uint8))
    return {"array_affine": volume.affine.tolist()}


def state_path(folder: Path, session: Session) -> Path:
    """Return where a session's file lies."""
    return folder / "subjects" / f"{session.id}.npz"


def array_path(state: Path, arrays: str) -> Path:
    """Return where a session's array goes; the state file itself if there is none."""
    return state if arrays == "none" else state.parents[1] / "volumes" / f"{state.stem}.{arrays}"


def finished(folder: Path, session: Session, name: str) -> np.ndarray:
    """Return one array of a finished session's file."""
    state = load_state(state_path(folder, session), names=[name])
    if state is None:
        raise ValueError(f"`{state_path(folder, session)}` was removed or changed meanwhile: call prepare again")
    return state[name]


def summary(state: dict[str, Any]) -> dict[str, Any]:
    """Return what the main process keeps of a session: no pixels."""
    small = {name: state[name] for name in ("digest", "numbers", "affines", "slice_mm")}
    shape = tuple(state["pictures"].shape)
    return small | {"shape": shape, "rows": shape[0], "warnings": state["numbers"]["warnings"]}


@contextmanager
def bare_main() -> Iterator[None]:
    """Let workers start without the caller's script: they need nothing of it, and its imports can take seconds."""
    main = sys.modules["__main__"]
    kept: dict[str, Any] = {name: vars(main).pop(name) for name in ("__spec__", "__file__") if name in vars(main)}
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(kept)


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
