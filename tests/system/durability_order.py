#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Proves from a kernel trace that a durable write is on the disk before its GOOD is sent.

io_uring hides system calls from strace, so the kernel's own trace points are read: the server's socket receives (R),
entry and exit of the file system's fsync on the backing file (E, X; RWF_DSYNC and fdatasync both come through there),
and the server's socket sends (S). A client writes with FUA, and writes and flushes, one command at a time: for each of
them the trace must hold R, E, X, S in this order, and never an S between E and X. The backing file lies on an ext4 of
its own, on a loop device. The same run with a planted flush that does nothing (lost_flush.c) must be caught.
"""
import contextlib
import os
import pathlib
import re
import sys

import harness as h

TRACING = pathlib.Path("/sys/kernel/tracing")
EVENTS = ("sock/sock_send_length", "sock/sock_recv_length", "ext4/ext4_sync_file_enter", "ext4/ext4_sync_file_exit")
COMMANDS = 40
with_tgtd = os.environ.get("PERILUNE_INTEROP_TARGET") == "tgtd"


class Trace:
    """A tracing instance of its own with the four events on."""

    def __init__(self, stack):
        self.folder = TRACING / "instances" / f"perilune-{os.getpid()}"
        self.folder.mkdir()
        stack.callback(self.folder.rmdir)
        (self.folder / "buffer_size_kb").write_text("8192")
        (self.folder / "trace_clock").write_text("mono")
        for event in EVENTS:
            (self.folder / "events" / event / "enable").write_text("1")
        stack.callback(lambda: (self.folder / "events/enable").write_text("0"))

    def lines(self):
        (self.folder / "tracing_on").write_text("0")
        return (self.folder / "trace").read_text().splitlines()


def need_tracing():
    if os.geteuid() != 0:
        h.skip("kernel tracing needs root")
    if not (TRACING / "instances").is_dir():
        h.run(["mount", "-t", "tracefs", "tracefs", TRACING], check=False)
    for event in EVENTS:
        if not (TRACING / "events" / event).is_dir():
            h.skip(f"this kernel has no trace event {event}")


def backing_file(stack):
    """A file of 64 MiB on an ext4 of its own."""
    folder = h.temp_dir(stack)
    image, mount = folder / "ext4.img", folder / "mnt"
    with open(image, "wb") as f:
        f.truncate(256 << 20)
    h.run(["mkfs.ext4", "-q", "-F", image])
    loop = h.run(["losetup", "--find", "--show", image]).out.strip()
    stack.callback(h.run, ["losetup", "--detach", loop], check=False)
    stack.enter_context(h.mounted(loop, mount))
    path = mount / "disk"
    with open(path, "wb") as f:
        os.posix_fallocate(f.fileno(), 0, 64 << 20)
        os.fsync(f.fileno())
    return path


def plant(stack):
    library = h.temp_dir(stack) / "lost_flush.so"
    source = pathlib.Path(__file__).resolve().parent / "lost_flush.c"
    h.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-o", library, source, "-luring", "-ldl"])
    return ["env", f"LD_PRELOAD={library}"]


def story(trace_lines, tasks, inode):
    """The events of this server and this file as a string of R, E, X and S."""
    letters = []
    for line in trace_lines:
        match = re.match(r"\s*.*-(\d+)\s+\[\d+\].*?: (\w+): (.*)$", line)
        if not match:
            continue
        pid, event, rest = int(match[1]), match[2], match[3]
        if event.startswith("ext4_sync_file"):
            if f"ino {inode} " in rest:
                if event.endswith("exit") and "ret 0" not in rest:
                    h.fail(f"fsync failed: {rest}")
                letters.append("E" if event.endswith("enter") else "X")
        elif pid in tasks and (length := re.search(r"length = (\d+)", rest)) and int(length[1]) > 0:
            letters.append("S" if event == "sock_send_length" else "R")
    return "".join(letters)


def durable_commands(stack, prefix):
    """Runs FUA writes and flushes; returns the story and how many of them there were."""
    path = backing_file(stack)
    inode = path.stat().st_ino
    with contextlib.ExitStack() as inner:
        if with_tgtd:
            server = h.Tgtd(inner, prefix=prefix)
            server.target(1, "iqn.2026-11.io.perilune:durability", path)
            url = f"iscsi://127.0.0.1:{server.port}/iqn.2026-11.io.perilune:durability/1"
        else:
            server = inner.enter_context(h.serve(path, prefix=prefix))
            url = server.urls[0]
        trace = Trace(inner)
        words = ["qemu-io", "-f", "raw", "-t", "none", url]
        for number in range(COMMANDS):
            words += ["-c", f"write -f -P {number + 1} {number * 8}k 4k"]
        for number in range(COMMANDS):
            words += ["-c", f"write -P {number + 1} {1024 + number * 8}k 4k", "-c", "flush"]
        done = h.run(words, timeout=120)
        if "failed" in done.out + done.err:
            h.fail(str(done))
        tasks = {int(name) for name in os.listdir(f"/proc/{server.pid}/task")}
        lines = trace.lines()
        tasks |= {int(m[1]) for line in lines if (m := re.match(rf"\s*iou-wrk-{server.pid}-(\d+)", line))}
    return story(lines, tasks, inode)


def proved(events):
    return len(re.findall(r"R+(?:EX)+S", events)), len(re.findall(r"E[^X]*S", events))


def every_durable_command_is_on_disk_before_its_answer(stack):
    events = durable_commands(stack, ())
    good, early = proved(events)
    h.say(f"   {good} of {2 * COMMANDS} answers after their flush, {early} during it; {events[:80]}...")
    if good < 2 * COMMANDS or early:
        h.fail(f"order of receive, flush and send: {events}")


def a_flush_that_does_nothing_is_caught(stack):
    h.need("gcc")
    events = durable_commands(stack, plant(stack))
    good, _ = proved(events)
    if "R" not in events or "S" not in events:
        h.fail(f"the trace shows no traffic: {events!r}")
    if good:
        h.fail(f"with the planted fault {good} commands still look durable: {events}")


h.need("qemu-io", "mkfs.ext4", "losetup")
need_tracing()
sys.exit(h.main(every_durable_command_is_on_disk_before_its_answer, a_flush_that_does_nothing_is_caught))
