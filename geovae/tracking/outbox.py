"""A durable queue: records are appended to a file first, then delivered by one background thread.

The sender never waits for the receiver. While the receiver is away the records stay on disk; `deliver_all`
delivers later what a dead process has left. Delivery of a record may be repeated, never skipped, and one process
delivers at a time: it holds a lock in the folder, which the system takes from a process that dies.
"""

import contextlib
import fcntl
import json
import os
import shutil
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

Record = dict[str, Any]
Deliver = Callable[[list[Record]], int]


class Outbox:
    """Records on their way to a receiver.

    Args:
        folder: holds `records.jsonl`, `sent` (how many of them arrived), `lock` and `files/`; removed once all arrived.
        deliver: takes the waiting records and returns how many of the first ones it delivered (at least one);
            raises when the receiver cannot be reached.
        batch: deliver as soon as this many records wait,
        interval: or this many seconds after the first of them.
        remedy: the sentence that tells the user how to deliver what could not be.
        patience: seconds to wait for another process that still delivers from this folder, before a warning.
    """

    def __init__(
        self,
        folder: Path,
        deliver: Deliver,
        *,
        batch: int = 50,
        interval: float = 5.0,
        remedy: str = "",
        patience: float = 10.0,
    ) -> None:
        self.folder = folder
        self.files = folder / "files"
        self._lock = _lock_new(self.files, patience)
        if self._lock is None:
            warnings.warn(f"another process still reports from {folder}: what both say may arrive twice")
        self.failures = 0
        self._deliver = deliver
        self._batch, self._interval, self._remedy = batch, interval, remedy
        self._sent, self._waiting = _read(folder)
        self._changed = threading.Condition()
        self._closing = self._gave_up = self._hurry = False
        self._log = (folder / "records.jsonl").open("a")
        self._thread = threading.Thread(target=self._work, name=f"outbox {folder}", daemon=True)
        self._thread.start()

    def put(self, record: Record) -> None:
        """Append a JSON-able record; returns at once."""
        with self._changed:
            self._log.write(json.dumps(record) + "\n")
            self._log.flush()
            self._waiting.append(record)
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Deliver what waits now, for at most `timeout` seconds; return whether everything arrived.

        A receiver that is known to be away is not waited for.
        """
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._waiting or self.failures > 0, timeout)
            self._hurry = False
            return not self._waiting

    def close(self, timeout: float) -> bool:
        """Deliver what waits, for at most `timeout` seconds; return whether everything arrived."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)
        with self._changed:
            self._log.close()
            left = len(self._waiting)
            self._gave_up = left > 0  # what is delivered later is delivered by `deliver_all`, once
            self._changed.notify_all()
        if left:
            self._thread.join(1.0)  # it need not wait any more: from here on another process may deliver
            warnings.warn(f"{left} tracking records are kept in {self.folder}. {self._remedy}")
            return False
        self._thread.join()
        if self._lock is not None and not self._lock.closed:
            if _is_at(self._lock, self.folder):  # else the folder is another process's by now
                _remove(self.folder)
            _unlock(self._lock)
        return True

    def _work(self) -> None:
        try:
            self._deliver_as_it_comes()
        finally:
            if self._waiting:
                _unlock(self._lock)

    def _deliver_as_it_comes(self) -> None:
        while self._wait_for_work():
            with self._changed:
                waiting = list(self._waiting)
            try:
                delivered = self._deliver(waiting)
            except Exception as error:  # whatever the receiver throws must not end the run that is recorded
                self._failed(error)
                continue
            self.failures = 0
            with self._changed:
                if self._gave_up:
                    return
                del self._waiting[:delivered]
                self._sent += delivered
                _write_sent(self.folder, self._sent)
                self._changed.notify_all()

    def _wait_for_work(self) -> bool:
        """Return True when there is something to deliver now, False when closing with nothing left."""
        with self._changed:
            while not self._closing and not self._waiting:
                self._changed.wait()
            due = time.monotonic() + self._interval
            while not (self._closing or self._hurry) and len(self._waiting) < self._batch:
                if not self._changed.wait(due - time.monotonic()):
                    break
            return bool(self._waiting) and not self._gave_up

    def _failed(self, error: Exception) -> None:
        if self._gave_up:
            return
        with self._changed:
            self.failures += 1
            self._changed.notify_all()
        if self.failures == 1:
            warnings.warn(
                f"tracking is not reachable ({_short(error)}); the run goes on, its records are kept in "
                f"{self.folder} and sent when it comes back"
            )
        with self._changed:  # when closing, keep trying until `close` loses its patience
            self._changed.wait(1.0 if self._closing else min(30.0, 2.0**self.failures))


def deliver_all(folder: Path, deliver: Deliver) -> int:
    """Deliver, now and in this thread, what an outbox left behind; return how many records that were.

    Raises:
        FileNotFoundError: if `folder` holds no outbox.
        BlockingIOError: if a process that lives delivers it.
        Exception: whatever `deliver` raises; what was delivered before stays marked as such.
    """
    missing = FileNotFoundError(f"no tracking records in {folder}: expected {folder / 'records.jsonl'}")
    if not (folder / "records.jsonl").is_file():
        raise missing
    try:
        lock = _lock(folder)
    except FileNotFoundError:
        raise missing from None
    if lock is None:
        raise BlockingIOError(f"the run that writes to {folder} is alive, and delivers its records itself")
    try:
        if not (folder / "records.jsonl").is_file():  # the run has just got rid of all
            raise missing
        sent, waiting = _read(folder)
        count = len(waiting)
        while waiting:
            delivered = deliver(waiting)
            del waiting[:delivered]
            sent += delivered
            _write_sent(folder, sent)
        _remove(folder)
    finally:
        _unlock(lock)
    return count


def wait_for_the_last(folder: Path, patience: float = 10.0) -> None:
    """Wait until no process delivers from the outbox `folder`, for at most `patience` seconds."""
    if folder.is_dir():
        with contextlib.suppress(FileNotFoundError):  # it has delivered all
            _unlock(_lock(folder, patience))


def _lock_new(files: Path, patience: float) -> IO[str] | None:
    """Make the folders of an outbox and return its lock, or None; another process may remove them meanwhile."""
    while True:
        files.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            return _lock(files.parent, patience)


def _lock(folder: Path, patience: float = 0.0) -> IO[str] | None:
    """Return the lock of an outbox, or None if another process has it for longer than `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        lock = (folder / "lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.05)
        except OSError:  # a file system without locks: nobody can be waited for
            return lock
        else:
            if _is_at(lock, folder):
                return lock
            lock.close()  # who had it has removed the outbox


def _is_at(lock: IO[str], folder: Path) -> bool:
    """Return whether a lock is still that of the folder, and not of one that was removed."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), (folder / "lock").stat())
    except FileNotFoundError:
        return False


def _unlock(lock: IO[str] | None) -> None:
    if lock is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_UN)  # by name, since a forked child holds it, too
        lock.close()


def _remove(folder: Path) -> None:
    """Remove an outbox, first what makes it one: nobody shall find records without how many of them arrived."""
    (folder / "records.jsonl").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _read(folder: Path) -> tuple[int, list[Record]]:
    sent_file, log = folder / "sent", folder / "records.jsonl"
    sent = int(sent_file.read_text()) if sent_file.exists() else 0
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    complete = [line for line in lines if line.endswith("\n")]  # a kill can leave half a line at the end
    return sent, [json.loads(line) for line in complete[sent:]]


def _write_sent(folder: Path, sent: int) -> None:
    temporary = folder / ".sent"
    temporary.write_text(str(sent))
    temporary.replace(folder / "sent")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
