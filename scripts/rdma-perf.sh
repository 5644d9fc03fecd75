#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures transfers over soft-RoCE beside perftest and ucx_perftest, all in one RDMA guest.
#
#   scripts/rdma-perf.sh [OPTIONS]
#
#   --transports LIST   verbs,ucx, or one of them (both)
#   --sizes LIST        bytes of a piece (4096,16384,65536,262144,1048576,4194304,8388608)
#   --folder FOLDER     where the rows are kept as JSON (build/rdma-perf)
#   --build FOLDER      the build that is measured (build/release)
#
# For each size, write and read: single pieces, which are as large as the messages of perftest, and
# up to 64 KiB also 64 pieces of a block, apart at one side (gathered, or scattered by a read) and
# apart at both. Ratios at equal message size are printed as a table and kept in summary.json. The
# guest is emulated: ratios say something of the code, rates nothing of any hardware.
set -euo pipefail
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
transports=verbs,ucx sizes=4096,16384,65536,262144,1048576,4194304,8388608
folder=$scripts/../build/rdma-perf build=$scripts/../build/release inside=no

readonly move_bytes=$((8 << 20))  # of one sample; soft-RoCE takes a quarter of a second for it
readonly pieces_of_block=64
readonly discrete_most=65536      # bytes of a piece that there is room for 64 of
readonly samples=5

fail() {
  echo "rdma-perf: $*" >&2
  exit 2
}

# Run ours: ours TRANSPORT SIZE PIECES PATTERN...
ours() {
  local transport=$1 size=$2 pieces=$3 patterns
  shift 3
  patterns=$(IFS=,; echo "$*")
  "$build/cli/mempool" perf transfer --transport "$transport" --op write,read \
    --pattern "$patterns" --piece-bytes "$size" --pieces "$pieces" --repeat "$samples" \
    --json "$transport-$size-$1.json" || fail "$transport gives no row of $size"
}

# Start a server, run its client on the same device, and print the client's last line that begins
# with a word: beside WORD COMMAND... Nothing where there is none.
beside() {
  local word=$1 server tries
  shift
  "$@" >server.log 2>&1 &
  server=$!
  # The server says nothing when it listens; a client that comes too early is refused at once.
  for ((tries = 0; tries < 20; tries++)); do
    sleep 0.5
    timeout 120 "$@" 127.0.0.1 >client.log 2>&1 && break
  done
  kill "$server" 2>/dev/null || true
  wait "$server" || true
  awk -v word="$word" '$1 == word { line = $0 } END { print line }' client.log
}

# Print "SIZE OP MIB_PER_S" of perftest and of ucx_perftest, a line for each sample.
theirs() {
  local tool=$1 size=$2 count sample
  count=$(((4 * move_bytes + size - 1) / size))
  ((count >= 8)) || count=8
  ((count <= 2000)) || count=2000
  for ((sample = 0; sample < 3; sample++)); do
    case $tool in
      verbs)
        beside "$size" ib_write_bw -d rxe0 -x 1 -F -s "$size" -n "$count" |
          awk -v size="$size" '{ print size, "write", $4 }'
        beside "$size" ib_read_bw -d rxe0 -x 1 -F -s "$size" -n "$count" |
          awk -v size="$size" '{ print size, "read", $4 }'
        ;;
      ucx)
        beside Final: ucx_perftest -t ucp_put_bw -s "$size" -n "$count" -w 4 |
          awk -v size="$size" '{ print size, "write", $7 }'
        beside Final: ucx_perftest -t ucp_get -s "$size" -n "$count" -w 4 |
          awk -v size="$size" '{ print size, "read", $7 }'
        ;;
    esac
  done
}

measure() {
  local transport size
  export MEMPOOL_MODULE_PATH=$build/lib/mempool
  export UCX_TLS=rc,self UCX_NET_DEVICES=rxe0:1 UCX_IB_GID_INDEX=0 UCX_RC_RETRY_COUNT=6
  for transport in ${transports//,/ }; do
    : >"theirs-$transport"
    for size in ${sizes//,/ }; do
      local pieces=$((move_bytes / size))
      ours "$transport" "$size" "$((pieces > 1024 ? 1024 : pieces))" scattered
      if ((size <= discrete_most)); then
        ours "$transport" "$size" "$((pieces > 256 ? 256 : pieces_of_block))" discrete_here \
          discrete discrete_there
      fi
      theirs "$transport" "$size" >>"theirs-$transport"
    done
  done
}

summarize() {
  python3 - "$folder" "${transports//,/ }" <<'PYTHON'
import json
import pathlib
import statistics
import sys

folder, transports = pathlib.Path(sys.argv[1]), sys.argv[2].split()
MIB = 2 ** 20
NAMES = {("verbs", "write"): "ib_write_bw", ("verbs", "read"): "ib_read_bw",
         ("ucx", "write"): "ucp_put_bw", ("ucx", "read"): "ucp_get"}
summary = []
for transport in transports:
    samples = {}
    for line in (folder / f"theirs-{transport}").read_text().splitlines():
        words = line.split()
        if len(words) == 3:
            samples.setdefault((int(words[0]), words[1]), []).append(float(words[2]) * MIB / 1e6)
    for path in folder.glob(f"{transport}-*.json"):
        for row in json.loads(path.read_text())["rows"]:
            if "gb_per_s" not in row:
                sys.exit(f"rdma-perf: {path.name}: {row['refused']['message']}")
            key = (row["piece_bytes"], row["op"])
            if key not in samples:
                sys.exit(f"rdma-perf: {NAMES[transport, row['op']]} gave no rate of {key[0]} bytes")
            theirs = statistics.median(samples[key])
            rate = row["gb_per_s"]["median"] * 1e3
            summary.append({
                "transport": transport, "op": row["op"], "pattern": row["pattern"],
                "piece_bytes": row["piece_bytes"], "pieces": row["pieces"],
                "network_calls": row["network_calls"], "doorbells": row["doorbells"],
                "completions": row["completions"], "cpu_s_per_gb": row["cpu_s_per_gb"],
                "pieces_per_request": round(row["run_pair_calls"] / row["network_calls"], 2),
                "mb_per_s": rate,
                "beside": NAMES[transport, row["op"]], "beside_mb_per_s": theirs,
                "ratio": rate / theirs})
summary.sort(key=lambda row: (row["transport"], row["op"], row["pattern"], row["piece_bytes"]))
(folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
print("| transport | op | pattern | piece | pieces | requests | pieces a request | doorbells "
      "| completions | cpu s/GB | MB/s | beside | MB/s | ratio |")
print("|" + "---|" * 14)
for row in summary:
    print(f"| {row['transport']} | {row['op']} | {row['pattern']} | {row['piece_bytes']} "
          f"| {row['pieces']} | {row['network_calls']} | {row['pieces_per_request']} "
          f"| {row['doorbells']} | {row['completions']} | {row['cpu_s_per_gb']:.1f} "
          f"| {row['mb_per_s']:.1f} "
          f"| {row['beside']} | {row['beside_mb_per_s']:.1f} | {row['ratio']:.2f} |")
PYTHON
}

while (($#)); do
  case $1 in
    --inside) inside=yes ;;
    --transports | --sizes | --folder | --build)
      (($# > 1)) || fail "$1 needs a value; see --help"
      declare "${1#--}=$2"
      shift
      ;;
    -h | --help)
      sed -n '/^# Measures/,/^[^#]/s/^# \{0,1\}//p' "$0"
      exit
      ;;
    *) fail "unknown option $1; see --help" ;;
  esac
  shift
done

if [[ $inside == yes ]]; then
  measure
  exit
fi
[[ -x $build/cli/mempool ]] || fail "$build has no mempool; build the release preset first"
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
build=$(cd "$build" && pwd)
rm -f "$folder"/*.json "$folder"/theirs-*
"$scripts/rdma-guest.sh" --share "$folder" --seconds 7200 "$scripts/rdma-perf.sh" --inside \
  --transports "$transports" --sizes "$sizes" --build "$build"
summarize
