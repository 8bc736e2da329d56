"""What dom0 is made of: the part that only changes with Debian's packages or with this folder (the base)."""

import glob
import os

import debs
import image
from failure import LabError

# Loaded at every boot.
MODULES = [
    "xen-privcmd", "xen-evtchn", "xen-gntdev", "xen-gntalloc", "xenfs", "virtio_pci", "virtio_console", "tun", "veth",
    "dummy", "sch_netem",
]
# Loaded by `lab-module NAME` alone: Linux's own netback would answer for ours.
OTHER_MODULES = ["xen-netback", "bridge", "sch_tbf", "8021q"]
GUEST_MODULES = ["xen-netfront"]
XEN_PROGRAMS = [
    "xl", "xenstored", "oxenstored", "xenconsoled", "xenconsole", "xen-init-dom0", "libxl-save-helper", "test-xenstore",
    "xenstore-control", "xen-diag", "lsevtchn",
]
STORE_PROGRAMS = ["chmod", "exists", "list", "ls", "read", "rm", "watch", "write"]
PROGRAMS = [
    "bash", "ip", "tc", "ss", "bridge", "ethtool", "ping", "curl", "nginx", "iperf3", "tcpdump", "openssl", "jq", "flock", "logger",
    "stat", "timeout", "sha256sum", "date", "sort", "comm", "env", "ps", "pgrep", "pkill", "prlimit", "nsenter", "unshare",
    "setpriv", "taskset", "mount", "umount", "getent", "tar", "grep", "sed", "mawk", "head", "tail", "mktemp", "seq",
    "realpath", "cmp", "setsid", "tr", "wc", "cat", "find", "xargs", "diff",
]
# The repository's folders and scripts that dom0 has too, in the same place under /synfluid.
TREES = ["tests/lab", "tests/e2e", "tests/traces", "policies/examples"]
SCRIPTS = ["bench/iperf_paths"]
# Libraries that a program opens by name at run time, where ldd does not see them.
OPENED_LATER = ["libgcc_s.so.1", "libnss_files.so.2"]
DPDK_DRIVERS = [
    "bus_pci", "bus_vdev", "mempool_ring", "mempool_stack", "net_af_packet", "net_null", "net_pcap", "net_ring",
    "net_tap",
]
FOLDERS = [
    "proc", "sys", "dev", "run/xen", "run/xenstored", "run/lock", "run/netns", "tmp", "root", "mnt", "var/lib/xen/dump",
    "var/lib/xenstored", "var/lib/nginx", "var/log/xen/console", "var/log/nginx", "var/cache", "var/spool",
    "etc/xen/auto", "synfluid",
]
TEXTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\ntcpdump:x:104:104::/tmp:/bin/false\n"
                  "www-data:x:33:33::/tmp:/bin/false\nnobody:x:65534:65534::/tmp:/bin/false\n",
    "etc/group": "root:x:0:\ntcpdump:x:104:\nwww-data:x:33:\nnogroup:x:65534:\n",
    "etc/hosts": "127.0.0.1 localhost dom0\n::1 localhost\n",
    "etc/hostname": "dom0\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\n",
    "etc/xen/xl.conf": "",
}


def _system(out):
    for name, target in image.MERGED.items():
        out.link(name, target)
    out.link("var/run", "/run")
    out.link("var/lock", "/run/lock")
    for folder in FOLDERS:
        out.folder(folder, 0o1777 if folder == "tmp" else 0o755)
    # The kernel opens the console before anything is mounted.
    out.device("dev/console", 0o600, 5, 1)
    out.device("dev/null", 0o666, 1, 3)
    for name, content in TEXTS.items():
        out.text(name, content)


def _xen(dom0):
    for program in XEN_PROGRAMS:
        dom0.program(f"/usr/lib/xen-4.17/bin/{program}")
        dom0.archive.link(f"usr/bin/{program}", f"/usr/lib/xen-4.17/bin/{program}")
    for program in STORE_PROGRAMS:
        dom0.program(f"xenstore-{program}")
    dom0.add_tree(dom0.find("/etc/xen/scripts"), "etc/xen/scripts")
    dom0.archive.file("etc/xen/oxenstored.conf", dom0.find("/etc/xen/oxenstored.conf"), 0o644)


def _dpdk(dom0):
    """The drivers that EAL loads by itself, from the folder where it looks for them."""
    folders = glob.glob(f"{image.LIBRARY}/dpdk/pmds-*")
    if not folders:
        raise LabError("DPDK's drivers are not installed (libdpdk-dev): ./dev installs what is missing")
    for driver in DPDK_DRIVERS:
        for path in sorted(glob.glob(f"{folders[0]}/librte_{driver}.so.*")):
            dom0.library(path)


def _module_list(out, folder, root, release, names, listing):
    """Adds modules and, as a text file `listing`, the order to load them in."""
    ordered = image.module_files(root, release, names)
    for path in ordered:
        out.file(f"{folder}/{os.path.basename(path)}", path, 0o644)
    out.text(f"{folder}/{listing}", "".join(os.path.basename(path) + "\n" for path in ordered))


def _modules(out, root, release):
    _module_list(out, "lab/modules", root, release, MODULES, "at-boot")
    for name in OTHER_MODULES:
        _module_list(out, "lab/modules", root, release, [name], f"{name}.needs")


def write_base(out, root):
    """Writes everything that does not depend on the build."""
    _system(out)
    dom0 = image.Image(out, root)
    for program in PROGRAMS:
        dom0.program(program)
    out.link("usr/bin/sh", "/usr/bin/bash")
    out.link("usr/bin/awk", "/usr/bin/mawk")
    for library in OPENED_LATER:
        dom0.library(f"{image.LIBRARY}/{library}")
    _xen(dom0)
    _dpdk(dom0)
    for path in ("/etc/nginx/mime.types", "/etc/ssl/openssl.cnf", "/etc/protocols", "/etc/services"):
        if os.path.exists(path):
            out.file(path, path, 0o644)
    out.link("usr/lib/ssl/openssl.cnf", "/etc/ssl/openssl.cnf")
    _modules(out, root, debs.kernel_release(root))
    out.file("usr/bin/busybox", image.busybox(), 0o755)
    for applet in image.busybox_applets():
        if not {f"usr/bin/{applet}", f"usr/sbin/{applet}"} & out.names:
            out.link(f"usr/bin/{applet}", "/usr/bin/busybox")


def write_linux_guest(out, root, source):
    """A Linux that runs as a PV guest, with its own small initramfs: packed into `out` as an archive in its own right."""
    release = debs.kernel_release(root)
    out.folder("proc")
    out.folder("sys")
    out.folder("dev")
    out.folder("www")
    out.device("dev/console", 0o600, 5, 1)
    out.file("bin/busybox", image.busybox(), 0o755)
    out.link("bin/sh", "busybox")
    _module_list(out, "modules", root, release, GUEST_MODULES, "order")
    out.file("init", f"{source}/init", 0o755)


def _rows(source):
    with open(f"{source}/tests/lab/manifest", encoding="utf-8") as lines:
        return [line.split() for line in lines if line.strip() and not line.startswith("#")]


def _manifest(source, build):
    """The build's files that go into dom0, as (kind, path); those that are not built are left out."""
    for kind, pattern in (row for row in _rows(source) if row[0] != "with"):
        for path in sorted(glob.glob(f"{build}/{pattern}")):
            if os.path.isfile(path) and os.access(path, os.X_OK) and not path.endswith(".so"):
                yield kind, path


def features_of(source, name):
    """What the command `name` wants of --with."""
    return [row[1] for row in _rows(source) if row[0] == "with" and row[2] == name]


def is_bench(source, build, name):
    """True if `name` is one of the build's benches."""
    return any(kind == "bench" and os.path.basename(path) == name for kind, path in _manifest(source, build))


def sized_program(source, build, name):
    """The build's program `name`, if it is one that says what machine it needs."""
    return next((path for kind, path in _manifest(source, build) if kind == "sized" and os.path.basename(path) == name), None)


def write_overlay(out, root, source, build, additions):
    """Writes what this build and this run add to the base."""
    dom0 = image.Image(out, root)
    out.file("init", f"{source}/tests/lab/dom0/init", 0o755)
    out.file("usr/bin/lab-module", f"{source}/tests/lab/dom0/lab-module", 0o755)
    out.link("usr/sbin/modprobe", "/usr/bin/lab-module")
    for path in sorted({path for _, path in _manifest(source, build)}):
        dom0.add(path, f"synfluid/bin/{os.path.basename(path)}")
    for path, name in additions:
        if os.path.isdir(path):
            dom0.add_tree(path, name)
        else:
            dom0.add(path, name)
    for tree in TREES:
        dom0.add_tree(f"{source}/{tree}", f"synfluid/{tree}", skip=("host",))
    for script in SCRIPTS:
        dom0.add(f"{source}/{script}", f"synfluid/{script}")
