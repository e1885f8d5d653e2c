"""Files of runs in a shared folder and in an object store (here a folder behind a file:// URI)."""

import os
import shutil
import tempfile

import pytest

from tuning.storage import Storage


@pytest.fixture(params=["folder", "store"])
def storage(request, tmp_path):
    return Storage(str(tmp_path / "root") if request.param == "folder" else f"file://{tmp_path}/root")


def test_a_file_of_another_folder_is_kept_and_fetched(storage, tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    assert not storage.exists("run/model.safetensors")
    assert not storage.download("run/model.safetensors", tmp_path / "back")
    storage.upload("run", file)
    assert storage.exists("run/model.safetensors")
    assert storage.download("run/model.safetensors", tmp_path / "deep" / "back")
    assert (tmp_path / "deep" / "back").read_bytes() == b"weights"
    assert [path.name for path in (tmp_path / "root" / "run").iterdir()] == ["model.safetensors"]


def test_a_file_that_does_not_exist_is_not_kept(storage, tmp_path):
    storage.upload("run", tmp_path / "nothing")
    assert not (tmp_path / "root").exists()


def test_a_run_begins_with_nothing_and_goes_on_with_its_checkpoint(storage):
    folder, begun = storage.run_folder("run")
    assert not begun
    folder.mkdir(parents=True)
    for name in ("config.yaml", "checkpoint.safetensors"):
        (folder / name).write_text(name)
        storage.upload("run", folder / name)
    again, begun = storage.run_folder("run")
    assert begun
    assert (again / "checkpoint.safetensors").read_text() == "checkpoint.safetensors"


def test_storage_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "blocked").write_text("a file")
    with pytest.raises(PermissionError, match="cannot write to the storage .*blocked"):
        Storage(str(tmp_path / "blocked")).check_writable()
    with pytest.raises(PermissionError, match="cannot write to the storage nowhere://bucket"):
        Storage("nowhere://bucket").check_writable()


def test_local_copies_are_private(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mine = tmp_path / f"geovae-{os.getuid()}"
    mine.mkdir(mode=0o777)
    Storage(f"file://{tmp_path}/root").run_folder("run")
    assert mine.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(mine)
    mine.symlink_to(tmp_path)  # as somebody else may prepare it in a folder that all may write
    with pytest.raises(PermissionError, match="belongs to somebody else"):
        Storage(f"file://{tmp_path}/root").run_folder("run")
