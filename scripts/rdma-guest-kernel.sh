#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes what the RDMA guest boots in the folder $1: vmlinux, modules.cpio with its modules, busybox.
#
# Debian's packages of the kernel and of busybox-static are downloaded and unpacked there, and never
# installed. Exits with 77 and one sentence where they cannot be had.
set -euo pipefail
folder=$1

# What loads another module by itself in a full system has to be named here: rxe asks for crc32 by
# its name in the crypto API, and netem is asked for by tc.
modules=(
  virtio_mmio virtio_net virtio_console 9pnet_virtio 9p overlay
  crc32_generic crc32-pclmul ib_uverbs rdma_ucm ib_umad rdma_rxe
  veth sch_netem
)

cannot() {
  echo "rdma-guest: $*" >&2
  exit 77
}

# Download a package and unpack it into a folder.
unpack() {
  local package=$1 into=$2
  echo "rdma-guest: downloading $package" >&2
  apt-get -q download "$package" >apt.log 2>&1 ||
    cannot "$package cannot be downloaded: $(tail -n 1 apt.log)"
  dpkg-deb -x "$package"_*.deb "$into"
}

# Take the kernel proper out of its self-extracting image: the guest, which is emulated, would need
# seconds for that at each boot. Offsets as in the kernel's Documentation/x86/boot.rst.
extract_kernel() {
  python3 - "$1" "$2" <<'PYTHON'
import lzma
import struct
import sys

image = open(sys.argv[1], "rb").read()
setup_sectors = image[0x1F1]
payload_offset, = struct.unpack_from("<I", image, 0x248)
start = (setup_sectors + 1) * 512 + payload_offset
open(sys.argv[2], "wb").write(lzma.LZMADecompressor().decompress(image[start:]))
PYTHON
}

# Copy a module and those that it needs to ./initial, and note the order in which they are loaded.
add_module() {
  local name=$1 tree=$2 line files position file
  line=$(grep -m 1 "/$name\.ko:" "$tree/modules.dep") || cannot "the kernel has no module $name"
  read -r -a files <<<"${line/:/}"
  for ((position = ${#files[@]} - 1; position >= 0; position--)); do
    file=${files[position]##*/}
    [[ ! -e initial/modules/$file ]] || continue
    cp "$tree/${files[position]}" "initial/modules/$file"
    echo "$file" >>initial/modules/order
  done
}

mkdir -p "$folder"
work=$(mktemp -d "$folder/making.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
command -v apt-get apt-cache dpkg-deb >/dev/null || cannot "only Debian has its kernel"
package=$(apt-cache depends linux-image-amd64 2>/dev/null | awk '/Depends:/ { print $2; exit }')
[[ -n $package ]] || cannot "apt knows no package linux-image-amd64; run apt-get update"
unpack "$package" kernel
unpack busybox-static busybox
busybox=$PWD/busybox/bin/busybox
version=$(ls kernel/lib/modules)
extract_kernel "kernel/boot/vmlinuz-$version" vmlinux
"$busybox" depmod -b "$PWD/kernel" "$version"
mkdir -p initial/{bin,dev,proc,sys,modules}
for module in "${modules[@]}"; do
  add_module "$module" "kernel/lib/modules/$version"
done
cp "$busybox" initial/bin/busybox
ln -s busybox initial/bin/sh
(cd initial && find . | "$busybox" cpio -o -H newc 2>/dev/null) >modules.cpio
mv vmlinux modules.cpio "$busybox" ..
