#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs a bare-metal guest and judges its output: run_guest.sh EXPECTED COMMAND...
# EXPECTED: passed        every check passed and the guest powered off
#           reset         the guest wrote the reset port, and that ended the machine
#           triple_fault  the processor shut down: exit status 1, its state on stderr
#           qemu          as `passed`, on QEMU with isa-debug-exit
set -u
expected=$1
shift
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT

timeout 50 "$@" < /dev/null > "$scratch/out" 2> "$scratch/err"
status=$?
tr -d '\r' < "$scratch/out" > "$scratch/text"

refuse() {
    echo "--- standard output"
    cat "$scratch/text"
    echo "--- standard error"
    cat "$scratch/err"
    echo "--- exit status $status"
    grep -a '^FAIL' "$scratch/text"
    echo "not as expected: $1"
    exit 1
}
says() { grep -aq "$1" "$scratch/text"; }

case $expected in
passed | qemu)
    wanted_status=0
    [ "$expected" = qemu ] && wanted_status=33
    says '^FAIL' && refuse 'a check failed'
    says '^PASSED [a-z_0-9]*: checks [1-9]' || refuse 'the guest did not reach its end'
    [ "$status" = "$wanted_status" ] || refuse "exit status $wanted_status"
    ;;
reset)
    says '^FAIL' && refuse 'a check failed'
    says '^about to reset$' || refuse 'the guest did not begin'
    says '^after the reset$' && refuse 'the reset ends the machine'
    [ "$status" = 0 ] || refuse 'exit status 0'
    ;;
triple_fault)
    says '^FAIL' && refuse 'a check failed'
    says '^about to shut down$' || refuse 'the guest did not begin'
    says '^after the shutdown$' && refuse 'the triple fault ends the machine'
    [ "$status" = 1 ] || refuse 'exit status 1'
    grep -q 'triple fault' "$scratch/err" || refuse 'stderr says what happened'
    grep -q 'RAX=00000000cafe0001' "$scratch/err" || refuse 'stderr shows the registers'
    grep -Eq 'RIP=0{8}[0-9a-f]{8} ' "$scratch/err" || refuse 'stderr shows RIP'
    grep -Eq 'CR3=0{8}[0-9a-f]{8} ' "$scratch/err" || refuse 'stderr shows CR3'
    ;;
*) refuse "one of passed, reset, triple_fault, qemu as the first argument, not $expected" ;;
esac
tail -n 1 "$scratch/text"
