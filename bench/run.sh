#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# bench/run.sh [OPTION...]
# Measures Gnomon beside QEMU's TCG and the host itself; prints a table. Options: bench/run.sh --help.
# Installs (as root), builds and fetches what is missing first, with one line each on stderr.
# shellcheck source=bench/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

program=(gnomon)
case " $* " in
*" --gnomon "* | *" --gnomon="*) program=() ;; # another build is given
esac
bench run "${program[*]}" "$@"
