"""`import geovae.mri` needs numpy alone: every worker of `prepare` waits for it."""

import subprocess
import sys


def test_importing_loads_no_heavy_package():
    code = "import sys, geovae.mri, geovae.figures.mri\n"
    code += "heavy = {'torch', 'scipy', 'nibabel', 'nilearn', 'pandas', 'matplotlib', 'PIL', 'tqdm', 'openpyxl'}\n"
    code += "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
