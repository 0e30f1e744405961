#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/setup.sh [build|test|demo|fuzz|bench]...
# Makes sure that the Debian 12 packages for these purposes are there (default: build). As root it installs what is missing;
# otherwise it names the missing packages with the command that installs them, and exits 1. Silent when all is there.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

# Compiler and build system; then the libraries, as docs/PLAN.md and the CMake files use them. The test framework is here
# because one configuration of the tree serves both the program and its tests.
build_packages=(
    build-essential g++ binutils cmake ninja-build pkg-config acpica-tools
    libzydis-dev libxbyak-dev libexpected-dev libfmt-dev libspdlog-dev libcli11-dev libtomlplusplus-dev
    nlohmann-json3-dev libbpf-dev libseccomp-dev libelf-dev liblzma-dev libzstd-dev zlib1g-dev liblz4-dev
    liburing-dev libnbd-dev libgtest-dev libgmock-dev
)
# Fetching and unpacking the guest's kernel and programs (scripts/fetch.sh).
demo_packages=(apt dpkg ca-certificates)
# strace is the oracle of the trace's own tests; the benchmark's driver and its tests are in Python; qcow2 images take
# qemu-nbd (also where Gnomon runs: without it, it says so); the rest makes disks (scripts/disk-guests.sh).
test_packages=("${demo_packages[@]}" strace python3 qemu-utils mmdebstrap e2fsprogs fakeroot)
fuzz_packages=(clang)
# What bench/run.sh compares with, and the guests' Debian. The benchmarks of the processor (bench/processor) are built
# only where libbenchmark-dev is.
bench_packages=(qemu-system-x86 mmdebstrap python3 util-linux libbenchmark-dev)
# Nice to have: installed along with missing test packages, never asked for. The style check does without them.
optional_test_packages=(clang-format shellcheck)

packages=() optional=()
[ $# -gt 0 ] || set -- build
for purpose in "$@"; do
    case $purpose in
    build) packages+=("${build_packages[@]}") ;;
    test) packages+=("${test_packages[@]}") optional+=("${optional_test_packages[@]}") ;;
    demo) packages+=("${demo_packages[@]}") ;;
    fuzz) packages+=("${fuzz_packages[@]}") ;;
    bench) packages+=("${bench_packages[@]}") ;;
    *) die "unknown purpose '$purpose'; there are build, test, demo, fuzz and bench" ;;
    esac
done

command -v dpkg-query >/dev/null ||
    die "this is no Debian system; install the like of: ${packages[*]}; then: cmake --preset release && cmake --build --preset release"

# missing PACKAGE...: those that are not installed, one per line.
missing() {
    local installed package
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^installed //p') || true
    for package in "$@"; do
        grep -qxF -- "$package" <<<"$installed" || printf '%s\n' "$package"
    done
}

mapfile -t wanted < <(missing "${packages[@]}" | sort -u)
[ "${#wanted[@]}" -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    printf 'scripts/setup.sh: Debian packages are missing. As root:\n' >&2
    printf '  apt-get update && apt-get install -y --no-install-recommends %s\n' "${wanted[*]}" >&2
    exit 1
fi

[ "${#optional[@]}" -eq 0 ] || mapfile -t -O "${#wanted[@]}" wanted < <(missing "${optional[@]}")
say "setup: installing ${#wanted[@]} packages"
export DEBIAN_FRONTEND=noninteractive
quietly build/log/apt-update.log apt-get update -q -o Acquire::Retries=3
quietly build/log/apt-install.log \
    apt-get install -y -q --no-install-recommends -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 "${wanted[@]}"
