#!/bin/dash
# SPDX-License-Identifier: Apache-2.0
# Compresses text with 7-Zip's LZMA, in one thread.
set -e
text=/tmp/bench-7zz.txt
case $1 in
prepare) /bench/text 512 >$text ;;
run)
    rm -f $text.7z
    7zz a -bd -mmt1 -mx5 -md1m $text.7z $text >/dev/null
    ;;
check) 7zz x -so -bd -mmt1 $text.7z | cmp -s - $text ;;
esac
