#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh GNOMON GUEST-FILES KERNEL CASE: one end-to-end test; exit status 77 when the guest's files are not there.
set -euo pipefail
gnomon=$1 files=$2 kernel=$2/$3/vmlinuz case=$4
busybox=$files/busybox/bin/busybox
if [ ! -r "$kernel" ] || [ ! -x "$busybox" ]; then
    echo "no $kernel or $busybox: run scripts/fetch.sh"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "FAIL: $*"
    for f in "$work"/*; do
        [ -f "$f" ] && { echo "--- ${f##*/}"; head -c 2000 "$f" | cat -v; echo; echo "..."; tail -c 3000 "$f" | cat -v; }
    done
    exit 1
}
# trace STATUS ARGS...: runs `gnomon trace`, expecting that exit status; stdout to out, stderr to err, the trace to trace.
trace() {
    local expected=$1 status=0
    shift
    timeout 200 "$gnomon" trace --kernel "$kernel" --busybox "$busybox" --console "$work/console" -o "$work/trace" \
        "$@" >"$work/out" 2>"$work/err" || status=$?
    [ "$status" -eq "$expected" ] || fail "exit status $status, not $expected"
}
run() {
    local expected=$1 status=0
    shift
    timeout 200 "$gnomon" run --kernel "$kernel" "$@" </dev/null >"$work/out" 2>"$work/err" || status=$?
    [ "$status" -eq "$expected" ] || fail "exit status $status, not $expected"
}
# The trace, and after it the calls that others interrupted, each put together to one line.
joined() {
    cat "$work/trace"
    awk '{ task = $1 FS $2 FS $3 }
        / <unfinished \.\.\.>$/ { sub(/ <unfinished \.\.\.>$/, ""); begun[task] = $0; next }
        / <\.\.\. [a-z0-9_]+ resumed>/ && task in begun {
            sub(/^.* <\.\.\. [a-z0-9_]+ resumed> ?/, ""); print begun[task] $0; delete begun[task] }' "$work/trace"
}
in_trace() { grep -qE -- "$1" <(joined) || fail "the trace lacks: $1"; }
not_in_trace() { ! grep -qE -- "$1" "$work/trace" || fail "the trace has: $1"; }
in_out() { grep -qE -- "$1" "$work/out" || fail "the output lacks: $1"; }
# Enters, returns and calls that never return add up: the line says so itself when they do not.
balanced() {
    local line entered=0 returned=0 never=0 progress=0
    line=$(tail -n 1 "$work/trace")
    [[ $line =~ ([0-9]+)\ system\ calls\ entered,\ ([0-9]+)\ returned ]] || fail "no balance at the end of the trace"
    entered=${BASH_REMATCH[1]} returned=${BASH_REMATCH[2]}
    [[ $line =~ ([0-9]+)\ never\ return ]] && never=${BASH_REMATCH[1]}
    [[ $line =~ ([0-9]+)\ in\ progress ]] && progress=${BASH_REMATCH[1]}
    [ "$entered" -gt 0 ] || fail "nothing was traced"
    [ "$entered" -eq $((returned + never + progress)) ] || fail "not balanced: $line"
}

# open_input: a pipe for stdin that stays open; descriptor 7 writes to it.
open_input() {
    mkfifo "$work/in"
    exec 7<>"$work/in"
}
# eventually REGEX: waits until the output, as one line, has it.
eventually() {
    local i
    for ((i = 0; i < 1000; i++)); do
        tr '\n' ' ' <"$work/out" | grep -qE -- "$1" && return
        sleep 0.1
    done
    fail "the output still lacks: $1"
}
# confined PID: every thread of it has the filter and no way to privileges, and no memory is both writable and executable.
confined() {
    local status threads=0
    eventually 'ready|Rebooting'
    for status in /proc/"$1"/task/*/status; do
        grep -qx $'NoNewPrivs:\t1' "$status" || fail "$status: new privileges"
        grep -qx $'Seccomp:\t2' "$status" || fail "$status: no filter"
        threads=$((threads + 1))
    done
    [ "$threads" -ge 3 ] || fail "only $threads threads"
    # Descriptor 7 was inherited along with 0.
    [ "$(find "/proc/$1/fd" -lname "$work/in" | wc -l)" -eq 1 ] || fail "an inherited descriptor is still open"
    ! grep -E '^[0-9a-f]+-[0-9a-f]+ .wx' "/proc/$1/maps" || fail "writable and executable memory"
    [ "$(grep -c 'memfd:gnomon-code' "/proc/$1/maps")" -eq 2 ] || fail "the code memory is not mapped twice"
    grep -qE '^[0-9a-f]+-[0-9a-f]+ r-xs .*memfd:gnomon-code' "/proc/$1/maps" || fail "no executable code memory"
    grep -qE '^[0-9a-f]+-[0-9a-f]+ rw-s .*memfd:gnomon-code' "/proc/$1/maps" || fail "no writable code memory"
}

# shellcheck disable=SC2016 # $ is for the guest's shell
case $case in
exit_status)
    trace 7 -- sh -c 'exit 7' </dev/null
    balanced
    ;;
signal_status)
    trace 143 -- sh -c 'kill -TERM $$' </dev/null
    in_trace '\+\+\+ killed by SIGTERM \+\+\+'
    ;;
streams)
    head -c 100000 /dev/urandom >"$work/in"
    trace 0 -e trace=none -- sh -c 'cat; echo to-stderr >&2' <"$work/in"
    cmp "$work/in" "$work/out" || fail "the bytes differ"
    [ "$(cat "$work/err")" = to-stderr ] || fail "stderr is not the command's"
    ;;
trace_lines)
    trace 0 -- sh -c 'echo hello >/f; cat /f; ls /nowhere; true' </dev/null
    in_out '^hello$'
    in_trace '\[pid [0-9]+ [a-z]+\] execve\("/[a-z/]*sh", \["sh", "-c", '
    in_trace 'openat\(AT_FDCWD, "/f", O_WRONLY\|O_CREAT\|O_TRUNC, 0666\) += 3'
    in_trace 'read\([0-9]+, "hello\\n", [0-9]+\) += 6'
    in_trace ' = -1 ENOENT \(No such file or directory\)'
    in_trace 'exit_group\(0\) += \?'
    in_trace '\+\+\+ exited with 0 \+\+\+'
    in_trace '<unfinished \.\.\.>'
    in_trace '<\.\.\. [a-z0-9_]+ resumed>'
    balanced
    ;;
filter)
    trace 0 -e trace=openat,exit_group -- sh -c 'cat /etc/passwd >/dev/null' </dev/null
    in_trace 'openat\('
    not_in_trace '\] (read|close|mmap|fstat|brk)\('
    balanced
    ;;
shown_while_it_runs)
    # The guest sleeps for longer than the test waits: what it did before is in the file nevertheless.
    "$gnomon" trace --kernel "$kernel" --busybox "$busybox" -o "$work/trace" -- sh -c 'echo begun; sleep 1000; true' \
        </dev/null >"$work/out" 2>"$work/err" &
    pid=$!
    for _ in {1..600}; do
        grep -q 'write(1, "begun\\n", 6)' "$work/trace" 2>/dev/null && break
        sleep 0.1
    done
    kill -TERM "$pid"
    status=0
    wait "$pid" || status=$?
    in_trace 'write\(1, "begun\\n", 6\) += 6'
    [ "$status" -eq 143 ] || fail "exit status $status"
    ;;
summary)
    trace 0 -c -- sh -c 'ls / >/dev/null' </dev/null
    in_trace '^% time +seconds +usecs/call +calls +errors syscall'
    in_trace ' getdents64$'
    in_trace ' total$'
    ;;
json)
    trace 0 --json -- sh -c 'cat /etc/passwd >/dev/null' </dev/null
    in_trace '^\{.*"processName":"[^"]+".*"eventName":"openat","args":\[\{"name":'
    not_in_trace '^[^{]'
    in_trace '"balanced":true'
    ;;
signals)
    trace 0 -- sh -c 'trap "echo got" USR1; kill -USR1 $$; sleep 0.1 & wait; exit 0' </dev/null
    in_out '^got$'
    in_trace '--- SIGUSR1 \{si_signo=SIGUSR1, si_code=SI_USER, si_pid=[0-9]+, si_uid=0\} ---'
    in_trace 'rt_sigreturn\('
    ;;
compat_32bit)
    cat >"$work/t.S" <<'A'
        .globl _start
_start: movl $4, %eax
        movl $1, %ebx
        movl $msg, %ecx
        movl $6, %edx
        int $0x80
        movl $5, %eax
        movl $path, %ebx
        xorl %ecx, %ecx
        int $0x80
        pusha
        popa
        movl $17, %ecx
        xorl %esi, %esi
1:      incl %esi
        pushl %esi
        popl %eax
        loop 1b
        movl $1, %eax
        movl %esi, %ebx
        int $0x80
msg:    .ascii "hi 32\n"
path:   .asciz "/nothing"
A
    as --32 "$work/t.S" -o "$work/t.o"
    mkdir "$work/root"
    ld -m elf_i386 "$work/t.o" -o "$work/root/t32"
    trace 17 --root "$work/root" -- /t32 </dev/null
    in_out '^hi 32$'
    in_trace '\[pid [0-9]+ t32\] write\(1, "hi 32\\n", 6\) += 6'
    in_trace 'open\("/nothing", O_RDONLY\) += -1 ENOENT'
    in_trace '\] exit\(17\) += \?'
    balanced
    ;;
pti_on | generic_pti_on)
    trace 0 --append pti=on -- sh -c 'cat /proc/cmdline' </dev/null
    in_out 'pti=on'
    in_trace 'openat\(AT_FDCWD, "/proc/cmdline"'
    balanced
    ;;
pti_off | generic_pti_off)
    trace 0 --append pti=off -- sh -c 'cat /proc/cmdline' </dev/null
    in_trace 'openat\(AT_FDCWD, "/proc/cmdline"'
    balanced
    ;;
no_kaslr)
    trace 0 --append nokaslr -- sh -c 'true' </dev/null
    in_trace '\[pid [0-9]+ sh\] exit_group\(0\)'
    balanced
    ;;
mitigations)
    # Neither page-table isolation nor retpolines unless asked for.
    trace 0 -e trace=none -- sh -c 'cd /sys/devices/system/cpu/vulnerabilities && grep . meltdown spectre_v2' </dev/null
    in_out '^meltdown:Not affected$'
    in_out '^spectre_v2:Mitigation: Enhanced'
    trace 0 -e trace=none --append 'pti=on spectre_v2=retpoline loglevel=7' -- \
        cat /sys/devices/system/cpu/vulnerabilities/spectre_v2 </dev/null
    in_out '^Mitigation: Retpolines'
    grep -q 'page tables isolation: .*enabled' "$work/console" || fail "no page-table isolation"
    ;;
check_shadow)
    trace 0 -e trace=none --check-shadow 300 -- sh -c 'for i in 1 2 3 4 5; do ls -lR /bin >/dev/null; done' </dev/null
    ;;
check_views) # as check_shadow, with linear views for all
    trace 0 -e trace=none --linear-views all --check-shadow 300 -- sh -c 'for i in 1 2 3 4 5; do ls -lR /bin >/dev/null; done' </dev/null
    ;;
memory_stress | memory_stress_long)
    # fork, exec, mmap, mremap, mprotect and huge pages, while the strict walker looks on. GNOMON_SEED, GNOMON_CASES (rounds).
    [ -x "${GNOMON_PROGRAMS:-}/memory_stress" ] || fail "GNOMON_PROGRAMS names the folder of memory_stress"
    mkdir "$work/root"
    cp "$GNOMON_PROGRAMS/memory_stress" "$work/root"
    rounds=${GNOMON_CASES:-150} every=150
    [ "$case" = memory_stress ] || { rounds=${GNOMON_CASES:-2500} every=40; }
    trace 0 -e trace=none --check-shadow "$every" --root "$work/root" -- \
        /memory_stress "$rounds" "${GNOMON_SEED:-1}" </dev/null
    in_out "^memory_stress: $rounds rounds, [1-9][0-9]* faults taken, right\$"
    ;;
command_not_found)
    trace 127 -- no-such-command </dev/null
    ;;
triple_fault)
    run 1 --no-reboot --append 'console=ttyS0 quiet panic=1 reboot=t'
    grep -q '^RIP=' "$work/err" || fail "no processor state"
    ;;
reset)
    run 0 --no-reboot --append 'console=ttyS0 quiet panic=1'
    in_out 'Rebooting in 1 seconds'
    ;;
sandbox)
    open_input
    "$gnomon" trace --kernel "$kernel" --busybox "$busybox" -o "$work/trace" -- sh -c 'echo ready; read line' \
        <"$work/in" >"$work/out" 2>"$work/err" &
    confined $!
    echo done >&7
    wait $! || fail "exit status $?"
    balanced
    ;;
sandbox_after_reset)
    # The panic of a kernel without a root file system resets the machine, which then starts anew.
    open_input
    "$gnomon" run --kernel "$kernel" --append 'console=ttyS0 quiet panic=1' \
        <"$work/in" >"$work/out" 2>"$work/err" &
    eventually 'Rebooting in 1 seconds.*Rebooting in 1 seconds'
    confined $!
    kill -TERM $!
    status=0
    wait $! || status=$?
    [ "$status" -eq 143 ] || fail "exit status $status, not 143"
    ;;
*) fail "no case $case" ;;
esac
