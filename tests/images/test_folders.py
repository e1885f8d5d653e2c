"""The walker: links, hidden parts, suffixes; what is left out is counted and named."""

from pathlib import Path

import pytest

from geovae.images import walk_files


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(folder, paths):
    return [str(path.relative_to(folder)) for path in paths]


def test_files_come_in_the_order_of_their_paths_whatever_the_case_of_the_suffix(tmp_path):
    touch(*(tmp_path / name for name in ("b.PNG", "a/z.png", "a.png", "a/b/c.Png", "a-b/x.jpg")))
    found = walk_files(tmp_path, (".png", ".jpg"))
    assert found.files == sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert names(tmp_path, found.files) == ["a/b/c.Png", "a/z.png", "a-b/x.jpg", "a.png", "b.PNG"]
    assert found.left_out == {}


def test_double_suffixes_and_all_files(tmp_path):
    touch(tmp_path / "a.nii.gz", tmp_path / "b.gz", tmp_path / "c.NII")
    assert names(tmp_path, walk_files(tmp_path, (".nii", ".nii.gz")).files) == ["a.nii.gz", "c.NII"]
    assert len(walk_files(tmp_path, ("",)).files) == 3


def test_hidden_parts_are_no_data_and_are_named(tmp_path):
    touch(tmp_path / "cat/0.png", tmp_path / "cat/.ipynb_checkpoints/0-checkpoint.png", tmp_path / "cat/._0.png")
    touch(tmp_path / "__MACOSX/cat/0.png", tmp_path / ".git/x.png", tmp_path / ".DS_Store")
    found = walk_files(tmp_path, (".png",))
    assert names(tmp_path, found.files) == ["cat/0.png"]
    assert found.describe_left_out(tmp_path) == "4 hidden (.git, __MACOSX, cat/._0.png, cat/.ipynb_checkpoints)"


def test_a_folder_that_is_itself_hidden_can_be_asked_for(tmp_path):
    touch(tmp_path / ".cache/0.png")
    assert len(walk_files(tmp_path / ".cache", (".png",)).files) == 1


def test_other_suffixes_are_counted_and_the_first_five_named(tmp_path):
    touch(tmp_path / "0.png", *(tmp_path / f"{i}.txt" for i in range(7)))
    found = walk_files(tmp_path, (".png",))
    assert found.describe_left_out(tmp_path) == "7 of another suffix (0.txt, 1.txt, 2.txt, 3.txt, 4.txt, ...)"


def test_links_are_followed_and_each_real_file_comes_once(tmp_path):
    touch(tmp_path / "data/cat/0.png", tmp_path / "elsewhere/dog/1.png")
    (tmp_path / "data/dog").symlink_to(tmp_path / "elsewhere/dog")
    (tmp_path / "data/z.png").symlink_to("cat/0.png")
    (tmp_path / "data/zz").symlink_to("cat")
    (tmp_path / "data/gone.png").symlink_to("nowhere.png")
    found = walk_files(tmp_path / "data", (".png",))
    assert names(tmp_path / "data", found.files) == ["cat/0.png", "dog/1.png"]
    assert found.describe_left_out(tmp_path / "data") == (
        "1 broken links (gone.png), 2 links to a file that is found already (z.png, zz/0.png)"
    )


def test_a_file_stored_below_a_hidden_folder_counts_under_the_name_of_its_link(tmp_path):
    touch(tmp_path / ".git/annex/objects/ab/content.png")
    (tmp_path / "0.png").symlink_to(".git/annex/objects/ab/content.png")
    assert names(tmp_path, walk_files(tmp_path, (".png",)).files) == ["0.png"]


@pytest.mark.parametrize("through", ["here", "elsewhere"])
def test_a_loop_is_refused(tmp_path, through):
    touch(tmp_path / "data/a/0.png")
    if through == "here":
        (tmp_path / "data/a/loop").symlink_to("..")
    else:  # no link leads to a folder above it by name, only both together do
        (tmp_path / "data/a/out").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere/back").symlink_to(tmp_path / "data/a")
    with pytest.raises(ValueError, match=r"(loop|back)` links to a folder above it, `.*`: remove the link"):
        walk_files(tmp_path / "data", (".png",))


def test_the_folder_may_be_a_link_or_a_relative_path(tmp_path, monkeypatch):
    touch(tmp_path / "data/0.png")
    (tmp_path / "link").symlink_to("data")
    monkeypatch.chdir(tmp_path)
    assert walk_files("link", (".png",)).files == [Path("link/0.png")]
