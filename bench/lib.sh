# SPDX-License-Identifier: Apache-2.0
# Shared by run.sh and compare.sh, which source it: makes what the driver needs, and starts it.
# shellcheck shell=bash
set -euo pipefail
called_from=$PWD
# shellcheck source=scripts/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../scripts/lib.sh"

# bench ACTION TARGETS ARGUMENT...: the driver's ACTION, after building TARGETS (separated by spaces) of the release.
bench() {
    local action=$1 targets=$2 argument
    shift 2
    # The distribution's Python: another one in PATH may be of any age.
    local python=/usr/bin/python3
    [ -x $python ] || python=python3
    for argument in "$@"; do
        case $argument in
        -h | --help)
            cd -- "$called_from"
            exec "$python" -B "$root/bench/driver" "$action" --help
            ;;
        esac
    done
    {
        scripts/setup.sh build demo bench
        # shellcheck disable=SC2086 # the targets are separate words
        scripts/build.sh release $targets bench_programs
        scripts/fetch.sh
        bench/image.sh
    } >&2
    # Files are named from where the user is.
    cd -- "$called_from"
    exec "$python" -B "$root/bench/driver" "$action" "$@"
}
