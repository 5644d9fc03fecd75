#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Owns the comparison with NIXL over UCX: the same list by both, one after the other.
#
#   scripts/bench-nixl.sh [tcp|shm] [COMMAND]
#
# tcp (the default): both over TCP. shm: ours beside what UCX chooses by itself on one host. COMMAND
# is the built mempool command (build/release/cli/mempool).
# MEMPOOL_NIXL_VENV is where NIXL is or will be installed (build/venv-nixl; 5.9 GB). What it prints
# is kept in build/logs/bench-nixl.log.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
transport=tcp
if [[ ${1-} =~ ^(tcp|shm)$ ]]; then
  transport=$1
  shift
fi
[[ $transport == tcp ]] || export UCX_TLS=all UCX_NET_DEVICES=all
command=${1:-build/release/cli/mempool}
venv=${MEMPOOL_NIXL_VENV:-build/venv-nixl}
log=build/logs/bench-nixl.log
pieces=(4096 32768 163840)

install_nixl() {
  local answer
  read -r -p "bench-nixl: install NIXL and its 5.9 GB of wheels into $venv? [y/N] " answer ||
    answer=n  # nobody to ask
  [[ $answer == y ]] || {
    echo "bench-nixl: $venv has no NIXL; MEMPOOL_NIXL_VENV names another folder" >&2
    return 1
  }
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet nixl numpy
}

# Run both on each size, and leave their rows as JSON in the folder $1.
measure() {
  local bytes
  for bytes in "${pieces[@]}"; do
    "$command" perf transfer --transport "$transport" --pattern scattered --piece-bytes "$bytes" \
      --json "$1/mempool-$bytes.json"
    "$venv/bin/python" perf/nixl_transfer.py --piece-bytes "$bytes" | tee "$1/nixl-$bytes.json"
  done
}

compare() {
  python3 - "$1" "${pieces[@]}" <<'PYTHON'
import json
import sys

folder, *sizes = sys.argv[1:]
print("\n| piece | mempool GB/s | NIXL GB/s | ratio |\n|---|---|---|---|")
for size in sizes:
    ours = json.load(open(f"{folder}/mempool-{size}.json"))["rows"][0]["gb_per_s"]["median"]
    nixl = json.load(open(f"{folder}/nixl-{size}.json"))["gb_per_s"]["median"]
    print(f"| {size} | {ours:.2f} | {nixl:.2f} | {ours / nixl:.2f} |")
PYTHON
}

if [[ ! -x $command ]]; then
  echo "bench-nixl: $command is not built; run cmake --preset release and build it" >&2
  exit 1
fi
"$venv/bin/python" -c 'import nixl, numpy' 2>/dev/null || install_nixl
mkdir -p "$(dirname "$log")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
{
  measure "$work"
  compare "$work"
} 2>&1 | tee "$log"
