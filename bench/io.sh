#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# bench/io.sh [OPTION...]
# Measures disks in Gnomon, under each completion policy, beside QEMU's TCG; prints tables. Options: bench/io.sh --help.
# Installs (as root), builds and fetches what is missing first, with one line each on stderr.
# shellcheck source=bench/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

program=(gnomon)
case " $* " in
*" --gnomon "* | *" --gnomon="*) program=() ;; # another build is given
esac
bench io "${program[*]}" "$@"
