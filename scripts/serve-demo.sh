#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Serves conversations by the reference engine in every setting, and proves that KV was right.
#
#   scripts/serve-demo.sh [--engine numpy|torch] [--transport tcp|shm|verbs|ucx] [--json FILE]
#   scripts/serve-demo.sh --help          all flags
#
# The plot has the name of the JSON, with .svg, or is serve-demo.svg. It ends with 1 where logits
# differ or wrong KV was not caught.
#
# Needs a finished build with the Python package (cmake --build --preset release); MEMPOOL_PYTHON
# names another folder in which the package `mempool` lies. What is missing of numpy, matplotlib and
# torch comes from PyPI into build/venv; MEMPOOL_VENV names another environment.
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${MEMPOOL_VENV:-$repository/build/venv}
package=${MEMPOOL_PYTHON:-$repository/build/release/python}

fail() {
  echo "serve-demo: $*" >&2
  exit 1
}

# Have the named modules in the environment.
have_modules() {
  local import
  import=$(IFS=, && echo "$*")
  "$venv/bin/python" -c "import $import" 2>/dev/null ||
    "$venv/bin/python" -m pip install --quiet "$@" >&2
}

[[ -x $venv/bin/python ]] || python3 -m venv "$venv" ||
  fail "python3 -m venv cannot make $venv; on Debian: apt-get install python3-venv"
modules=(numpy)
[[ " $* " != *" torch "* && " $* " != *"--engine=torch "* ]] || modules+=(torch)
have_modules "${modules[@]}" || fail "pip could not bring ${modules[*]} into $venv"
have_modules matplotlib || echo "serve-demo: without matplotlib there will be no plot" >&2
export PYTHONPATH=$package${PYTHONPATH:+:$PYTHONPATH}
# Two instances share the machine; one thread each, and no matrix product that depends on a count.
export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 MPLCONFIGDIR=${MPLCONFIGDIR:-$venv/matplotlib}
"$venv/bin/python" -P -c 'import mempool' ||
  fail "no package mempool in $package; build it by: cmake --build --preset release"
# The folder of engine and demo comes last: it has the sources of the package, too, but no module.
exec "$venv/bin/python" -P -c 'import sys
sys.path.append(sys.argv.pop(1))
from serve_demo.demo import main
sys.exit(main())' "$repository/python" "$@"
