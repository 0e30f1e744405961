#!/bin/dash
# SPDX-License-Identifier: Apache-2.0
# Compresses text with gzip.
set -e
text=/tmp/bench-gzip.txt
case $1 in
prepare) /bench/text 1024 >$text ;;
run) gzip -6 -c $text >$text.gz ;;
check) gzip -d -c $text.gz | cmp -s - $text ;;
esac
