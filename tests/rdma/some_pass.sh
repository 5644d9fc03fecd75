#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs those tests of a GoogleTest program that a filter names: some_pass.sh PROGRAM FILTER. It
# fails where none of them passed, too: a filter that names nothing proves nothing.
set -euo pipefail
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$1" --gtest_filter="$2" --gtest_brief=0 | tee "$log"
grep -q '^\[  PASSED  \] [1-9]' "$log" || {
  echo "some_pass: none of $2 passed"
  exit 1
}
