#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# bench/completions.sh [ROUNDS [REQUESTS]]: the fragile guests of tests/completions under each completion policy, in alternation;
# the median of ROUNDS (5). The disk is in memory. Needs the target fragile_bench in build/release.
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."
rounds=${1:-5} requests=${2:-100000}
program=build/release/tests/completions/fragile_bench
[ -x "$program" ] || { echo "no $program: ninja -C build/release fragile_bench" >&2; exit 2; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# measure FILE POLICY BUG REQUESTS DEPTH: one line of figures; requests a second go to FILE.
measure() {
    local line
    line=$("$program" "$2" "$3" "$4" "$5" hdd-7200) || { echo "died: $line" >&2; exit 1; }
    awk '{ for (i = 1; i <= NF; ++i) if ($i == "requests/s") print $(i - 1) }' <<<"$line" >>"$scratch/$1"
}
median() { sort -n "$scratch/$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

for depth in 1 4 16 32; do
    for ((round = 0; round < rounds; ++round)); do
        measure "robust.$depth" immediate 0 "$requests" "$depth"
        for bug in 1 2 3 4; do measure "fragile$bug.$depth" adaptive "$bug" "$requests" "$depth"; done
        measure "fixed.$depth" fixed=1ms 0 $((requests / 50)) "$depth"
    done
    robust=$(median "robust.$depth") fixed=$(median "fixed.$depth")
    printf 'depth %-2s  robust immediate %8s/s  robust fixed=1ms %6s/s' "$depth" "$robust" "$fixed"
    for bug in 1 2 3 4; do
        fragile=$(median "fragile$bug.$depth")
        printf '  bug %s adaptive %8s/s (%.0f %%, %.0fx)' "$bug" "$fragile" "$(bc -l <<<"100 * $fragile / $robust")" \
            "$(bc -l <<<"$fragile / $fixed")"
    done
    echo
done
