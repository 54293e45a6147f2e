#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the daemon has given up when it serves: system calls that it does not need."""
import pathlib
import re

import harness as h
import targetd as d


def status_of(pid, thread=None):
    """/proc/PID/status as a dictionary."""
    path = pathlib.Path(f"/proc/{pid}") if thread is None else pathlib.Path(f"/proc/{pid}/task/{thread}")
    return dict(re.findall(r"^(\w+):\s*(.*)$", (path / "status").read_text(), re.M))


def threads_of(pid):
    return [entry.name for entry in pathlib.Path(f"/proc/{pid}/task").iterdir()]


def sanitized(daemon):
    return "built with a sanitizer" in daemon.errors()


def system_calls(stack):
    daemon = d.Targetd(stack, threads=2)
    if sanitized(daemon):
        return  # the daemon has said so, and serves
    assert "info seccomp on" in daemon.errors(), daemon.errors()
    pid = daemon.process.pid
    for thread in threads_of(pid):
        assert status_of(pid, thread)["Seccomp"] == "2", f"thread {thread} is not filtered"
    daemon.client()("version")
    daemon.stop()


def without_filter(stack):
    daemon = d.Targetd(stack, options=["--no-seccomp"])
    assert "warning seccomp off" in daemon.errors(), daemon.errors()
    assert status_of(daemon.process.pid)["Seccomp"] == "0"
    daemon.stop()


if __name__ == "__main__":
    h.main(system_calls, without_filter)
