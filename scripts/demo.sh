#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/demo.sh
# From a fresh clone to a traced guest: installs what is missing, builds, fetches Debian's kernel and busybox, and runs a
# small script in the guest under `gnomon trace`. Exit status 0 if and only if the guest's output and its traced calls came.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

[ $# -eq 0 ] || die "takes no arguments"
scripts/setup.sh build demo
scripts/build.sh release gnomon
scripts/fetch.sh

# shellcheck disable=SC2016 # the guest's shell expands it
script='
echo "this is $(uname -s) on $(uname -m), examined from outside" >/note
ls -l /
cat /note | tr a-z A-Z
'
log=build/log/demo.log
mkdir -p build/log
say "demo: gnomon trace -- sh -c '...'"
status=0
build/release/gnomon trace -- sh -c "$script" </dev/null 2>&1 | tee -- "$log" || status=$?
[ "$status" -eq 0 ] || die "gnomon trace ended with status $status"

# expect PATTERN WHAT
expect() { grep -aqE -- "$1" "$log" || die "the output lacks $2 (see $log)"; }
expect '^THIS IS LINUX ON X86_64, EXAMINED FROM OUTSIDE' "the guest's own output"
for call in execve openat read exit_group; do
    expect "\\b$call\\(" "a traced $call"
done
say "demo: done; now try: build/release/gnomon trace -- sh -c 'exit 7'; echo \$?"
