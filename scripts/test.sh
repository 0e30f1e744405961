#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/test.sh [--full]
# Sets up, builds and tests: the style, the release build, and the unit tests under AddressSanitizer and
# UndefinedBehaviorSanitizer. --full adds the long tests (ctest label "full"), among them the generic kernel's.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

full=''
for option in "$@"; do
    case $option in
    --full) full=1 ;;
    *) die "unknown option '$option'; there is --full" ;;
    esac
done

# tests NAME [CTEST-ARGUMENT...]: runs the test preset NAME, and shows a failing test's output.
tests() {
    say "test: $1"
    local log=build/log/ctest-$1.log
    quietly "$log" ctest --preset "$@" || return 1
    grep -E '^[0-9]+% tests passed' "$log" || true
    sed -n '/^The following tests did not run/,/^$/p' "$log"
}

scripts/setup.sh build test
scripts/style.sh
if [ -n "$full" ]; then scripts/fetch.sh --generic; else scripts/fetch.sh; fi
disk_guests=(fio)
[ -z "$full" ] || disk_guests=(fio debian)
scripts/disk-guests.sh "${disk_guests[@]}" ||
    say "test: no disk guests for ${disk_guests[*]}; the tests that need them are skipped"

scripts/build.sh release
if [ -n "$full" ]; then tests release-full; else tests release; fi

# The unit tests that need no translated code: what runs there is not the compiler's, and its faults are signals
# that the sanitizers would claim.
suites=(platform shadow trace guest_linux guest_boot system_instructions string_instructions)
# Of the fuzz targets the short slices; scripts/fuzz.sh lets libFuzzer have them for longer.
scripts/build.sh asan-ubsan "${suites[@]/#/test_}" fuzz_targets
tests asan-ubsan -R "^($(IFS='|'; echo "${suites[*]}|fuzz"))\\."
say "test: all passed"
