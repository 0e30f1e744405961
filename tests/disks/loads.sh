#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# loads.sh GNOMON GUEST-FILES MODEL CASE: a disk model under load, or under a whole Debian; exit status 77 when what it
# needs is not there. GNOMON_FULL=1 makes cases longer. The cases:
#   verify   fio writes and verifies, at random and in sequence, at depths 1 to 64, on the disk and on a file system
#   frozen   the process is stopped for a while under load: the guest's clocks stop with it, and nothing times out
#   debian   Debian boots with systemd from the disk to a login, and powers off
# Much of what is in single quotes is code for the guest.
# shellcheck disable=SC2016
set -euo pipefail
# shellcheck source=tests/disks/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C # a point in EPOCHREALTIME
full=${GNOMON_FULL-}
[ -z "$full" ] || limit=3000

# What Linux says of disks and clocks that it is not content with.
complaints='timed out|timeout[,!]|\(timeout\)|I/O error|exception Emask|failed command|hard resetting|link is slow|soft lockup|hung_task|blocked for more|rcu.*stall|clocksource.*(unstable|skew)|Call Trace|resetting controller|controller is down|EXT4-fs (error|warning)|critical .* error'
# no_complaints: of the guest's kernel; its log is in the output behind a line "the kernel's log".
no_complaints() {
    in_out "^the kernel's log"
    if sed "1,/^the kernel's log/d" "$work/out" | grep -E -- "$complaints"; then fail "the guest's kernel complains"; fi
}
kernel_log="echo \"the kernel's log\"; dmesg"

# clean IMAGE
clean() { e2fsck -fn "$1" >"$work/fsck" 2>&1 || { cat "$work/fsck"; fail "e2fsck is not content"; }; }
need_e2fsprogs() {
    command -v e2fsck >/dev/null || { echo "no e2fsck: install e2fsprogs"; exit 77; }
}
# need_guest NAME: what scripts/disk-guests.sh makes.
need_guest() {
    [ -s "$files/$1/disk.img" ] || { echo "no $files/$1/disk.img: run scripts/disk-guests.sh $1"; exit 77; }
}
# jobs TARGET SIZE: fio's jobs, one after the other, each in a part of its own.
jobs() {
    local depth pattern number=0
    cat <<J
[global]
$1
size=$2
ioengine=libaio
direct=1
thread
verify=crc32c
verify_fatal=1
randseed=${GNOMON_SEED:-1}
J
    for depth in 1 4 16 64; do
        for pattern in randwrite write; do
            printf '[%s-%s]\nstonewall\nrw=%s\niodepth=%s\noffset=%s\n' "$pattern" "$depth" "$pattern" "$depth" \
                $(($2 * number))
            # Requests of many sizes in some of the parts.
            case $((number % 3)) in 0) echo bs=4k ;; 1) echo bsrange=4k-128k ;; 2) echo bs=16k ;; esac
            number=$((number + 1))
        done
    done
}

case $case in
verify)
    need_e2fsprogs
    need_guest fio
    part=$((1 << 20))
    [ -z "$full" ] || part=$((48 << 20))
    truncate -s $((part * 8 + (8 << 20))) "$disk"
    jobs "filename=/dev/disk" $part >"$work/raw.fio"
    jobs "filename=/mnt/file" $((part / 2)) >"$work/files.fio"
    guest 0 --disk "$disk,model=$model" --disk "$files/fio/disk.img,model=$model,readonly" <<S
await $second
mkdir -p /fio
mount -t ext4 -o ro /dev/\$(place 1) /fio
mount -t devtmpfs dev /fio/dev
mount -t proc proc /fio/proc
mount -t sysfs sys /fio/sys
mount -t tmpfs tmp /fio/tmp
# The disk's name is not always the same.
ln -s "\$(place 0)" /dev/disk
cat >/fio/tmp/raw.fio <<'J'
$(cat "$work/raw.fio")
J
cat >/fio/tmp/files.fio <<'J'
$(cat "$work/files.fio")
J
chroot /fio /bin/fio /tmp/raw.fio
echo "raw is right"
# It would see if something were not.
dd if=/dev/zero of=/dev/disk bs=512 count=1 seek=8 conv=notrunc,fsync
if chroot /fio /bin/fio /tmp/raw.fio --section=randwrite-1 --verify_only; then echo "fio saw nothing"; exit 4; fi
chroot /fio /bin/mke2fs -q -t ext4 /dev/disk
mount -t ext4 /dev/disk /fio/mnt
chroot /fio /bin/fio /tmp/files.fio
echo "files are right"
md5sum /fio/mnt/file
umount /fio/mnt
$kernel_log
S
    [ "$(grep -c 'err= 0' "$work/out")" -eq 16 ] || fail "not all of fio's jobs have ended well"
    in_out '^raw is right$'
    in_out '^files are right$'
    no_complaints
    clean "$disk"
    ;;
frozen)
    seconds=2
    [ -z "$full" ] || seconds=30
    noise 16M "$disk"
    guest 0 --disk "$disk,model=$model" <<S &
for i in 1 2 3; do
    while [ ! -e /stop ]; do dd if=/dev/$first of=/dev/null bs=16k count=100 skip=\$((i * 300)) iflag=direct 2>/dev/null || echo bad >/bad; done &
done
while [ ! -e /stop ]; do dd if=/dev/zero of=/dev/$first bs=16k count=50 oflag=direct conv=notrunc,fsync 2>/dev/null || echo bad >/bad; done &
for i in \$(seq 30); do read up rest </proc/uptime; echo "tick \$up \$(date +%s)"; sleep 0.1; done
# The host stops the process within these.
echo loaded
for i in \$(seq 50); do read up rest </proc/uptime; echo "tick \$up \$(date +%s)"; sleep 0.1; done
echo "no more ticks"
touch /stop
wait
[ ! -e /bad ]
$kernel_log
S
    running=$!
    # seen TEXT: waits for it; when that was is `at`, in seconds.
    seen() {
        local i
        for ((i = 0; i < 20 * ${limit:-280}; ++i)); do
            at=$EPOCHREALTIME
            ! grep -qs -- "$1" "$work/out" || return 0
            kill -0 "$running" 2>/dev/null || fail "ended without: $1"
            sleep 0.05
        done
        fail "never came: $1"
    }
    seen '^tick'
    first_seen=$at
    seen '^loaded'
    pid=$(cat "$work/pid")
    kill -STOP "$pid"
    before=$(grep -c '^tick' "$work/out")
    sleep "$seconds"
    kill -CONT "$pid"
    # It was stopped in time, and within the ticks.
    [ "$before" -lt 80 ] || fail "the guest had ended"
    seen '^no more ticks'
    wait "$running"
    no_complaints
    # From its first to its last tick the guest's clocks went for as long as the host's, less the stop. The host may see
    # a tick late on a busy machine; dates are whole seconds.
    awk -v host="$first_seen $at" -v stopped="$seconds" '
        $1 != "tick" { next }
        !ticks++ { up = $2; date = $3 }
        { last_up = $2; last_date = $3 }
        END {
            split(host, seen, " ")
            ran = seen[2] - seen[1] - stopped
            print "the guest ran for", ran, "s, its clocks went for", last_up - up, "and", last_date - date
            exit ticks != 80 || last_up - up > ran + 1 || last_date - date > ran + 2
        }' "$work/out" || fail "the guest's clocks went on, or ticks are missing"
    ;;
debian)
    need_e2fsprogs
    need_guest debian
    cp --sparse=always "$files/debian/disk.img" "$disk"
    {
        cat <<'S'
#!/bin/busybox sh
PATH=/bin
/bin/busybox --install /bin
mount -t devtmpfs dev /dev
S
        for driver in "${drivers[@]}"; do echo "insmod /${driver##*/}.ko || poweroff -f"; done
        echo "$await"
        cat <<S
await $first
mkdir /new
mount -o ro -t ext4 /dev/$first /new
mount -t devtmpfs dev /new/dev
exec switch_root -c /dev/console /new /sbin/init
S
    } >"$work/init"
    make_initrd
    mkfifo "$work/keys"
    timeout "${limit:-280}" "$gnomon" run --kernel "$kernel" --initrd "$work/initrd" --append 'console=ttyS0' \
        --disk "$disk,model=$model" <"$work/keys" >"$work/out" 2>"$work/err" &
    running=$!
    exec 3>"$work/keys"
    # shown TEXT: waits for it.
    shown() {
        local i
        for ((i = 0; i < 10 * ${limit:-280}; ++i)); do
            ! grep -qF -- "$1" "$work/out" || return 0
            kill -0 "$running" 2>/dev/null || fail "ended before it showed: $1"
            sleep 0.1
        done
        fail "never showed: $1"
    }
    shown 'debian login:'
    printf 'root\n' >&3
    shown 'root@debian:~#'
    cat >&3 <<'S'
stty -echo; PS1=
systemctl is-system-running --wait; findmnt -no SOURCE,FSTYPE,OPTIONS /; systemctl --failed --no-legend --plain; cat /proc/1/comm
echo "the kernel's log"; dmesg; echo "its end"; systemctl poweroff
S
    exec 3>&-
    status=0
    wait "$running" || status=$?
    tr -d '\r' <"$work/out" >"$work/plain"
    mv "$work/plain" "$work/out"
    [ "$status" -eq 0 ] || fail "exit status $status"
    in_out '^running$'
    in_out "^/dev/$first +ext4 +rw"
    in_out '^systemd$'
    no_complaints
    clean "$disk"
    # Shut down, not just off: the file system was let go of.
    dumpe2fs -h "$disk" 2>/dev/null | grep -qE '^Filesystem state: +clean$' || fail "the file system is not clean"
    if dumpe2fs -h "$disk" 2>/dev/null | grep -q 'needs_recovery'; then fail "the journal was not written back"; fi
    ;;
*)
    fail "no case $case"
    ;;
esac
