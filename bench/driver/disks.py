# SPDX-License-Identifier: Apache-2.0
"""Disk models, and the places where bench/io.sh loads them. QEMU's disks are the same controllers over the same file."""

import dataclasses
import os

from places import KERNEL_PARAMETERS


@dataclasses.dataclass(frozen=True)
class Model:
    """A disk controller as Debian's cloud kernel finds it."""

    name: str
    device: str  # in the guest
    interrupts: str  # what its lines in /proc/interrupts contain
    modules: tuple  # below drivers, in the order to load them in
    qemu: tuple  # QEMU's options for the drive "disk"


MODELS = (
    Model("nvme", "/dev/nvme0n1", "nvme0q", (), ("-device", "nvme,drive=disk,serial=bench")),
    Model(
        "virtio", "/dev/vda", "virtio",
        ("virtio/virtio_ring", "virtio/virtio", "virtio/virtio_pci_modern_dev", "virtio/virtio_pci_legacy_dev",
         "virtio/virtio_pci", "block/virtio_blk"),
        ("-device", "virtio-blk-pci,drive=disk,disable-legacy=on"),
    ),
    Model(
        "ide", "/dev/sda", "ata_piix",
        ("scsi/scsi_common", "scsi/scsi_mod", "ata/libata", "ata/ata_piix", "scsi/sd_mod"),
        ("-device", "ide-hd,drive=disk,bus=ide.0"),  # on the machine's own PIIX3
    ),
)  # fmt: skip


def module_files(kernel, model):
    """The files of `model.modules` beside `kernel`; FileNotFoundError if one is missing."""
    drivers = sorted(kernel.parent.glob("lib/modules/*/kernel/drivers"))
    if not drivers:
        raise FileNotFoundError(f"{kernel.parent}/lib/modules")
    files = [drivers[-1] / f"{name}.ko" for name in model.modules]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(str(file))
    return files


def takes_direct(path):
    """Whether the file can be read past the page cache."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
    except OSError:
        return False
    return True


class Gnomon:
    """`gnomon run` with one disk, its model's default profile, and a completion policy."""

    trace_file = None

    def __init__(self, program, model, disk, policy):
        self.name = policy
        self._program = program
        self._model = model
        self._disk = disk
        self._policy = policy

    def command(self, guest, parameters):
        return [
            str(self._program), "run", "--kernel", str(guest.kernel), "--initrd", str(guest.initrd),
            "--memory", f"{guest.memory}M", "--no-reboot", "--completions", self._policy,
            "--disk", f"{str(self._disk).replace(',', ',,')},model={self._model.name},format=raw",
            "--append", f"{KERNEL_PARAMETERS} {parameters}",
        ]  # fmt: skip


class Qemu:
    """QEMU's TCG with the same model; past the host's page cache where Gnomon goes past it."""

    name = "tcg"
    trace_file = None

    def __init__(self, program, model, disk):
        self._program = program
        self._model = model
        self._disk = disk

    def command(self, guest, parameters):
        cache = "none" if takes_direct(self._disk) else "writeback"
        file = str(self._disk).replace(",", ",,")
        return [
            str(self._program), "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1", "-m", str(guest.memory),
            "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot",
            "-drive", f"if=none,id=disk,file={file},format=raw,cache={cache},aio=io_uring", *self._model.qemu,
            "-kernel", str(guest.kernel), "-initrd", str(guest.initrd), "-append", f"{KERNEL_PARAMETERS} {parameters}",
        ]  # fmt: skip


class Native:
    """The load on the host itself, on the file; nothing is between it and the host's kernel."""

    name = "native"
    trace_file = None

    def __init__(self, programs, disk):
        self._program = programs / "disk_load"
        self._disk = disk

    def command(self, _guest, parameters):
        ours = [word for word in parameters.split() if not word.startswith(("io.device=", "io.interrupts="))]
        return [str(self._program), f"io.device={self._disk}", *ours]
