#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the RDMA devices of the guest, inside it, and waits until they can be used.
#
#   rdma-guest-devices.sh PAIRS   0: rxe0 on eth0; 1: rxa and rxb on the ends of a veth pair;
#                                 more: rxa0 and rxb0, rxa1 and rxb1...
set -euo pipefail
pairs=$1

# The host addresses of a pair are 10.2.N.1 and 10.2.N.2. Both belong to this one kernel, which
# takes a packet with its own source address from the wire only by accept_local. Addresses of IPv6,
# which UCX needs, are used at once instead of being probed for a second.
add_pair() {
  local number=$1 suffix=$2 side
  ip link add "va$suffix" type veth peer name "vb$suffix"
  ip addr add "10.2.$number.1/24" dev "va$suffix"
  ip addr add "10.2.$number.2/24" dev "vb$suffix"
  for side in a b; do
    echo 1 >"/proc/sys/net/ipv4/conf/v$side$suffix/accept_local"
    echo 0 >"/proc/sys/net/ipv6/conf/v$side$suffix/accept_dad"
    ip link set "v$side$suffix" mtu 4300 up  # room for the largest RDMA packet, of 4 KiB
  done
  for side in a b; do
    rdma link add "rx$side$suffix" type rxe netdev "v$side$suffix"
  done
}

# An address becomes an entry of the device's table of GIDs some time after it was given.
wait_for_gids() {
  local device=$1 index gid tries
  for index in 0 1; do
    for ((tries = 0; tries < 100; tries++)); do
      gid=$(cat "/sys/class/infiniband/$device/ports/1/gids/$index" 2>/dev/null) || gid=
      [[ $gid =~ [1-9a-f] ]] && continue 2
      sleep 0.1
    done
    echo "rdma-guest: $device has no GID of index $index" >&2
    return 1
  done
}

case $pairs in
  0) rdma link add rxe0 type rxe netdev eth0 ;;
  1) add_pair 0 "" ;;
  *) for ((pair = 0; pair < pairs; pair++)); do add_pair "$pair" "$pair"; done ;;
esac
for device in /sys/class/infiniband/*; do
  wait_for_gids "${device##*/}"
done
