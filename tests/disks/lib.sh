# SPDX-License-Identifier: Apache-2.0
# Shared by the scripts here, which source it with their arguments GNOMON GUEST-FILES MODEL CASE: the model's names and
# drivers, and ways to boot a guest. Exit status 77 when what they need is not there.
# Much of what is in single quotes is code for the guest, and much of what is set here is for the scripts.
# shellcheck shell=bash
# shellcheck disable=SC2016,SC2034
gnomon=$1 files=$2 model=$3 case=$4
kernel=$files/cloud/vmlinuz busybox=$files/busybox/bin/busybox
modules=$(echo "$files"/cloud/lib/modules/*/kernel)
if [ ! -r "$kernel" ] || [ ! -x "$busybox" ] || [ ! -d "$modules" ]; then
    echo "no $kernel, its modules or $busybox: run scripts/fetch.sh"
    exit 77
fi
# place N: shell: the name of disk N, from 0 on, once all are there.
by_io_apic='IO-APIC +(1[6-9]|2[0-3])-fasteoi' by_8259='1[01]: +[0-9]+ +XT-PIC' read_only=1
case $model in
virtio)
    drivers=(virtio/virtio_ring virtio/virtio virtio/virtio_pci_modern_dev virtio/virtio_pci_legacy_dev
        virtio/virtio_pci block/virtio_blk)
    first=vda second=vdb serial='cat /sys/block/vda/serial'
    place='place() { if [ "$1" = 0 ]; then echo vda; else echo vdb; fi; }'
    ;;
nvme) # in the kernel itself
    drivers=()
    first=nvme0n1 second=nvme1n1 serial='cat /sys/block/nvme0n1/device/serial'
    place='place() { echo "nvme$1n1"; }'
    ;;
ide)
    drivers=(scsi/scsi_common scsi/scsi_mod ata/libata ata/ata_piix scsi/sd_mod)
    first=sda second=sdb serial='tail -c +5 /sys/block/sda/device/vpd_pg80'
    by_io_apic='IO-APIC +14-edge' by_8259='14: +[0-9]+ +XT-PIC'
    read_only=0 # ATA has no word for it
    # Which of several is sda is a matter of luck.
    place='place() { basename /sys/devices/pci0000:00/0000:00:01.1/ata$((1 + $1 / 2))/host*/target*:0:$(($1 % 2))/*/block/*; }'
    ;;
*)
    echo "no model $model"
    exit 1
    ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
disk=$work/disk.img
# Of modules, by name: how they are loaded.
declare -A parameters=()
# Shell: waits for a device that is found some time after its driver is loaded.
await='await() { for i in $(seq 100); do [ ! -b "/dev/$1" ] || return 0; sleep 0.1; done; echo "no $1"; exit 9; }'

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
            echo "insmod /modules/${driver##*/}.ko ${parameters[${driver##*/}]-}"
        done
        echo "$await"
        echo "$place"
        echo "await $first"
        cat
    } >"$root/script.sh"
    # Whose process it is: $work/pid.
    timeout "${limit:-280}" sh -c 'echo $$ >"$0"; exec "$@"' "$work/pid" "$gnomon" trace --kernel "$kernel" --root "$root" --console "$work/console" -e trace=reboot \
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
# make_initrd: $work/initrd, with the drivers, busybox, and $work/init as the first program.
make_initrd() {
    local driver
    {
        entry 040755 bin
        entry 040755 dev
        entry 100755 bin/busybox "$busybox"
        entry 100755 init "$work/init"
        for driver in "${drivers[@]}"; do entry 100644 "${driver##*/}.ko" "$modules/drivers/$driver.ko"; done
        entry 000000 'TRAILER!!!'
    } >"$work/initrd"
}
# boot_initrd: runs the kernel with the disk, and with $work/init as the first program.
boot_initrd() {
    local status=0
    make_initrd
    timeout 280 "$gnomon" run --kernel "$kernel" --initrd "$work/initrd" --append 'console=ttyS0 quiet' \
        --disk "$disk,model=$model" </dev/null >"$work/out" 2>"$work/err" || status=$?
    [ "$status" -eq 0 ] || fail "exit status $status"
    tr -d '\r' <"$work/out" >"$work/plain"
    mv "$work/plain" "$work/out"
}
# noise SIZE FILE: bytes that do not repeat.
noise() { head -c "$1" /dev/urandom >"$2"; }
