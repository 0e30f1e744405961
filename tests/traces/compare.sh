#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# compare.sh GNOMON GUEST-FILES PROGRAMS ROUNDS MINIMUM [SUBJECT...]: runs the workload (in PROGRAMS, with compare_traces)
# under strace -f in a guest that Gnomon traces from outside, and compares both traces, at least MINIMUM calls. Exit status
# 77 when the guest's files or strace are not there. With GNOMON_KEEP=FOLDER the traces stay there.
set -euo pipefail
gnomon=$1 files=$2 programs=$3 rounds=$4 minimum=$5
shift 5
[ $# -gt 0 ] || set -- all
kernel=$files/cloud/vmlinuz busybox=$files/busybox/bin/busybox
if [ ! -r "$kernel" ] || [ ! -x "$busybox" ]; then
    echo "no $kernel or $busybox: run scripts/fetch.sh"
    exit 77
fi
# What strace prints changes from version to version; Gnomon prints as 6.1 does.
strace=$(command -v strace || true)
if [ -z "$strace" ] || ! "$strace" -V | grep -q 'version 6\.1$'; then
    echo "no strace 6.1: run scripts/setup.sh test"
    exit 77
fi
if [ -n "${GNOMON_KEEP:-}" ]; then
    mkdir -p "$GNOMON_KEEP"
    work=$GNOMON_KEEP
else
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
fi
fail() {
    echo "FAIL: $*"
    for f in "$work/err" "$work/console"; do
        [ -s "$f" ] && { echo "--- ${f##*/}"; tail -c 3000 "$f" | cat -v; }
    done
    exit 1
}

root=$work/root
rm -rf "$root"
mkdir -p "$root/bin"
cp "$busybox" "$strace" "$programs/workload" "$programs/workload32" "$root/bin/"
# strace's libraries and the dynamic linker, where they are on the host.
while read -r library; do
    mkdir -p "$root$(dirname -- "$library")"
    cp -L "$library" "$root$library"
done < <(ldd "$strace" | grep -o '/[^ ]*')
cat >"$root/run.sh" <<'S'
cd /
rounds=$1
shift
/bin/strace -f -a 1 -o /trace /bin/workload "$rounds" "$@" >/messages 2>&1
echo "workload: status $?" >>/messages
# Nothing can be traced twice: the tracer of its own runs without strace.
/bin/workload 2 ptrace >/tracees 2>>/messages
echo "ptrace: status $?" >>/messages
/bin/busybox tar c trace messages tracees | /bin/busybox gzip -1
S
status=0
timeout "${GNOMON_TIMEOUT:-280}" "$gnomon" trace --kernel "$kernel" --root "$root" --memory 1G --console "$work/console" -a 1 \
    -o "$work/outside" -- /bin/busybox sh /run.sh "$rounds" "$@" </dev/null >"$work/inside.tar.gz" 2>"$work/err" || status=$?
[ "$status" -eq 0 ] || fail "exit status $status"
tar xzf "$work/inside.tar.gz" -C "$work" || fail "no traces from inside"
# strace says there which strings it found cut off: that is what the workload does to it.
grep -v '^/bin/strace: umove' "$work/messages" >"$work/err" || true
[ "$(cat "$work/err")" = $'workload: status 0\nptrace: status 0' ] || fail "the workload failed"
"$programs/compare_traces" "$work/trace" "$work/outside" "$minimum" "$work/tracees" || fail "the traces differ"
