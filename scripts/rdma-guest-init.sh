#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs as the first process of the RDMA guest: the host's files, then its command, then the end.
#
# The host's / comes by 9p and cannot be written; a layer in memory lies above it. Two folders can
# be written through: that of the kernel's argument guest.share, at its own path, and /run/guest,
# where the command of the node comes from and its status goes to.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev

argument() { sed -n "s/.*\bguest\.$1=\([^ ]*\).*/\1/p" /proc/cmdline; }
node=$(argument node)
share=$(argument share)

while read -r module; do
  insmod "/modules/$module" || echo "init: no module $module"
done </modules/order

over_9p=trans=virtio,version=9p2000.L,msize=262144
mkdir /host /layer /exchange
mount -t 9p -o "ro,cache=loose,$over_9p" root /host
mount -t tmpfs layer /layer
mkdir /layer/upper /layer/work /layer/root
root=/layer/root
mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work overlay $root ||
  echo "init: no files of the host"
for folder in proc sys dev; do
  mount --move /$folder $root/$folder
done
mkdir -p $root/tmp $root/run $root/dev/shm $root/dev/pts
for folder in tmp run dev/shm; do
  mount -t tmpfs tmpfs $root/$folder
done
mount -t devpts pts $root/dev/pts
ln -s /proc/self/fd $root/dev/fd
for number in 0:stdin 1:stdout 2:stderr; do
  ln -s /proc/self/fd/${number%:*} $root/dev/${number#*:}
done
mkdir -p $root/run/guest "$root$share"
mount -t 9p -o $over_9p exchange $root/run/guest || echo "init: no command"
mount -t 9p -o cache=mmap,$over_9p share "$root$share" || echo "init: no $share"

ip link set lo up
ip addr add "10.0.0.$node/24" dev eth0
ip link set eth0 mtu 9000 up
hostname "node$node"
# shellcheck disable=SC3045  # busybox has it
ulimit -l unlimited

# What the command prints leaves by the port that the host has named out.
port=$(grep -lx out $root/sys/class/virtio-ports/*/name)
port=${port%/name}
{
  chroot $root /bin/bash "/run/guest/command$node" 2>&1 <"$root/dev/null"
  echo $? >"$root/run/guest/status$node"
} | cat >"$root/dev/${port##*/}"
umount $root/run/guest
umount "$root$share"
poweroff -f
