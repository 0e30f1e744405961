#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# bench/compare.sh OLD NEW [ROW...] [OPTION...]
# The rows in two builds of Gnomon (program files), pair by pair, with the ratio. Options: bench/compare.sh --help.
# shellcheck source=bench/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

bench compare '' "$@"
