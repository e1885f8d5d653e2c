"""The outbox delivers everything once the receiver answers, in order, whatever happened in between."""

import errno
import json
import shutil
import subprocess
import sys
import threading
import time
import warnings

import pytest

from geovae.tracking.outbox import Outbox, deliver_all


class Receiver:
    """Collects records; refuses them while `away`."""

    def __init__(self, away=False):
        self.away = away
        self.got = []

    def __call__(self, records):
        if self.away:
            raise ConnectionError("nobody there")
        self.got.append(records[0])
        return 1


def test_records_arrive_in_order_and_the_folder_goes(tmp_path):
    receiver = Receiver()
    outbox = Outbox(tmp_path / "out", receiver, interval=0.01)
    for i in range(30):
        outbox.put({"i": i})
    assert outbox.close(10)
    assert [record["i"] for record in receiver.got] == list(range(30))
    assert not (tmp_path / "out").exists()


def test_put_does_not_wait_for_the_receiver(tmp_path):
    release = threading.Event()

    def slow(records):
        release.wait(10)
        return len(records)

    outbox = Outbox(tmp_path / "out", slow, batch=1, interval=0.0)
    started = time.perf_counter()
    for i in range(100):
        outbox.put({"i": i})
    assert time.perf_counter() - started < 5
    release.set()
    assert outbox.close(10)


def test_a_flush_hurries_and_does_not_wait_for_a_receiver_that_is_away(tmp_path):
    receiver = Receiver()
    outbox = Outbox(tmp_path / "out", receiver, interval=1000.0)
    for i in range(3):
        outbox.put({"i": i})
    assert outbox.flush(10)
    assert [record["i"] for record in receiver.got] == [0, 1, 2]
    receiver.away = True
    outbox.put({"i": 3})
    with pytest.warns(UserWarning, match="tracking is not reachable"):
        started = time.perf_counter()
        assert not outbox.flush(60)
    assert time.perf_counter() - started < 30
    receiver.away = False
    assert outbox.close(10)
    assert [record["i"] for record in receiver.got] == [0, 1, 2, 3]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_outage_is_ridden_out(tmp_path):
    receiver = Receiver(away=True)
    outbox = Outbox(tmp_path / "out", receiver, batch=1, interval=0.0)
    outbox.put({"i": 0})
    while not outbox.failures:
        time.sleep(0.01)
    outbox.put({"i": 1})
    receiver.away = False
    assert outbox.close(10)
    assert [record["i"] for record in receiver.got] == [0, 1]


def test_a_dead_receiver_is_named_once_and_nothing_is_lost(tmp_path):
    receiver = Receiver(away=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outbox = Outbox(tmp_path / "out", receiver, batch=1, interval=0.0, remedy=lambda folder: "Do this.")
        outbox.put({"i": 0})
        outbox.put({"i": 1})
        assert not outbox.close(0.5)
    messages = [str(w.message) for w in caught]
    assert sum("tracking is not reachable (nobody there); the run goes on" in m for m in messages) == 1
    assert any("2 tracking records are kept in" in m and "Do this." in m for m in messages)

    receiver.away = False
    assert deliver_all(tmp_path / "out", receiver) == 2
    assert [record["i"] for record in receiver.got] == [0, 1]
    assert not (tmp_path / "out").exists()


def test_delivery_goes_on_where_a_dead_process_stopped_even_in_half_a_line(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    lines = [json.dumps({"i": i}) + "\n" for i in range(5)]
    (folder / "records.jsonl").write_text("".join(lines) + '{"i": 5')
    (folder / "sent").write_text("3")
    receiver = Receiver()
    assert deliver_all(folder, receiver) == 2
    assert [record["i"] for record in receiver.got] == [3, 4]


def test_an_interrupted_delivery_repeats_nothing_that_arrived(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "records.jsonl").write_text("".join(json.dumps({"i": i}) + "\n" for i in range(4)))
    got = []

    def until_two(records):
        if len(got) == 2:
            raise ConnectionError("gone again")
        got.append(records[0]["i"])
        return 1

    with pytest.raises(ConnectionError, match="gone again"):
        deliver_all(folder, until_two)
    receiver = Receiver()
    assert deliver_all(folder, receiver) == 2
    assert got + [record["i"] for record in receiver.got] == [0, 1, 2, 3]


def test_a_folder_without_records_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no tracking records in .*: expected .*records.jsonl"):
        deliver_all(tmp_path, Receiver())


def test_two_never_deliver_the_same(tmp_path):
    entered, release = threading.Event(), threading.Event()
    got = []

    def slow(records):
        entered.set()
        release.wait(10)
        got.append(records[0]["i"])
        return 1

    outbox = Outbox(tmp_path / "out", slow, batch=1, interval=0.0)
    outbox.put({"i": 0})
    entered.wait(10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a record is kept
        assert not outbox.close(0.0)
    with pytest.raises(BlockingIOError, match="is alive, and delivers its records itself"):
        deliver_all(tmp_path / "out", Receiver())
    with pytest.warns(UserWarning, match="another process still reports from"):
        Outbox(tmp_path / "out", Receiver(), patience=0.0).close(10)
    release.set()
    outbox._thread.join()


def test_of_two_processes_with_one_folder_neither_loses_a_record(tmp_path):
    first = Outbox(tmp_path / "out", Receiver(), interval=0.01)
    away = Receiver(away=True)
    with pytest.warns(UserWarning, match="this one queues its records in"):
        second = Outbox(tmp_path / "out", away, patience=0.0, interval=1000.0)
    first.put({"i": 1})
    second.put({"i": 2})
    assert first.close(10)
    assert not (tmp_path / "out").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the receiver is away, and that a record is kept
        assert not second.close(0.1)
    receiver = Receiver()
    assert deliver_all(second.folder, receiver) == 1
    assert receiver.got == [{"i": 2}]
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_dead_process_is_nobodys(tmp_path):
    folder = tmp_path / "out"
    code = f"""
import os
from pathlib import Path
from geovae.tracking.outbox import Outbox
def never(records):
    raise ConnectionError
outbox = Outbox(Path({str(folder)!r}), never, batch=100)
outbox.put({{"i": 0}})
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    receiver = Receiver()
    assert deliver_all(folder, receiver) == 1
    assert receiver.got == [{"i": 0}]


def test_a_file_system_without_locks_is_done_without(tmp_path, monkeypatch):
    def none(*args):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", none)
    folder, receiver = tmp_path / "out", Receiver()
    outbox = Outbox(folder, receiver)
    outbox.put({"i": 0})
    assert outbox.close(10)
    assert not folder.exists()
    folder.mkdir()
    (folder / "records.jsonl").write_text('{"i": 1}\n')
    assert deliver_all(folder, receiver) == 1
    assert receiver.got == [{"i": 0}, {"i": 1}]


def test_who_ends_late_removes_nothing_of_who_came_after(tmp_path):
    folder = tmp_path / "out"
    late = Outbox(folder, Receiver())
    late.put({"i": 0})
    assert late.flush(10)
    shutil.rmtree(folder)  # a run that starts over
    receiver = Receiver()
    after = Outbox(folder, receiver, interval=1000.0)
    after.put({"i": 1})
    assert late.close(10)
    assert (folder / "records.jsonl").exists()
    assert after.files.is_dir()
    assert after.close(10)
    assert receiver.got == [{"i": 1}]
    assert not folder.exists()


def test_who_comes_after_waits_for_who_is_at_its_end(tmp_path):
    folder = tmp_path / "out"
    first, second = Receiver(), Receiver()
    late = Outbox(folder, first, interval=1000.0)
    late.put({"i": 0})
    ending = threading.Timer(1.0, late.close, [10])
    ending.start()
    after = Outbox(folder, second)
    ending.join()
    (after.files / "picture.png").write_bytes(b"")
    after.put({"i": 1})
    assert after.close(10)
    assert (first.got, second.got) == ([{"i": 0}], [{"i": 1}])


def test_a_run_goes_on_after_a_half_line(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "records.jsonl").write_text('{"i": 0}\n{"i": 1')
    receiver = Receiver()
    outbox = Outbox(folder, receiver)
    outbox.put({"i": 2})
    assert outbox.close(10)
    assert receiver.got == [{"i": 0}, {"i": 2}]


def test_a_full_disk_leaves_whole_lines_only(tmp_path):
    """A limit on the size of files stands for the disk; the write that passes it is cut in the middle."""
    code = f"""
import resource, signal
from pathlib import Path
from geovae.tracking.outbox import Outbox
def never(records):
    raise ConnectionError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
outbox = Outbox(Path({str(tmp_path / "out")!r}), never, batch=1000)
outbox.put({{"i": 0}})
resource.setrlimit(resource.RLIMIT_FSIZE, (20, resource.RLIM_INFINITY))
try:
    outbox.put({{"i": 1, "long": "x" * 100}})
except OSError:
    print("full")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
outbox.put({{"i": 2}})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "full\n"
    assert (tmp_path / "out" / "records.jsonl").read_text() == '{"i": 0}\n{"i": 2}\n'
