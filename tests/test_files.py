"""Atomic writes: the old file or the new one, whatever happens on the way."""

import os
import threading

import numpy as np
import pytest

from geovae import files
from geovae.files import atomic_folder, atomic_path, lock_file, unlock_file


def test_the_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.name.startswith(".")
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_keeps_the_old_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def interrupted() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["scan.nii.gz", "codes.npz", "no_suffix", ".hidden.json"])
def test_the_temporary_name_ends_as_the_path_does(tmp_path, name):
    with atomic_path(tmp_path / name) as temporary:
        assert "".join(temporary.suffixes).endswith(name.partition(".")[1] + name.lstrip(".").partition(".")[2])
        np.savez(temporary.open("wb"), x=np.ones(2))
    assert (tmp_path / name).exists()


def test_two_threads_may_write_the_same_file(tmp_path):
    path, barrier = tmp_path / "file", threading.Barrier(2)

    def write(text: str) -> None:
        with atomic_path(path) as temporary:
            temporary.write_text(text)
            barrier.wait(10)

    threads = [threading.Thread(target=write, args=(text * 1000,)) for text in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in ("a" * 1000, "b" * 1000)
    assert list(tmp_path.iterdir()) == [path]


def test_a_locked_file_is_refused_until_it_is_unlocked(tmp_path):
    with (tmp_path / "lock").open("a") as first, (tmp_path / "lock").open("a") as second:
        lock_file(first)
        with pytest.raises(BlockingIOError):
            lock_file(second)
        unlock_file(first)
        lock_file(second)


def test_a_system_without_locks_works_without(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    with (tmp_path / "lock").open("a") as first, (tmp_path / "lock").open("a") as second:
        lock_file(first)
        lock_file(second)
        unlock_file(first)


@pytest.mark.parametrize("write", [atomic_path, atomic_folder])
def test_the_next_writer_removes_what_a_killed_one_left_and_spares_the_living(tmp_path, write, monkeypatch):
    path = tmp_path / "a.b"
    with write(path) as alive:
        pid = os.fork()
        if pid == 0:
            with write(path):
                os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
        (dead,) = set(tmp_path.iterdir()) - {alive}
        with monkeypatch.context() as patch:  # on a shared folder, locks of other machines may not be seen
            patch.setattr(files, "_HOST", "elsewhere")
            with write(path):
                assert dead.exists()
            if write is atomic_folder:
                path.rmdir()
        with write(path):
            assert not dead.exists()
            assert alive.exists()
        if write is atomic_folder:
            path.rmdir()
    assert list(tmp_path.iterdir()) == [path]
