#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/fuzz.sh [--time SECONDS] [--minimise] [TARGET...]
# Runs the fuzz targets (default: all of fuzz/CMakeLists.txt) with libFuzzer, SECONDS in all (default 60) divided evenly
# among them, as many at a time as there are processors. Each starts from fuzz/corpus/TARGET and keeps what it finds in
# build/fuzz-corpus/TARGET, from which the next run goes on. Prints executions and crashes by target; the inputs that
# crashed stay in build/fuzz-artifacts. Exit status 1 if there was any.
#   --minimise: afterwards copy to fuzz/corpus what reaches code that the seeds there do not, while it is small.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

seconds=60 minimise='' targets=()
while [ $# -gt 0 ]; do
    case $1 in
    --time)
        [ $# -ge 2 ] || die "--time needs a number of seconds"
        seconds=$2
        shift
        ;;
    --minimise) minimise=1 ;;
    -*) die "unknown option '$1'; there are --time and --minimise" ;;
    *) targets+=("$1") ;;
    esac
    shift
done
[[ $seconds =~ ^[1-9][0-9]*$ ]] || die "--time $seconds: not a number of seconds"

mapfile -t known < <(sed -n 's/^gnomon_fuzzer(\([a-z0-9_]*\).*/\1/p' fuzz/CMakeLists.txt)
[ "${#targets[@]}" -gt 0 ] || targets=("${known[@]}")
for target in "${targets[@]}"; do
    printf '%s\n' "${known[@]}" | grep -qxF -- "$target" ||
        die "no target '$target'; there are: ${known[*]}"
done

scripts/setup.sh build fuzz
scripts/build.sh fuzz "${targets[@]/#/fuzz_}"

programs=$root/build/fuzz/fuzz
artifacts=$root/build/fuzz-artifacts
logs=$root/build/log
mkdir -p -- "$artifacts" "$logs"
share=$((seconds * jobs / ${#targets[@]}))
[ "$share" -ge 1 ] || share=1

# arguments TARGET: what both kinds of run have in common, in the array `arguments`.
arguments() {
    local target=$1 dictionary=fuzz/dictionaries/$1.dict
    arguments=(-timeout=30 -rss_limit_mb=2560 -max_len=8192 -print_final_stats=1
        "-artifact_prefix=$artifacts/$target-")
    [ ! -f "$dictionary" ] || arguments+=("-dict=$root/$dictionary")
}

# run TARGET: one target for its share of the time, with its output in a log.
run() {
    local target=$1 arguments folders=("$root/build/fuzz-corpus/$1")
    mkdir -p -- "${folders[0]}"
    [ ! -d "fuzz/corpus/$target" ] || folders+=("$root/fuzz/corpus/$target")
    arguments "$target"
    "$programs/fuzz_$target" "${arguments[@]}" -max_total_time="$share" "${folders[@]}" \
        >"$logs/fuzz-$target.log" 2>&1 </dev/null || true
}

say "fuzz: ${#targets[@]} targets, $share s each, $jobs at a time"
for target in "${targets[@]}"; do
    while [ "$(jobs -pr | wc -l)" -ge "$jobs" ]; do wait -n || true; done
    run "$target" &
done
wait

# last LOG PATTERN: the number behind PATTERN where it stands last.
last() { sed -n "s/.*$2 *\([0-9][0-9]*\).*/\1/p" "$1" | tail -n 1; }

failed=0 all=0
printf '%-16s %12s %9s %9s %8s  %s\n' target executions per_second coverage crashes first
for target in "${targets[@]}"; do
    log=$logs/fuzz-$target.log
    executions=$(last "$log" 'stat::number_of_executed_units:')
    rate=$(last "$log" 'stat::average_exec_per_sec:')
    # What libFuzzer counts as coverage: edges.
    coverage=$(last "$log" ' cov:')
    crash=$(sed -n 's/.*Test unit written to \(.*\)/\1/p' "$log" | head -n 1)
    crashes=0
    # A target that ended without its statistics has failed too, whatever else it says.
    if [ -n "$crash" ] || [ -z "$executions" ]; then crashes=1 failed=1; fi
    all=$((all + ${executions:-0}))
    printf '%-16s %12s %9s %9s %8s  %s\n' \
        "$target" "${executions:-0}" "${rate:-0}" "${coverage:-0}" "$crashes" "${crash:-}"
done
printf '%-16s %12s\n' all "$all"

if [ -n "$minimise" ] && [ "$failed" -eq 0 ]; then
    for target in "${targets[@]}"; do
        arguments "$target"
        new=$(mktemp -d)
        mkdir -p -- "fuzz/corpus/$target"
        cp -- "fuzz/corpus/$target"/* "$new" 2>/dev/null || true
        quietly "$logs/fuzz-merge-$target.log" "$programs/fuzz_$target" "${arguments[@]}" -merge=1 \
            "$new" "$root/build/fuzz-corpus/$target"
        # Of what is new and at most 512 bytes the largest, which reach most: 4 KiB and 10 files.
        find "$new" -type f -size +0 -size -2 -printf '%s %f\n' | sort -rn |
            while read -r size name; do
                [ -e "fuzz/corpus/$target/$name" ] || printf '%s %s\n' "$size" "$name"
            done | awk '{ sum += $1; if (sum <= 4096 && NR <= 10) print $2 }' |
            while read -r name; do cp -- "$new/$name" "fuzz/corpus/$target/$name"; done
        rm -rf -- "$new"
    done
fi
[ "$failed" -eq 0 ] || die "some targets failed; their inputs are in build/fuzz-artifacts, their output in build/log/fuzz-*.log"
