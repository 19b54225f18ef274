#!/usr/bin/env bash
# Registration on a GPU, checked against the CPU. Nothing is installed: Python 3.11 with torch,
# numpy and scipy is all it needs; PYTHON names another interpreter than python3.
#
#     tests/benchmarks/gpu.sh [--quick] [--json] [--scans N] [--device cpu]
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHONPATH=. exec "${PYTHON:-python3}" tests/benchmarks/gpu.py "$@"
