#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds, and moves the KV of conversations between two processes.
#
#   scripts/demo.sh                 conversations of a seed, every model, transport, mode, placement
#   scripts/demo.sh --trace FILE    the prompts of a request trace
#   scripts/demo.sh --help          all flags
#
# MEMPOOL_JOBS is the number of parallel jobs of the build (all cores).
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

build() {
  local cmake_arguments=()  # setup.sh fills it
  # shellcheck source=scripts/setup.sh
  source "$repository/scripts/setup.sh"
  cd "$repository"
  cmake --preset release "${cmake_arguments[@]}"
  cmake --build --preset release --parallel "${MEMPOOL_JOBS:-$(nproc)}" --target mempool_demo
}

(build) >&2
exec "$repository/build/release/examples/demo/mempool_demo" "$@"
