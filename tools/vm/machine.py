# SPDX-License-Identifier: Apache-2.0
"""One guest under QEMU (tcg: no host has to offer virtualisation), from power-on to power-off, within a time limit."""
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading
import time

import harness as h

import image as images

HERE = pathlib.Path(__file__).resolve().parent
LAST_BREATH = 30   # seconds that a guest has to power off
ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1bc|\r")


class Machine:
    """payload: {path under /lab: (bytes, mode)}. host: HostSide, which answers the guest. number: which of several guests
    this is, from 1."""

    def __init__(self, image, folder, spec, host, payload, number=1):
        self.image, self.folder, self.spec, self.host = image, pathlib.Path(folder), spec, host
        self.number, self.output = number, []
        self.prefix = f"{number}| " if spec["guests"] > 1 else ""
        self.ended = None   # the scenario's exit code
        self._ended_at = 0.0
        self._payload = payload
        self._process = None

    def run(self, limit):
        """Boots, answers, and returns the scenario's exit code; fails when the guest ends without one or is too slow. A guest that
        has reported the code and hangs on its way down (a sabotage may leave it with I/O that never ends) is switched off."""
        deadline = time.monotonic() + limit
        socket_path = self.folder / "port"
        self._process = h.start(self._command(socket_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        threads = [threading.Thread(target=self._console, daemon=True),
                   threading.Thread(target=self._serve, args=(socket_path,), daemon=True)]
        for thread in threads:
            thread.start()
        try:
            while self._process.poll() is None and not (self.ended is not None and time.monotonic() > self._ended_at + LAST_BREATH):
                if time.monotonic() > deadline:
                    h.fail(f"the guest did not end within {limit} s")
                time.sleep(0.05)
        finally:
            self._process.kill()
            self._process.wait()
            threads[0].join(10)
        if self.ended is None:
            h.fail("the guest went off without a result")
        return self.ended

    def kill(self):
        """Ends a running guest; its run() fails."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def _command(self, socket_path):
        spec = self.spec
        slow = spec["boot"] == "systemd"
        words = ["console=ttyS0", "rw", "panic=-1", "net.ifnames=0", "loglevel=4", "mitigations=off", "nowatchdog",
                 "random.trust_cpu=on", "tsc=unstable", f"lab.net={self.host.net}", f"lab.nets={spec['networks']}",
                 "edd=off", "no_timer_check", f"lab.guest={self.number}",
                 f"lab.init={'/lab/systemd-init' if slow else '/lab/init'}"]
        if spec["keep_going"]:
            words.append("lab.keep_going")
        if slow:
            idle = ("rtslib-fb-targetctl", "getty@tty1", "serial-getty@ttyS0", "systemd-timesyncd", "systemd-journal-catalog-update",
                    "systemd-pstore", "e2scrub_reap")
            words += ["systemd.show_status=0", "quiet", "systemd.condition-needs-update=0",
                      *(f"systemd.mask={name}.service" for name in idle)]
        kernel = spec["kernel"]
        command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-machine", "pc,graphics=off",
                   "-smp", spec["processors"], "-m", spec["memory"], "-nodefaults", "-display", "none", "-monitor", "none",
                   "-serial", "stdio", "-kernel", self.image.vmlinuz(kernel), "-initrd", self._initrd(kernel),
                   "-append", " ".join(words),
                   "-drive", f"if=none,id=root,format=raw,snapshot=on,cache=unsafe,file={self.image.root}",
                   "-device", "virtio-blk-pci,drive=root",
                   "-device", "virtio-rng-pci", "-device", "virtio-serial-pci",
                   "-chardev", f"socket,id=lab,path={socket_path},server=on,wait=off",
                   "-device", "virtserialport,chardev=lab,name=lab"]
        if spec["boots"] == 1:
            command.append("-no-reboot")
        for number, size in enumerate(spec["disks"]):
            path = self.folder / f"guest-disk{number}"
            h.run(["truncate", "-s", size, path])
            command += ["-drive", f"if=none,id=disk{number},format=raw,cache=unsafe,file={path}",
                        "-device", f"virtio-blk-pci,drive=disk{number}"]
        for number in range(spec["networks"]):
            command += ["-netdev", f"user,id=net{number},ipv6=off,net=10.0.{number + 2}.0/24",
                        "-device", f"virtio-net-pci,netdev=net{number},romfile="]
        return command

    def _initrd(self, kernel):
        """The image's RAM disk with this run's files appended: the kernel unpacks one archive after the other."""
        archive = images.Cpio()
        archive.tree({f"lab/{name}": value for name, value in self._payload.items()})
        archive.file("init", (HERE / "guest/initrd-init").read_bytes(), 0o755)
        path = self.folder / "initrd"
        path.write_bytes(self.image.initrd(kernel).read_bytes())
        with open(path, "ab") as f:
            f.write(b"\0" * (-f.tell() % 4) + archive.bytes())
        return path

    def _console(self):
        """Streams the guest's console, a line at a time."""
        rest = b""
        while piece := os.read(self._process.stdout.fileno(), 65536):
            rest += piece
            *lines, rest = rest.split(b"\n")
            for line in lines:
                text = ESCAPES.sub(b"", line).decode(errors="replace")
                self.output.append(text)
                sys.stdout.write(f"{self.prefix}{text}\n")
            sys.stdout.flush()

    def _serve(self, socket_path):
        """Answers the guest's requests until QEMU is gone."""
        try:
            h.wait_for(socket_path.exists, "QEMU's socket", process=self._process)
            with socket.socket(socket.AF_UNIX) as port:
                port.connect(str(socket_path))
                self._answer_lines(port)
        except (OSError, AssertionError):
            pass   # QEMU ended; run() says how

    def _answer_lines(self, port):
        rest = b""
        while piece := port.recv(65536):
            rest += piece
            *lines, rest = rest.split(b"\n")
            for line in lines:
                try:
                    request = json.loads(line)
                except ValueError:
                    continue   # a half line from before a reboot
                if request.get("call") == "end":
                    self._ended_at, self.ended = time.monotonic(), int(request["code"])
                    continue
                port.sendall(json.dumps(self.host.answer(request)).encode() + b"\n")


def payload(scenario, lib):
    """What every guest gets under /lab: its init, the library, the scenario, our binary."""
    files = {name: ((HERE / "guest" / name).read_bytes(), 0o755) for name in ("init", "systemd-init", "network", "run")}
    files |= {name: ((HERE / "guest" / name).read_bytes(), 0o644) for name in ("lab.py", "lab.service", "lab-network.service")}
    files["proxy.py"] = ((HERE / "proxy.py").read_bytes(), 0o644)
    for path in pathlib.Path(scenario).parent.glob("*.py"):   # a scenario may use what another one defines
        files[path.name] = (path.read_bytes(), 0o644)
    files["scenario.py"] = (pathlib.Path(scenario).read_bytes(), 0o644)
    files |= {name: (path.read_bytes(), 0o755) for name, path in lib.items()}
    return files
