#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checks what a machine's transports can do and how fast they are, into one JSON file.
#
#   scripts/hardware-check.sh [OPTIONS]
#
#   --transports LIST   local,shm,tcp,verbs,ucx (all of them)
#   --devices LIST      RDMA devices of verbs: of the source, of the target; one for both serves too
#                       (those that are there, at most two)
#   --hosts FILE        measure between the hosts of that file, each with a mempool perf serve, as
#                       mempool perf matrix does; without it between two processes of this machine
#   --sizes LIST        bytes of a piece (4096,65536,1048576,8388608)
#   --repeat N          samples of each row (9)
#   --build FOLDER      the build that is checked (build/release)
#   --output FILE       where the findings go (hardware-check.json)
#
# In turn: mempool doctor; the conformance suite on each transport; write and read of single pieces,
# and of blocks that lie apart at one side or at both. Settings for the transports, as
# UCX_IB_GID_INDEX for ucx, come from the environment. Build before: cmake --build --preset release.
# What a transport cannot do here is in the file with its reason, and is no failure. Exits with 1
# where a conformance case failed or no row could be measured.
set -euo pipefail
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
transports=local,shm,tcp,verbs,ucx devices='' hosts='' sizes=4096,65536,1048576,8388608 repeat=9
build=$scripts/../build/release output=hardware-check.json

fail() {
  echo "hardware-check: $*" >&2
  exit 2
}

progress() {
  printf '%s  %s\n' "$(date +%H:%M:%S)" "$*" >&2
}

# Where no devices are named: the first two whose port is up.
find_devices() {
  local device found=()
  for device in /sys/class/infiniband/*; do
    grep -qs ACTIVE "$device"/ports/*/state && found+=("${device##*/}")
  done
  (IFS=,; echo "${found[*]:0:2}")
}

check_doctor() {
  progress "doctor"
  "$command" doctor --json --set agent.transports="[\"${transports//,/\",\"}\"]" \
    >"$work/doctor.json" 2>"$work/doctor.errors" || true  # the file says what is not ok
}

# The suite on each transport; one without a case here, for want of devices, says so.
check_conformance() {
  local transport
  for transport in ${transports//,/ }; do
    progress "conformance of $transport"
    "$suite" --gtest_filter="*Conformance*/$transport:*Conformance*/${transport}_*" \
      --gtest_output="json:$work/conformance-$transport.json" \
      >"$work/conformance-$transport.log" 2>&1 || true
  done
}

measure() {
  local transport size pattern=scattered to=(transfer)
  [[ -z $hosts ]] || to=(matrix --hosts "$hosts")
  for transport in ${transports//,/ }; do
    [[ $transport != local ]] || continue  # it stays in its process
    for size in ${sizes//,/ }; do
      progress "perf ${to[0]} over $transport, pieces of $size bytes"
      pattern=scattered
      ((size > 65536)) || pattern+=,discrete,discrete_here,aggregated
      "$command" perf "${to[@]}" --transport "$transport" --op write,read --pattern "$pattern" \
        --piece-bytes "$size" --repeat "$repeat" --json "$work/perf-$transport-$size.json" \
        >"$work/perf.log" 2>&1 || progress "  $(tail -n 1 "$work/perf.log")"
    done
  done
}

# Put all that lies in the folder into one file, say the sum of it, and give the exit status.
collect() {
  python3 - "$work" "$output" "${transports//,/ }" "$devices" "$version" <<'PYTHON'
import datetime
import json
import os
import pathlib
import platform
import sys

work, output, transports, devices, version = sys.argv[1:]
work = pathlib.Path(work)


def load(path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def conformance_of(transport):
    document = load(work / f"conformance-{transport}.json")
    if document is None:
        return {"ran": 0, "reason": (work / f"conformance-{transport}.log").read_text()[-2000:]}
    cases = [case for suite in document["testsuites"] for case in suite["testsuite"]]
    failed = [f"{case['classname']}.{case['name']}" for case in cases if case.get("failures")]
    skipped = sum(case["result"] == "SKIPPED" for case in cases)
    return {"ran": len(cases), "passed": len(cases) - len(failed) - skipped, "skipped": skipped,
            "failed": failed}


names = transports.split()
conformance = {name: conformance_of(name) for name in names}
rows = [row for path in sorted(work.glob("perf-*.json")) for row in load(path)["rows"]]
measured = sum("gb_per_s" in row for row in rows)
cpus = [line.partition(": ")[2] for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")]
document = {
    "made": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    "version": version,
    "machine": {"cpu": cpus[0] if cpus else platform.machine(), "cores": os.cpu_count(),
                "kernel": platform.release(),
                "devices": [name for name in devices.split(",") if name]},
    "doctor": load(work / "doctor.json") or {"errors": (work / "doctor.errors").read_text()},
    "conformance": conformance,
    "perf": rows,
}
pathlib.Path(output).write_text(json.dumps(document, indent=1) + "\n")
for name, found in conformance.items():
    words = (f"{found['passed']} passed, {found['skipped']} skipped, {len(found['failed'])} failed"
             if found["ran"] else "no case here")
    best = max((row["gb_per_s"]["median"] for row in rows
                if row.get("transport") == name and isinstance(row.get("gb_per_s"), dict)),
               default=None)
    print(f"{name:8} conformance: {words}" + (f"; best {best:.2f} GB/s" if best else ""))
print(f"{measured} rows measured, {len(rows) - measured} refused; all of it is in {output}")
bad = any(found.get("failed") or "reason" in found for found in conformance.values())
sys.exit(1 if bad or not measured else 0)
PYTHON
}

while (($#)); do
  case $1 in
    --transports | --devices | --hosts | --sizes | --repeat | --build | --output)
      (($# > 1)) || fail "$1 needs a value; see --help"
      declare "${1#--}=$2"
      shift
      ;;
    -h | --help)
      sed -n '/^# Checks/,/^[^#]/s/^# \{0,1\}//p' "$0"
      exit
      ;;
    *) fail "unknown option $1; see --help" ;;
  esac
  shift
done
command=$build/cli/mempool
suite=$build/tests/transport/mempool_transport_tests
for program in "$command" "$suite"; do
  [[ -x $program ]] || fail "there is no $program; build the release preset first"
done
[[ -n $devices ]] || devices=$(find_devices)
unset MEMPOOL_RDMA_DEVICES
[[ -z $devices ]] || export MEMPOOL_RDMA_DEVICES=$devices
version=$("$command" --version)
export MEMPOOL_MODULE_PATH=${MEMPOOL_MODULE_PATH:-$(cd "$build" && pwd)/lib/mempool}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
check_doctor
check_conformance
measure
collect
