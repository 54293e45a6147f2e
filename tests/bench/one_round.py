#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One short round of ./dev bench: every figure of every contestant is there, its files and processes are gone afterwards,
also when it is interrupted. What the figures say is not looked at."""
import json
import pathlib
import signal
import subprocess
import sys
import xml.etree.ElementTree

import harness as h

BENCH = [sys.executable, h.ROOT / "tools/bench.py", "--rounds", 1, "--seconds", 0.2, "--size-mib", 16, "--no-calls",
         "--patience", 0]
FIGURES = ("iops", "mib_per_s", "p50", "p99", "p999", "ios", "client_us", "client_busy", "server_us", "server_busy")


def left_behind(pid):
    return list(pathlib.Path("/dev/shm").glob(f"perilune-bench-{pid}-*")) + list(pathlib.Path("/var/tmp").glob(f"perilune-bench-{pid}-*"))


def children_of(pid):
    return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def a_round_has_every_figure(stack):
    folder = h.temp_dir(stack)
    h.run([*BENCH, "--only", "^4k randread 1x32( crc32c)?$|^256k write 1x8$|beside a probe|on tmpfs|^256k read 1x8 on disk$", "--contestants", "ceiling|perilune",
           "--json", folder / "json", "--plot", folder / "svg"], timeout=200)
    record = json.loads((folder / "json").read_text())
    if len(record["workloads"]) != 9:
        h.fail(f"ran {list(record['workloads'])}")
    for name, results in record["workloads"].items():
        for who, runs in results.items():
            for key in FIGURES:
                if len(runs) != 1 or not runs[0][key] > 0:
                    h.fail(f"{name}, {who}: {key} is {runs}")
            if ("probe" in runs[0]) != ("probe" in name):
                h.fail(f"{name}, {who}: {runs}")
    xml.etree.ElementTree.fromstring((folder / "svg").read_text())
    again = h.run([sys.executable, h.ROOT / "tools/bench.py", "--from", folder / "json"])
    if "4k randread 1x32 crc32c" not in again.out:
        h.fail(str(again))


def logins_and_idle_sessions_are_measured(stack):
    folder = h.temp_dir(stack)
    done = h.run([*BENCH, "--only", "^logins$", "--contestants", "-", "--json", folder / "json"], timeout=200)
    runs = json.loads((folder / "json").read_text())["extras"]["logins"]
    if runs["perilune"][0]["logins_per_s"] <= 0 or runs["ceiling epoll"][0]["logins_per_s"] <= 0:
        h.fail(str(done))


def an_interrupt_leaves_nothing(stack):
    for number in (signal.SIGINT, signal.SIGTERM):
        process = h.start([*BENCH, "--only", "on tmpfs", "--contestants", "perilune", "--seconds", 60],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(process.kill)
        h.wait_for(lambda: left_behind(process.pid) and len(children_of(process.pid)) >= 2, "server and client", process=process)
        children = children_of(process.pid)
        process.send_signal(number)
        code = process.wait(30)
        if code not in (130, 143):
            h.fail(f"ended with {code}")
        h.wait_for(lambda: not any(pathlib.Path(f"/proc/{pid}").exists() for pid in children), "the children to end")
        if left_behind(process.pid):
            h.fail(f"left {left_behind(process.pid)}")


h.main(a_round_has_every_figure, logins_and_idle_sessions_are_measured, an_interrupt_leaves_nothing)
