#!/usr/bin/env bash
# Makes the virtual environment that runs TRL, beside this script, and does nothing when it is there.
# torch is pinned and installed first, so that trl does not pull a CUDA build of several GB.
#
#   benchmarks/setup_trl.sh [trl version, default the newest]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
environment="$here/.trl-venv"
requirement="trl${1:+==$1}"

if ! "$environment/bin/python" -c "import trl" 2>/dev/null; then
    "${PYTHON:-python3.11}" -m venv --clear "$environment"
    "$environment/bin/python" -m pip install --quiet torch==2.13.0
    "$environment/bin/python" -m pip install --quiet "$requirement"
fi
"$environment/bin/python" -c "
from importlib.metadata import version
print(*(f'{name} {version(name)}' for name in ('trl', 'transformers', 'torch')), sep=', ')"
