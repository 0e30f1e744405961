#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/style.sh
# The style that tools can check: formatting, licence lines, file length, scripts. clang-format and shellcheck are used
# where they are installed; a missing one is said, not failed.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

[ $# -eq 0 ] || die "takes no arguments"
failed=0
complain() {
    printf 'style: %s\n' "$*" >&2
    failed=1
}

mapfile -d '' -t sources < <(find src tests fuzz bench -type f \( -name '*.h' -o -name '*.cpp' -o -name '*.c' \) -print0 | sort -z)
mapfile -d '' -t scripts < <(find scripts .ci bench -type f \( -path 'scripts/*' -o -path '.ci/*' -o -name '*.sh' \) -print0 | sort -z)
mapfile -d '' -t python < <(find bench -type f -name '*.py' -print0 | sort -z)

for file in "${sources[@]}"; do
    read -r first <"$file" || true
    [ "$first" = '// SPDX-License-Identifier: Apache-2.0' ] || complain "$file: its first line is not the SPDX licence line"
    # A table is as long as what it lists.
    lines=$(wc -l <"$file")
    case $file in
    *table*) ;;
    *) [ "$lines" -le 800 ] || complain "$file: $lines lines; 800 is the limit outside tables" ;;
    esac
done
for file in "${scripts[@]}"; do
    bash -n "$file" || complain "$file: not valid bash"
    grep -q '^# SPDX-License-Identifier: Apache-2.0$' "$file" || complain "$file: no SPDX licence line"
done

for file in "${python[@]}"; do
    read -r first <"$file" || true
    [ "$first" = '# SPDX-License-Identifier: Apache-2.0' ] || complain "$file: its first line is not the SPDX licence line"
done

if command -v clang-format >/dev/null; then
    if [ "${#sources[@]}" -gt 0 ]; then
        clang-format --dry-run -Werror -- "${sources[@]}" || complain "run clang-format -i on the files named above"
    fi
else
    say "style: clang-format is not installed; formatting not checked"
fi
if command -v shellcheck >/dev/null; then
    shellcheck -x -- "${scripts[@]}" || complain "shellcheck has findings"
else
    say "style: shellcheck is not installed; scripts checked by bash -n only"
fi
[ "$failed" -eq 0 ] || die "the style check failed"
