# SPDX-License-Identifier: Apache-2.0
# Shared by the scripts here, which source it: where the tree is, one way to fail, one way to be quiet.
# shellcheck shell=bash

# One language and one byte order for every tool's messages and for sort, whatever the user's locale.
export LC_ALL=C

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# The folder that commands are run from: our own messages and paths do not depend on the caller's.
cd -- "$root" || exit 1

# One clear line, then exit 1.
die() {
    printf '%s: %s\n' "scripts/$(basename -- "$0")" "$*" >&2
    exit 1
}

# What the script is doing now: one line on stdout.
say() { printf '== %s\n' "$*"; }

# quietly LOG COMMAND...: runs COMMAND with its output in LOG; shows LOG's end only when it fails.
quietly() {
    local log=$1 status=0
    shift
    mkdir -p -- "$(dirname -- "$log")"
    "$@" >"$log" 2>&1 </dev/null || status=$?
    [ "$status" -ne 0 ] || return 0
    tail -n 60 -- "$log" >&2
    printf '%s: failed with status %d: %s\n(the whole output: %s)\n' \
        "scripts/$(basename -- "$0")" "$status" "$*" "$log" >&2
    return "$status"
}

# As many jobs as processors, unless the user said otherwise in these variables of CMake's.
jobs=$(nproc 2>/dev/null || echo 2)
export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$jobs}
export CTEST_PARALLEL_LEVEL=${CTEST_PARALLEL_LEVEL:-$jobs}
