"""Brain volumes: from the raw distribution to slices, and from generated slices back to volumes.

`prepare(source, root)` goes the whole way and `inspect(source)` says what a user should check first; every step is a
function of a `Volume` in a file of its own. Spaces are RAS+ in millimetres.
"""

from geovae.mri.affines import table_affine
from geovae.mri.cohort import write_cohort
from geovae.mri.crop import crop_or_pad
from geovae.mri.discover import Session, discover
from geovae.mri.export import check_npz
from geovae.mri.inspection import inspect
from geovae.mri.intensity import normalise, unscale
from geovae.mri.mask import brain_mask
from geovae.mri.orient import canonical, resample
from geovae.mri.pipeline import Processed, process
from geovae.mri.prepared import Prepared, prepared_volume, read_prepared
from geovae.mri.preparing import prepare
from geovae.mri.problems import InputProblems, Problem
from geovae.mri.qc import qc_rows
from geovae.mri.quantise import quantise
from geovae.mri.read import read_volume
from geovae.mri.restore import array_to_volume, picture_to_volume, write_nifti
from geovae.mri.slices import Plane, cut_plane, cut_planes, edge_letters, from_image, stack, to_image
from geovae.mri.split import split_subjects
from geovae.mri.state import load_state
from geovae.mri.table import Row, join, read_table
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
