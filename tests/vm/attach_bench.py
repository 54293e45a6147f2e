# SPDX-License-Identifier: Apache-2.0
"""What a block device costs over the bare session: 4 KiB random reads and writes at depth 32, by `perilune bench` and by fio through
each driver, in turn, in one guest. A measurement: it prints ratios (the processor is emulated), and fails only when something
does not work. `./dev vm run attach_bench`."""
import json
import statistics
import time

import attaching
import lab
from lab import sh

VM = {"kernel": "6.12", "memory": 768, "processors": 2, "draft": True, "mutants": {}}

ROUNDS, SECONDS = 3, 3
WAYS = (("bare", None, ()), ("ublk", "ublk", ()), ("nbd", "nbd", ()), ("fuse", "fuse", ()))
iops, idle = {}, {}


def bare(rw, url):
    done = sh([lab.PERILUNE, "bench", "--rw", rw, "--bs", "4k", "--depth", "32", "--seconds", SECONDS, "--json", url], show=False)
    return json.loads(done.out.splitlines()[-1])["iops"]


def fio(rw, device):
    done = sh(["fio", "--name=b", f"--filename={device}", f"--rw={rw}", "--bs=4k", "--direct=1", "--ioengine=io_uring",
               "--iodepth=32", "--time_based", f"--runtime={SECONDS}", "--ramp_time=0.5", "--output-format=json"], show=False)
    job = json.loads(done.out[done.out.index("{"):])["jobs"][0]
    return job["read" if rw == "randread" else "write"]["iops"]


def idle_seconds():
    return float(open("/proc/uptime").read().split()[1])


def one(way, driver, rw, url):
    started, before = time.monotonic(), idle_seconds()
    if driver is None:
        value = bare(rw, url)
    else:
        attaching.driver = attaching.kind = driver
        device = sh([lab.PERILUNE, "attach", "--driver", driver, url], show=False).out.strip()
        lab.settle()
        started, before = time.monotonic(), idle_seconds()
        value = fio(rw, device)
    share = (idle_seconds() - before) / (time.monotonic() - started) / 2
    if driver is not None:
        lab.settle()
        sh([lab.PERILUNE, "detach", device], show=False)
    iops.setdefault((way, rw), []).append(value)
    idle.setdefault((way, rw), []).append(share)


def measured():
    target = lab.serve(backings=["ram:128M"])
    url = attaching.url(0, target)
    sh(["modprobe", "-a", "loop", "fuse"], show=False)
    for number in range(ROUNDS):
        for rw in ("randread", "randwrite"):
            for way, driver, _ in WAYS:
                one(way, driver, rw, url)
                lab.say(f"  round {number + 1} {rw:9} {way:6} {iops[way, rw][-1]:8.0f} IOPS")


def table():
    lab.say(f"  {'':8}{'randread':>12}{'x bare':>8}{'idle':>7}{'randwrite':>13}{'x bare':>8}{'idle':>7}")
    for way, _, _ in WAYS:
        line = f"  {way:8}"
        for rw in ("randread", "randwrite"):
            value, base = statistics.median(iops[way, rw]), statistics.median(iops["bare", rw])
            line += f"{value:12.0f}{value / base:8.2f}{statistics.median(idle[way, rw]):7.0%}"
        lab.say(line)


if __name__ == "__main__":
    lab.main(measured, table)
