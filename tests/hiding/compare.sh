#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# compare.sh MODE GNOMON GUEST CASES [OPTION of gnomon trace]...
# MODE: same      the guest prints the same with the hook (gnomon trace) and without it (gnomon run)
#       shutdown  so too when it ends by a triple fault, the processor's state included
#       truth     the trace has the system calls that the guest says it made, and no others
# GNOMON_SEED, GNOMON_CASES and GNOMON_CASE (one random case) choose the random part.
set -euo pipefail
mode=$1 gnomon=$2 guest=$3 cases=${GNOMON_CASES:-$4}
shift 4
seed=${GNOMON_SEED:-1}
words="seed=$seed cases=$cases"
[ -z "${GNOMON_CASE:-}" ] || words="seed=$seed from=$GNOMON_CASE cases=1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# machine NAME STATUS COMMAND...: its output without carriage returns to NAME, stderr to NAME.err
machine() {
    local name=$1 expected=$2 status=0
    shift 2
    timeout 500 "$@" </dev/null >"$work/raw" 2>"$work/$name.err" || status=$?
    tr -d '\r' <"$work/raw" >"$work/$name"
    [ "$status" -eq "$expected" ] || {
        tail -n 3 "$work/$name" "$work/$name.err"
        fail "exit status $status of: $*"
    }
}
unhooked() { machine unhooked "$1" "$gnomon" run --kernel "$guest" --no-reboot --append "$2"; }
hooked() {
    local expected=$1 append=$2
    shift 2
    machine hooked "$expected" "$gnomon" trace --kernel "$guest" --no-reboot --append "$append" -o "$work/trace" "$@"
}
fail() {
    echo "FAIL: $*"
    exit 1
}
# The values of the first case that differs, from both sides.
explain() {
    local name number again
    # The line may be the one behind a hang: then it is the case that was under way.
    read -r name number < <(diff "$work/unhooked" "$work/hooked" | sed -nE '/^[<>]/{s/^[<>] //; s/:.*//; p; q}') || true
    echo "first difference: ${name:-} ${number:-}"
    case ${name:-} in
    random) again="seed=$seed from=$((16#$number)) cases=1 directed=65535 verbose" ;;
    directed) again="cases=0 directed=$((16#$number)) verbose" ;;
    *) again="cases=0 verbose" ;;
    esac
    unhooked 0 "$again"
    hooked 0 "$again" "$@"
    diff "$work/unhooked" "$work/hooked" | cut -c 1-600 | head -n 40 || true
    echo "again: $gnomon trace --kernel $guest --no-reboot --append '$again' $*"
}

case $mode in
same)
    unhooked 0 "$words"
    hooked 0 "$words" "$@"
    [ "$(tail -n 1 "$work/unhooked")" = END ] || fail "the guest did not reach its end: $(tail -n 1 "$work/unhooked")"
    cmp -s "$work/unhooked" "$work/hooked" || {
        explain "$@"
        fail "the guest sees the hook (GNOMON_SEED=$seed)"
    }
    echo "$(grep -c : "$work/unhooked") cases, seed $seed: the same"
    ;;
shutdown)
    unhooked 1 "$words fatal"
    hooked 1 "$words fatal" "$@"
    [ "$(tail -n 1 "$work/unhooked")" = FATAL ] || fail "the guest did not come to its last case"
    cmp "$work/unhooked" "$work/hooked" || fail "the guest sees the hook"
    grep -v warning "$work/hooked.err" | diff "$work/unhooked.err" - || fail "the states differ"
    ;;
truth)
    hooked 0 "$words list" -e trace=all "$@"
    [ "$(tail -n 1 "$work/hooked")" = END ] || fail "the guest did not reach its end: $(tail -n 1 "$work/hooked")"
    sed -n 's/^CALL //p' "$work/hooked" >"$work/made"
    # [cr3 0x207000] syscall_0x190(0x1, 0x2, ... <unfinished ...>: numbers only, of five arguments
    sed -nE 's/^\[cr3 ([^]]*)\] ([^(]*)\((.*) <unfinished \.\.\.>$/\1 \2 \3/p' "$work/trace" |
        sed -E 's/syscall_//; s/0x//g; s/,//g' | cut -d ' ' -f 1-7 >"$work/seen"
    [ -s "$work/made" ] || fail "the guest made no system call"
    diff "$work/made" "$work/seen" >"$work/difference" || {
        head -n 20 "$work/difference"
        fail "the trace (>) is not what the guest made (<); seed $seed"
    }
    said=$(tail -n 1 "$work/trace" | sed -nE 's/^gnomon: ([0-9]+) system calls entered.*/\1/p')
    [ "$said" = "$(wc -l <"$work/made")" ] || fail "the trace counts $said calls"
    echo "$said system calls, seed $seed: all seen, none invented"
    ;;
*) fail "unknown mode $mode" ;;
esac
