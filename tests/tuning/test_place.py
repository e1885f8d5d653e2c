"""Files of runs in a folder that all nodes see, and in an object store (here: a folder reached as one)."""

import pytest

from tuning.place import Place


@pytest.fixture(params=["folder", "store"])
def place(request, tmp_path):
    return Place(str(tmp_path / "root") if request.param == "folder" else f"file://{tmp_path}/root")


def test_a_file_of_another_folder_is_kept_and_fetched(place, tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    assert not place.has("run/model.safetensors")
    assert not place.fetch("run/model.safetensors", tmp_path / "back")
    place.keep("run", file)
    assert place.has("run/model.safetensors")
    assert place.fetch("run/model.safetensors", tmp_path / "deep" / "back")
    assert (tmp_path / "deep" / "back").read_bytes() == b"weights"
    assert [path.name for path in (tmp_path / "root" / "run").iterdir()] == ["model.safetensors"]


def test_a_file_that_does_not_exist_is_not_kept(place, tmp_path):
    place.keep("run", tmp_path / "nothing")
    assert not (tmp_path / "root").exists()


def test_a_run_begins_with_nothing_and_goes_on_with_its_checkpoint(place):
    folder, begun = place.folder("run")
    assert not begun
    folder.mkdir(parents=True)
    for name in ("config.yaml", "checkpoint.safetensors"):
        (folder / name).write_text(name)
        place.keep("run", folder / name)
    again, begun = place.folder("run")
    assert begun
    assert (again / "checkpoint.safetensors").read_text() == "checkpoint.safetensors"


def test_storage_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "blocked").write_text("a file")
    with pytest.raises(PermissionError, match="cannot write to the storage .*blocked"):
        Place(str(tmp_path / "blocked")).check()
    with pytest.raises(PermissionError, match="cannot write to the storage nowhere://bucket"):
        Place("nowhere://bucket").check()
