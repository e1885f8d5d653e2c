"""Brain volumes: from the raw distribution to slices, and from generated slices back to volumes.

`prepare(source, root)` runs all steps and `inspect(source)` shows what a user should check first. `steps/` holds the
steps, `cohort/` finds, prepares and reads many volumes, `synthetic/` makes test data. Spaces are RAS+ in millimetres.
"""

from geovae.mri.cohort.discover import Session, discover
from geovae.mri.cohort.inspection import inspect
from geovae.mri.cohort.jobs import Execution
from geovae.mri.cohort.prepare import Selection, prepare
from geovae.mri.cohort.prepared import Prepared, prepared_volume, read_archive, read_manifest, read_prepared
from geovae.mri.cohort.process import Processed, Steps, process
from geovae.mri.cohort.qc import qc_rows
from geovae.mri.cohort.table import Row, join, read_table
from geovae.mri.problems import InputProblems, Problem
from geovae.mri.steps.affines import table_affine
from geovae.mri.steps.crop import crop_or_pad
from geovae.mri.steps.mask import brain_mask
from geovae.mri.steps.normalise import normalise, quantise, unscale
from geovae.mri.steps.orient import canonical, resample
from geovae.mri.steps.read import read_volume
from geovae.mri.steps.restore import array_to_volume, picture_to_volume, write_nifti
from geovae.mri.steps.slices import Plane, cut_plane, cut_planes, edge_letters, from_image, to_image
from geovae.mri.synthetic.cohort import write_cohort
from geovae.mri.volume import Volume

__all__ = [
    "Execution",
    "InputProblems",
    "Plane",
    "Prepared",
    "Problem",
    "Processed",
    "Row",
    "Selection",
    "Session",
    "Steps",
    "Volume",
    "array_to_volume",
    "brain_mask",
    "canonical",
    "crop_or_pad",
    "cut_plane",
    "cut_planes",
    "discover",
    "edge_letters",
    "from_image",
    "inspect",
    "join",
    "normalise",
    "picture_to_volume",
    "prepare",
    "prepared_volume",
    "process",
    "qc_rows",
    "quantise",
    "read_archive",
    "read_manifest",
    "read_prepared",
    "read_table",
    "read_volume",
    "resample",
    "table_affine",
    "to_image",
    "unscale",
    "write_cohort",
    "write_nifti",
]
