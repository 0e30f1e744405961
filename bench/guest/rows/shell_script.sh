#!/bin/dash
# SPDX-License-Identifier: Apache-2.0
# A script of small commands, as configure scripts and boot scripts are.
# shellcheck disable=SC2003,SC2012,SC2018,SC2019 # the commands are the point, not what they are good for
set -e
work=/tmp/bench-shell-script
if [ "$1" = prepare ]; then
    mkdir -p $work
fi
[ "$1" = run ] || exit 0
i=0
while [ $i -lt 4 ]; do
    /bin/true
    expr $i + 1 >$work/number
    cat $work/number >$work/copy
    grep -q 1 $work/number || true
    name=$(basename "$work/$i.txt" .txt)
    echo "line $name" | tr a-z A-Z | cut -c 1-4 >>$work/text
    cp $work/copy $work/moved
    mv $work/moved $work/$i.txt
    test -s $work/text
    ls $work | sort -r | head -n 1 >/dev/null
    i=$((i + 1))
done
rm -f $work/*
