#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs parts of the RDMA tests one after the other in one guest, and tells how each of them ended.
#
#   guest_parts.sh boot FOLDER SECONDS [OPTIONS OF rdma-guest.sh]
#   guest_parts.sh report FOLDER PART
#
# FOLDER/parts has a line for each: its name, its seconds, "always" or "asked" (for which
# MEMPOOL_RDMA_FAULTS has to be "all"), and its command. A part leaves PART.log and PART.status.
# boot is good when all have run, however they ended; report gives a part's output and exit status.
# Both give 77, and the reason, for what could not be run here.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

run_part() {
  local name=$1 seconds=$2 command=$3 started=$SECONDS status=0
  timeout -k 5 "$seconds" bash -c "$command" >"$name.log" 2>&1 </dev/null || status=$?
  case $status in
    77) echo "$name is skipped: $(tail -n 1 "$name.log")" ;;
    124 | 137) echo "its time of $seconds s was over" >>"$name.log" ;;
  esac
  echo "$status" >"$name.status"
  echo "$name ended with $status after $((SECONDS - started)) s"
}

# Inside the guest, in the folder.
run_parts() {
  local name seconds when command
  while read -r name seconds when command; do
    if [[ $when == asked && ${MEMPOOL_RDMA_FAULTS-} != all ]]; then
      command='echo "runs with MEMPOOL_RDMA_FAULTS=all, as scripts/test.sh --faults sets"; exit 77'
    fi
    run_part "$name" "$seconds" "$command"
  done <parts
}

boot() {
  local folder=$1 seconds=$2 status=0
  shift 2
  cd "$folder"
  rm -f ./*.log ./*.status skipped
  "$here/../../scripts/rdma-guest.sh" --seconds "$seconds" "$@" \
    "$here/guest_parts.sh" run "$folder" 2> >(tee errors >&2) || status=$?
  ((status != 77)) || mv errors skipped
  exit "$status"
}

report() {
  local folder=$1 name=$2
  cd "$folder"
  if [[ -e skipped ]]; then
    cat skipped
    exit 77
  fi
  if [[ ! -s $name.status ]]; then
    echo "$name has not run"
    exit 1
  fi
  cat "$name.log"
  exit "$(cat "$name.status")"
}

case ${1-} in
  boot) boot "${@:2}" ;;
  run) cd "$2" && run_parts ;;
  report) report "${@:2}" ;;
  *)
    sed -n '/^# Runs/,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
