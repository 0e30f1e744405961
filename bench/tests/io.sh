#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# io.sh GNOMON PROGRAMS: the driver loads a disk of each model in Gnomon and on the host, and has every value for them.
# Skipped (77) where scripts/fetch.sh has not fetched the kernel.
set -euo pipefail
gnomon=$1 programs=$2
project=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)

if [ ! -r "$project/build/guest/cloud/vmlinuz" ]; then
    echo "skipped: no kernel; scripts/fetch.sh"
    exit 77
fi
scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT
"$PYTHON" -B "$project/bench/driver" io --quick --no-qemu --policies adaptive --jobs 'rand.*_4_(1|16)' --size 16 \
    --folder "$scratch" --gnomon "$gnomon" --programs "$programs" --json "$scratch/values.json"
"$PYTHON" -B - "$scratch/values.json" <<'END'
import json, sys

measured = json.load(open(sys.argv[1], encoding="utf-8"))
assert measured["failures"] == [], measured["failures"]
results = {(one["model"], one["job"]): one for one in measured["results"] if one["place"] == "adaptive"}
assert len(results) == 3 * 4, results.keys()
for (model, job), one in results.items():
    (values,) = one["pairs"]
    assert values["requests"] >= 1 and values["iops"] > 0 and values["cpu"] > 0, (model, job, values)
    assert 0 < values["p50"] <= values["p99"] <= values["longest"], (model, job, values)
    # One request after the other: one interrupt each; and the first few may be of what was before.
    if job.endswith("_1"):
        assert 0.5 < values["interrupts"] < 1.5, (model, job, values)
END
