"""One boot of Xen under QEMU: the command line, the channels to dom0, the time-out.

dom0 talks through virtio-serial ports, so that a command's output never mixes with the logs of Xen and the kernel:
`out`, `err` and `files` (a tar archive of what is copied out) each end with a mark chosen for this boot; `status`
carries one line. Each port is a socket pair, so labs share no path and no port number.
"""

import os
import secrets
import selectors
import shutil
import signal
import socket
import subprocess
import time

from failure import LabError

QEMU = "qemu-system-x86_64"
PORTS = ("out", "err", "files", "status")


def find_qemu():
    found = shutil.which(QEMU)
    if not found:
        raise LabError(f"{QEMU} is not installed: the lab needs Debian's package qemu-system-x86")
    return found


class Channel:
    """What one port has sent: passed on as it comes, up to the mark."""

    def __init__(self, mark, sink):
        self._mark = mark
        self._sink = sink
        self._held = b""
        self.ended = False

    def feed(self, data):
        if self.ended:
            return
        self._held += data
        at = self._held.find(self._mark)
        if at >= 0:
            self._pass_on(at)
            self._held = b""
            self.ended = True
            return
        # Only what may be the beginning of the mark is kept back.
        keep = next((n for n in range(min(len(self._mark) - 1, len(self._held)), 0, -1)
                     if self._held.endswith(self._mark[:n])), 0)
        self._pass_on(len(self._held) - keep)

    def flush(self):
        self._pass_on(len(self._held))

    def _pass_on(self, count):
        if count:
            self._sink(self._held[:count])
            self._held = self._held[count:]


class Machine:
    def __init__(self, config, folder):
        """`folder` is this boot's own; it holds the images, and the log unless the configuration names another place."""
        self._config = config
        self._folder = folder
        self.mark = "\0lab-end-" + secrets.token_hex(12) + "\n"
        self.status = None
        self._status_text = b""

    def _xen_arguments(self):
        config = self._config
        # New memory is zero. Scrubbed, all of it would be touched, and the host would have to back it.
        return (f"console=com1 com1=115200 dom0_mem={config.dom0_memory}M,max:{config.dom0_memory}M bootscrub=0 "
                f"dom0_max_vcpus={config.vcpus} gnttab_max_maptrack_frames={config.maptrack_frames} "
                f"loglvl=info guest_loglvl=info {config.xen_args}").strip()

    def _command(self, qemu, log, sockets):
        config = self._config
        kernel = "vmlinuz console=hvc0 rdinit=/init quiet panic=1 net.ifnames=0"
        command = [
            qemu, "-nodefaults", "-display", "none", "-no-reboot", "-machine", "pc", "-accel", "tcg",
            "-cpu", config.cpu, "-m", f"{config.memory}M", "-smp", str(config.vcpus), "-serial", f"file:{log}",
            "-kernel", "xen.elf", "-append", self._xen_arguments(), "-initrd", f"{kernel},dom0.cpio",
            "-device", "virtio-serial-pci",
        ]
        for port in PORTS:
            command += ["-chardev", f"socket,id={port},fd={sockets[port].fileno()}",
                        "-device", f"virtserialport,chardev={port},name=lab.{port}"]
        if config.icount:
            command += ["-icount", "shift=0,sleep=off"]
        return command

    def run(self, log, sinks):
        """Boots, passes the channels on to `sinks`, and returns the command's exit status."""
        qemu = find_qemu()
        pairs = {port: socket.socketpair() for port in PORTS}
        theirs = {port: pair[1] for port, pair in pairs.items()}
        with open(f"{self._folder}/qemu.log", "wb") as errors:
            process = subprocess.Popen(
                self._command(qemu, log, theirs), cwd=self._folder, stdin=subprocess.DEVNULL, stdout=errors,
                stderr=errors, start_new_session=True, pass_fds=[their.fileno() for their in theirs.values()])
        for their in theirs.values():
            their.close()
        try:
            self._pump({port: pair[0] for port, pair in pairs.items()}, sinks)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
            for pair in pairs.values():
                pair[0].close()
        if self.status is None:
            raise LabError(self._why_it_died())
        return self.status

    def _pump(self, sockets, sinks):
        deadline = time.monotonic() + self._config.timeout
        channels = {port: Channel(self.mark.encode(), sinks[port]) for port in sinks}
        channels["status"] = Channel(self.mark.encode(), self._take_status)
        with selectors.DefaultSelector() as selector:
            for port, end in sockets.items():
                selector.register(end, selectors.EVENT_READ, port)
            while selector.get_map() and not all(channel.ended for channel in channels.values()):
                left = deadline - time.monotonic()
                if left <= 0:
                    for port in ("out", "err"):
                        channels[port].flush()
                    raise TimeoutError
                for key, _ in selector.select(left):
                    data = key.fileobj.recv(1 << 16)
                    channels[key.data].feed(data)
                    if not data:
                        selector.unregister(key.fileobj)
        for port in ("out", "err"):
            channels[port].flush()

    def _take_status(self, data):
        self._status_text += data
        if self._status_text.strip().isdigit():
            self.status = int(self._status_text)

    def _why_it_died(self):
        with open(f"{self._folder}/qemu.log", encoding="utf-8", errors="replace") as log:
            said = [line for line in log.read().splitlines() if line.strip() and "TCG doesn't support" not in line]
        return f"the machine stopped before the command ended: {said[-1]}" if said else (
            "the machine stopped before the command ended")
