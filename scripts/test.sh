#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds every preset that is tested, and runs the tests.
#
#   scripts/test.sh               fuzz, tsan, asan, release
#   scripts/test.sh --quick       release only
#   scripts/test.sh --stage NAME  one of them; may be given more than once
#   scripts/test.sh --soak        with the soak of release ten minutes long; goes with the others
#   scripts/test.sh --faults      with every fault over RDMA in release; goes with the others
#   scripts/test.sh --vllm        with real vLLM and SGLang in release, 8 GB from PyPI, once
#
# MEMPOOL_FUZZ_SECONDS is the time of one fuzz target (60), MEMPOOL_SOAK_SECONDS that of the soak
# (60), MEMPOOL_JOBS the parallel jobs (all cores). Ends with ctest's closing lines.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stages=()
with_vllm=
while (($#)); do
  case $1 in
    --quick) stages=(release) ;;
    --soak) export MEMPOOL_SOAK_SECONDS=${MEMPOOL_SOAK_SECONDS:-600} ;;
    --faults) export MEMPOOL_RDMA_FAULTS=all ;;
    --vllm) with_vllm=1 ;;
    --stage)
      [[ ${2-} =~ ^(fuzz|tsan|asan|release)$ ]] || {
        echo "test.sh: --stage takes fuzz, tsan, asan or release" >&2
        exit 2
      }
      stages+=("$2")
      shift
      ;;
    -h | --help)
      sed -n '/^# Installs/,/^[^#]/s/^# \{0,1\}//p' "$0"
      exit
      ;;
    *)
      echo "test.sh: unknown option $1; see --help" >&2
      exit 2
      ;;
  esac
  shift
done
((${#stages[@]})) || stages=(fuzz tsan asan release)
[[ ! $with_vllm || " ${stages[*]} " == *" release "* ]] || {
  echo "test.sh: --vllm runs in release, which is not among the stages: ${stages[*]}" >&2
  exit 2
}

export MEMPOOL_FUZZ_SECONDS=${MEMPOOL_FUZZ_SECONDS:-60}
jobs=${MEMPOOL_JOBS:-$(nproc)}
logs=build/logs
timings=()
cmake_arguments=()  # setup.sh fills it

# step NAME COMMAND...: run it, and note how long it took.
step() {
  local name=$1 started=$SECONDS
  shift
  echo "=== $name"
  "$@"
  timings+=("$(printf '%-20s %5d s' "$name" $((SECONDS - started)))")
  echo "=== ${timings[-1]}"
}

# The sanitizers of g++ 12 (thread) and clang 14 abort at start where mappings have more than 28
# random bits. Then their programs, which the build runs too, get fixed addresses.
fix_addresses() {
  local bits
  bits=$(cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null) || bits=unknown  # only root may read it
  [[ $bits != unknown ]] && ((bits <= 28)) && return
  if setarch -R true 2>/dev/null; then
    launcher=(setarch -R)
  elif [[ $bits != unknown ]]; then
    echo "test.sh: tsan and fuzz need as root: sysctl vm.mmap_rnd_bits=28 (it is $bits)" >&2
    exit 1
  fi
}

run_stage() {
  local stage=$1 launcher=()
  [[ $stage =~ ^(tsan|fuzz)$ ]] && fix_addresses
  step "$stage: configure" "${launcher[@]}" cmake --preset "$stage" "${cmake_arguments[@]}"
  step "$stage: build" "${launcher[@]}" cmake --build --preset "$stage" --parallel "$jobs"
  step "$stage: test" "${launcher[@]}" ctest --preset "$stage" --parallel "$jobs" \
    --output-log "$logs/$stage.log"
}

mkdir -p "$logs"
# shellcheck source=scripts/setup.sh
step setup source scripts/setup.sh
[[ ! $with_vllm ]] || step vllm-venv scripts/vllm-venv.sh
for stage in "${stages[@]}"; do
  run_stage "$stage"
done

echo "=== time"
printf '%s\n' "${timings[@]}"
echo "=== ${stages[*]}"
for stage in "${stages[@]}"; do
  grep '% tests passed' "$logs/$stage.log"
done
