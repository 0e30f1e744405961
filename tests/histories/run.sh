#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs random page-table histories: run.sh GNOMON GUEST COUNT STEPS [OPTION...]
# COUNT histories of STEPS steps each. GNOMON_SEED is the first seed (default 1); GNOMON_CASES replaces COUNT.
# OPTION: more of `gnomon run`, such as --check-shadow 1.
set -u
gnomon=$1 guest=$2 count=${GNOMON_CASES:-$3} steps=$4
shift 4
seed=${GNOMON_SEED:-1}
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
total=0
# A machine for each history, so that one seed is enough to make a failure again.
for ((n = seed; n < seed + count; ++n)); do
    timeout 280 "$gnomon" run --kernel "$guest" --memory 1056M --no-reboot --append "seed=$n steps=$steps" "$@" \
        </dev/null >"$scratch/out" 2>"$scratch/err"
    status=$?
    if [ "$status" != 0 ] || ! grep -aq '^PASSED histories 1' "$scratch/out"; then
        cat "$scratch/out" "$scratch/err"
        echo "exit status $status"
        echo "to reproduce: $gnomon run --kernel $guest --memory 1056M --append 'seed=$n steps=$steps' $*"
        exit 1
    fi
    grep -a '^seed' "$scratch/out" | tr -d '\r'
    # What a processor with a write buffer may not do: report a fault before it knows of all edits.
    if ! grep -aq ' spurious 0 ' "$scratch/out"; then
        echo "page faults that the guest's tables as they were did not ask for"
        exit 1
    fi
    total=$((total + steps))
done
echo "PASSED: $total steps in $count histories from seed $seed"
