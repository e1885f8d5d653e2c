"""Street View House Numbers from `train_32x32.mat` and `test_32x32.mat`: the first is kept, the second becomes PNG."""

import shutil
from pathlib import Path

import numpy as np

from geovae.data.builders.job import Job
from geovae.data.builders.published import make_builder
from geovae.data.dataset import require_file
from geovae.data.download import list_originals
from geovae.data.svhn import read_mat

HOW = "`source` must be the folder with train_32x32.mat and test_32x32.mat (SVHN, format 2: cropped digits)"

ORIGINALS = list_originals(
    "http://ufldl.stanford.edu/housenumbers/",
    {
        "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
        "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
    },
    ["http://ufldl.stanford.edu/housenumbers/"],
)


def _find(source: Path) -> list[Path]:
    return [require_file(source / name, HOW) for name in ORIGINALS.md5()]


def _write(job: Job, files: list[Path]) -> np.ndarray:
    """Copy the training file, unless it is there, and return the test images."""
    train, test = files
    read_mat(train)  # a damaged training file is refused before it is copied
    images = read_mat(test).images.permute(0, 2, 3, 1).numpy()
    if job.needs(train.name):
        if train.resolve() == (job.folder / train.name).resolve():
            job.add_output(train.name)
        else:
            with job.output(train.name) as path:
                shutil.copyfile(train, path)
    return images


build = make_builder("svhn", "train_32x32.mat", _find, _write, {"svhn": ORIGINALS.md5()})
