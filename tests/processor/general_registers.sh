#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tests/processor/general_registers.sh LIBRARY PROGRAM MEMBER...
# Checks that what translated code calls without saving vector and x87 registers (processor/soft/calls.h) does not touch
# them: the MEMBERs of the static LIBRARY, what these call outside themselves, and, in the linked PROGRAM, the inline
# functions that they share with other files, of which the linker keeps one copy.
set -euo pipefail
export LC_ALL=C

[ $# -ge 3 ] || {
    echo "usage: $0 LIBRARY PROGRAM MEMBER..." >&2
    exit 2
}
library=$1 program=$2
shift 2
members=("$@")
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

# The only functions outside: what does not come back, and what is given to call_outside.
allowed='^(gnomon::verification_failed\(.*|__stack_chk_fail|std::__throw_.*'
allowed+='|gnomon::processor::soft::(CodeCache::drop|make_twin|translate_singly|borrow_fetches)\(.*)$'
vectors='%[xyz]mm[0-9]|%mm[0-9]|%st\b'

(cd -- "$work" && ar x "$library" "${members[@]}")
failed=0
complain() {
    printf '%s: %s\n' "$(basename -- "$0")" "$1" >&2
    failed=1
}

for member in "${members[@]}"; do
    if objdump -d --no-show-raw-insn "$work/$member" | grep -E -m 3 "$vectors"; then
        complain "$member uses vector or x87 registers"
    fi
done

names() { sed -E 's/^[0-9a-f ]* [A-Za-z] //' | sort -u; }
(cd -- "$work" && nm -C --defined-only "${members[@]}") | grep -E ' [TtWVDdRrBbu] ' | names >"$work/defined"
(cd -- "$work" && nm -C --undefined-only "${members[@]}") | grep -E ' U ' | names >"$work/undefined"
[ -s "$work/defined" ] || complain "nm found no symbols"
outside=$(comm -13 "$work/defined" "$work/undefined" | grep -vE "$allowed" || true)
[ -z "$outside" ] || complain "called outside, and not known to leave the registers alone:
$outside"

# One pass over the program: which functions use the registers at all.
(cd -- "$work" && nm --defined-only "${members[@]}") | sed -n 's/^[0-9a-f]* [WV] //p' | sort -u >"$work/shared"
objdump -d --no-show-raw-insn "$program" |
    awk -v vectors="${vectors//\\b/([^a-z0-9]|\$)}" '
        /^[0-9a-f]+ <.*>:$/ { name = substr($2, 2, length($2) - 3); next }
        name != "" && $0 ~ vectors { print name; name = "" }' | sort -u >"$work/users"
[ -s "$work/users" ] || complain "objdump found no function in $program that uses vector registers"
both=$(comm -12 "$work/shared" "$work/users")
[ -z "$both" ] || complain "inline functions whose linked copy uses vector or x87 registers:
$both"
[ "$failed" -eq 0 ] && printf '%d members, %d shared functions: general registers only\n' \
    "${#members[@]}" "$(wc -l <"$work/shared")"
exit "$failed"
