"""Whole brains: which file becomes which volume and label, subjects stay together, and what is refused."""

import numpy as np
import pytest
import torch

from geovae.data import DATASETS

SIZE = (8, 9, 10)


def write(root, n=12, labels=None, visits=1):
    """`n` subjects with `visits` scans; the voxels of each volume hold its number."""
    folder = root / "oasis" / "volumes"
    folder.mkdir(parents=True)
    lines = ["id,subject,label"]
    for i in range(n):
        for visit in range(1, visits + 1):
            volume = np.full(SIZE, i, np.uint8)
            volume[0, 0, 0] = 100 + visit
            np.save(folder / f"S{i:02d}_MR{visit}.npy", volume)
            lines.append(f"S{i:02d}_MR{visit},S{i:02d},{i % 2 if labels is None else labels[i]}")
    (root / "oasis" / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_volumes_keep_their_axes_and_labels_and_subjects_stay_together(tmp_path):
    write(tmp_path, visits=2)
    splits = DATASETS["oasis_volumes"](root=str(tmp_path), val_fraction=0.25, test_fraction=0.25)
    assert [len(part) for part in splits.parts().values()] == [12, 6, 6]
    assert splits.image_shape == SIZE
    subjects = [set(part.images[:, 4, 4, 4].tolist()) for part in splits.parts().values()]
    assert sorted(s for part in subjects for s in part) == list(range(12))
    for part in splits.parts().values():
        assert torch.equal(part.labels, part.images[:, 4, 4, 4].long() % 2)


def object_array(folder):
    np.save(folder / "S03_MR1.npy", np.array([{}], object))


def other_shape(folder):
    np.save(folder / "S03_MR1.npy", np.zeros((8, 9, 11), np.uint8))


def floats(folder):
    np.save(folder / "S03_MR1.npy", np.zeros(SIZE, np.float32))


def truncated(folder):
    path = folder / "S03_MR1.npy"
    path.write_bytes(path.read_bytes()[:-9])


def missing(folder):
    (folder / "S03_MR1.npy").unlink()


def no_label(folder):
    (folder.parent / "manifest.csv").write_text("id,subject\nS00_MR1,S00\n")


def no_table(folder):
    (folder.parent / "manifest.csv").unlink()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (object_array, r"`.*S03_MR1.npy` is not a sound npy file: Object arrays"),
        (other_shape, r"have mixed shapes, \[\(8, 9, 10\), \(8, 9, 11\)\]: prepare them again"),
        (floats, r"`.*S03_MR1.npy` must hold uint8 \(x, y, z\), got float32 \(8, 9, 10\)"),
        (truncated, r"`.*S03_MR1.npy` is not a sound npy file"),
        (missing, r"`.*S03_MR1.npy` does not exist: make them with geovae.mri.prepare"),
        (no_label, r"`.*manifest.csv` must have the columns id, subject, label and at least one row"),
        (no_table, r"`.*manifest.csv` does not exist: make them with"),
    ],
)
def test_volumes_that_do_not_fit(tmp_path, spoil, sentence):
    spoil(write(tmp_path))
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        DATASETS["oasis_volumes"](root=str(tmp_path))
