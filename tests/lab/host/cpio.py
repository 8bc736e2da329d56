"""Writes cpio archives ("newc"), the format of a Linux initramfs.

Device nodes and ownership need no root this way, and two archives one after the other make one initramfs, so what
seldom changes and what every build changes can be kept apart.
"""

import os
import stat


class Archive:
    """One cpio archive being written. Parent folders are made as they are needed; a name is written once."""

    def __init__(self, path):
        self._out = open(path, "wb")
        self._inode = 1
        self._names = set()

    @property
    def names(self):
        return frozenset(self._names)

    def assume(self, names):
        """Treats `names` as written: they are in the archive that this one will follow."""
        self._names.update(names)

    def folder(self, name, mode=0o755):
        name = name.strip("/")
        if name and name not in self._names:
            self.folder(os.path.dirname(name))
            self._entry(name, stat.S_IFDIR | mode, b"")

    def link(self, name, target):
        name = name.strip("/")
        if name not in self._names:
            self.folder(os.path.dirname(name))
            self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def device(self, name, mode, major, minor):
        self._entry(name.strip("/"), stat.S_IFCHR | mode, b"", (major, minor))

    def text(self, name, content, mode=0o644):
        name = name.strip("/")
        if name not in self._names:
            self.folder(os.path.dirname(name))
            self._entry(name, stat.S_IFREG | mode, content.encode())

    def file(self, name, source, mode=None):
        name = name.strip("/")
        if name in self._names:
            return
        self.folder(os.path.dirname(name))
        with open(source, "rb") as data:
            bits = os.fstat(data.fileno()).st_mode if mode is None else mode
            self._entry(name, stat.S_IFREG | (bits & 0o755), data.read())

    def close(self):
        self._entry("TRAILER!!!", 0, b"")
        self._out.write(b"\0" * (-self._out.tell() % 512))
        self._out.close()

    def _entry(self, name, mode, data, device=(0, 0)):
        self._names.add(name)
        raw = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, device[0], device[1], len(raw), 0)
        self._inode += 1
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + raw
        self._out.write(head + b"\0" * (-len(head) % 4))
        self._out.write(data)
        self._out.write(b"\0" * (-len(data) % 4))
