"""The cache: keyed by bytes and network, whole or absent, safe when several write."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from geovae.evaluation import FeatureCache, content_hash, extract

ROOT = Path(__file__).parents[2]


class Counting(nn.Module):
    name = "counting"

    def __init__(self, identity="counting"):
        super().__init__()
        self.id, self.calls = identity, 0

    def forward(self, x):
        self.calls += 1
        return x.flatten(1)


@pytest.fixture
def images(generator):
    return torch.randint(0, 256, (9, 1, 4, 4), generator=generator, dtype=torch.uint8)


def entries(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def test_the_second_time_no_network_runs(images, tmp_path):
    network, cache = Counting(), FeatureCache(tmp_path / "cache")
    first = cache.features(images, network)
    assert network.calls == 1
    assert torch.equal(cache.features(images.clone(), network), first)
    assert network.calls == 1
    assert torch.equal(first, extract(images, Counting()))
    assert len(entries(tmp_path)) == 1


def test_other_bytes_or_another_network_miss(images, tmp_path):
    network, cache = Counting(), FeatureCache(tmp_path)
    cache.features(images, network)
    changed = images.clone()
    changed[0, 0, 0, 0] ^= 1
    cache.features(changed, network)
    cache.features(images, Counting("counting-2"))
    cache.features(images.float() / 255, network)
    assert network.calls == 3
    assert len(entries(tmp_path)) == 4


def test_hash_covers_type_shape_and_order(images):
    variants = [images, images.flip(0), images.reshape(9, 1, 2, 8), images.float() / 255, images[:8]]
    assert len({content_hash(x) for x in variants}) == len(variants)
    wide = torch.stack([images, images], dim=-1)[..., 0]  # the same pixels, laid out otherwise in memory
    assert content_hash(wide) == content_hash(images)


def test_many_writers_leave_one_whole_entry(images, tmp_path):
    expected = extract(images, Counting())
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: FeatureCache(tmp_path).features(images, Counting()), range(32)))
    assert all(torch.equal(f, expected) for f in found)
    assert len(entries(tmp_path)) == 1


WRITER = """
import sys
from pathlib import Path
import torch
from geovae.evaluation import FeatureCache, extractor
images = torch.load(sys.argv[1], weights_only=True)
for _ in range(100):
    for batch in images.split(3):
        FeatureCache(sys.argv[2]).features(batch, extractor("pixels"))
    for entry in Path(sys.argv[2]).glob("[!.]*.npz"):
        entry.unlink(missing_ok=True)
"""


def test_processes_that_write_and_delete_the_same_entries_meet_no_part_of_one(images, tmp_path):
    torch.save(images, tmp_path / "images.pt")
    command = [sys.executable, "-W", "error", "-c", WRITER, tmp_path / "images.pt", tmp_path / "cache"]
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)]
    said = [writer.communicate()[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], said


def test_an_entry_that_is_deleted_while_it_is_read_is_made_again_without_a_word(images, tmp_path, monkeypatch):
    cache = FeatureCache(tmp_path)
    expected = cache.features(images, Counting())
    (entry,) = entries(tmp_path)
    monkeypatch.setattr("geovae.files.check_unpacked", lambda *_: (tmp_path / entry).unlink(missing_ok=True))
    assert torch.equal(cache.features(images, Counting()), expected)


def test_a_failed_write_leaves_nothing(images, tmp_path, monkeypatch):
    def half_a_file(file, **arrays):
        file.write(b"half")
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", half_a_file)
        with pytest.raises(OSError, match="the disk is full"):
            FeatureCache(tmp_path).features(images, Counting())
    assert entries(tmp_path) == []


def test_a_failed_extraction_leaves_nothing(images, tmp_path):
    class Broken(Counting):
        def forward(self, x):
            return x.flatten(1) * torch.nan

    with pytest.raises(ValueError, match="NaN or infinite"):
        FeatureCache(tmp_path).features(images, Broken())
    assert entries(tmp_path) == []


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"x" + b[1:]])
def test_a_damaged_entry_is_made_again(damage, images, tmp_path):
    cache, network = FeatureCache(tmp_path), Counting()
    first = cache.features(images, network)
    path = tmp_path / entries(tmp_path)[0]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match="made the cache entry .* again"):
        assert torch.equal(cache.features(images, network), first)
    assert torch.equal(cache.features(images, network), first)
    assert network.calls == 2


def test_a_network_without_id_is_refused(images, tmp_path):
    with pytest.raises(ValueError, match="needs an `id` string"):
        FeatureCache(tmp_path).features(images, nn.Flatten())
