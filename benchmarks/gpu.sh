#!/bin/bash
# Measure everything on a GPU, from a bare machine with CUDA's torch and no package index: at most eight minutes.
#   make gpu-pack                                    # where there is a network: wheels and data, into gpu_pack/
#   benchmarks/gpu.sh OUT [options of gpu.py]        # on the machine: JSON lines, logs and tables in the folder OUT
set -u
cd "$(dirname "$0")/.."
out=${1:-gpu_out}
shift
mkdir -p "$out"
python=${PYTHON:-python3}
for wheel in gpu_pack/wheels/*.whl; do
    [ -e "$wheel" ] || continue
    module=$(basename "$wheel" | cut -d- -f1)
    case $module in pytest_xdist) module=xdist ;; scikit_learn) module=sklearn ;; esac
    $python -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('$module') is None)" ||
        $python -m zipfile -e "$wheel" /tmp/geovae-site
done
export PYTHONPATH="$PWD:/tmp/geovae-site${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
export TRITON_CACHE_DIR=/tmp/geovae-triton # tests have a home of their own, each empty
$python benchmarks/gpu.py "$out/gpu.jsonl" "$@"
$python benchmarks/gpu_report.py "$out/gpu.jsonl" | tee "$out/gpu.md"
