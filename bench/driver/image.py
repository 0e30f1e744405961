# SPDX-License-Identifier: Apache-2.0
"""The guests' files: packs archives in cpio's "newc" format, as Linux unpacks them into its initial root file system.

Not compressed: the guest would have to decompress it, which is time that both monitors would spend on the same code,
and the host reads the file in milliseconds.
"""

import contextlib
import os
import stat
import tarfile
from pathlib import Path

# What no row looks at.
LEFT_OUT = (
    "usr/share/", "usr/lib/x86_64-linux-gnu/gconv/", "usr/lib/x86_64-linux-gnu/perl-base/",
    "usr/lib/python3.11/pydoc_data/", "usr/lib/systemd/", "lib/systemd/", "var/", "etc/apt/", "etc/dpkg/", "dev/",
    "usr/bin/perl", "usr/bin/dpkg", "usr/bin/apt", "usr/lib/apt/", "usr/lib/dpkg/",
)  # fmt: skip


class CpioWriter:
    """Writes one archive to a binary file."""

    def __init__(self, file):
        self._file = file
        self._inode = 0

    def add(self, name, mode, data=b"", device=(0, 0)):
        """Adds an entry; `name` is relative to the root, `mode` as stat has it, `device` that of a device node."""
        self._inode += 1
        encoded = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields)
        self._write_padded(header + encoded)
        self._write_padded(data)

    def close(self):
        """Ends the archive. The file stays open."""
        self._inode = -1
        self.add("TRAILER!!!", 0)

    def _write_padded(self, data):
        self._file.write(data)
        self._file.write(b"\0" * (-len(data) % 4))


@contextlib.contextmanager
def _archive(path):
    """A CpioWriter for the file `path`, which is replaced in one step once the archive is whole."""
    unfinished = f"{path}.{os.getpid()}"
    try:
        with open(unfinished, "wb") as file:
            writer = CpioWriter(file)
            yield writer
            writer.close()
        os.replace(unfinished, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)


def pack_boot(path, programs):
    """The initramfs of the row "boot": one static program and a console for it."""
    with _archive(path) as writer:
        writer.add("dev", stat.S_IFDIR | 0o755)
        writer.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
        writer.add("init", stat.S_IFREG | 0o755, (programs / "boot_init").read_bytes())


def pack_disk_load(path, programs, modules):
    """The initramfs of bench/io.sh: its static program, and the files `modules` in the order to load them in."""
    with _archive(path) as writer:
        for name in ("dev", "proc", "sys", "modules"):
            writer.add(name, stat.S_IFDIR | 0o755)
        writer.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
        writer.add("init", stat.S_IFREG | 0o755, (programs / "disk_load").read_bytes())
        for index, module in enumerate(modules):
            writer.add(f"modules/{index:02}-{module.name}", stat.S_IFREG | 0o644, module.read_bytes())


def pack_rows(path, root_tar, programs, rows):
    """The initramfs of all other rows: Debian from `root_tar`, our programs, and the scripts of the folder `rows`."""
    with _archive(path) as writer, tarfile.open(root_tar) as root:
        contents = {}  # of the files that hard links may name
        for member in root:
            name = os.path.normpath(member.name)
            if name == "." or (name + "/").startswith(LEFT_OUT) or name.startswith(LEFT_OUT):
                continue
            if member.isdir():
                writer.add(name, stat.S_IFDIR | 0o755)
            elif member.issym():
                writer.add(name, stat.S_IFLNK | 0o777, member.linkname.encode())
            elif member.isfile():
                contents[name] = root.extractfile(member).read()
                writer.add(name, stat.S_IFREG | member.mode & 0o7777, contents[name])
            elif member.islnk():
                writer.add(name, stat.S_IFREG | member.mode & 0o7777, contents[os.path.normpath(member.linkname)])
        for name in ("dev", "proc", "sys", "tmp", "root", "bench", "bench/rows"):
            writer.add(name, stat.S_IFDIR | 0o755)
        writer.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
        writer.add("init", stat.S_IFREG | 0o755, (programs / "runner").read_bytes())
        for program in ("runner", "micro", "nothing", "text"):
            writer.add(f"bench/{program}", stat.S_IFREG | 0o755, (programs / program).read_bytes())
        for script in sorted(Path(rows).iterdir()):
            writer.add(f"bench/rows/{script.name}", stat.S_IFREG | 0o755, script.read_bytes())


def unpack(path, directory):
    """The files of an archive that pack_rows made, below `directory`; no device nodes, and owned by the caller."""
    with open(path, "rb") as file:
        while True:
            header = file.read(110)
            fields = [int(header[i : i + 8], 16) for i in range(6, 110, 8)]
            mode, size, name_size = fields[1], fields[6], fields[11]
            name = file.read(name_size)[:-1].decode()
            file.read(-(110 + name_size) % 4)
            data = file.read(size)
            file.read(-size % 4)
            if name == "TRAILER!!!":
                return
            target = Path(directory) / name
            if stat.S_ISDIR(mode):
                target.mkdir(exist_ok=True)
            elif stat.S_ISLNK(mode):
                target.symlink_to(data.decode())
            elif stat.S_ISREG(mode):
                target.write_bytes(data)
                target.chmod(mode & 0o7777)
