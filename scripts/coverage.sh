#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/coverage.sh [SUITE...]
# Builds the preset coverage, runs the suites (default: those that need no translated code, and the fuzz targets' slices)
# and prints how many of the lines that the compiler made code for were run, by folder of src.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

for suite in "$@"; do
    case $suite in
    -*) die "unknown option '$suite'; name suites, such as platform or fuzz" ;;
    esac
done
suites=("$@")
[ "${#suites[@]}" -gt 0 ] || suites=(platform shadow trace guest_linux guest_boot cli fuzz)
command -v gcov >/dev/null || die "gcov is missing; it comes with gcc"

scripts/setup.sh build test
targets=()
for suite in "${suites[@]}"; do
    if [ "$suite" = fuzz ]; then targets+=(fuzz_targets); else targets+=("test_$suite"); fi
done
scripts/build.sh coverage "${targets[@]}"
# Counters add up over runs; begin from nothing.
find build/coverage -name '*.gcda' -delete
say "test: coverage"
quietly build/log/ctest-coverage.log ctest --preset coverage -R "^($(IFS='|'; echo "${suites[*]}"))\\."

# gcov says for each file of a translation unit "File 'NAME'" and "Lines executed:P% of N"; headers come with many units and
# are left out.
mapfile -d '' -t counters < <(find "$root/build/coverage/src" -name '*.gcda' -print0)
[ "${#counters[@]}" -gt 0 ] || die "the tests left no counters below build/coverage/src"
gcov --no-output --relative-only --source-prefix "$root" "${counters[@]}" 2>build/log/gcov.log |
    awk '
        /^File / { name = substr($0, 7, length($0) - 7) }
        /^Lines executed:/ && name ~ /^src\/.*\.cpp$/ {
            split(substr($0, 16), part, "% of ")
            folder = name
            sub(/\/[^\/]*$/, "", folder)
            run[folder] += part[1] * part[2] / 100; lines[folder] += part[2]
            run["src"] += part[1] * part[2] / 100; lines["src"] += part[2]
        }
        { if ($0 !~ /^File /) name = "" }
        END {
            for (folder in lines)
                printf "%-28s %6d of %6d lines  %5.1f %%\n", folder, run[folder] + 0.5, lines[folder],
                       100 * run[folder] / lines[folder]
        }' | sort
