#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/disk-guests.sh [fio|debian]... [--update]
# Makes what the longer disk tests run in their guests (default: both), from Debian's mirror, without root:
#   build/guest/fio       disk.img: fio, mke2fs and e2fsck with the libraries that they need, on ext4
#   build/guest/debian    disk.img: Debian with systemd on ext4; a login on the serial console, root without a password
# What is there already stays as it is, unless this script changed or --update asks for Debian's current packages.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
# Root's tools, for those who are not.
PATH=$PATH:/usr/sbin:/sbin

update='' guests=()
for option in "$@"; do
    case $option in
    --update) update=1 ;;
    fio | debian) guests+=("$option") ;;
    *) die "unknown guest or option '$option'; there are fio, debian and --update" ;;
    esac
done
[ ${#guests[@]} -gt 0 ] || guests=(fio debian)
folder=$root/build/guest
wanted=$(sha256sum <scripts/disk-guests.sh)
work=''
trap 'if [ -n "$work" ]; then rm -rf -- "$work"; fi' EXIT

# up_to_date GUEST FILE
up_to_date() {
    [ -z "$update" ] && [ -s "$folder/$1/$2" ] && [ "$(cat "$folder/$1/stamp" 2>/dev/null)" = "$wanted" ]
}
# need TOOL...
need() {
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null || die "$tool is needed for the disk tests' guests; scripts/setup.sh test"
    done
}
# take_place GUEST: $work/made becomes build/guest/GUEST.
take_place() {
    printf '%s\n' "$wanted" >"$work/made/stamp"
    rm -rf -- "${folder:?}/$1"
    mv -- "$work/made" "$folder/$1"
    say "disk-guests: build/guest/$1"
}

# needed FILE: the names of the libraries that an ELF file asks for, and its loader's.
needed() {
    readelf -dW "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'
    readelf -lW "$1" | sed -n 's/.*program interpreter: .*\/\(.*\)\]/\1/p'
}
# fio is linked with clients of clusters and of remote disks, and with all that these need: 80 MiB, of which it touches
# little. So it is on a disk and not in an initramfs.
make_fio() {
    local name file queue=() made=$work/disk lib=$work/disk/lib/x86_64-linux-gnu
    local -A seen=()
    need mmdebstrap readelf mkfs.ext4
    say "disk-guests: unpacking fio"
    quietly build/log/disk-guests-fio.log mmdebstrap --mode=chrootless --variant=extract --include=fio,e2fsprogs \
        --format=tar bookworm "$work/fio.tar" || die "mmdebstrap cannot fetch fio; is the network there?"
    mkdir -p -- "$work/all" "$work/made" "$made"/{bin,dev,proc,sys,tmp,mnt,lib64} "$lib"
    tar -xf "$work/fio.tar" -C "$work/all" --exclude='./dev/*' --exclude='./usr/share/*' --no-same-owner
    for name in fio mke2fs e2fsck; do
        file=$(find "$work"/all/{usr/,}{bin,sbin} -name "$name" -type f -print -quit 2>/dev/null) || true
        [ -n "$file" ] || die "Debian's packages brought no $name"
        cp -- "$file" "$made/bin/"
        mapfile -t -O ${#queue[@]} queue < <(needed "$file")
    done
    while [ ${#queue[@]} -gt 0 ]; do
        name=${queue[0]}
        queue=("${queue[@]:1}")
        [ -z "${seen[$name]-}" ] || continue
        seen[$name]=1
        file=$(find "$work/all/usr/lib" "$work/all/lib/" -name "$name" -print -quit)
        [ -n "$file" ] || die "$name is needed, which Debian's packages did not bring"
        cp -L -- "$file" "$lib/$name"
        mapfile -t -O ${#queue[@]} queue < <(needed "$lib/$name")
    done
    ln -s ../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 "$made/lib64/"
    truncate -s 128M "$work/made/disk.img"
    quietly build/log/disk-guests-fio-mkfs.log mkfs.ext4 -q -d "$made" "$work/made/disk.img"
    take_place fio
}

# Files keep their owners on the way into the image: root gives them away, others pretend to.
make_debian() {
    local as_root=()
    need mmdebstrap mkfs.ext4
    if [ "$(id -u)" -ne 0 ]; then
        need fakeroot
        as_root=(fakeroot --)
    fi
    say "disk-guests: making Debian with systemd"
    # shellcheck disable=SC2016 # $1 is the hook's: the new system's folder
    quietly build/log/disk-guests-debian.log mmdebstrap --variant=minbase --format=tar \
        --include=systemd,systemd-sysv,udev,dbus,login,e2fsprogs,kmod,procps,util-linux \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook='sed -i "s/^root:[^:]*:/root::/" "$1/etc/shadow"' \
        --customize-hook='echo debian >"$1/etc/hostname"' \
        --customize-hook='echo "LABEL=debian / ext4 errors=remount-ro 0 1" >"$1/etc/fstab"' \
        --customize-hook='rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*' \
        bookworm "$work/debian.tar" ||
        die "mmdebstrap cannot make Debian (see build/log/disk-guests-debian.log); is the network there?"
    mkdir -p -- "$work/all" "$work/made"
    truncate -s 640M "$work/made/disk.img"
    # shellcheck disable=SC2016 # the arguments are the inner shell's
    quietly build/log/disk-guests-debian-mkfs.log "${as_root[@]}" sh -ec '
        tar -xf "$1/debian.tar" -C "$1/all" --exclude="./dev/*" --numeric-owner -p
        mkfs.ext4 -q -L debian -d "$1/all" "$1/made/disk.img"
    ' sh "$work"
    take_place debian
}

for guest in "${guests[@]}"; do
    ! up_to_date "$guest" disk.img || continue
    mkdir -p -- "$folder"
    work=$(mktemp -d -- "$folder/.disk-guests.XXXXXX")
    "make_$guest"
    rm -rf -- "$work"
done
