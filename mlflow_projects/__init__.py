"""What `mlflow run` calls: one thin file an entry point."""

import gc
import os
import sys
from pathlib import Path

RUNS = Path("runs")  # folders of the runs' own files

# `python -m` has this name while it looks for the program: its imports make no garbage, and looking for some takes a
# tenth of the start. `entry.main` switches it on again.
if sys.argv[0] == "-m":
    gc.disable()
    if run_id := os.environ.get("MLFLOW_RUN_ID"):
        from geovae.tracking import claim_run  # now: the program's imports take seconds, in which it may be killed

        claim_run(RUNS, run_id, os.environ.get("MLFLOW_TRACKING_URI", ""))
