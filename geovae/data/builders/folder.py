"""Any folder of images, sub-folders as classes, into one `.npz` and a PNG test folder for data set `folder`."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from geovae.data.builders.job import Job
from geovae.data.dataset import check_common, check_fractions, stratified_rows
from geovae.data.folder import read_folder
from geovae.images.pictures import OnError, check_side, list_images


def build(
    source: str | Path,
    root: str | Path = "data_folders",
    *,
    name: str = "folder",
    size: int | None = None,
    channels: Literal[1, 3] | None = None,
    test_fraction: float = 0.16,
    seed: int = 0,
    on_error: OnError = "fail",
    overwrite: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Write `<name>/<name>.npz` and `<name>/test_folder/*.png` below `root`, and return the report.

    Args:
        source: the folder of images.
        root: folder of all data sets.
        name: of the new data set; load it with data set `folder` and `path` "<name>/<name>.npz".
        size: crop each image to its central square and resize it; by default all images must have the same size.
        channels: convert images to gray (1) or colour (3); by default all must have the same channels.
        test_fraction: share of the images for the test folder, seeded and stratified by class.
        seed: of the draw of the test images.
        on_error: `fail` on a damaged image, or `skip` it and list it in the report.
        overwrite: replace the outputs of another build, or of one that skipped images.
        progress: show a progress bar.
    """
    check_common(seed, None, on_error)
    check_fractions(test_fraction=test_fraction)
    check_side(size)
    if Path(name).name != name or name in ("", ".", ".."):
        raise ValueError(f"`name` must be the name of a folder below `root`, got {name!r}")
    source = Path(source)
    if not source.is_dir():
        raise FileNotFoundError(f"`{source}` is not a folder: `source` must be a folder of images")
    files = list_images(source)
    options = {"size": size, "channels": channels, "test_fraction": test_fraction, "seed": seed}
    job = Job("folder", Path(root) / name, [f"{name}.npz", "test_folder"], files, overwrite=overwrite, options=options)
    if job.is_complete:
        return job.report
    data, used = read_folder(source, files, size=size, channels=channels, on_error=on_error, progress=progress)
    job.report["skipped"] = [str(path) for path in files if path not in set(used)]
    images = data.images.permute(0, 2, 3, 1).numpy()
    labels = None if data.labels is None else data.labels.numpy()
    classes = np.zeros(len(images), np.int64) if labels is None else labels
    rows = stratified_rows(classes, {"test": test_fraction}, seed)
    train = rows["train"].numpy()
    job.save_npz(f"{name}.npz", x_train=images[train], **({} if labels is None else {"y_train": labels[train]}))
    if len(rows["test"]):
        test = images[rows["test"].numpy()]
        job.save_test_images(test[..., 0] if test.shape[-1] == 1 else test, progress=progress)
    return job.finish()
