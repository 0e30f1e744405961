#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/perf-guest.sh PERF-DATA MAP [KALLSYMS]
# Where `perf record` found Gnomon: its own functions, its routines around translated code, and the guest's code by
# address. MAP is what --perf-map wrote in the same run. KALLSYMS is the guest's /proc/kallsyms (boot with nokaslr, read
# it as root), by which the kernel's functions get their names. For example:
#   perf record -e cpu-clock -o perf.data build/release/gnomon trace --perf-map code.map -o /dev/null -- sh -c 'ls /'
#   scripts/perf-guest.sh perf.data code.map
set -euo pipefail
[ $# -eq 2 ] || [ $# -eq 3 ] || { echo "usage: scripts/perf-guest.sh PERF-DATA MAP [KALLSYMS]" >&2; exit 2; }
for file in "$@"; do
    [ -r "$file" ] || { echo "scripts/perf-guest.sh: cannot read $file" >&2; exit 1; }
done
export LC_ALL=C
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Addresses as digits of one width compare as text. Of lines for one place the last one counts.
awk '{ while (length($1) < 16) $1 = "0" $1; print }' "$2" | sort -s -k 1,1 |
    awk '$1 != last && NR > 1 { print line } { last = $1; line = $0 } END { print line }' >"$work/map"
if [ $# -eq 3 ]; then
    awk '$2 ~ /^[tTwW]$/ { print $1, $3 }' "$3" | sort -s -k 1,1 >"$work/symbols"
else
    : >"$work/symbols"
fi
perf script -i "$1" -F ip,sym,dso 2>/dev/null >"$work/samples"
awk -v map="$work/map" -v symbols="$work/symbols" '
    function number(hex,   n, i) {
        for (i = 1; i <= length(hex); i++) n = n * 16 + index("0123456789abcdef", substr(hex, i, 1)) - 1
        return n
    }
    # The last index of `starts` whose text is not behind `key`; 0 if there is none.
    function place(starts, count, key,   low, high, middle) {
        low = 0; high = count
        while (low < high) {
            middle = int((low + high + 1) / 2)
            if (starts[middle] "" <= key "") low = middle; else high = middle - 1
        }
        return low
    }
    function padded(hex) { while (length(hex) < 16) hex = "0" hex; return hex }
    BEGIN {
        while ((getline line <map) > 0) {
            split(line, field, " ")
            start[++blocks] = field[1]; end[blocks] = number(field[1]) + number(field[2]); name[blocks] = field[3]
        }
        while ((getline line <symbols) > 0) {
            split(line, field, " ")
            from[++functions] = field[1]; function_name[functions] = field[2]
        }
    }
    NF == 0 { next }
    {
        total++
        what = $0
        sub(/^ *[0-9a-f]+ /, "", what)
        if ($0 ~ /gnomon-code/) {
            what = "translated code that is not in the map"
            n = place(start, blocks, padded($1))
            if (n > 0 && number($1) < end[n]) {
                what = name[n]
                if (functions > 0 && what ~ /^kernel:/) {
                    f = place(from, functions, padded(substr(what, 8)))
                    if (f > 0) what = "kernel:" function_name[f]
                }
            }
            kind = what; sub(/:.*/, "", kind)
            kind = kind == "user" || kind == "kernel" ? "guest " kind : kind == "gnomon" ? "routines" : kind
        } else if ($0 ~ /kernel.kallsyms/) {
            kind = "host kernel"
        } else {
            kind = "gnomon and libraries"
        }
        kinds[kind]++
        count[what]++
    }
    END {
        if (total == 0) exit
        for (kind in kinds) printf "0 %7d %6.2f %%  %s\n", kinds[kind], 100 * kinds[kind] / total, kind
        for (what in count) printf "1 %7d %6.2f %%  %s\n", count[what], 100 * count[what] / total, what
    }' "$work/samples" | sort -k 1,1 -k 2,2nr | awk '$1 == 1 && !second { print ""; second = 1 } second && ++shown > 60 { exit } { print substr($0, 3) }'
