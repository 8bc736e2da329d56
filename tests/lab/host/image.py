"""Puts dom0's file system together: programs with the libraries they need, kernel modules, folders, links.

A file is stored once, under the path it has after all links are followed; every other name is a link. DPDK's drivers
depend on it: two copies of one bus driver would register two buses.
"""

import os
import re
import shutil
import subprocess

from failure import LabError

LIBRARY = "/usr/lib/x86_64-linux-gnu"
MERGED = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}


def merged(path):
    """`path` with /bin, /sbin and /lib as the links into /usr that they are."""
    first, _, rest = path.strip("/").partition("/")
    return f"{MERGED.get(first, first)}/{rest}" if rest else MERGED.get(first, first)


class Image:
    """An archive, filled from the unpacked packages first and from the host second."""

    def __init__(self, archive, packages):
        self.archive = archive
        self._packages = os.path.realpath(packages)
        self._done = set()

    def find(self, path):
        """Where `path` of dom0 lies on this machine, or None."""
        for candidate in (self._packages + path, self._packages + "/" + merged(path), path):
            if os.path.lexists(candidate):
                return candidate
        return None

    def _inside(self, source):
        """The name in dom0 of the file at `source`."""
        if source.startswith(self._packages + "/"):
            source = source[len(self._packages):]
        return merged(source)

    def add(self, source, name=None):
        """Adds a file under its own path, or `name`, with the libraries it needs if it is a program."""
        real = os.path.realpath(source)
        if name is not None:
            self.archive.file(name, real)
        else:
            self._place(source, real)
        # ldd lists what the libraries need as well.
        for library in self._libraries(real):
            self._place(library, os.path.realpath(library))

    def _place(self, source, real):
        if source in self._done:
            return
        self._done.add(source)
        self.archive.file(self._inside(real), real)
        alias = os.path.join(os.path.realpath(os.path.dirname(source)), os.path.basename(source))
        if alias != real:
            self.archive.link(self._inside(alias), "/" + self._inside(real))

    def add_tree(self, source, name, skip=()):
        """Adds a folder of files as it is."""
        for parent, folders, files in os.walk(source):
            folders[:] = sorted(folder for folder in folders if folder not in skip and folder != "__pycache__")
            for file in sorted(files):
                path = os.path.join(parent, file)
                self.add(path, os.path.join(name, os.path.relpath(path, source)))

    def program(self, path_or_name):
        """Adds a program of Debian's: an absolute path, or a name that is looked for where programs are."""
        names = [path_or_name] if path_or_name.startswith("/") else [
            f"/usr/{place}/{path_or_name}" for place in ("bin", "sbin")]
        for name in names:
            found = self.find(name)
            if found:
                self.add(found)
                return
        raise LabError(f"dom0 needs the program {path_or_name}, which is not installed: ./dev installs what is missing")

    def library(self, pattern_path):
        """Adds a library by its full path."""
        found = self.find(pattern_path)
        if not found:
            raise LabError(f"dom0 needs {pattern_path}, which is not installed: ./dev installs what is missing")
        self.add(found)

    def _libraries(self, path):
        with open(path, "rb") as data:
            if data.read(4) != b"\x7fELF":
                return []
        environment = dict(os.environ, LD_LIBRARY_PATH=self._packages + LIBRARY, LC_ALL="C")
        done = subprocess.run(["ldd", path], env=environment, capture_output=True, text=True)
        missing = re.findall(r"^\s*(\S+) => not found", done.stdout, re.M)
        if missing:
            raise LabError(f"{path} needs {missing[0]}, which is not installed")
        return re.findall(r"(?:=> |^\s*)(/\S+) \(0x", done.stdout, re.M)


def module_files(root, release, names):
    """The files of kernel modules `names` and of all they depend on, each after what it needs."""
    known = {}
    for parent, _, files in os.walk(f"{root}/lib/modules/{release}/kernel"):
        for file in files:
            if file.endswith(".ko"):
                known[file[:-3].replace("-", "_")] = os.path.join(parent, file)
    ordered = []

    def visit(name):
        path = known.get(name.replace("-", "_"))
        if path is None:
            raise LabError(f"kernel {release} has no module {name}")
        if path in ordered:
            return
        with open(path, "rb") as data:
            depends = re.search(rb"\0depends=([^\0]*)\0", data.read())
        for other in (depends.group(1).decode().split(",") if depends else []):
            if other:
                visit(other)
        ordered.append(path)

    for name in names:
        visit(name)
    return ordered


def busybox():
    found = shutil.which("busybox", path="/usr/bin:/bin")
    if not found:
        raise LabError("busybox-static is not installed: ./dev installs what is missing")
    return found


def busybox_applets():
    return subprocess.run([busybox(), "--list"], capture_output=True, text=True, check=True).stdout.split()
