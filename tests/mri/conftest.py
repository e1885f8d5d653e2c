"""A small synthetic cohort, made once."""

import pytest

from geovae.mri import write_cohort


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """(folder, truths): 8 subjects at 4 mm, one with an MR2."""
    folder = tmp_path_factory.mktemp("cohort")
    return folder, write_cohort(folder, subjects=8, voxel=4, seed=2, repeats=1)


SMALL = {"spacing": 4.0, "shape": (44, 52, 44), "workers": 1, "progress": False}


@pytest.fixture
def small():
    """Options of `prepare` for volumes of 4 mm."""
    return dict(SMALL)
