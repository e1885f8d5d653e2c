"""The builder of a data set with published files, and which of them a file is, by its md5.

No original is taken for another, and none with an error in it. Files of which none is published are somebody's own in
the same format: they are taken, with a warning.
"""

import hashlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from geovae.data.builders.job import Job
from geovae.files import hash_file


def md5_by_name(files: list[Path]) -> dict[Path, dict[str, str]]:
    """Return the md5 of each file, by the name of the file."""
    return {path: {path.name: md5_of(path)} for path in files}


def make_builder(
    dataset: str,
    output: str,
    find: Callable[[Path], list[Path]],
    write: Callable[[Job, list[Path]], np.ndarray],
    published: Mapping[str, Mapping[str, str]],
    digest: Callable[[list[Path]], Mapping[Path, Mapping[str, str]]] = md5_by_name,
) -> Callable[..., dict[str, Any]]:
    """Return the builder of a file with the training images and of a folder with the test images.

    Args:
        dataset: name of the data set, and of the folder.
        output: name of the file.
        find: returns the original files of a source.
        write: writes `output` and returns the test images, uint8 (n, h, w) or (n, h, w, 3).
        published: see `check_published`.
        digest: returns its `files`.
    """

    def build(
        source: str | Path, root: str | Path = "data_folders", *, overwrite: bool = False, progress: bool = True
    ) -> dict[str, Any]:
        """Write the training file and `test_folder/*.png` into the data set's folder below `root`; return the report.

        Args:
            source: folder that holds the original files, or their archive.
            root: folder of all data sets.
            overwrite: replace the outputs of another build.
            progress: show a progress bar.
        """
        files, folder = find(Path(source)), Path(root) / dataset
        fits = check_published(dataset, digest(files), published)
        job = Job(dataset, folder, [output, "test_folder"], files, overwrite=overwrite, published=fits)
        if job.is_complete:
            return job.report
        job.save_test_images(write(job, files), progress=progress)
        return job.finish()

    return build


def check_published(
    dataset: str, files: Mapping[Path, Mapping[str, str]], published: Mapping[str, Mapping[str, str]]
) -> dict[str, bool]:
    """Return whether each file is a published one.

    Args:
        dataset: that the files should belong to.
        files: the md5 of each, by the name under which it would be published; twice if it is compressed.
        published: by data set, the md5 of each published file.

    Raises:
        ValueError: for a file of another data set or another part, and for one that is not as published while
            others are.
    """
    known = published[dataset]
    origins = {md5: (owner, name) for owner, names in published.items() for name, md5 in names.items()}
    fits = {}
    for path, digests in files.items():
        found = [origins[md5] for md5 in digests.values() if md5 in origins]
        for owner, name in found[:1]:
            if owner != dataset or (name not in digests and digests.keys() & known):
                raise ValueError(
                    f"`{path}` is `{name}` of {owner} by its published checksum, not `{next(iter(digests))}` of "
                    f"{dataset}: give the `source` of {dataset}, or `dataset` {owner}"
                )
        fits[path] = bool(found)
    sound = [path for path, fit in fits.items() if fit]
    # unpacked is the last name of a file: that is compared if it has a published checksum
    comparable = {path: [name for name in files[path] if name in known] for path in files if path not in sound}
    for path, name in [(path, names[-1]) for path, names in comparable.items() if names][:1]:
        if sound:
            raise ValueError(
                f"`{path}` does not fit: its md5{' unpacked' * (name != path.name)} is {files[path][name]}, published "
                f"is {known[name]}; `{sound[0]}` is as published. A damaged download, or files of two sets?"
            )
        warnings.warn(f"`{path}` is not the published file of {dataset}: it is taken as it is", stacklevel=3)
    return {str(path): fit for path, fit in fits.items()}


def md5_of(content: Path | bytes) -> str:
    """Return the md5 of a file, or of bytes, as hex digits."""
    if isinstance(content, bytes):
        return hashlib.md5(content, usedforsecurity=False).hexdigest()
    return hash_file(content, "md5")
