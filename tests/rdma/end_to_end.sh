#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Moves a prompt from one engine to another, each beside an agent, over RDMA devices of a guest.
#
#   end_to_end.sh BUILD TRANSPORT                   both in this guest, over rxa and rxb
#   end_to_end.sh BUILD TRANSPORT decode|prefill    one in this guest, over rxe0; decode in node1
#
# BUILD is the folder of the build. The engines check each byte; here is looked at what the agents
# say of it afterwards, and that they end well. The guests of one run share the folder it starts in.
set -euo pipefail
build=$1 transport=$2 roles=${3:-both}
command=$build/cli/mempool engine=$build/examples/paged_engine
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
decode_mark=decode.$transport.up

fail() {
  echo "end_to_end: $*" >&2
  exit 1
}

# Wait until a command is true, for a time that only a defect takes.
wait_until() {
  local tries
  for ((tries = 0; tries < 600; tries++)); do
    "$@" && return
    sleep 0.1
  done
  fail "it did not come true: $*"
}

# Print the settings, a line each, by which an agent uses a device. UCX reaches its peers by
# addresses of IPv6 only, and soft-RoCE takes UCX's 7 retries for endless ones.
device_settings() {
  case $transport in
    verbs) echo "--verbs.devices=$1" ;;
    ucx)
      printf '%s\n' --ucx.tls=rc "--ucx.devices=$1:1" \
        --ucx.config=IB_GID_INDEX=0,RC_RETRY_COUNT=6
      ;;
  esac
}

# Start an agent: start_agent NAME DEVICE ADDRESS; its word for "ready" comes to NAME.ready.
declare -A agents
trap 'kill "${agents[@]}" 2>/dev/null || true' EXIT
start_agent() {
  local name=$1 device=$2 address=$3 settings
  mapfile -t settings < <(device_settings "$device")
  "$command" agent --config "$here/../../examples/paged_engine.toml" --verify.mode=always \
    --agent.name="$name" --agent.listen="$address" --agent.token=of-this-test \
    --agent.engine_socket="/tmp/$name.sock" --agent.transports="$transport" \
    --agent.require="$transport" "${settings[@]}" >"/tmp/$name.ready" &
  agents[$name]=$!
  wait_until grep -qs '^ready' "/tmp/$name.ready"
}

# Print a word of an agent's ready line.
ready() {
  sed -n "s/.* $2=\([^ ]*\).*/\1/p" "/tmp/$1.ready"
}

# See that an agent has nothing under way, and end it.
end_agent() {
  local name=$1 status
  status=$("$command" status --at "$(ready "$name" admin)" --token of-this-test --json)
  echo "$status" | python3 -c '
import json
import sys

status = json.load(sys.stdin)
blocks = status["pool"]["blocks"]
print(status["name"], blocks, [(peer["name"], peer["transport"]) for peer in status["peers"]])
settled = blocks["free"] + blocks["published"]
sys.exit(settled != status["pool"]["total"] or status["pool"]["quarantine"] != {})
' || fail "$name has blocks under way: $status"
  kill -TERM "${agents[$name]}"
  wait "${agents[$name]}" || fail "$name ended with $?"
  unset "agents[$name]"
}

# Run an engine to its end; again where its agent has yet to notice that the one before has gone.
run_engine() {
  local tries
  for ((tries = 0; tries < 100; tries++)); do
    "$engine" "$@" 2>"/tmp/$1.errors" && return
    grep -q '^attach:' "/tmp/$1.errors" || break
    sleep 0.1
  done
  cat "/tmp/$1.errors" >&2
  return 1
}

# Decode twice: the second engine attaches where the first one was.
decode() {
  local turn
  for turn in 1 2; do
    echo "$turn" >"$decode_mark"
    run_engine decode /tmp/decode.sock | tee "decode.$transport.log"
    grep -q '^decode checked [1-9]' "decode.$transport.log" || fail "decode has not checked"
  done
}

# Prefill twice, towards ADDRESS: what the first engine left is cached for the second.
prefill() {
  local address=$1 turn cached said
  for turn in 1 2; do
    wait_until grep -sqx "$turn" "$decode_mark"
    said=$(run_engine prefill /tmp/prefill.sock decode "$address")
    echo "$said"
    cached=$((turn == 1 ? 0 : 96))
    [[ $said == *" over $transport, $cached tokens were cached" ]] || fail "prefill said: $said"
  done
}

case $roles in
  both)
    rm -f "$decode_mark"
    start_agent decode rxb 127.0.0.1:0
    start_agent prefill rxa 127.0.0.1:0
    decode &
    decoding=$!
    prefill "$(ready decode listen)"
    wait "$decoding"
    end_agent prefill
    end_agent decode
    ;;
  decode)
    start_agent decode rxe0 10.0.0.1:7000
    decode
    end_agent decode
    ;;
  prefill)
    start_agent prefill rxe0 10.0.0.2:7000
    prefill 10.0.0.1:7000
    end_agent prefill
    ;;
esac
