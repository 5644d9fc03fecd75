#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Moves a prompt from an engine in one guest to an engine in another: two_guests.sh BUILD TRANSPORT.
set -euo pipefail
build=$1 transport=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exchange=$(mktemp -d)
trap 'rm -rf "$exchange"' EXIT
export MEMPOOL_MODULE_PATH=$build/lib/mempool
"$here/../../scripts/rdma-guest.sh" --share "$exchange" --two \
  "$here/end_to_end.sh $build $transport decode" "$here/end_to_end.sh $build $transport prefill"
