#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# rows.sh GNOMON PROGRAMS ROWS: the driver measures these rows in Gnomon, untraced and traced, and has values for them.
# Skipped (77) where scripts/fetch.sh has not fetched the kernel, or bench/image.sh not made the guests' Debian.
set -euo pipefail
gnomon=$1 programs=$2 rows=$3
project=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)

if [ ! -r "$project/build/guest/cloud/vmlinuz" ]; then
    echo "skipped: no kernel; scripts/fetch.sh"
    exit 77
fi
if [ "$rows" != boot ] && [ ! -r "$project/build/bench/root.tar" ]; then
    echo "skipped: no Debian for the guests; bench/image.sh"
    exit 77
fi
scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT
"$PYTHON" -B "$project/bench/driver" run --quick --rows "$rows" --no-qemu --no-native \
    --gnomon "$gnomon" --programs "$programs" --json "$scratch/values.json"
"$PYTHON" -B - "$scratch/values.json" "$rows" <<'END'
import json, sys

measured = json.load(open(sys.argv[1], encoding="utf-8"))
assert measured["failures"] == [], measured["failures"]
assert [row["name"] for row in measured["rows"]] == sys.argv[2].split("|"), measured["rows"]
for row in measured["rows"]:
    for place in ("gnomon", "count", "text"):
        assert len(row["values"][place]) == 1 and row["values"][place][0] > 0, row
assert 0 < measured["first_instruction_ms"] < 60000, measured["first_instruction_ms"]
END
