#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# bench/image.sh [--update]
# Makes the Debian root file system of the benchmark's guests, build/bench/root.tar, with mmdebstrap: packages unpacked and
# not configured, which takes seconds and no root, and is all that the rows need. What is there already stays as it is,
# unless this script changed or --update asks for Debian's current packages. The driver packs the tar into an initramfs.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../scripts/lib.sh"

update=''
for option in "$@"; do
    case $option in
    --update) update=1 ;;
    *) die "unknown option '$option'; there is --update" ;;
    esac
done

packages=dash,coreutils,grep,diffutils,gzip,7zip,python3-minimal,openssl,sqlite3,rt-tests
directory=build/bench
stamp=$directory/root.stamp
wanted=$(sha256sum <bench/image.sh)
if [ -z "$update" ] && [ -s $directory/root.tar ] && [ "$(cat $stamp 2>/dev/null)" = "$wanted" ]; then exit 0; fi

command -v mmdebstrap >/dev/null || die "mmdebstrap is needed for the guests' Debian; scripts/setup.sh bench"
mkdir -p $directory
say "bench: unpacking Debian for the guests"
rm -f $stamp
quietly build/log/bench-image.log mmdebstrap --mode=chrootless --variant=extract --include=$packages --format=tar \
    bookworm $directory/root.tar.new ||
    die "mmdebstrap cannot make the guests' Debian (see build/log/bench-image.log); is the network there?"
mv -- $directory/root.tar.new $directory/root.tar
printf '%s\n' "$wanted" >$stamp
