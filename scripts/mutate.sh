#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Proves that the tests can fail: breaks a copy of the tree by one patch at a time and demands red.
#
#   scripts/mutate.sh [PATCH...]   by default tests/mutations/*.patch
#   scripts/mutate.sh --check      only tell whether each still applies to this tree
#
# A patch begins with "# tests: LABEL|LABEL", the labels of the tests that should see it. The copy
# and its build are in build/mutate. Ends with a table of each patch and the test that failed first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ ${1-} == --check ]]; then
  for patch in tests/mutations/*.patch; do
    git apply --check "$patch" || { echo "mutate: make $patch anew" >&2 && exit 1; }
  done
  exit
fi
patches=("$@")
((${#patches[@]})) || patches=(tests/mutations/*.patch)
tree=$PWD/build/mutate/tree
build=$PWD/build/mutate/build
jobs=${MEMPOOL_JOBS:-$(nproc)}
cmake_arguments=()  # setup.sh fills it
# shellcheck source=scripts/setup.sh
source scripts/setup.sh

# Bring the copy to the state of this tree; equal files keep their time, so that little is built.
refresh() {
  local file
  git ls-files --cached --others --exclude-standard | while read -r file; do
    if [[ -e $file ]] && ! cmp -s "$file" "$tree/$file"; then
      mkdir -p "$tree/$(dirname "$file")"
      cp "$file" "$tree/$file"
    fi
  done
}

labels_of() {
  sed -n '1s/^# tests: *//p' "$@"
}

# Build and run the tests of these labels, given as "a|b"; the logs stay in the build folder.
run_tests() {
  local labels=$1 names
  IFS='|' read -ra names <<<"$labels"
  rm -f "$build/test.log"
  cmake --build "$build" --parallel "$jobs" --target "${names[@]/#/tests_}" \
    >"$build/build.log" 2>&1 || return 2
  ctest --test-dir "$build" --parallel "$jobs" --stop-on-failure --output-on-failure \
    --no-tests=error --label-regex "^($labels)\$" >"$build/test.log" 2>&1
}

# Print the test that failed first under a patch, or why the patch proves nothing.
judge() {
  local patch=$1 code=0
  refresh
  # The ceiling keeps git from taking the copy for a part of this repository.
  if ! GIT_CEILING_DIRECTORIES=$(dirname "$tree") git -C "$tree" apply "$patch" \
    2>"$build/apply.log"; then
    echo "DOES NOT APPLY, see $build/apply.log"
    return
  fi
  run_tests "$(labels_of "$patch")" || code=$?
  case $code in
    0) echo "STAYS GREEN" ;;
    2) echo "DOES NOT BUILD, see $build/build.log" ;;
    *) sed -n '/tests FAILED:$/,$s/^[[:space:]]*[0-9]* - \([^ ]*\) .*$/\1/p' "$build/test.log" |
      sed 1q ;;
  esac
}

for patch in "${patches[@]}"; do
  [[ -n $(labels_of "$patch") ]] || {
    echo "mutate: $patch does not begin with \"# tests: LABEL\"" >&2
    exit 2
  }
done
mkdir -p "$tree" "$build"
refresh
cmake -S "$tree" -B "$build" -G Ninja -D CMAKE_BUILD_TYPE=RelWithDebInfo \
  -D MEMPOOL_BUILD_EXAMPLES=OFF "${cmake_arguments[@]}" >"$build/configure.log"
echo "mutate: the tree as it is must be green first"
run_tests "$(labels_of -s "${patches[@]}" | tr '|' '\n' | sort -u | paste -sd '|')" || {
  tail -n 30 "$build"/{build,test}.log 2>/dev/null
  exit 1
}

rows=()
failures=0
for patch in "${patches[@]}"; do
  echo "mutate: $patch"
  verdict=$(judge "$(realpath "$patch")")
  rows+=("$(printf '%-40s %s' "$(basename "$patch" .patch)" "$verdict")")
  if [[ -z $verdict || $verdict =~ ^(DOES NOT|STAYS) ]]; then
    failures=$((failures + 1))
  fi
done
refresh

echo "=== patch, and the test that failed first"
printf '%s\n' "${rows[@]}"
echo "=== $((${#patches[@]} - failures)) of ${#patches[@]} patches turned the tests red"
((failures == 0))
