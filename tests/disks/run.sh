#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh GNOMON GUEST-FILES MODEL CASE: one test of a disk model; exit status 77 when what it needs is not there.
set -euo pipefail
gnomon=$1 files=$2 model=$3 case=$4
kernel=$files/cloud/vmlinuz busybox=$files/busybox/bin/busybox
modules=$(echo "$files"/cloud/lib/modules/*/kernel)
if [ ! -r "$kernel" ] || [ ! -x "$busybox" ] || [ ! -d "$modules" ]; then
    echo "no $kernel, its modules or $busybox: run scripts/fetch.sh"
    exit 77
fi
case $model in
virtio)
    drivers=(virtio/virtio_ring virtio/virtio virtio/virtio_pci_modern_dev virtio/virtio_pci_legacy_dev
        virtio/virtio_pci block/virtio_blk)
    first=vda second=vdb serial=/sys/block/vda/serial
    ;;
nvme) # in the kernel itself
    drivers=()
    first=nvme0n1 second=nvme1n1 serial=/sys/block/nvme0n1/device/serial
    ;;
ide)
    drivers=(scsi/scsi_common scsi/scsi_mod ata/libata ata/ata_piix scsi/sd_mod)
    first=sda second=sdb serial=/serial
    ;;
*)
    echo "no model $model"
    exit 1
    ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
disk=$work/disk.img

fail() {
    echo "FAIL: $*"
    for f in "$work"/{out,err,console}; do
        [ -s "$f" ] && { echo "--- ${f##*/}"; tail -c 3000 "$f" | cat -v; }
    done
    exit 1
}
# guest STATUS OPTION...: boots, loads the drivers, runs the shell script on stdin; its output goes to out.
guest() {
    local expected=$1 root=$work/root status=0 driver
    shift
    rm -rf "$root"
    mkdir -p "$root/bin" "$root/modules"
    cp "$busybox" "$root/bin/"
    {
        cat <<'S'
set -e
PATH=/bin
for applet in $(busybox --list); do [ -e "/bin/$applet" ] || busybox ln -s busybox "/bin/$applet"; done
grep -q " /dev " /proc/mounts || mount -t devtmpfs dev /dev
grep -q " /sys " /proc/mounts || { mkdir -p /sys; mount -t sysfs sys /sys; }
S
        for driver in "${drivers[@]}"; do
            cp "$modules/drivers/$driver.ko" "$root/modules/"
            echo "insmod /modules/${driver##*/}.ko"
        done
        cat
    } >"$root/script.sh"
    timeout 280 "$gnomon" trace --kernel "$kernel" --root "$root" --console "$work/console" -e trace=reboot \
        -o "$work/trace" "$@" -- /bin/busybox sh /script.sh </dev/null >"$work/out" 2>"$work/err" || status=$?
    [ "$status" -eq "$expected" ] || fail "exit status $status, not $expected"
}
in_out() { grep -qE -- "$1" "$work/out" || fail "the output lacks: $1"; }
in_console() { grep -qE -- "$1" "$work/console" || fail "the console lacks: $1"; }
same() { cmp "$1" "$2" || fail "$1 and $2 differ"; }
# entry MODE NAME [FILE]: one entry of a cpio archive ("newc"), with the file's contents.
entry() {
    local size=0 length=$((${#2} + 1))
    [ $# -lt 3 ] || size=$(stat -c %s "$3")
    printf '070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\0' \
        0 "$((8#$1))" 0 0 1 0 "$size" 0 0 0 0 "$length" 0 "$2"
    head -c $(((4 - (110 + length) % 4) % 4)) /dev/zero
    [ $# -lt 3 ] || cat "$3"
    head -c $(((4 - size % 4) % 4)) /dev/zero
}
# noise SIZE FILE: bytes that do not repeat.
noise() { head -c "$1" /dev/urandom >"$2"; }

case $case in
pattern)
    noise 8M "$disk"
    cp "$disk" "$work/expected"
    guest 0 --disk "$disk,model=$model,serial=S1234567" <<S
cat $serial; echo
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
        in_out 'IO-APIC +(1[6-9]|2[0-3])-fasteoi'
    else
        in_out '1[01]: +[0-9]+ +XT-PIC'
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
    in_out '^1$'
    in_out "^$(md5sum <"$disk" | cut -d' ' -f1) "
    same "$disk" "$work/expected"
    ;;
two)
    noise 2M "$disk"
    noise 3M "$work/other"
    truncate -s 3M "$disk"
    guest 0 --disk "$disk,model=$model" --disk "$work/other,model=$model,readonly" <<S
dd if=/dev/$second of=/dev/$first bs=16k oflag=direct
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
        cat <<S
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
    {
        entry 040755 bin
        entry 040755 dev
        entry 100755 bin/busybox "$busybox"
        entry 100755 init "$work/init"
        for driver in "${drivers[@]}"; do entry 100644 "${driver##*/}.ko" "$modules/drivers/$driver.ko"; done
        entry 000000 'TRAILER!!!'
    } >"$work/initrd"
    status=0
    timeout 280 "$gnomon" run --kernel "$kernel" --initrd "$work/initrd" --append 'console=ttyS0 quiet' \
        --disk "$disk,model=$model" </dev/null >"$work/out" 2>"$work/err" || status=$?
    [ "$status" -eq 0 ] || fail "exit status $status"
    in_out 'life 1'
    in_out 'life 4'
    [ "$(head -c 2 "$disk")" = 4 ] || fail "the file lacks what was written last"
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
