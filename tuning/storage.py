"""Files of the runs of a sweep: in a folder that all nodes see, or in an object store with local copies.

In a folder, another node finds the checkpoints and undelivered records of a dead worker, and resumes from them. In an
object store (`s3://bucket/path`, any pyarrow file system) a run downloads its checkpoint at its start and uploads it
after each epoch, once the records of that epoch have arrived in MLflow; the checkpoint holds the history of all epochs.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.run import CHECKPOINT
from geovae.tracking.outbox import wait_until_unlocked

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

CONFIG = "config.yaml"  # the first file that a run writes


class Storage:
    """The files below `root`, an absolute path or a URI."""

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")
        self.remote = "://" in root

    def run_folder(self, name: str) -> tuple[Path, bool]:
        """Return the local folder of a run, and whether the run has been started before, here or elsewhere."""
        if not self.remote:
            folder = Path(self.root) / name
            return folder, (folder / CONFIG).exists()
        folder = _private_folder() / self.root.replace("/", "_") / name
        wait_until_unlocked(folder / "outbox")  # a dying process of an earlier attempt may still deliver records
        if folder.exists():
            shutil.rmtree(folder)  # left by an earlier attempt; the copy in the object store is newer
        started = self.download(f"{name}/{CONFIG}", folder / CONFIG)
        self.download(f"{name}/{CHECKPOINT}", folder / CHECKPOINT)
        return folder, started

    def upload(self, name: str, file: Path) -> None:
        """Copy a file into the run folder `name` of the storage; a file that does not exist or is there is skipped."""
        if file.exists() and (self.remote or file.parent != Path(self.root) / name):
            system, root = self._system()
            system.create_dir(f"{root}/{name}", recursive=True)
            part = f"{root}/{name}/.{file.name}.part"
            with file.open("rb") as source, system.open_output_stream(part) as target:
                shutil.copyfileobj(source, target)
            system.move(part, f"{root}/{name}/{file.name}")  # atomic: a reader never sees half a checkpoint

    def exists(self, name: str) -> bool:
        """Return whether the storage has the file."""
        from pyarrow.fs import FileType

        system, root = self._system()
        return bool(system.get_file_info(f"{root}/{name}").type == FileType.File)

    def download(self, name: str, to: Path) -> bool:
        """Copy a file to this node; return whether the storage has it."""
        if not self.exists(name):
            return False
        system, root = self._system()
        to.parent.mkdir(parents=True, exist_ok=True)
        with system.open_input_stream(f"{root}/{name}") as source, to.open("wb") as target:
            shutil.copyfileobj(source, target)
        return True

    def check_writable(self) -> None:
        """Write and delete a small file.

        Raises:
            PermissionError: with the reason, if that fails.
        """
        try:
            system, root = self._system()
            system.create_dir(root, recursive=True)
            with system.open_output_stream(f"{root}/.writable") as file:
                file.write(b"geovae")
            system.delete_file(f"{root}/.writable")
        except (OSError, ValueError, ImportError) as error:
            raise PermissionError(f"cannot write to the storage {self.root}: {' '.join(str(error).split())}") from error

    def _system(self) -> "tuple[FileSystem, str]":
        from pyarrow.fs import FileSystem, LocalFileSystem

        if not self.remote:
            return LocalFileSystem(), self.root
        system, path = FileSystem.from_uri(self.root)
        return system, str(path)


def _private_folder() -> Path:
    """Return this user's folder of temporary files, which nobody else may enter."""
    folder = Path(tempfile.gettempdir()) / f"geovae-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else; remove it, or set TMPDIR to a folder of your own")
    folder.chmod(0o700)  # it may be older than this rule
    return folder
