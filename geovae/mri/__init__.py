"""Brain volumes: from the raw distribution to slices, and from generated slices back to volumes.

`prepare(source, root)` runs all steps and `inspect(source)` shows what a user should check first. `steps/` holds the
steps, `cohort/` finds, prepares and reads many volumes, `synthetic/` makes test data. Spaces are RAS+ in millimetres.
"""

from geovae.mri.cohort.discover import Session, discover
from geovae.mri.cohort.inspection import inspect
from geovae.mri.cohort.jobs import Execution
from geovae.mri.cohort.prepare import Selection, prepare
from geovae.mri.cohort.prepared import prepared_volume, read_archive, read_manifest, read_states
from geovae.mri.cohort.process import Steps, process
from geovae.mri.problems import InputProblems
from geovae.mri.steps.orient import resample
from geovae.mri.steps.read import read_volume
from geovae.mri.steps.restore import array_to_volume, picture_to_volume, write_nifti
from geovae.mri.synthetic.cohort import write_cohort
from geovae.mri.volume import Volume

__all__ = [
    "Execution",
    "InputProblems",
    "Selection",
    "Session",
    "Steps",
    "Volume",
    "array_to_volume",
    "discover",
    "inspect",
    "picture_to_volume",
    "prepare",
    "prepared_volume",
    "process",
    "read_archive",
    "read_manifest",
    "read_states",
    "read_volume",
    "resample",
    "write_cohort",
    "write_nifti",
]
