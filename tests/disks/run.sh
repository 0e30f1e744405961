#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh GNOMON GUEST-FILES MODEL CASE: one test of a disk model; exit status 77 when what it needs is not there.
# Much of what is in single quotes is code for the guest.
# shellcheck disable=SC2016
set -euo pipefail
# shellcheck source=tests/disks/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

case $case in
pattern)
    noise 8M "$disk"
    cp "$disk" "$work/expected"
    guest 0 --disk "$disk,model=$model,serial=S1234567" <<S
$serial; echo
cat /sys/block/$first/size
dd if=/dev/$first bs=1M iflag=direct | md5sum
# Through the cache and past it, across and within its pages.
seq 100000 199999 | dd of=/dev/$first bs=4k seek=256 iflag=fullblock conv=notrunc,fsync
dd if=/dev/$first of=/dev/$first bs=512 count=3 skip=5 seek=9001 iflag=direct oflag=direct conv=notrunc
echo 3 >/proc/sys/vm/drop_caches
dd if=/dev/$first bs=1000 | md5sum
S
    seq 100000 199999 | dd of="$work/expected" bs=4k seek=256 iflag=fullblock conv=notrunc status=none
    dd if="$work/expected" of="$work/expected" bs=512 count=3 skip=5 seek=9001 conv=notrunc status=none
    same "$disk" "$work/expected"
    in_out '^S1234567 *$'
    in_out '^16384$'
    in_out "^$(md5sum <"$disk" | cut -d' ' -f1) "
    ;;
filesystem)
    if ! PATH=$PATH:/usr/sbin:/sbin command -v mkfs.ext4 >/dev/null; then
        echo "no mkfs.ext4: install e2fsprogs"
        exit 77
    fi
    PATH=$PATH:/usr/sbin:/sbin
    truncate -s 48M "$disk"
    mkfs.ext4 -q "$disk"
    guest 0 --disk "$disk,model=$model" <<S
mkdir /m
mount -t ext4 /dev/$first /m
for i in \$(seq 1 60); do mkdir -p /m/\$((i % 7)); seq 1 \$((i * 400)) >/m/\$((i % 7))/\$i; done
cp /bin/busybox /m/busybox
rm /m/3/*
sync
mv /m/4 /m/3/four
umount /m
mount -t ext4 -o ro /dev/$first /m
cd /m
find . -type f | sort | xargs md5sum
S
    e2fsck -fn "$disk" || fail "e2fsck is not content"
    cp "$work/out" "$work/written"
    [ "$(wc -l <"$work/written")" -gt 50 ] || fail "too few files"
    # Another boot finds the same.
    guest 0 --disk "$disk,model=$model,readonly" <<S
mkdir /m
mount -t ext4 -o ro,noload /dev/$first /m
cd /m
find . -type f | sort | xargs md5sum
S
    same "$work/out" "$work/written"
    ;;
pin | pin_legacy)
    # Without messages: by the I/O APIC, and by the 8259s.
    append=pci=nomsi
    [ "$case" = pin ] || append="pci=nomsi noapic"
    noise 4M "$disk"
    guest 0 --append "$append" --disk "$disk,model=$model" <<S
dd if=/dev/$first bs=64k | md5sum
seq 1 50000 | dd of=/dev/$first bs=4k conv=notrunc,fsync
cat /proc/interrupts
S
    seq 1 50000 | cmp -n 288894 - "$disk" || fail "the file lacks what was written"
    if [ "$case" = pin ]; then
        in_out "$by_io_apic"
    else
        in_out "$by_8259"
    fi
    ;;
readonly)
    noise 2M "$disk"
    cp "$disk" "$work/expected"
    guest 0 --disk "$disk,model=$model,readonly" <<S
cat /sys/block/$first/ro
dd if=/dev/$first bs=64k | md5sum
if echo x | dd of=/dev/$first conv=notrunc,fsync; then exit 5; fi
S
    in_out "^$read_only\$"
    in_out "^$(md5sum <"$disk" | cut -d' ' -f1) "
    same "$disk" "$work/expected"
    ;;
two)
    noise 2M "$disk"
    noise 3M "$work/other"
    truncate -s 3M "$disk"
    guest 0 --disk "$disk,model=$model" --disk "$work/other,model=$model,readonly" <<S
await $second
dd if=/dev/\$(place 1) of=/dev/\$(place 0) bs=16k oflag=direct
S
    same "$disk" "$work/other"
    ;;
reset)
    # The machine starts anew with requests under way; its next life finds what the one before left.
    truncate -s 16M "$disk"
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
life=\$(dd if=/dev/$first bs=512 count=1 2>/dev/null | tr -d '\\0')
life=\$((life + 1))
echo "life \$life"
echo \$life | dd of=/dev/$first conv=notrunc,fsync
[ \$life -lt 4 ] || poweroff -f
for i in 1 2 3 4; do dd if=/dev/zero of=/dev/$first bs=1M seek=\$((3 * i)) count=3 oflag=direct & done
dd if=/dev/$first of=/dev/null bs=1M count=2
reboot -f
S
    } >"$work/init"
    boot_initrd
    in_out 'life 1'
    in_out 'life 4'
    [ "$(head -c 2 "$disk")" = 4 ] || fail "the file lacks what was written last"
    ;;
root)
    # The guest's own file system is on it.
    if ! PATH=$PATH:/usr/sbin:/sbin command -v mkfs.ext4 >/dev/null; then
        echo "no mkfs.ext4: install e2fsprogs"
        exit 77
    fi
    PATH=$PATH:/usr/sbin:/sbin
    mkdir -p "$work/root"/{bin,dev,proc,sbin,sys}
    cp "$busybox" "$work/root/bin/"
    cat >"$work/root/sbin/init" <<'S'
#!/bin/busybox sh
PATH=/bin
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -o remount,rw /
/bin/busybox --install /bin
grep ' / ' /proc/mounts
seq 1 100000 >/numbers
md5sum /numbers
sync
mount -o remount,ro /
poweroff -f
S
    chmod 755 "$work/root/sbin/init"
    truncate -s 32M "$disk"
    mkfs.ext4 -q -d "$work/root" "$disk"
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
    boot_initrd
    in_out "^/dev/$first / ext4 rw"
    in_out "^$(seq 1 100000 | md5sum | cut -d' ' -f1) "
    e2fsck -fn "$disk" || fail "e2fsck is not content"
    ;;
trim)
    noise 4M "$disk"
    cp "$disk" "$work/expected"
    before=$(stat -c %b "$disk")
    guest 0 --disk "$disk,model=$model" <<S
cat /sys/block/$first/queue/discard_max_bytes
blkdiscard -o 1048576 -l 2097152 /dev/$first
echo 3 >/proc/sys/vm/drop_caches
dd if=/dev/$first bs=1M count=1 | md5sum
dd if=/dev/$first bs=1M skip=3 | md5sum
S
    in_out '^[1-9][0-9]+$'
    in_out "^$(head -c 1M "$work/expected" | md5sum | cut -d' ' -f1) "
    in_out "^$(tail -c 1M "$work/expected" | md5sum | cut -d' ' -f1) "
    cmp -n 1048576 "$disk" "$work/expected" || fail "what lies before it has changed"
    cmp -i 3145728 "$disk" "$work/expected" || fail "what lies behind it has changed"
    # A file system that cannot make holes keeps what is discarded.
    if fallocate -p -o 0 -l 4096 "$work/expected" 2>/dev/null; then
        [ "$(stat -c %b "$disk")" -lt $((before - 4000)) ] || fail "the file has not become smaller"
    fi
    ;;
pio | dma)
    # Which of the two ata_piix uses is libata's to say.
    noise 3M "$disk"
    cp "$disk" "$work/expected"
    mode=XFER_MW_DMA_2
    if [ "$case" = pio ]; then parameters[libata]=dma=0 mode=XFER_PIO_4; fi
    guest 0 --disk "$disk,model=$model" <<S
cat /sys/class/ata_device/dev1.0/xfer_mode
dd if=/dev/$first bs=64k iflag=direct | md5sum
seq 1 100000 | dd of=/dev/$first bs=16k iflag=fullblock oflag=direct conv=notrunc,fsync
dd if=/dev/$first of=/dev/$first bs=512 count=3 skip=5 seek=4001 iflag=direct oflag=direct conv=notrunc
S
    seq 1 100000 | dd of="$work/expected" bs=16k iflag=fullblock conv=notrunc status=none
    dd if="$work/expected" of="$work/expected" bs=512 count=3 skip=5 seek=4001 conv=notrunc status=none
    in_out "^$mode\$"
    same "$disk" "$work/expected"
    ;;
four)
    # Both channels, first and second disk of each, at the same time.
    for n in 0 1 2 3; do noise $((n + 1))M "$work/disk$n"; done
    cat "$work"/disk{0,1,2,3} >"$work/expected"
    guest 0 --disk "$work/disk0,model=$model" --disk "$work/disk1,model=$model" \
        --disk "$work/disk2,model=$model" --disk "$work/disk3,model=$model" <<'S'
for d in a b c d; do await sd$d; done
for n in 0 1 2 3; do cat "/sys/block/$(place $n)/size"; done
for n in 0 1 2 3; do cat "/dev/$(place $n)"; done | md5sum
for n in 0 1 2 3; do
    disk=$(place $n)
    for i in 1 2 3 4; do echo "$n $i" | dd of=/dev/$disk bs=512 seek=$((i * 100)) conv=notrunc,fsync; done &
done
wait
grep ata_piix /proc/interrupts
S
    [ "$(head -n 4 "$work/out" | tr '\n' ' ')" = '2048 4096 6144 8192 ' ] || fail "other sizes, or another order"
    in_out "^$(md5sum <"$work/expected" | cut -d' ' -f1) "
    in_out '14: .*ata_piix'
    in_out '15: .*ata_piix'
    for n in 0 1 2 3; do
        for i in 1 2 3 4; do
            [ "$(dd if="$work/disk$n" bs=512 skip=$((i * 100)) count=1 status=none | head -n 1)" = "$n $i" ] ||
                fail "disk $n lacks what was written at $((i * 100))"
        done
    done
    # A fifth has no place.
    noise 1M "$disk"
    status=0
    "$gnomon" run --kernel "$kernel" --disk "$work/disk0,model=$model" --disk "$work/disk1,model=$model" \
        --disk "$work/disk2,model=$model" --disk "$work/disk3,model=$model" --disk "$disk,model=$model" \
        </dev/null >"$work/out" 2>"$work/err" || status=$?
    [ "$status" -eq 2 ] || fail "five disks: exit status $status"
    grep -q '5 IDE disks' "$work/err" || fail "five disks: another complaint"
    ;;
errors)
    # The file shrinks under the guest: what is gone cannot be read or comes back as zeroes, never as something else.
    noise 8M "$disk"
    head -c 1M "$disk" | md5sum | cut -d' ' -f1 >"$work/sum"
    {
        until grep -q '^ready$' "$work/out" 2>/dev/null; do sleep 0.2; done
        truncate -s 1M "$disk"
    } &
    shrinks=$!
    guest 0 --disk "$disk,model=$model" <<S
echo ready
for i in \$(seq 200); do
    dd if=/dev/$first of=/dev/null bs=4k skip=1500 count=1 iflag=direct || break
    sleep 0.2
done
[ \$i -lt 200 ]
echo "it failed"
dd if=/dev/$first bs=64k count=16 iflag=direct | md5sum
dmesg | grep -i $first
S
    wait "$shrinks"
    in_out '^it failed$'
    in_out "^$(cat "$work/sum") "
    in_out 'I/O error|critical medium error'
    grep -q 'disk.*it has become smaller' "$work/err" || fail "the log lacks the failure"
    ;;
qcow2)
    if ! command -v qemu-img >/dev/null || ! command -v qemu-nbd >/dev/null; then
        echo "no qemu-img or qemu-nbd: install qemu-utils"
        exit 77
    fi
    noise 4M "$work/raw"
    qemu-img convert -f raw -O qcow2 "$work/raw" "$disk"
    guest 0 --disk "$disk,model=$model,format=qcow2" <<S
dd if=/dev/$first bs=64k | md5sum
seq 1 50000 | dd of=/dev/$first bs=4k conv=notrunc,fsync
S
    in_out "^$(md5sum <"$work/raw" | cut -d' ' -f1) "
    seq 1 50000 | dd of="$work/raw" bs=4k conv=notrunc status=none
    qemu-img convert -f qcow2 -O raw "$disk" "$work/read"
    same "$work/read" "$work/raw"
    ;;
*) fail "no case $case" ;;
esac
echo "disks.$model.$case: passed"
