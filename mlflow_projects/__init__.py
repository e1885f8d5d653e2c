"""What `mlflow run` calls: one thin file an entry point."""

import gc
import sys

# `python -m` has this name while it looks for the program: its imports make no garbage, and looking for some takes a
# tenth of the start. `entry.main` switches it on again.
if sys.argv[0] == "-m":
    gc.disable()
