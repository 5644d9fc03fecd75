#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs one fuzz target for MEMPOOL_FUZZ_SECONDS (60): run_fuzz.sh TARGET SEEDS. The corpus grows,
# and what breaks the target is left, beside the target.
set -euo pipefail
target=$1 seeds=$2
corpus=$target.corpus
mkdir -p "$corpus"
exec "$target" "-max_total_time=${MEMPOOL_FUZZ_SECONDS:-60}" -timeout=10 -rss_limit_mb=2048 \
  -max_len=16384 "-artifact_prefix=$target." -print_final_stats=1 "$corpus" "$seeds"
