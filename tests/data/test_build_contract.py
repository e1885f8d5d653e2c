"""The contract of every builder in the registry:

* what it builds is what the loader reads; the report carries true checksums; the same sources give the same bytes;
* building again changes nothing; damaged outputs are made again; an interrupted build continues;
* files of others are replaced only when asked; a missing source is named, and nothing is left behind.
"""

import hashlib
import inspect
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from geovae.data import DATASETS
from geovae.data.builders import BUILDERS
from geovae.data.builders.job import Job
from geovae.data.idx import NAMES as IDX
from tests.data.originals import write_cifar, write_faces, write_folder, write_mnist, write_svhn

pytestmark = pytest.mark.filterwarnings("ignore:.* is not the published file:UserWarning")
ORIGINALS = {
    **dict.fromkeys(IDX, write_mnist),
    "cifar": lambda folder: write_cifar(folder, binary=False),
    "svhn": write_svhn,
    "celeba": write_faces,
    "folder": write_folder,
}
LOAD = {
    **{name: {"val_size": 10} for name in IDX},
    "cifar": {"val_size": 10},
    "svhn": {"val_size": 10},
    "celeba": {},
    "folder": {"path": "folder/folder.npz"},
}
every_builder = pytest.mark.parametrize("name", BUILDERS)


def snapshot(folder):
    """Every file below, by name, with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@every_builder
def test_what_is_built_is_loaded(name, tmp_path, root):
    ORIGINALS[name](tmp_path / "source")
    report = BUILDERS[name](tmp_path / "source", root, progress=False)
    splits = DATASETS[name](root=str(root), **LOAD[name])
    assert splits.test is not None
    assert report["complete"]
    assert not list(root.rglob("*.partial"))


@every_builder
def test_the_report_holds_true_checksums(name, tmp_path, root):
    ORIGINALS[name](tmp_path / "source")
    report = BUILDERS[name](tmp_path / "source", root, progress=False)
    assert json.loads((root / name / "build.json").read_text()) == report
    noted = report["sources"] | {str(root / name / k): v for k, v in report["outputs"].items() if "bytes" in v}
    assert len(noted) > 1
    for path, entry in noted.items():
        with open(path, "rb") as file:
            assert {k: entry[k] for k in ("bytes", "sha256")} == {
                "bytes": os.path.getsize(path),
                "sha256": hashlib.sha256(file.read()).hexdigest(),
            }


@every_builder
def test_building_again_changes_nothing_and_elsewhere_gives_the_same_bytes(name, tmp_path, root):
    ORIGINALS[name](tmp_path / "source")
    BUILDERS[name](tmp_path / "source", root, progress=False)
    before = snapshot(root)
    times = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    BUILDERS[name](tmp_path / "source", root, progress=False)
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == times
    BUILDERS[name](tmp_path / "source", tmp_path / "elsewhere", progress=False)
    after = snapshot(tmp_path / "elsewhere")
    assert before.keys() == after.keys()
    assert all(before[k] == after[k] for k in before if not k.endswith("build.json"))


@every_builder
def test_a_damaged_output_is_made_again(name, tmp_path, root):
    ORIGINALS[name](tmp_path / "source")
    BUILDERS[name](tmp_path / "source", root, progress=False)
    before = snapshot(root)
    victims = [next(p for p in root.rglob("*") if p.suffix in (".npz", ".pt", ".mat")), next(root.rglob("*.png"))]
    victims[0].write_bytes(b"damaged")
    victims[1].unlink()
    BUILDERS[name](tmp_path / "source", root, progress=False)
    assert snapshot(root) == before


@every_builder
def test_outputs_of_another_build_are_replaced_only_when_asked(name, tmp_path, root):
    ORIGINALS[name](tmp_path / "source")
    target = next(iter(BUILDERS[name](tmp_path / "source", tmp_path / "elsewhere", progress=False)["outputs"]))
    mine = root / name / target
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="exists and comes from other sources or options: pass overwrite=True"):
        BUILDERS[name](tmp_path / "source", root, progress=False)
    assert mine.read_bytes() == b"mine"
    BUILDERS[name](tmp_path / "source", root, progress=False, overwrite=True)
    assert DATASETS[name](root=str(root), **LOAD[name])


@every_builder
def test_a_replacement_that_fails_leaves_the_old_outputs(name, tmp_path, root, monkeypatch):
    ORIGINALS[name](tmp_path / "source")
    BUILDERS[name](tmp_path / "source", root, progress=False)
    report = next(root.rglob("build.json"))
    report.write_text(json.dumps(json.loads(report.read_text()) | {"key": "of other sources"}))
    before = snapshot(root)

    def fail(*args, **options):
        raise OSError(28, "No space left on device")

    for place, attribute in ((Image.Image, "save"), (np, "savez"), (torch, "save")):
        monkeypatch.setattr(place, attribute, fail)
    with pytest.raises(OSError, match="No space left"):
        BUILDERS[name](tmp_path / "source", root, progress=False, overwrite=True)
    assert all(snapshot(root)[file] == content for file, content in before.items() if not file.endswith("build.json"))


@every_builder
def test_a_missing_source_says_what_is_due(name, tmp_path, root):
    (tmp_path / "empty").mkdir()
    with pytest.raises((FileNotFoundError, ValueError), match=r"`source` must be|no images at"):
        BUILDERS[name](tmp_path / "empty", root, progress=False)
    with pytest.raises(FileNotFoundError, match="`source` must be"):
        BUILDERS[name](tmp_path / "nowhere", root, progress=False)
    assert not root.exists()


@every_builder
def test_an_interrupted_build_continues(name, tmp_path, root, monkeypatch):
    ORIGINALS[name](tmp_path / "source")
    whole = BUILDERS[name](tmp_path / "source", tmp_path / "elsewhere", progress=False)
    written = []
    real = Image.Image.save

    def save(image, path, **options):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        real(image, path, **options)

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(KeyboardInterrupt):
        BUILDERS[name](tmp_path / "source", root, progress=False)
    assert not (root / name / "test_folder").exists()
    assert not json.loads((root / name / "build.json").read_text())["complete"]
    again = []
    monkeypatch.setattr(Image.Image, "save", lambda *a, **k: (again.append(a[1]), real(*a, **k)))
    report = BUILDERS[name](tmp_path / "source", root, progress=False)
    assert report["outputs"] == whole["outputs"]
    tests = report["outputs"]["test/test" if name == "celeba" else "test_folder"]["files"]
    assert len(again) == tests - len(written)


@every_builder
@pytest.mark.parametrize("killed", [1, 2])
def test_a_build_that_was_killed_before_it_noted_an_output_continues(name, killed, tmp_path, root, monkeypatch):
    ORIGINALS[name](tmp_path / "source")
    whole = BUILDERS[name](tmp_path / "source", tmp_path / "elsewhere", progress=False)
    noted, note = [], Job.add_output

    def add_output(job, output):
        noted.append(output)
        if len(noted) == killed:
            raise KeyboardInterrupt
        note(job, output)

    monkeypatch.setattr(Job, "add_output", add_output)
    with pytest.raises(KeyboardInterrupt):
        BUILDERS[name](tmp_path / "source", root, progress=False)
    assert BUILDERS[name](tmp_path / "source", root, progress=False)["outputs"] == whole["outputs"]


def test_test_images_are_not_synchronised_one_by_one(tmp_path, root, monkeypatch):
    write_mnist(tmp_path / "source")
    synchronised = []
    monkeypatch.setattr(os, "fsync", lambda handle: synchronised.append(os.readlink(f"/proc/self/fd/{handle}")))
    BUILDERS["mnist"](tmp_path / "source", root, progress=False)
    assert any("mnist_32x32" in path for path in synchronised)
    assert not [path for path in synchronised if path.endswith(".png")]
    assert len(list((root / "mnist/test_folder").iterdir())) == 7


def test_an_empty_test_image_of_an_interrupted_build_is_written_again(tmp_path, root):
    """A power cut can leave such files, because test images are not synchronised one by one."""
    write_mnist(tmp_path / "source")
    whole = BUILDERS["mnist"](tmp_path / "source", root, progress=False)
    folder = root / "mnist"
    (folder / "test_folder").rename(folder / "test_folder.partial")
    (folder / "test_folder.partial/00003.png").write_bytes(b"")
    (folder / "test_folder.partial/.00004.png.partial").write_bytes(b"half")
    again = BUILDERS["mnist"](tmp_path / "source", root, progress=False)
    assert again["outputs"] == whole["outputs"]


@every_builder
def test_the_signature_is_documented(name):
    for option in inspect.signature(BUILDERS[name]).parameters:
        assert f"        {option}: " in BUILDERS[name].__doc__


def test_a_bar_is_shown_on_the_error_stream_only_when_asked(tmp_path, root, capsys):
    write_mnist(tmp_path / "source")
    BUILDERS["mnist"](tmp_path / "source", root)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "7/7" in shown.err
    BUILDERS["mnist"](tmp_path / "source", tmp_path / "elsewhere", progress=False)
    assert capsys.readouterr() == ("", "")


# `root`, `source`, `overwrite`, `on_error` and `progress` have tests of their own
OTHER = {"dtype": "uint8", "name": "pets", "size": 5, "channels": 1, "test_fraction": 0.3, "seed": 1}
OPTIONS = [
    (name, option)
    for name in BUILDERS
    for option in inspect.signature(BUILDERS[name]).parameters
    if option not in ("root", "source", "overwrite", "on_error", "progress")
]


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_every_option_changes_what_is_built(name, option, tmp_path):
    ORIGINALS[name](tmp_path / "source")
    built = []
    for folder, options in (("default", {}), ("other", {option: OTHER[option]})):
        BUILDERS[name](tmp_path / "source", tmp_path / folder, progress=False, **options)
        built.append({k: v for k, v in snapshot(tmp_path / folder).items() if not k.endswith("build.json")})
    assert built[0] != built[1]
