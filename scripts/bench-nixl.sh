#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Owns the comparison with NIXL over UCX's TCP: the same lists by both, one after the other.
#
# usage: scripts/bench-nixl.sh [COMMAND [VENV]]
#   COMMAND  the built mempool command (default build/release/cli/mempool)
#   VENV     where NIXL is or will be installed (default build/venv-nixl; 5.9 GB)
set -euo pipefail
cd "$(dirname "$0")/.."
command=${1:-build/release/cli/mempool}
venv=${2:-build/venv-nixl}
pieces=(4096 32768 163840)

if [ ! -x "$command" ]; then
  echo "bench-nixl: $command is not built; run cmake --preset release and build it" >&2
  exit 1
fi
if [ ! -x "$venv/bin/python" ]; then
  read -r -p "bench-nixl: install NIXL and its 5.9 GB of wheels into $venv? [y/N] " answer
  [ "$answer" = y ] || exit 1
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet nixl numpy
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for bytes in "${pieces[@]}"; do
  "$command" perf transfer --pattern scattered,discrete --piece-bytes "$bytes" \
    --json "$work/mempool-$bytes.json"
  "$venv/bin/python" perf/nixl_transfer.py --piece-bytes "$bytes" > "$work/nixl-$bytes.json"
  cat "$work/nixl-$bytes.json"
done
python3 - "$work" "${pieces[@]}" <<'PYTHON'
import json
import sys

folder, *sizes = sys.argv[1:]
print(f"\n{'piece':>8}  {'pattern':10}  {'mempool GB/s':>12}  {'NIXL GB/s':>9}  ratio of medians")
for size in sizes:
    nixl = json.load(open(f"{folder}/nixl-{size}.json"))["gb_per_s"]["median"]
    for row in json.load(open(f"{folder}/mempool-{size}.json"))["rows"]:
        ours = row["gb_per_s"]["median"]
        print(f"{size:>8}  {row['pattern']:10}  {ours:12.2f}  {nixl:9.2f}  {ours / nixl:.2f}")
PYTHON
