"""Each option of `prepare` changes what is written, a recorded number, or how it runs."""

import os
import shutil
import warnings
from dataclasses import fields

import nibabel as nib
import numpy as np
import pytest

from geovae.mri import write_cohort
from tests.mri.originals import GROUPS, head, prepare_with

# another value of each option, and what else must be set so that it can have an effect
CHANGED = {
    "pattern": ("*OAS1_000[1-3]*", {}),
    "suffix": ("T2w", {"source": "bids"}),
    "space": ("MNI152Lin", {"source": "bids"}),
    "desc": ("preproc", {"source": "bids"}),
    "run": ("2", {"source": "bids"}),
    "acq": ("mprage", {"source": "bids"}),
    "layout": ("flat", {}),
    "product": ("fseg", {}),
    "table": (None, {}),
    "repeats": ("keep", {}),
    "mask_folder": ("masks", {}),
    "mask_pattern": ("{id}_mpr_n*_t88_masked_gfc.img", {}),
    "exclude": ("exclude.csv", {}),
    "affine": ("header", {}),
    "spacing": (16.0, {}),
    "mask": ("none", {}),
    "nan_background": (True, {"source": "bids", "run": "2"}),
    "stripped": (True, {"mask": "otsu"}),
    "percentiles": ((5.0, 90.0), {}),
    "shape": ((20, 24, 20), {}),
    "centre": ("mass", {}),
    "axis": ("coronal", {}),
    "at": ((0.4,), {}),
    "unit": ("mm", {}),
    "view": ("neurological", {}),
    "quantisation": ("volume", {"at": (0.2,)}),  # a plane without the brightest voxels
    "arrays": ("npy", {}),
    "arrays_spacing": (16.0, {"arrays": "npy"}),
    "on_error": ("skip", {"source": "spoilt"}),
    "workers": (2, {}),
    "progress": (True, {}),
    "resume": (False, {}),
}
BASE = {"spacing": 8.0, "shape": (22, 26, 22), "workers": 1, "progress": False}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A cohort of 8 mm with two products and an MR2, and the same with a truncated volume; a BIDS folder; masks."""
    folder = tmp_path_factory.mktemp("sources")
    write_cohort(folder / "sound", subjects=4, voxel=8, products=("t88_masked", "fseg"))
    (folder / "exclude.csv").write_text("id,reason\nOAS1_0002,motion\n")
    shutil.copytree(folder / "sound", folder / "spoilt")
    image = min((folder / "spoilt").rglob("*t88_masked_gfc.img"))
    image.write_bytes(image.read_bytes()[:-2])
    for subject in ("sub-1", "sub-2"):
        place = folder / "bids" / subject / "anat"
        place.mkdir(parents=True)
        for name in ("T1w", "acq-mprage_run-2_space-MNI152Lin_desc-preproc_T1w", "T2w"):
            data = np.where(head((22, 26, 22)) > 0, head((22, 26, 22)), np.nan if "run-2" in name else 0)
            nib.save(nib.Nifti1Image(data, np.diag([8, 8, 8, 1])), place / f"{subject}_{name}.nii")
    (folder / "masks").mkdir()
    for path in (folder / "sound").rglob("*fseg.*"):
        shutil.copy(path, folder / "masks" / f"{path.name[:13]}_mask{path.suffix}")
    return folder


@pytest.fixture
def outcome(sources, tmp_path_factory, capfd):
    """A function from options to everything that the user can see of two calls, but for the settings."""

    def run(source="sound", **options):
        root, source = tmp_path_factory.mktemp("root"), sources / source
        for name in ("mask_folder", "exclude"):
            if name in options:
                options[name] = str(sources / options[name])
        if source.name == "bids":
            options["table"] = None
        before = os.times().children_user
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of the sessions left out
                reports = [prepare_with(source, root, **{**BASE, **options}) for _ in range(2)]
        except ValueError as error:
            return {"error": str(error)}
        with np.load(root / "oasis" / "OASIS.npz") as archive:
            seen = {name: archive[name].tolist() for name in archive.files if name != "settings"}
        for path in [*(root / "oasis").glob("*.csv"), *(root / "oasis" / "volumes").glob("*")]:
            seen[path.name] = path.read_bytes().replace(str(root).encode(), b"")
        seen["counts"] = [report["counts"] for report in reports]
        seen["bar"], seen["processes"] = capfd.readouterr().err != "", os.times().children_user > before
        return seen

    return run


def test_every_option_is_tried():
    assert set(CHANGED) == {field.name for group in GROUPS.values() for field in fields(group)}


@pytest.mark.parametrize("name", CHANGED)
def test_an_option_has_an_effect(outcome, name):
    value, context = CHANGED[name]
    one, same, other = outcome(**context), outcome(**context), outcome(**context, **{name: value})
    assert repr(one) == repr(same), "equal options must give equal results"  # repr, because NaN is not equal to NaN
    assert repr(one) != repr(other)
