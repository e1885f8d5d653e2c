"""Street View House Numbers from `train_32x32.mat` and `test_32x32.mat`: the first is kept, the second becomes PNG."""

import shutil
from pathlib import Path
from typing import Any

from geovae.data.builders.job import Job
from geovae.data.builders.published import check_published, md5_of
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


def build(
    source: str | Path, root: str | Path = "data_folders", *, overwrite: bool = False, progress: bool = True
) -> dict[str, Any]:
    """Write `svhn/train_32x32.mat` and `svhn/test_folder/*.png` below `root`, and return the report.

    Args:
        source: folder that holds the two files; it may be the target folder itself.
        root: folder of all data sets.
        overwrite: replace the outputs of another build.
        progress: show a progress bar.
    """
    files = [require_file(Path(source) / f"{part}_32x32.mat", HOW) for part in ("train", "test")]
    targets = ["train_32x32.mat", "test_folder"]
    fits = check_published("svhn", {path: {path.name: md5_of(path)} for path in files}, {"svhn": ORIGINALS.md5()})
    job = Job("svhn", Path(root) / "svhn", targets, files, overwrite=overwrite, published=fits)
    if job.is_complete:
        return job.report
    read_mat(files[0])  # a damaged training file is refused before it is copied
    test = read_mat(files[1]).images.permute(0, 2, 3, 1).numpy()
    if job.needs("train_32x32.mat"):
        if files[0].resolve() == (job.folder / "train_32x32.mat").resolve():
            job.add_output("train_32x32.mat")
        else:
            with job.output("train_32x32.mat") as path:
                shutil.copyfile(files[0], path)
    job.save_test_images(test, progress=progress)
    return job.finish()
