"""Brain volumes: one volume, two processes, the memory of 416, and the import.

    python benchmarks/mri.py [--volumes 416] [--scaling 96] [--rounds 15] [--parts one scaling memory]

Times one 176 x 208 x 176 volume from file to picture beside the plain chain (nibabel, numpy, no checks), in turn;
`prepare` with two processes against one; its peak memory, in a separate process; `import geovae.mri`. The volumes
are synthetic and full-size; for many volumes, 4 files are linked under other names.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from geovae.mri import Execution, Selection, discover, prepare, process, resample, write_cohort

PARTS = ("one", "shrinking", "start", "scaling", "memory", "import")
MEASURE = """
import resource, sys, time
from pathlib import Path
from geovae.mri import Execution, Selection, prepare

def main():
    start = time.perf_counter()
    execution = Execution(workers=int(sys.argv[3]), progress=False)
    counts = prepare(sys.argv[1], sys.argv[2], selection=Selection(table=None), execution=execution)["counts"]
    seconds = time.perf_counter() - start
    lines = Path("/proc/self/status").read_text().splitlines()
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    peak = 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
    print(seconds, sum(u.ru_utime + u.ru_stime for u in used), peak, counts["used"])

if __name__ == "__main__":
    main()
"""


START = """
import contextlib, resource, sys
import mlflow, torch
from geovae.mri import Execution, Selection, Steps, prepare, processes

def used():
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime

if __name__ == "__main__":
    if sys.argv[3] == "with":
        processes.hide_main = contextlib.nullcontext
    steps = Steps(spacing=8.0, shape=(22, 26, 22))
    execution = Execution(workers=2, progress=False)
    prepare(sys.argv[1], sys.argv[2], selection=Selection(table=None), steps=steps, execution=execution)
    print(used())
"""


def plain(path: Path) -> np.ndarray:
    """The chain as one writes it down: read, canonical, percentiles inside the brain, clip, middle slice, 0 to 255."""
    import nibabel as nib

    image = nib.as_closest_canonical(nib.AnalyzeImage.from_filename(path))
    data = image.get_fdata(dtype=np.float32)[..., 0]
    low, high = np.percentile(data[data > 0], (0, 99.5))
    data = np.clip((data - low) / (high - low), 0, 1)
    picture = np.rot90(data[:, :, 88])[:, ::-1]  # radiological, as by default
    return np.rint((picture - picture.min()) / (picture.max() - picture.min()) * 255).astype(np.uint8)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def both_times(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of one call, by the wall and of the processor."""
    before = time.process_time()
    return seconds(work), time.process_time() - before


def show(values: list[float], unit: str = "", scale: float = 1.0) -> str:
    """Median [lowest to highest]."""
    middle, low, high = (v * scale for v in (statistics.median(values), min(values), max(values)))
    return f"{middle:.3g} [{low:.3g} to {high:.3g}]{unit}"


def one_volume(folder: Path, rounds: int) -> None:
    """Time one volume from file to picture, ours and the plain chain in turn."""
    sessions = discover(folder)[0]
    off = max(int(np.abs(process(s).pictures[0].astype(int) - plain(s.path)).max()) for s in sessions)
    print(f"greatest difference from the pictures of the plain chain: {off} of 255")
    taken: dict[str, list[tuple[float, float]]] = {"geovae": [], "the plain chain": []}
    for i in range(rounds):
        session = sessions[i % len(sessions)]
        taken["geovae"].append(both_times(lambda s=session: process(s)))
        taken["the plain chain"].append(both_times(lambda s=session: plain(s.path)))
    for name, pairs in taken.items():
        wall, cpu = map(list, zip(*pairs, strict=True))
        print(f"one volume, {name}: {show(wall, ' s')}; {show(cpu, ' s')} of processor time")
    ours, theirs = taken.values()
    ratios = [b[1] / a[1] for a, b in zip(ours, theirs, strict=True)]
    print(f"  processor time of the plain chain over ours: {show(ratios)}")


def link(source: Path, folder: Path, n: int) -> Path:
    """A tree of `n` sessions whose files are links to those of `source`."""
    paths = sorted(source.rglob("*.img"))
    for i in range(n):
        for path in (paths[i % len(paths)], paths[i % len(paths)].with_suffix(".hdr")):
            new = folder / "disc1" / f"OAS1_{i + 1:04d}_MR1" / f"OAS1_{i + 1:04d}_MR1{path.name[13:]}"
            new.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, new)
    return folder


def prepared(source: Path, workers: int) -> tuple[float, float, float, int]:
    """Seconds, seconds of processor, peak bytes of the main process, and volumes of one `prepare` in a new process."""
    with tempfile.TemporaryDirectory() as root:
        script = Path(root) / "measure.py"
        script.write_text(MEASURE)
        command = [sys.executable, str(script), str(source), root, str(workers)]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(found[0]), float(found[1]), float(found[2]), int(found[3])


def worker_start(folder: Path) -> None:
    """Print what two workers spend on 4 tiny volumes, called by a script that imports torch and mlflow."""
    write_cohort(folder / "tiny", subjects=4, voxel=8, repeats=0)
    found: dict[str, list[float]] = {"without": [], "with": []}
    for _ in range(5):
        for kind, values in found.items():
            with tempfile.TemporaryDirectory() as root:
                script = Path(root) / "start.py"
                script.write_text(START)
                command = [sys.executable, str(script), str(folder / "tiny"), root, kind]
                values.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    for kind, values in found.items():
        print(f"two workers {kind} the caller's imports: {show(values, ' s')} of processor time")


def shrinking(folder: Path, rounds: int) -> None:
    """Time a volume to 4 mm by means of blocks, and by the Gaussian and linear interpolation of other factors."""
    from scipy.ndimage import affine_transform, gaussian_filter

    volume = process(discover(folder)[0][0]).volume
    sigma = float(np.sqrt(4**2 - 1) / 2.355)
    ours = [seconds(lambda: resample(volume, 4.0)) for _ in range(rounds)]
    theirs = [
        seconds(lambda: affine_transform(gaussian_filter(volume.data, sigma), [4.0] * 3, 1.5, (44, 52, 44), order=1))
        for _ in range(rounds)
    ]
    ratio = show([b / a for a, b in zip(ours, theirs, strict=True)])
    print(f"1 mm to 4 mm: blocks {show(ours, ' s')}, Gaussian and interpolation {show(theirs, ' s')}, ratio {ratio}")


def scaling(source: Path, folder: Path, n: int) -> None:
    """Print what one process and two take for `n` volumes, in turn."""
    some = link(source, folder, n)
    one: list[tuple[float, ...]] = []
    two: list[tuple[float, ...]] = []
    for _ in range(3):
        one.append(prepared(some, 1)[:2])
        two.append(prepared(some, 2)[:2])
    for name, values in (("one process", one), ("two processes", two)):
        wall, cpu = map(list, zip(*values, strict=True))
        each = show(cpu, " ms", 1000 / n)
        print(f"prepare, {n} volumes, {name}: {show(wall, ' s')}; {each} of processor time a volume")
    print(f"  gain {show([a[0] / b[0] for a, b in zip(one, two, strict=True)])}, load {os.getloadavg()[0]:.1f}")


def import_time() -> None:
    """Time the import in a new interpreter."""
    imports = [
        seconds(lambda: subprocess.run([sys.executable, "-c", "import geovae.mri"], check=True)) for _ in range(7)
    ]
    bare = [seconds(lambda: subprocess.run([sys.executable, "-c", ""], check=True)) for _ in range(7)]
    print(f"import geovae.mri: {show(imports, ' s')} with the interpreter, which alone takes {show(bare, ' s')}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--volumes", type=int, default=416)
    parser.add_argument("--scaling", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_cohort(folder / "cohort", subjects=4, repeats=0)
        execution = Execution(workers=1, progress=False)
        prepare(folder / "cohort", folder / "warm", selection=Selection(table=None), execution=execution)
        if "one" in options.parts:
            one_volume(folder / "cohort", options.rounds)
        if "shrinking" in options.parts:
            shrinking(folder / "cohort", options.rounds)
        if "start" in options.parts:
            worker_start(folder)
        if "scaling" in options.parts:
            scaling(folder / "cohort", folder / "some", options.scaling)
        if "memory" in options.parts:
            took, cpu, peak, used = prepared(link(folder / "cohort", folder / "many", options.volumes), 1)
            said = f"{took:.0f} s, {1000 * cpu / used:.0f} ms of processor time a volume, peak memory"
            print(f"prepare, {used} volumes, one process: {said} {peak / 2**20:.0f} MiB")
    if "import" in options.parts:
        import_time()


if __name__ == "__main__":
    main()
