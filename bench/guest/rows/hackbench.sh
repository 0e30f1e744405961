#!/bin/dash
# SPDX-License-Identifier: Apache-2.0
# Ten processes that send each other messages over pipes.
set -e
[ "$1" = run ] || exit 0
hackbench -p -g 1 -f 5 -l 100 -s 100 >/dev/null
