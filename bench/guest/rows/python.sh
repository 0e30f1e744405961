#!/bin/dash
# SPDX-License-Identifier: Apache-2.0
# Pure Python: floating point in objects, dictionaries, strings, sorting.
set -e
case $1 in
prepare) python3 -S -E -c pass ;; # compiles the library's modules once
run) python3 -S -E /bench/rows/mix.py ;;
esac
