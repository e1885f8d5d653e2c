"""Brain volumes: from the raw distribution to slices, and from generated slices back to volumes.

`prepare(source, root)` goes the whole way and `inspect(source)` says what a user should check first; every step is a
function of a `Volume` in a file of its own. Spaces are RAS+ in millimetres.
"""

from geovae.mri.cohort.discover import Session, discover
from geovae.mri.cohort.export import check_npz
from geovae.mri.cohort.inspection import inspect
from geovae.mri.cohort.prepare import prepare
from geovae.mri.cohort.prepared import Prepared, prepared_volume, read_prepared
from geovae.mri.cohort.process import Processed, process
from geovae.mri.cohort.qc import qc_rows
from geovae.mri.cohort.split import split_subjects
from geovae.mri.cohort.state import load_state
from geovae.mri.cohort.table import Row, join, read_table
from geovae.mri.problems import InputProblems, Problem
from geovae.mri.steps.affines import table_affine
from geovae.mri.steps.crop import crop_or_pad
from geovae.mri.steps.mask import brain_mask
from geovae.mri.steps.normalise import normalise, unscale
from geovae.mri.steps.orient import canonical, resample
from geovae.mri.steps.quantise import quantise
from geovae.mri.steps.read import read_volume
from geovae.mri.steps.restore import array_to_volume, picture_to_volume, write_nifti
from geovae.mri.steps.slices import Plane, cut_plane, cut_planes, edge_letters, from_image, stack, to_image
from geovae.mri.synthetic.cohort import write_cohort
from geovae.mri.volume import Volume

__all__ = [
    "InputProblems",
    "Plane",
    "Prepared",
    "Problem",
    "Processed",
    "Row",
    "Session",
    "Volume",
    "array_to_volume",
    "brain_mask",
    "canonical",
    "check_npz",
    "crop_or_pad",
    "cut_plane",
    "cut_planes",
    "discover",
    "edge_letters",
    "from_image",
    "inspect",
    "join",
    "load_state",
    "normalise",
    "picture_to_volume",
    "prepare",
    "prepared_volume",
    "process",
    "qc_rows",
    "quantise",
    "read_prepared",
    "read_table",
    "read_volume",
    "resample",
    "split_subjects",
    "stack",
    "table_affine",
    "to_image",
    "unscale",
    "write_cohort",
    "write_nifti",
]
