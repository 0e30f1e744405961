#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/fetch.sh [--generic] [--update]
# Fetches what the guests of the demo and the tests run, with apt, without installing it and without root:
#   build/guest/cloud/vmlinuz         Debian's current linux-image-cloud-amd64
#   build/guest/busybox/bin/busybox   busybox-static
#   build/guest/generic/vmlinuz       with --generic: linux-image-amd64
# What is there already stays as it is, unless --update.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

generic='' update=''
for option in "$@"; do
    case $option in
    --generic) generic=1 ;;
    --update) update=1 ;;
    *) die "unknown option '$option'; there are --generic and --update" ;;
    esac
done
guest=$root/build/guest

work='' apt_options=(-o Acquire::Retries=3)
# apt drops to the user _apt, who cannot write below our build folder, and would warn about it.
[ "$(id -u)" -ne 0 ] || apt_options+=(-o APT::Sandbox::User=root)
trap 'if [ -n "$work" ]; then rm -rf -- "$work"; fi' EXIT

prepare() {
    [ -z "$work" ] || return 0
    local tool
    for tool in apt-get apt-cache dpkg-deb; do
        command -v "$tool" >/dev/null || die "$tool is needed to fetch Debian's packages; scripts/setup.sh demo"
    done
    mkdir -p -- "$guest"
    work=$(mktemp -d -- "$guest/.fetch.XXXXXX")
}

# The system's package lists may be absent or too old to name a file that still exists. Lists of our own, beside the
# build, can be brought up to date without root and leave the system's alone.
own_lists=''
use_own_lists() {
    [ -z "$own_lists" ] || return 1
    own_lists=$work/apt
    mkdir -p -- "$own_lists"/{lists/partial,cache/archives/partial}
    apt_options+=(-o "Dir::State::lists=$own_lists/lists" -o "Dir::Cache=$own_lists/cache")
    quietly "$root/build/log/fetch-update.log" apt-get "${apt_options[@]}" update -q ||
        die "apt cannot update its package lists; see build/log/fetch-update.log"
}

# real_package NAME: the package that the metapackage NAME stands for at present, or nothing.
real_package() {
    apt-cache "${apt_options[@]}" depends "$1" 2>/dev/null |
        sed -n 's/^ *|*Depends: \(linux-image-[0-9][^ ]*\)$/\1/p' | head -n 1
}

# download PACKAGE DIRECTORY: leaves one .deb in DIRECTORY.
download() {
    mkdir -p -- "$2"
    (cd -- "$2" && apt-get "${apt_options[@]}" download -q "$1") >"$root/build/log/fetch-$1.log" 2>&1 </dev/null
}

# unpack PACKAGE NAME: the package's files in build/guest/NAME, replaced in one step.
unpack() {
    local package=$1 name=$2 archive
    if ! download "$package" "$work/download"; then
        { use_own_lists && download "$package" "$work/download"; } || {
            tail -n 5 -- "build/log/fetch-$package.log" >&2
            die "cannot download $package; is Debian 12 (bookworm) in apt's sources, and the network there?"
        }
    fi
    archive=$(find "$work/download" -name '*.deb' -print -quit)
    [ -n "$archive" ] || die "apt-get download $package left no package"
    mkdir -- "$work/$name"
    dpkg-deb -x "$archive" "$work/$name" || die "cannot unpack $(basename -- "$archive")"
    if [ -d "$work/$name/boot" ]; then
        local image
        image=$(find "$work/$name/boot" -name 'vmlinuz-*' -print -quit)
        [ -n "$image" ] || die "$package holds no boot/vmlinuz-*"
        chmod a+r -- "$image"
        ln -s "boot/$(basename -- "$image")" "$work/$name/vmlinuz"
    fi
    rm -rf -- "${guest:?}/$name"
    mv -- "$work/$name" "$guest/$name"
    rm -rf -- "$work/download"
    say "fetch: $package in build/guest/$name"
}

# fetch NAME FILE PACKAGE: unless build/guest/NAME/FILE is there.
fetch() {
    local name=$1 file=$2 package=$3 real
    if [ -z "$update" ] && [ -s "$guest/$name/$file" ]; then return 0; fi
    prepare
    mkdir -p -- "$root/build/log"
    case $package in
    linux-image-*)
        real=$(real_package "$package") || true
        if [ -z "$real" ] && use_own_lists; then real=$(real_package "$package") || true; fi
        [ -n "$real" ] || die "apt knows no $package; is Debian 12 (bookworm) in its sources?"
        package=$real
        ;;
    esac
    unpack "$package" "$name"
    [ -s "$guest/$name/$file" ] || die "$package holds no $file"
}

fetch cloud vmlinuz linux-image-cloud-amd64
fetch busybox bin/busybox busybox-static
[ -z "$generic" ] || fetch generic vmlinuz linux-image-amd64
