"""Where the runs of a sweep keep their files: a folder that all nodes see, or an object store with local copies.

In a folder, checkpoints and unsent records lie there at once, and another node goes on from them. From an object
store (`s3://bucket/path`, any pyarrow file system) a run fetches its checkpoint at the start and sends it after each
epoch, once what it had to tell of that epoch has arrived; numbers are told again from the checkpoint's history.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from experiments.run import CHECKPOINT
from geovae.tracking.outbox import wait_until_unlocked

STARTED = "config.yaml"  # every run writes it first


class Place:
    """The files of a sweep below `root`, an absolute path or a URI."""

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")
        self.remote = "://" in root

    def folder(self, name: str) -> tuple[Path, bool]:
        """Return the folder of a run on this node, and whether the run was begun before, here or elsewhere."""
        if not self.remote:
            folder = Path(self.root) / name
            return folder, (folder / STARTED).exists()
        folder = Path(tempfile.gettempdir()) / f"geovae-{os.getuid()}" / self.root.replace("/", "_") / name
        wait_until_unlocked(folder / "outbox")  # an earlier attempt on this node may be at its end
        if folder.exists():
            shutil.rmtree(folder)  # of an earlier attempt on this node; the store's copy is the later one
        begun = self.fetch(f"{name}/{STARTED}", folder / STARTED)
        self.fetch(f"{name}/{CHECKPOINT}", folder / CHECKPOINT)
        return folder, begun

    def keep(self, name: str, file: Path) -> None:
        """Put a file of a run where other nodes find it, if it does not lie there already."""
        if file.exists() and (self.remote or file.parent != Path(self.root) / name):
            system, root = self._system()
            system.create_dir(f"{root}/{name}", recursive=True)
            part = f"{root}/{name}/.{file.name}.part"
            with file.open("rb") as source, system.open_output_stream(part) as target:
                shutil.copyfileobj(source, target)
            system.move(part, f"{root}/{name}/{file.name}")

    def has(self, name: str) -> bool:
        """Return whether there is a file."""
        from pyarrow.fs import FileType

        system, root = self._system()
        return bool(system.get_file_info(f"{root}/{name}").type == FileType.File)

    def fetch(self, name: str, to: Path) -> bool:
        """Copy a file to this node; return whether there was one."""
        if not self.has(name):
            return False
        system, root = self._system()
        to.parent.mkdir(parents=True, exist_ok=True)
        with system.open_input_stream(f"{root}/{name}") as source, to.open("wb") as target:
            shutil.copyfileobj(source, target)
        return True

    def check(self) -> None:
        """Write and remove a file.

        Raises:
            PermissionError: if that does not work, with the reason.
        """
        try:
            system, root = self._system()
            system.create_dir(root, recursive=True)
            with system.open_output_stream(f"{root}/.writable") as file:
                file.write(b"geovae")
            system.delete_file(f"{root}/.writable")
        except (OSError, ValueError, ImportError) as error:
            raise PermissionError(f"cannot write to the storage {self.root}: {' '.join(str(error).split())}") from error

    def _system(self) -> tuple[Any, str]:
        from pyarrow.fs import FileSystem, LocalFileSystem

        if not self.remote:
            return LocalFileSystem(), self.root
        system, path = FileSystem.from_uri(self.root)
        return system, path
