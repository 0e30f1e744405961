#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/build.sh [PRESET [TARGET...]]
# Configures and builds into build/PRESET (default: release; see CMakePresets.json), or only the TARGETs of it.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

preset=${1:-release}
[ $# -eq 0 ] || shift
for tool in cmake ninja; do
    command -v "$tool" >/dev/null || die "$tool is missing; run scripts/setup.sh"
done
cmake --list-presets 2>/dev/null | grep -qF "\"$preset\"" ||
    die "no preset '$preset'; there are:$(cmake --list-presets | sed -n 's/^ *"\([^"]*\)".*/ \1/p' | tr -d '\n')"

directory=build/$preset
if [ ! -f "$directory/build.ninja" ] || [ CMakePresets.json -nt "$directory/build.ninja" ]; then
    quietly "build/log/configure-$preset.log" cmake --preset "$preset"
fi
targets=()
[ $# -eq 0 ] || targets=(--target "$@")
if [ -t 1 ]; then
    cmake --build --preset "$preset" "${targets[@]}"
else
    say "build: $directory"
    quietly "build/log/build-$preset.log" cmake --build --preset "$preset" "${targets[@]}"
fi
