"""Xen, its tools and a kernel from Debian's packages: downloaded and unpacked into a cache, never installed."""

import json
import os
import re
import shutil
import subprocess
import tempfile

from failure import LabError

KERNEL_META = "linux-image-amd64"
PACKAGES = [
    "xen-hypervisor-4.17-amd64", "xen-utils-4.17", "xen-utils-common", "xenstore-utils", "libxenmisc4.17",
    "libxencall1", "libxendevicemodel1", "libxenevtchn1", "libxenforeignmemory1", "libxengnttab1", "libxenhypfs1",
    "libxenstore4", "libxentoolcore1", "libxentoollog1",
]


def _apt(*arguments, cwd=None):
    done = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise LabError(f"{' '.join(arguments[:2])}: {last}")
    return done.stdout


def _kernel_package():
    found = re.findall(r"Depends: (linux-image-6\.1\.0-\d+-amd64)\s", _apt("apt-cache", "depends", KERNEL_META))
    if not found:
        raise LabError(f"no kernel found: apt-cache knows no {KERNEL_META} of Debian 12; run apt-get update")
    return found[0]


def _versions(names):
    """The candidate version of each package."""
    text = _apt("apt-cache", "policy", *names)
    found = dict(re.findall(r"^(\S+):\n.*\n\s+Candidate: (\S+)", text, re.M))
    for name in names:
        if found.get(name, "(none)") == "(none)":
            raise LabError(f"apt knows no package {name}: this needs Debian 12's package lists (apt-get update)")
    return {name: found[name] for name in names}


def _unpack(versions, into):
    with tempfile.TemporaryDirectory(dir=os.path.dirname(into), prefix="unpack.") as work:
        wanted = [f"{name}={version}" for name, version in versions.items()]
        os.mkdir(f"{work}/root")
        _apt("apt-get", "download", *wanted, cwd=work)
        for deb in sorted(entry.path for entry in os.scandir(work) if entry.name.endswith(".deb")):
            _apt("dpkg-deb", "-x", deb, f"{work}/root")
        subprocess.run(f"gzip -dc {work}/root/boot/xen-4.17-amd64.gz > {work}/root/boot/xen.elf", shell=True, check=True)
        with open(f"{work}/root/packages.json", "w", encoding="utf-8") as out:
            json.dump(versions, out, indent=1)
        os.rename(f"{work}/root", into)


def unpacked(cache, refresh):
    """The folder with the packages unpacked. What is there is taken as it is, unless `refresh` asks apt again."""
    current = os.path.join(cache, "packages")
    if os.path.exists(f"{current}/packages.json") and not refresh:
        return os.path.realpath(current)
    versions = _versions(PACKAGES + [_kernel_package()])
    key = f"packages-{versions['xen-hypervisor-4.17-amd64']}-{list(versions)[-1].split('-')[3]}"
    target = os.path.join(cache, re.sub(r"[^\w.+-]", "_", key))
    if not os.path.exists(f"{target}/packages.json"):
        shutil.rmtree(target, ignore_errors=True)
        _unpack(versions, target)
    fresh = f"{current}.{os.getpid()}"
    os.symlink(os.path.basename(target), fresh)
    os.replace(fresh, current)
    return target


def kernel_release(root):
    return os.listdir(f"{root}/lib/modules")[0]
