"""Pack what `gpu.sh` needs on a machine without a network: wheels for its Python, and the idx files, below 60 MB.

    python benchmarks/gpu_pack.py gpu_pack FOLDER... [--python 3.12]

FOLDER is `NAME=PATH`, a data set and where its four idx files are, compressed or not. Missing folders are left out.
"""

import argparse
import gzip
import subprocess
import sys
from pathlib import Path

WHEELS = ["pytest", "pluggy", "iniconfig", "packaging", "pygments", "pytest-timeout", "pytest-xdist", "execnet"]
WHEELS += ["hypothesis", "sortedcontainers"]
WHEELS += ["safetensors", "scikit-learn", "joblib", "threadpoolctl", "narwhals"]
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
LIMIT = 60_000_000


def pack_wheels(folder: Path, python: str) -> None:
    """Download the newest wheel of each package for 64-bit Linux."""
    platforms = [f"--platform=manylinux{name}_x86_64" for name in ("_2_28", "_2_27", "_2_24", "_2_17", "2014", "1")]
    for name in WHEELS:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "-d",
            str(folder),
        ]
        subprocess.run([*command, f"--python-version={python}", "--implementation=cp", *platforms, name], check=True)


def pack_data(target: Path, source: Path) -> None:
    """Copy the idx files, compressed."""
    target.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        packed, plain = source / f"{name}.gz", source / name
        if packed.exists():
            (target / packed.name).write_bytes(packed.read_bytes())
        elif plain.exists():
            (target / packed.name).write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
        else:
            print(f"{plain} is missing and left out")


def main() -> None:
    """Pack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("data", nargs="*")
    parser.add_argument("--python", default="3.12")
    options = parser.parse_args()
    (options.folder / "wheels").mkdir(parents=True, exist_ok=True)
    pack_wheels(options.folder / "wheels", options.python)
    for entry in options.data:
        name, _, path = entry.partition("=")
        pack_data(options.folder / name, Path(path))
    size = sum(path.stat().st_size for path in options.folder.rglob("*") if path.is_file())
    print(f"{options.folder}: {size / 1e6:.1f} MB")
    if size > LIMIT:
        sys.exit(f"more than {LIMIT / 1e6:.0f} MB: leave something out")


if __name__ == "__main__":
    main()
