#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs a command in an emulated machine that has RDMA devices: soft-RoCE of Debian's own kernel.
#
#   scripts/rdma-guest.sh [OPTIONS] COMMAND [ARGUMENT...]
#   scripts/rdma-guest.sh [OPTIONS] --two 'COMMAND OF NODE 1' 'COMMAND OF NODE 2'
#
#   --pair          two devices, rxa and rxb, on the two ends of a cable (va 10.2.0.1, vb 10.2.0.2)
#   --pairs COUNT   that many such pairs: rxa0 and rxb0, rxa1 and rxb1... (10.2.N.1, 10.2.N.2)
#   --two           two machines joined by a cable; each command is a line for bash
#   --share FOLDER  what the command may write; it starts there (the current folder)
#   --seconds N     time of the machine, boot and all (300)
#   --memory SIZE   its memory (2G)
#   --cores N       its cores (2)
#
# Without --pair the device is rxe0 on eth0, which is 10.0.0.1, and 10.0.0.2 in the second machine;
# node1 and node2 are their names. The machine sees this one's files at the same paths, so it runs
# what is installed and built here; /tmp begins empty, and what is written outside --share is lost.
# Variables that begin with MEMPOOL_, UCX_ or IBV_ are handed over. The output comes back, and the
# exit status:
#
#   77   qemu or the guest's kernel cannot be had; the reason is on standard error
#   124  the time was over
#   125  the machine died before the command ended; the end of its console is on standard error
#
# and of --two the first that is not 0. Needs qemu-system-x86, iproute2 and python3, and neither
# root nor KVM nor a module of this machine's kernel. The guest's own kernel, 70 MB, is downloaded
# at the first run into build/rdma-guest, or MEMPOOL_GUEST_CACHE.
set -euo pipefail
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${MEMPOOL_GUEST_CACHE:-$scripts/../build/rdma-guest}
share=$PWD seconds=300 memory=2G cores=2 pairs=0 two=no

fail() {
  local status=$1
  shift
  echo "rdma-guest: $*" >&2
  exit "$status"
}

# Make sure that there is a kernel, made by the script as it is now; one makes it, others wait.
have_kernel() {
  local maker=$scripts/rdma-guest-kernel.sh mark
  mark=$(cksum <"$maker")
  mkdir -p "$cache"
  (
    flock 9
    [[ $(cat "$cache/mark" 2>/dev/null) == "$mark" ]] && exit
    "$maker" "$cache" && echo "$mark" >"$cache/mark"
  ) 9>"$cache/lock"
}

# Print what the guest $1 runs, its words being the rest.
command_of() {
  local node=$1
  shift
  export -p | grep -E '^declare -x (MEMPOOL_|UCX_|IBV_)' || true
  echo "export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
  printf '%q %q || exit\n' "$scripts/rdma-guest-devices.sh" "$pairs"
  if [[ $two == yes ]]; then
    printf 'printf "10.0.0.%%d node%%d\\n" 1 1 2 2 >>/etc/hosts\n'
    echo "touch /run/guest/up$node"
    echo "until [[ -e /run/guest/up$((3 - node)) ]]; do sleep 0.2; done"
  fi
  printf 'cd %q || exit\n' "$share"
  printf '%q ' "$@"
  echo
}

# Boot the guest $1 on the network $2 and run the rest in it; gives the exit status.
boot() {
  local node=$1 network=$2 status=0 khz
  shift 2
  command_of "$node" "$@" >"$exchange/command$node"
  # A second archive adds to the first.
  (cd "$exchange" && echo init | "$cache/busybox" cpio -o -H newc 2>/dev/null) |
    cat "$cache/modules.cpio" - >"$exchange/initial$node"
  # Emulated, the kernel's own measurement of its clock may fail, and then the boot hangs.
  khz=$(awk '/^cpu MHz/ { printf "%d", $4 * 1000; exit }' /proc/cpuinfo)
  mkfifo "$exchange/input$node"
  exec 4<>"$exchange/input$node"  # at the end of its input qemu would close the port of the output
  local share_9p="security_model=none,multidevs=remap" device=virtio-9p-device
  setpriv --pdeathsig TERM timeout --foreground -k 5 "$seconds" \
    setpriv --pdeathsig KILL qemu-system-x86_64 \
    -M microvm -accel tcg,thread=multi -cpu max,-la57 -smp "$cores" -m "$memory" \
    -nodefaults -no-user-config -display none -no-reboot \
    -kernel "$cache/vmlinux" -initrd "$exchange/initial$node" \
    -serial "file:$exchange/console$node" \
    -append "console=ttyS0 quiet panic=-1 tsc_early_khz=${khz:-2000000} tsc=reliable \
clocksource=tsc no_timer_check nokaslr mitigations=off random.trust_cpu=on cryptomgr.notests \
rcupdate.rcu_expedited=1 guest.node=$node guest.share=$share" \
    -fsdev "local,id=root,path=/,readonly=on,$share_9p" \
    -device "$device,fsdev=root,mount_tag=root" \
    -fsdev "local,id=share,path=$share,$share_9p" \
    -device "$device,fsdev=share,mount_tag=share" \
    -fsdev "local,id=exchange,path=$exchange,security_model=none" \
    -device "$device,fsdev=exchange,mount_tag=exchange" \
    -netdev "$network,id=cable" \
    -device "virtio-net-device,netdev=cable,mac=52:54:00:00:00:0$node" \
    -chardev stdio,id=out,signal=off \
    -device virtio-serial-device -device virtserialport,chardev=out,name=out <&4 || status=$?
  ((status != 124)) || fail 124 "the time of $seconds s was over"
  [[ -s $exchange/status$node ]] && exit "$(cat "$exchange/status$node")"
  tail -n 30 "$exchange/console$node" >&2
  fail 125 "the machine died (qemu ended with $status); above is the end of its console"
}

boot_two() {
  local node status=0 ended machines=()
  for node in 1 2; do
    local ends="local.type=unix,local.path=$exchange/cable$node"
    ends+=",remote.type=unix,remote.path=$exchange/cable$((3 - node))"
    boot "$node" "dgram,$ends" bash -c "${!node}" > >(sed -u "s/^/[$node] /") 2>&1 &
    machines+=($!)
  done
  for node in 0 1; do
    ended=0
    wait "${machines[node]}" || ended=$?
    ((status)) || status=$ended
  done
  exit "$status"
}

while (($#)); do
  case $1 in
    --pair) pairs=1 ;;
    --two) two=yes ;;
    --pairs | --share | --seconds | --memory | --cores)
      (($# > 1)) || fail 2 "$1 needs a value; see --help"
      declare "${1#--}=$2"
      shift
      ;;
    -h | --help)
      sed -n '/^# Runs/,/^[^#]/s/^# \{0,1\}//p' "$0"
      exit
      ;;
    --)
      shift
      break
      ;;
    -*) fail 2 "unknown option $1; see --help" ;;
    *) break ;;
  esac
  shift
done
(($#)) || fail 2 "no command; see --help"
[[ $two == no ]] || (($# == 2 && pairs == 0)) || fail 2 "--two takes two commands, and no pairs"
[[ $pairs =~ ^[0-9]$ ]] || fail 2 "--pairs takes a number up to 9, not '$pairs'"
[[ -d $share ]] || fail 2 "there is no folder $share to share"
share=$(cd "$share" && pwd)
[[ $share != *[[:space:],]* ]] || fail 2 "a blank or a comma in $share cannot be handed to qemu"
[[ $(uname -m) == x86_64 ]] || fail 77 "the machine is emulated for x86_64 only, not $(uname -m)"
command -v qemu-system-x86_64 >/dev/null ||
  fail 77 "there is no qemu-system-x86_64; install qemu-system-x86"
have_kernel || exit
cache=$(cd "$cache" && pwd)
exchange=$(mktemp -d "${TMPDIR:-/tmp}/rdma-guest.XXXXXX")
trap 'rm -rf "$exchange"' EXIT
cp "$scripts/rdma-guest-init.sh" "$exchange/init"
chmod 755 "$exchange/init"
if [[ $two == yes ]]; then
  boot_two "$@"
fi
boot 1 user,restrict=on "$@"
