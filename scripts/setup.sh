#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what the build needs on Debian 12, and removes nothing.
#
# Run it, or source it: then `cmake_arguments` holds what configure needs beside its preset. Where
# another Boost is installed, which Debian would remove for 1.81, the headers of 1.81 are unpacked
# into build/deps instead.

packages=(
  g++ cmake ninja-build pkg-config ccache git python3 python3-dev python3-venv
  clang-14 libclang-rt-14-dev
  libboost1.81-dev libfmt-dev libspdlog-dev libcli11-dev libtomlplusplus-dev
  libflatbuffers-dev flatbuffers-compiler libxxhash-dev libssl-dev prometheus-cpp-dev
  nlohmann-json3-dev libgtest-dev libgmock-dev librapidcheck-dev
  nftables iproute2
)
# The RDMA transports are built where their libraries are, and tested where a guest can be booted.
# Without these everything else is. Not among them is rdma-core, whose udev rules nobody needs here.
rdma_packages=(
  libibverbs-dev libucx-dev
  qemu-system-x86 ibverbs-providers ibverbs-utils ucx-utils perftest
)
# Of PyPI, for the Python package, in build/venv. Without these everything else is.
python_packages=('nanobind>=3.1,<4' numpy pytest matplotlib)
boost_package=libboost1.81-dev
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
boost_include=$repository/build/deps/usr/include
cmake_arguments=()
# An object does not depend on its build folder, so ccache may give it to another one.
export CCACHE_NOHASHDIR=true

setup_fail() {
  echo "setup: $*" >&2
  return 1
}

missing_packages() {
  local package
  for package in "$@"; do
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
      echo "$package"
  done
}

without_boost() {
  (($#)) && printf '%s\n' "$@" | grep -vx "$boost_package"
}

# Print the packages that installing these would remove.
removed_by() {
  apt-get -s install --no-install-recommends "$@" 2>/dev/null | awk '$1 == "Remv" { print $2 }'
}

as_root() {
  if ((EUID == 0)); then
    "$@"
  else
    sudo "$@"
  fi
}

unpack_boost() {
  echo "setup: another Boost is installed and stays; unpacking $boost_package into build/deps"
  local folder=$repository/build/deps partial=$repository/build/deps.partial
  rm -rf "$partial"  # of a run that was interrupted
  if ! mkdir -p "$partial" || ! (cd "$partial" && apt-get download "$boost_package" &&
    dpkg-deb -x "$boost_package"_*.deb .) || ! mv -T "$partial" "$folder"; then
    setup_fail "$boost_package could not be downloaded and unpacked into $folder"
  fi
}

install_packages() {
  local missing=("$@")
  if ((EUID != 0)) && ! command -v sudo >/dev/null; then
    setup_fail "needs root or sudo to install: ${missing[*]}"
    return
  fi
  echo "setup: installing ${missing[*]}"
  as_root apt-get update -q || setup_fail "apt-get update failed" || return
  if [[ " ${missing[*]} " == *" $boost_package "* && -n $(removed_by "$boost_package") ]]; then
    unpack_boost || return
    mapfile -t missing < <(without_boost "${missing[@]}")
    ((${#missing[@]})) || return 0
  fi
  local removed
  mapfile -t removed < <(removed_by "${missing[@]}")
  ((${#removed[@]} == 0)) ||
    setup_fail "nothing was installed, for it would remove ${removed[*]}" || return
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -q -y --no-install-recommends --no-remove "${missing[@]}" ||
    setup_fail "apt-get could not install: ${missing[*]}"
}

# Install what RDMA needs, or say what will be missing.
install_rdma_packages() {
  local missing
  mapfile -t missing < <(missing_packages "${rdma_packages[@]}")
  ((${#missing[@]} == 0)) || install_packages "${missing[@]}" ||
    echo "setup: goes on without ${missing[*]}; what needs them is left out or skipped" >&2
}

# Put what the Python package is built and tested with into build/venv, or say what will be missing.
make_venv() {
  local venv=$repository/build/venv
  "$venv/bin/python" -c 'import nanobind, numpy, pytest, matplotlib' 2>/dev/null && return
  echo "setup: installing ${python_packages[*]} into build/venv"
  if ! python3 -m venv "$venv" || ! "$venv/bin/pip" install --quiet "${python_packages[@]}"; then
    echo "setup: goes on without ${python_packages[*]}; the Python package is left out" >&2
  fi
}

setup() {
  command -v apt-get dpkg-query >/dev/null ||
    setup_fail "this is no Debian; install what these stand for: ${packages[*]}" || return
  local missing
  mapfile -t missing < <(missing_packages "${packages[@]}")
  if [[ -d $boost_include/boost ]]; then
    mapfile -t missing < <(without_boost "${missing[@]}")
  fi
  if ((${#missing[@]})); then
    install_packages "${missing[@]}" || return
  fi
  install_rdma_packages
  make_venv
  if [[ -d $boost_include/boost ]]; then
    # shellcheck disable=SC2034  # for the script that sources this one
    cmake_arguments=(-DBoost_NO_BOOST_CMAKE=ON "-DBoost_INCLUDE_DIR=$boost_include")
  fi
}

setup
