#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The daemons under a service manager that this test plays: ready only when they answer, kept alive, reloading, stopping, and on
a control socket that was there before them and stays behind. The real one is met in ./dev vm run package."""
import os
import signal
import socket

import harness as h
import targetd as d


class Manager:
    """Starts a daemon as systemd does: descriptor 3 listens, LISTEN_PID is the daemon's own, notices come by datagram."""

    def __init__(self, stack, verb, config=None, watchdog_us=800000):
        self.folder = h.temp_dir(stack)
        self.socket = self.folder / "control"
        self.notices = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self.notices.bind(str(self.folder / "notify"))
        self.notices.settimeout(20)
        self.listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        self.listener.bind(str(self.socket))
        self.listener.listen(8)
        environment = dict(os.environ, NOTIFY_SOCKET=str(self.folder / "notify"), LISTEN_FDS="1", WATCHDOG_USEC=str(watchdog_us))
        script = f'exec 3<&{self.listener.fileno()}; export LISTEN_PID=$$ WATCHDOG_PID=$$; exec "$@"'
        self.log = self.folder / "log"
        with open(self.log, "wb") as log:
            self.process = h.start(["sh", "-c", script, "sh", h.PERILUNE, verb, "--foreground", "--config", config or self.folder / "etc", "--socket",
                                    self.socket, *(["--no-pid-file"] if verb == "iscsid" else [])], stdout=log, stderr=log, env=environment,
                                   pass_fds=(self.listener.fileno(),))
        stack.callback(lambda: self.process.poll() is None and (self.process.kill(), self.process.wait()))

    def notice(self):
        """The next datagram, as {name: value}."""
        try:
            text = self.notices.recv(4096).decode()
        except TimeoutError:
            h.fail(f"no notice came; the log: {self.log.read_text()}")
        return dict(line.split("=", 1) for line in text.splitlines())

    def wait_for(self, name):
        """Reads up to the first notice with that name; what comes before may only be keep-alives."""
        while name not in (notice := self.notice()):
            if notice != {"WATCHDOG": "1"}:
                h.fail(f"{notice} came before {name}")
        return notice


def stops(manager):
    manager.process.send_signal(signal.SIGTERM)
    manager.wait_for("STOPPING")
    h.stop(manager.process, "the daemon")
    if not manager.socket.exists():
        h.fail("the manager's socket was removed")


def targetd_tells_its_states(stack):
    manager = Manager(stack, "targetd")
    # A client that came before the daemon is there waits, and is answered.
    early = d.Client(manager.socket)
    stack.callback(early.close)
    early.send("version")
    notice = manager.wait_for("READY")
    if str(manager.socket) not in notice["STATUS"]:
        h.fail(f"the status does not say where: {notice}")
    if "result" not in early.read():
        h.fail("the early client was refused")
    for _ in range(3):
        if manager.notice() != {"WATCHDOG": "1"}:
            h.fail("another notice than a keep-alive")
    manager.process.send_signal(signal.SIGHUP)
    if manager.wait_for("RELOADING")["RELOADING"] != "1" or manager.wait_for("READY")["READY"] != "1":
        h.fail("the reload is not told as it should be")
    stops(manager)


def iscsid_tells_its_states(stack):
    manager = Manager(stack, "iscsid")
    manager.wait_for("READY")
    if manager.notice() != {"WATCHDOG": "1"}:
        h.fail("another notice than a keep-alive")
    stops(manager)


def one_that_cannot_start_is_never_ready(stack):
    """Its state is held by another daemon."""
    other = d.Targetd(stack)
    manager = Manager(stack, "targetd", config=other.folder / "etc")
    if manager.process.wait(30) != 1:
        h.fail("it did not end with 1")
    manager.notices.settimeout(0)
    try:
        h.fail(f"it told {manager.notices.recv(4096)}")
    except BlockingIOError:
        pass


if __name__ == "__main__":
    h.main(targetd_tells_its_states, iscsid_tells_its_states, one_that_cannot_start_is_never_ready)
