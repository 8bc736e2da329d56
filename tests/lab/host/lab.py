#!/usr/bin/python3
"""Boots real Xen under QEMU with a build inside and runs one command in dom0. `./dev lab --help` explains."""

import argparse
import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from types import SimpleNamespace

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)

import contents  # noqa: E402
import cpio  # noqa: E402
import debs  # noqa: E402
import machine  # noqa: E402
from failure import LabError  # noqa: E402

ROOT = os.path.realpath(f"{HERE}/../../..")
TIMED_OUT = 124
LAB_FAILED = 125
USUAL_TIMEOUT = 1500
BENCH_TIMEOUT = 14400  # thousands of VMs, on a machine that does other things too
LOGS_KEPT = 30
# SSE4.2 for DPDK; no SMAP, with which a PV dom0 crashes under TCG; no AVX, which dom0's programs would see in CPUID but
# which Xen does not let them use here.
CPU = "Haswell-noTSX,-avx,-avx2,-fma,-f16c"


def mebibytes(text):
    units = {"M": 1, "G": 1024}
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].upper() in units else (text, "M")
    if not number.isdigit() or int(number) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is no size: write 2G or 2048M")
    return int(number) * units[unit]


def arguments(argv):
    parser = argparse.ArgumentParser(
        prog="dev lab", description="Boots real Xen in QEMU with the build inside, runs CMD in dom0, and passes on its "
        "output and exit status.", epilog="CMD is a program of the build (synfluid, bootstorm), a path in the repository "
        "(tests/lab/e2e), any program of dom0 (xl info), or one word with a shell command in it ('xl info; xl list'). Exit "
        "status: CMD's own; 124 after a time-out; 125 when the lab itself failed.")
    add = parser.add_argument
    add("--memory", type=mebibytes, metavar="SIZE",
        help="of the whole machine (what CMD says it needs; 2G; 4G for the bench `store`)")
    add("--dom0-memory", type=mebibytes, metavar="SIZE", help="of dom0 (what CMD says it needs; half of --memory, 3G at most)")
    add("--vcpus", type=int, default=1, metavar="N", help="processors of the machine and of dom0 (1)")
    add("--store", choices=["c", "oxenstored", "synfluid", "none"],
        help="which xenstored runs (c; none for the bench `store`, which starts them itself)")
    add("--icount", action=argparse.BooleanOptionalAction, default=None,
        help="the instruction clock: one instruction is one nanosecond (default: on for benches)")
    add("--copy-out", action="append", default=[], metavar="GUESTPATH:HOSTPATH", help="copy a file or folder out at the end")
    add("--add", action="append", default=[], metavar="HOSTPATH[:GUESTPATH]",
        help="put one more file or folder into dom0, with its libraries (GUESTPATH: /synfluid/bin/NAME)")
    add("--with", action="append", default=[], dest="features", choices=["linux-guest"], metavar="FEATURE",
        help="linux-guest: a Linux kernel and initramfs for a PV guest, in /lab/guest-linux (the bench `netback` has it)")
    add("--build", default=f"{ROOT}/build", metavar="DIR", help="the build directory whose programs go into dom0 (build)")
    add("--timeout", type=float, metavar="S", help="seconds after which the machine is killed (1500; a bench: 14400)")
    add("--keep-log", metavar="FILE", help="where the log of Xen and the kernels goes (build/lab/log/)")
    add("--xen-args", default="", metavar="ARGS", help="more of Xen's own command line")
    add("--maptrack-frames", type=int, default=8192, metavar="N", help="Xen's gnttab_max_maptrack_frames (8192)")
    add("--cpu", default=CPU, metavar="MODEL", help=f"QEMU's processor ({CPU})")
    add("--cache", default=f"{ROOT}/build/lab", metavar="DIR", help="unpacked packages and images (build/lab)")
    add("--refresh", action="store_true", help="ask apt for newer packages of Xen and the kernel")
    add("command", nargs=argparse.REMAINDER, metavar="CMD...", help="the command and its arguments")
    options = parser.parse_args(argv)
    if options.command[:1] == ["--"]:
        options.command = options.command[1:]
    if not options.command:
        parser.error("no command: try ./dev lab xl info")
    program = options.command[0].split()[:1]
    options.features += [feature for name in program for feature in contents.features_of(ROOT, name)]
    # The bench `store` starts the stores itself, and has 10,000 domains to introduce.
    is_store_bench = program == ["store"]
    if options.store is None:
        options.store = "none" if is_store_bench else "c"
    options.usual_memory = 4096 if is_store_bench else 2048
    if options.timeout is None:
        options.timeout = BENCH_TIMEOUT if is_bench(options) else USUAL_TIMEOUT
    return options


def is_bench(options):
    return contents.is_bench(ROOT, options.build, options.command[0].split()[0])


def digest(paths):
    """Changes when one of the files does."""
    state = hashlib.sha256()
    for path in paths:
        seen = os.stat(path)
        state.update(f"{path} {seen.st_mtime_ns} {seen.st_size}\n".encode())
    return state.hexdigest()[:16]


def cached(path, write):
    """The archive at `path`, written first if it is not there, and the names in it."""
    if not os.path.exists(f"{path}.names"):
        out = cpio.Archive(f"{path}.new")
        write(out)
        out.close()
        os.rename(f"{path}.new", path)
        with open(f"{path}.names", "w", encoding="utf-8") as names:
            json.dump(sorted(out.names), names)
    with open(f"{path}.names", encoding="utf-8") as names:
        return json.load(names)


def prune(folder, prefix, keep):
    """Removes all but the newest `keep` of the files in `folder` that begin with `prefix`."""
    found = sorted((entry for entry in os.scandir(folder) if entry.name.startswith(prefix)),
                   key=lambda entry: entry.stat().st_mtime, reverse=True)
    for entry in found[keep:]:
        os.unlink(entry.path)


def base_image(options):
    """The unpacked packages, the base archive and the names in it, the Linux guest's archive. One lab at a time makes them."""
    os.makedirs(options.cache, exist_ok=True)
    with open(f"{options.cache}/lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        root = debs.unpacked(options.cache, options.refresh)
        sources = [f"{HERE}/{name}" for name in ("contents.py", "image.py", "cpio.py")]
        sources += [f"{root}/packages.json", "/var/lib/dpkg/status", f"{HERE}/../guest-linux/init"]
        key = digest(sources)
        base = f"{options.cache}/base-{key}.cpio"
        names = cached(base, lambda out: contents.write_base(out, root))
        guest = f"{options.cache}/linux-{key}.cpio"
        if "linux-guest" in options.features:
            cached(guest, lambda out: contents.write_linux_guest(out, root, f"{HERE}/../guest-linux"))
        prune(options.cache, "base-", 4)
        prune(options.cache, "linux-", 4)
        # Held open, so that no other lab's pruning takes them away.
        return root, open(base, "rb"), names, open(guest, "rb") if "linux-guest" in options.features else None


def settings(options, mark):
    """The shell variables that dom0's init reads, and the command as a script."""
    words = options.command
    command = words[0] if len(words) == 1 else "exec " + shlex.join(words)
    wanted = shlex.join(pair.split(":")[0] for pair in options.copy_out)
    variables = {"LAB_STORE": options.store, "LAB_MARK": mark.strip("\0\n"), "LAB_COPY_OUT": wanted}
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items()), command + "\n"


def additions(options):
    """What --add asked for, as (path here, name in dom0)."""
    for extra in options.add:
        source, _, name = extra.partition(":")
        if not os.path.exists(source):
            raise LabError(f"--add: there is no {source}")
        yield source, name or f"synfluid/bin/{os.path.basename(source)}"


def lay_out(folder, options, mark):
    """Fills this boot's folder with what QEMU loads."""
    root, base, names, guest = base_image(options)
    release = debs.kernel_release(root)
    os.symlink(f"{root}/boot/xen.elf", f"{folder}/xen.elf")
    os.symlink(f"{root}/boot/vmlinuz-{release}", f"{folder}/vmlinuz")
    out = cpio.Archive(f"{folder}/overlay.cpio")
    out.assume(names)
    variables, command = settings(options, mark)
    out.text("lab/settings", variables)
    out.text("lab/command", command)
    contents.write_overlay(out, root, ROOT, options.build, additions(options))
    if guest:
        out.file("lab/guest-linux/vmlinuz", f"{folder}/vmlinuz", 0o644)
        out.file("lab/guest-linux/initramfs", f"/proc/self/fd/{guest.fileno()}", 0o644)
    out.close()
    with base, open(f"{folder}/dom0.cpio", "wb") as whole, open(f"{folder}/overlay.cpio", "rb") as overlay:
        shutil.copyfileobj(base, whole, 1 << 20)
        shutil.copyfileobj(overlay, whole, 1 << 20)


def take_out(archive, pairs):
    """Copies files from dom0's archive to where the options want them; returns what was not there."""
    missing = []
    with tarfile.open(archive, ignore_zeros=True) as tar:
        members = tar.getmembers()
        for guest, host in pairs:
            inside = guest.strip("/") if guest.startswith("/") else f"synfluid/{guest}".rstrip("/")
            found = [m for m in members if m.name == inside or m.name.startswith(inside + "/")]
            if not found:
                missing.append(guest)
            for member in found:
                target = host + member.name[len(inside):]
                if member.isdir():
                    os.makedirs(target, exist_ok=True)
                elif member.isfile():
                    os.makedirs(os.path.dirname(os.path.abspath(target)), exist_ok=True)
                    with open(target, "wb") as out:
                        shutil.copyfileobj(tar.extractfile(member), out)
    return missing


def sweep(cache):
    """Removes the folders of boots that were killed before they could."""
    for entry in os.scandir(cache):
        owner = entry.name.split(".")[1] if entry.name.startswith("boot.") else ""
        if entry.name.startswith("boot.") and not os.path.exists(f"/proc/{owner}"):
            shutil.rmtree(entry.path, ignore_errors=True)


def log_path(options):
    os.makedirs(options.cache, exist_ok=True)
    if options.keep_log:
        return os.path.abspath(options.keep_log)
    folder = f"{options.cache}/log"
    os.makedirs(folder, exist_ok=True)
    prune(folder, "", LOGS_KEPT)
    return f"{folder}/{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"


def declared_need(options):
    """What the command says it needs, as (machine, dom0) in MiB; (0, 0) of one that does not say."""
    program = contents.sized_program(ROOT, options.build, options.command[0])
    if not program:
        return 0, 0
    said = subprocess.run([program, *options.command[1:], "--lab-memory"], capture_output=True, text=True)
    if said.returncode != 0:
        raise LabError(said.stderr.strip() or f"{program} --lab-memory ended with {said.returncode}")
    need = re.fullmatch(r"(\d+) (\d+)\n", said.stdout)
    return (int(need[1]), int(need[2])) if need else (0, 0)  # --help, say


def memory(options):
    """Of the machine and of dom0, in MiB."""
    need, dom0_need = declared_need(options)
    machine_memory = options.memory or max(need, options.usual_memory)
    fits = dom0_need and machine_memory >= need
    dom0 = options.dom0_memory or (dom0_need if fits else min(machine_memory // 2, 3072))
    if dom0 > machine_memory - 256:
        raise LabError(f"dom0 cannot have {dom0}M of a machine of {machine_memory}M: Xen and the guests need the rest")
    if machine_memory < need:
        print(f"lab: {options.command[0]} says that it needs --memory {need}M", file=sys.stderr)
    return machine_memory, dom0


def machine_config(options):
    icount = is_bench(options) if options.icount is None else options.icount
    if icount and options.vcpus != 1:
        raise LabError("the instruction clock counts one processor: leave out --vcpus, or add --no-icount")
    machine_memory, dom0_memory = memory(options)
    return SimpleNamespace(
        memory=machine_memory, dom0_memory=dom0_memory, vcpus=options.vcpus, maptrack_frames=options.maptrack_frames,
        xen_args=options.xen_args, cpu=options.cpu, icount=icount, timeout=options.timeout)


def write_all(descriptor, data):
    while data:
        data = data[os.write(descriptor, data):]


def boot(options, folder, log):
    lab = machine.Machine(machine_config(options), folder)
    lay_out(folder, options, lab.mark)
    with open(f"{folder}/files.tar", "wb") as files:
        status = lab.run(log, {"out": lambda data: write_all(1, data), "err": lambda data: write_all(2, data),
                               "files": files.write})
    pairs = [tuple(pair.split(":", 1)) for pair in options.copy_out]
    missing = take_out(f"{folder}/files.tar", pairs) if pairs else []
    if missing:
        print(f"lab: nothing to copy out at {', '.join(missing)}", file=sys.stderr)
        status = status or LAB_FAILED
    return status


def main(argv):
    options = arguments(argv)
    log = None
    # A lab that is told to end takes its machine with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if any(":" not in pair for pair in options.copy_out):
            raise LabError("--copy-out wants GUESTPATH:HOSTPATH")
        machine.find_qemu()
        log = log_path(options)
        sweep(options.cache)
        with tempfile.TemporaryDirectory(prefix=f"boot.{os.getpid()}.", dir=options.cache) as folder:
            return boot(options, folder, log)
    except TimeoutError:
        print(f"lab: timed out after {options.timeout:g} s and was killed; its log is {log}", file=sys.stderr)
        return TIMED_OUT
    except LabError as error:
        kept = f"; its log is {log}" if log and os.path.exists(log) else ""
        print(f"lab: {error}{kept}", file=sys.stderr)
        return LAB_FAILED
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
