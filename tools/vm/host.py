# SPDX-License-Identifier: Apache-2.0
"""The host's side of a scenario: what the guest asks for over its virtio port. Each public method of HostSide is a request;
its keyword arguments come from the guest, what it returns goes back as JSON. One request at a time, of all guests.

Targets listen on addresses of 127.A.B.0/24 that belong to this run alone (guest/network says how the guest reaches them),
so that the portal a target announces is the portal the guest uses, port 3260 as in every tutorial."""
import concurrent.futures
import contextlib
import hashlib
import os
import pathlib
import random
import shutil
import signal
import socket

import harness as h

import iso9660
import proxy

PORT = 3260
TARGET = "iqn.2026-11.io.perilune:lab"


def free_network():
    """The first three bytes of a loopback network in which nobody listens on our port."""
    for _ in range(200):
        net = f"127.{random.randrange(16, 250)}.{random.randrange(1, 250)}"
        try:
            with contextlib.ExitStack() as stack:
                for last in (1, 2):
                    stack.enter_context(socket.create_server((f"{net}.{last}", PORT)))
            return net
        except OSError:
            continue
    h.fail("no loopback network is free")


def preload_library(folder, name):
    """Builds the sabotage tests/system/NAME.c."""
    library = pathlib.Path(folder) / f"{name}.so"
    if not library.exists():
        h.need("gcc")
        source = h.ROOT / "tests/system" / f"{name}.c"
        h.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-o", library, source, "-luring", "-ldl"])
    return library


class Target:
    """One `perilune serve`, that can be started again on the same portals and disks."""

    def __init__(self, folder, iqn, disks, options, portals, environment, grouped=False):
        self.folder, self.iqn, self.disks, self.options, self.portals = folder, iqn, disks, options, portals
        self.environment, self.grouped = environment, grouped
        self.server = None

    def start(self):
        words = [word for tag, portal in enumerate(self.portals, 1)
                 for word in ("--portal", f"{portal},{tag}" if self.grouped else portal)]
        self.server = h.Serve(self.disks, [*words, "--target", self.iqn, *self.options], self.folder, env=self.environment)

    def end(self):
        if self.server and self.server.alive():
            self.server.process.kill()
        if self.server:
            self.server.process.wait()


class HostSide:
    """folder: where disks and logs of this run lie. mutant: None, or the sabotage of this run:
    {"wire": LIE} puts a lying proxy before every portal; {"preload": NAME} starts targets with tests/system/NAME.c
    preloaded; {"drop": [OPTION...]} forgets options (with their values); {"stale_restart": true} starts a target again
    on the disks as they were when it was first started."""

    def __init__(self, folder, net, networks, mutant=None):
        self.folder, self.net, self.networks = pathlib.Path(folder), net, networks
        self.mutant = mutant or {}
        self.targets, self.proxies = {}, {}
        self.notes = {}
        # One at a time; and what is started dies with the thread that started it, so not with that of a guest which goes first.
        self._worker = concurrent.futures.ThreadPoolExecutor(1)

    def answer(self, request):
        """One request of the guest, as a dict; returns the answer as a dict."""
        name = request.pop("call", "")
        if name.startswith("_") or name in ("answer", "close") or not hasattr(HostSide, name):
            return {"error": f"no such request: {name}"}
        try:
            return {"value": self._worker.submit(getattr(self, name), **request).result()}
        except (AssertionError, OSError, KeyError, TypeError, ValueError) as e:
            return {"error": f"{type(e).__name__}: {e}"}

    def close(self):
        for front in self.proxies.values():
            front.close()
        for target in self.targets.values():
            target.end()
        self._worker.shutdown()

    # --- the run ---

    def note(self, name, value=None):
        """Keeps a value for later: for another guest, or over a reboot. Without a value, returns what was kept."""
        if value is not None:
            self.notes[name] = value
        return self.notes.get(name)

    def sabotage(self):
        return self.mutant

    # --- targets ---

    def serve(self, name="t", disks=("256M",), options=(), portals=1, iqn=None, chap=None, mutual=None,
              discovery=None, mutual_discovery=None, proxied=False, backings=None, groups=None):
        """Starts a target. disks: a sparse file of that size each (or `backings`, words as serve takes them).
        groups: what --port-groups is to say; each portal is then in a group of its own, from 1 on. chap, mutual, discovery, mutual_discovery: (user, secret). proxied: a proxy stands before each portal.
        Returns {"name", "iqn", "portals": ["127.A.B.1:3260", ...], "via": {portal: proxy's port}}."""
        folder = self.folder / name
        folder.mkdir()
        paths = list(backings or [])
        for number, size in enumerate(() if backings else disks):
            path = folder / f"disk{number}"
            h.run(["truncate", "-s", size, path])
            paths.append(str(path))
        words = [str(word) for word in options]
        for flag, account in (("chap", chap), ("mutual-chap", mutual), ("discovery-chap", discovery),
                              ("mutual-discovery-chap", mutual_discovery)):
            if account:
                words += [f"--{flag}-user", account[0], f"--{flag}-secret-file",
                          str(h.secret_file(folder, f"{flag}.secret", account[1]))]
        addresses = [f"{self.net}.{n + 1}:{PORT}" for n in range(portals)]
        if groups is not None:
            (folder / "port-groups").write_text(groups)
            words += ["--port-groups", str(folder / "port-groups")]
        target = Target(folder, iqn or TARGET, paths, self._sabotaged_options(words), addresses, self._environment(),
                        grouped=groups is not None)
        self.targets[name] = target
        target.start()
        if self.mutant.get("stale_restart"):
            for path in paths:
                shutil.copy(path, f"{path}.stale")
        if proxied or "wire" in self.mutant:
            for portal in addresses:
                self._front(portal)
        return self._describe(target)

    def _describe(self, target):
        via = {portal: self.proxies[portal].port for portal in target.portals if portal in self.proxies}
        return {"name": target.folder.name, "iqn": target.iqn, "portals": target.portals, "via": via}

    def _front(self, portal):
        rules = [proxy.LIES[self.mutant["wire"]]()] if "wire" in self.mutant else []
        address, _, port = portal.rpartition(":")
        self.proxies[portal] = proxy.Proxy(address, (address, int(port)), rules)

    def _sabotaged_options(self, words):
        dropped = self.mutant.get("drop", ())
        kept, skip = [], False
        for word in words:
            if skip:
                skip = False
            elif word in dropped:
                skip = True
            else:
                kept.append(word)
        return kept

    def _environment(self):
        if "preload" not in self.mutant:
            return {}
        library = preload_library(self.folder, self.mutant["preload"])
        return {"LD_PRELOAD": str(library)}

    def kill(self, name="t"):
        """kill -9."""
        target = self.targets[name]
        target.server.process.kill()
        target.server.process.wait()
        target.server.process.stdout.close()

    def stop(self, name="t"):
        """SIGTERM; the target must end with 0."""
        self.targets[name].server.stop()

    def restart(self, name="t"):
        """Starts a killed or stopped target again, on the same portals and disks."""
        target = self.targets[name]
        if target.server.alive():
            h.fail(f"{name} still runs")
        if self.mutant.get("stale_restart"):
            for path in target.disks:
                shutil.copy(f"{path}.stale", path)
        target.start()
        return self._describe(target)

    def freeze(self, name="t"):
        os.kill(self.targets[name].server.pid, signal.SIGSTOP)

    def hang_up(self, name="t", groups=None, grow=None):
        """SIGHUP, after another text of --port-groups, or another size (as truncate takes it) of the first disk."""
        target = self.targets[name]
        if groups is not None:
            (target.folder / "port-groups").write_text(groups)
        if grow is not None:
            h.run(["truncate", "-s", grow, target.disks[0]])
        os.kill(target.server.pid, signal.SIGHUP)

    def burn(self, label, seed, files=40, name="disc"):
        """Puts an image with such files (iso9660) in the place of whatever disc of this name there is, in one step; returns its path, its
        size and what is in it: {file: sha256}. Which target has it in a drive learns of it by hang_up()."""
        rng, path = random.Random(seed), self.folder / f"{name}.iso"
        content = {f"F{n}.BIN": rng.randbytes(rng.choice((0, 1, 2047, 2048, 2049, 65537, 300000))) for n in range(files)}
        data = iso9660.image(label, content)
        path.with_suffix(".new").write_bytes(data)
        path.with_suffix(".new").replace(path)
        return {"path": str(path), "size": len(data), "sha256": hashlib.sha256(data).hexdigest(),
                "files": {file.lower(): hashlib.sha256(bytes_).hexdigest() for file, bytes_ in content.items()}}

    def take_away(self, name="disc"):
        (self.folder / f"{name}.iso").unlink()

    def thaw(self, name="t"):
        os.kill(self.targets[name].server.pid, signal.SIGCONT)

    def alive(self, name="t"):
        return self.targets[name].server.alive()

    def log(self, name="t"):
        return self.targets[name].server.errors()

    def logs(self):
        """The end of every target's log."""
        return {name: target.server.errors()[-3000:] for name, target in self.targets.items()}

    def resize(self, size, name="t", disk=0):
        os.truncate(self.targets[name].disks[disk], size)

    def digest(self, name="t", disk=0, offset=0, length=None):
        """SHA-256 of a range of a backing file, as the host reads it."""
        digest, left = hashlib.sha256(), length
        with open(self.targets[name].disks[disk], "rb") as f:
            f.seek(offset)
            while left is None or left > 0:
                piece = f.read(1 << 20 if left is None else min(left, 1 << 20))
                if not piece:
                    break
                digest.update(piece)
                left = None if left is None else left - len(piece)
        return digest.hexdigest()

    def allocated(self, name="t", disk=0):
        """Bytes of a backing file that are really allocated."""
        return os.stat(self.targets[name].disks[disk]).st_blocks * 512

    # --- proxies ---

    def mode(self, portal, mode):
        """"pass", "stall" or "refuse"."""
        self.proxies[portal].set_mode(mode)

    def cut(self, portal):
        self.proxies[portal].cut()

    def flip(self, portal, direction, part, count=1, skip=0):
        self.proxies[portal].flip(direction, part, count, skip)

    def counts(self, portal):
        return dict(self.proxies[portal].counts)

    def login_text(self, portal):
        """The key=value text of every login response of this portal so far."""
        return self.proxies[portal].login_text.decode(errors="replace")
