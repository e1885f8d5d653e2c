"""CelebA tensors in every form that is about, and files that are damaged, foreign or malicious."""

import pickle

import pytest
import torch

from geovae.data import DATASETS
from tests.data.originals import Trap, noise


def save_celeba(root, train, val=None):
    (root / "celeba").mkdir()
    torch.save(train, root / "celeba/train_data.pt")
    torch.save(torch.from_numpy(noise(5, 3, 64, 64, seed=1)) / 255 if val is None else val, root / "celeba/val_data.pt")
    return str(root)


FACES = torch.from_numpy(noise(6, 3, 64, 64))


@pytest.mark.parametrize(
    "stored",
    [
        FACES / 255,
        (FACES / 255).permute(0, 2, 3, 1),
        (FACES / 255).permute(0, 2, 3, 1).contiguous(),
        FACES.double() / 255,
        FACES,
    ],
    ids=["channel first", "channel last, a view", "channel last", "float64", "uint8"],
)
def test_celeba_in_every_form(tmp_path, monkeypatch, stored):
    monkeypatch.setattr("geovae.data.celeba.CHUNK", 4)
    splits = DATASETS["celeba"](root=save_celeba(tmp_path, stored))
    assert torch.equal(splits.train.images, FACES)
    assert len(splits.val) == 5
    assert splits.train.labels is None


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (FACES.float(), r"must hold values in \[0, 1\], got 0 to 255; divide by 255"),
        (FACES / 255 - 0.5, r"must hold values in \[0, 1\], got -0.5 to 0.5"),
        (FACES / 255 / 255, "was it divided by 255 twice"),
        (FACES // 255, "uint8 values of 0 and 1 only"),
        ((FACES / 255).index_fill(0, torch.tensor([2]), torch.nan), r"must hold values in \[0, 1\], got nan to nan"),
        (FACES.long(), "must hold floating point in .* or uint8, got torch.int64"),
        (FACES[:, :, :32] / 255, r"must have shape .* got \(6, 3, 32, 64\)"),
        (FACES[0] / 255, r"must have shape .* got \(3, 64, 64\)"),
        (FACES[:0] / 255, r"must have shape .* got \(0, 3, 64, 64\)"),
        ((FACES / 255).to_sparse(), "must hold one dense tensor, got Tensor"),
        ({"images": FACES}, "must hold one dense tensor, got dict"),
    ],
)
def test_celeba_files_that_do_not_fit(tmp_path, stored, message):
    with pytest.raises(ValueError, match=f"`{tmp_path}/celeba/train_data.pt` .*{message}"):
        DATASETS["celeba"](root=save_celeba(tmp_path, stored))


@pytest.mark.parametrize("keep", [0, 100, 100_000, -20])
def test_a_truncated_tensor_file(tmp_path, keep):
    root = save_celeba(tmp_path, FACES / 255)
    path = tmp_path / "celeba/train_data.pt"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"train_data.pt` is not a sound tensor file"):
        DATASETS["celeba"](root=root)


def test_a_tensor_file_cannot_run_code(tmp_path):
    root = save_celeba(tmp_path, {"a": Trap(tmp_path / "executed")})
    with pytest.raises(ValueError, match="is not a sound tensor file"):
        DATASETS["celeba"](root=root)
    (tmp_path / "celeba/train_data.pt").write_bytes(pickle.dumps(Trap(tmp_path / "executed")))
    with pytest.raises(ValueError, match="is not a sound tensor file"):
        DATASETS["celeba"](root=root)
    assert not (tmp_path / "executed").exists()
