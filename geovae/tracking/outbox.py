"""A queue on disk: records are appended to a file, and a background thread delivers them and retries.

MLflow's own asynchronous logging does not do: its queue lives in memory only, and its thread ends with the first
MlflowException, so that a process or server that dies loses records. Here `put` returns at once, records stay on disk
until they arrived, and `deliver_all` delivers later what a dead process left. A record may be delivered twice, never
skipped. One process delivers at a time: it holds a file lock, which the system releases when the process dies.
"""

import contextlib
import json
import os
import secrets
import shutil
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from geovae.files import atomic_path, lock_file, unlock_file

Record = dict[str, Any]
Deliver = Callable[[list[Record]], int]
"""Delivers the first of the waiting records, at least one, and returns how many; raises if the receiver is away."""

LONGEST_RETRY = 30.0  # seconds between two attempts, at most
UNREADABLE = "unreadable"  # the kind of a record whose line is damaged; it holds the `line`


_locks: "weakref.WeakSet[IO[str]]" = weakref.WeakSet()
_claims: dict[Path, IO[str]] = {}  # by folder, of outboxes that this process has not opened yet
if hasattr(os, "register_at_fork"):  # a forked worker that outlives its killed parent must not keep the lock
    os.register_at_fork(after_in_child=lambda: [lock.close() for lock in _locks])


class UndeliveredWarning(UserWarning):
    """Records of a run are not in the tracking store; the message says where they are kept."""


class Outbox:
    """A queue on disk with one delivering thread.

    `folder` holds `records.jsonl`, `sent` (the number of delivered records), `lock` and `files/`; it is removed once
    everything has arrived. `deliver` is called as soon as `batch` records wait, or `interval` seconds after the first.
    `remedy` returns the sentence that explains to the user how to deliver what is left in a folder. Another process
    that still delivers from this folder is waited for, for `patience` seconds; then this one queues in a folder of its
    own beside it, with a warning: two that share one would count each other's records as sent, and remove them.
    """

    def __init__(
        self,
        folder: Path,
        deliver: Deliver,
        *,
        batch: int = 50,
        interval: float = 5.0,
        remedy: Callable[[Path], str] = lambda folder: "",
        patience: float = 10.0,
    ) -> None:
        # this process may have claimed it before the run was opened
        self._lock = _claims.pop(folder.absolute(), None) or _create_and_lock(folder / "files", patience)
        if self._lock is None:
            taken, folder = folder, folder.with_name(f"{folder.name}-{secrets.token_hex(4)}")
            self._lock = _create_and_lock(folder / "files", patience)
            warnings.warn(f"another process still reports from {taken}: this one queues its records in {folder}")
        self.folder, self.files = folder, folder / "files"
        self.failures = 0
        self._deliver = deliver
        self._batch, self._interval, self._remedy = batch, interval, remedy
        self._sent, self._waiting = _read(folder)
        self._changed = threading.Condition()
        self._closing = self._abandoned = self._flushing = False
        self._log = _open_log(folder / "records.jsonl")
        self._thread = threading.Thread(target=self._run, name=f"outbox {folder}", daemon=True)
        self._thread.start()

    def put(self, record: Record) -> None:
        """Append a record that JSON can hold; returns at once."""
        with self._changed:
            _append(self._log, json.dumps(record).encode() + b"\n")
            self._waiting.append(record)
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Deliver what waits, for at most `timeout` seconds; return whether everything arrived.

        Returns at once if the last attempt failed.
        """
        with self._changed:
            self._flushing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._waiting or self.failures > 0, timeout)
            self._flushing = False
            return not self._waiting

    def close(self, timeout: float) -> bool:
        """Deliver what waits, for at most `timeout` seconds, and stop; return whether everything arrived."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)
        with self._changed:
            self._log.close()
            left = len(self._waiting)
            self._abandoned = left > 0
            self._changed.notify_all()
        if left:
            self._thread.join(1.0)  # wakes from its pause and releases the lock, so that `deliver_all` can start
            warnings.warn(
                f"{left} tracking records are kept in {self.folder}. {self._remedy(self.folder)}", UndeliveredWarning
            )
            return False
        self._thread.join()
        if self._lock is not None and not self._lock.closed:
            if _is_current(self._lock, self.folder):  # otherwise the folder is another process's by now
                _remove(self.folder)
            _unlock(self._lock)
        return True

    def _run(self) -> None:
        """Deliver until closed; release the lock if records are left, so that another process can deliver them."""
        try:
            while self._wait_for_work():
                self._deliver_once()
        finally:
            if self._waiting:
                _unlock(self._lock)

    def _wait_for_work(self) -> bool:
        """Return True when a batch is due, False when closing with nothing left or abandoned."""
        with self._changed:
            while not self._closing and not self._waiting:
                self._changed.wait()
            due = time.monotonic() + self._interval
            while not (self._closing or self._flushing) and len(self._waiting) < self._batch:
                if not self._changed.wait(due - time.monotonic()):
                    break
            return bool(self._waiting) and not self._abandoned

    def _deliver_once(self) -> None:
        with self._changed:
            waiting = list(self._waiting)
        try:
            delivered = self._deliver(waiting)  # without holding the condition: `put` must not wait for the receiver
        except Exception as error:  # whatever the receiver raises must not end the run that is recorded
            self._pause_after(error)
            return
        self.failures = 0
        if self._abandoned:  # without a file lock, another process may deliver by now: leave its counter alone
            return
        # before the records are forgotten, and outside of the condition
        _write_sent(self.folder, self._sent + delivered)
        with self._changed:
            del self._waiting[:delivered]
            self._sent += delivered
            self._changed.notify_all()

    def _pause_after(self, error: Exception) -> None:
        """Warn after the first failure, and wait before the next attempt: 2, 4, 8, ... seconds."""
        if self._abandoned:
            return
        with self._changed:
            self.failures += 1
            self._changed.notify_all()
        if self.failures == 1:
            warnings.warn(
                f"tracking is not reachable ({_short(error)}); the run goes on, its records are kept in "
                f"{self.folder} and sent when it comes back"
            )
        with self._changed:  # `close` has a deadline of its own: retry every second until then
            self._changed.wait(1.0 if self._closing else min(LONGEST_RETRY, 2.0**self.failures))


def claim(folder: Path) -> None:
    """Take an outbox before there is anything to record: if this process dies, others see that it did."""
    if lock := _create_and_lock(folder / "files", 0.0):
        _claims[folder.absolute()] = lock
        (folder / "records.jsonl").touch()


def release(folder: Path) -> bool:
    """Remove an outbox that was claimed and never opened; return whether there was one."""
    lock = _claims.pop(folder.absolute(), None)
    if lock is not None:
        _remove(folder)
    _unlock(lock)
    return lock is not None


def deliver_all(folder: Path, deliver: Deliver, closing: Sequence[Record] = ()) -> int:
    """Deliver, now and in this thread, what an outbox left behind; return how many records that were.

    `closing` are records that its process would have added at its end: they are, unless it did so itself.

    Raises:
        FileNotFoundError: if `folder` holds no outbox.
        BlockingIOError: if a living process delivers from it.
        Exception: whatever `deliver` raises; what arrived before is not delivered again.
    """
    missing = FileNotFoundError(f"no tracking records in {folder}: expected {folder / 'records.jsonl'}")
    if not (folder / "records.jsonl").is_file():
        raise missing
    try:
        lock = _try_lock(folder)
    except FileNotFoundError:
        raise missing from None
    if lock is None:
        raise BlockingIOError(f"the run that writes to {folder} is alive, and delivers its records itself")
    try:
        if not (folder / "records.jsonl").is_file():  # the run delivered the rest before the lock was free
            raise missing
        sent, waiting = _read(folder)
        count = len(waiting)
        waiting += _close_log(folder / "records.jsonl", closing)  # on disk first: this process may be killed, too
        while waiting:
            delivered = deliver(waiting)
            del waiting[:delivered]
            sent += delivered
            _write_sent(folder, sent)
        _remove(folder)
    finally:
        _unlock(lock)
    return count


def remove_empty(folder: Path) -> None:
    """Remove an outbox without records, whose process was killed at its beginning, or at its end."""
    lock = _try_lock(folder)
    if lock is not None and not _read(folder)[1]:
        _remove(folder)
    _unlock(lock)


def wait_until_unlocked(folder: Path, patience: float = 10.0) -> None:
    """Wait until no process delivers from the outbox `folder`, for at most `patience` seconds."""
    if folder.is_dir():
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile: everything has arrived
            _unlock(_try_lock(folder, patience))


def is_alive(folder: Path) -> bool | None:
    """Return whether the process that writes to an outbox lives; None where the file system cannot tell."""
    try:
        with (folder / "lock").open("r+") as lock:  # makes no new one, in a folder that is on its way out
            return False if lock_file(lock) else None
    except BlockingIOError:
        return True
    except OSError:
        return None


def _create_and_lock(files: Path, patience: float) -> IO[str] | None:
    """Create the folders of an outbox and return its lock, or None if another process keeps it."""
    while True:  # the process that had the outbox before may remove the folder between the two steps
        files.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            lock = _try_lock(files.parent, patience)
            if lock is not None:
                files.mkdir(exist_ok=True)  # it may have been on its way out while this process waited
            return lock


def _try_lock(folder: Path, patience: float = 0.0) -> IO[str] | None:
    """Return the lock of an outbox, or None if another process holds it for longer than `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        lock = (folder / "lock").open("a")
        try:
            lock_file(lock)
        except BlockingIOError:
            lock.close()
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.05)
        else:
            if _is_current(lock, folder):
                _locks.add(lock)
                return lock
            lock.close()  # its last holder has removed the outbox, and this file with it


def _is_current(lock: IO[str], folder: Path) -> bool:
    """Return whether an open lock is still the lock file of the folder, and not one that was removed."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), (folder / "lock").stat())
    except FileNotFoundError:
        return False


def _unlock(lock: IO[str] | None) -> None:
    if lock is not None:
        unlock_file(lock)
        lock.close()


def _remove(folder: Path) -> None:
    """Remove an outbox, `records.jsonl` first: a reader must never see records without the `sent` counter.

    The lock goes last: whoever locks a new one has the folder, and its files must not be removed under it.
    """
    (folder / "records.jsonl").unlink(missing_ok=True)
    shutil.rmtree(folder / "files", ignore_errors=True)
    with contextlib.suppress(OSError):  # what cannot be removed does no harm; a folder with a new lock is in use
        for file in folder.iterdir():
            if file.name != "lock":
                file.unlink(missing_ok=True)
        (folder / "lock").unlink(missing_ok=True)
        folder.rmdir()


def _read(folder: Path) -> tuple[int, list[Record]]:
    """Return how many records were delivered, and the records that wait."""
    sent_file, log = folder / "sent", folder / "records.jsonl"
    text = sent_file.read_text().strip() if sent_file.exists() else ""
    sent = int(text) if text.isdecimal() else 0  # what is sent twice does no harm
    lines = log.read_bytes().split(b"\n") if log.exists() else [b""]
    return sent, [_parse(line) for line in lines[sent:-1]]  # a kill can leave half a line at the end


def _parse(line: bytes) -> Record:
    """Return a line's record; one that is damaged must not hold up those behind it, and is handed on as it is."""
    with contextlib.suppress(ValueError):
        record = json.loads(line)
        if isinstance(record, dict):
            return record
    return {"kind": UNREADABLE, "line": line.decode(errors="replace")}


def _open_log(path: Path) -> IO[bytes]:
    """Open a file of records to append to, without the half line that a kill or a full disk left at its end."""
    log = path.open("a+b", buffering=0)  # unbuffered: nothing of a failed write may appear later
    log.seek(0)
    log.truncate(log.read().rfind(b"\n") + 1)
    return log


def _close_log(path: Path, closing: Sequence[Record]) -> Sequence[Record]:
    """Append the closing records, unless the file ends with one of the same kind as theirs; return the new ones."""
    if not closing:
        return ()
    with _open_log(path) as log:
        log.seek(0)
        last = _parse(log.read().rstrip(b"\n").rpartition(b"\n")[2])
        if last.get("kind") == closing[-1]["kind"]:
            return ()
        _append(log, b"".join(json.dumps(record).encode() + b"\n" for record in closing))
    return closing


def _append(log: IO[bytes], line: bytes) -> None:
    """Append a whole line, or nothing."""
    end = log.seek(0, os.SEEK_END)
    try:
        while line:
            line = line[log.write(line) :]
    except OSError:  # no space left
        log.truncate(end)
        raise


def _write_sent(folder: Path, sent: int) -> None:
    with atomic_path(folder / "sent") as temporary:
        temporary.write_text(str(sent))


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
