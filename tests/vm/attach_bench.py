# SPDX-License-Identifier: Apache-2.0
"""What a block device costs over the bare session: 4 KiB random reads and writes at depth 32 by `perilune bench` and by fio through
each driver, and durable writes one by one, alternating in one guest. A measurement: the processor is emulated, so ratios count; it
fails only when something does not work. `./dev vm run attach_bench`."""
import json
import statistics

import attaching
import lab
from lab import sh

VM = {"kernel": "6.12", "memory": 768, "processors": 2, "draft": True, "mutants": {}}

ROUNDS, SECONDS = 2, 1.5
WAYS = {"bare": None, "ublk": ("ublk",), "nbd": ("nbd",), "nbd x2": ("nbd", "--queues", 2), "fuse": ("fuse",)}
WORKS = {"read": ("--rw=randread", "--iodepth=32"), "write": ("--rw=randwrite", "--iodepth=32"),
         "durable": ("--rw=randwrite", "--iodepth=1", "--sync=dsync")}
iops = {}


def bare(work, url):
    if work == "durable":
        return None
    words = ("--rw", f"rand{work}", "--bs", "4k", "--depth", "32", "--seconds", SECONDS, "--warm-up", 0.3, "--json")
    return json.loads(sh([lab.PERILUNE, "bench", *words, url], show=False).out.splitlines()[-1])["iops"]


def fio(work, device):
    done = sh(["fio", "--name=b", f"--filename={device}", *WORKS[work], "--bs=4k", "--direct=1", "--ioengine=io_uring", "--time_based",
               f"--runtime={SECONDS}s", "--ramp_time=0.3s", "--output-format=json"], show=False)
    job = json.loads(done.out[done.out.index("{"):])["jobs"][0]
    return job["read" if work == "read" else "write"]["iops"]


def measure(way, url):
    if WAYS[way] is None:
        return {work: bare(work, url) for work in WORKS}
    device = sh([lab.PERILUNE, "attach", "--driver", *WAYS[way], url], show=False).out.strip()
    lab.settle()
    found = {work: fio(work, device) for work in WORKS}
    sh([lab.PERILUNE, "detach", device], show=False)
    return found


def measured():
    target = lab.serve(backings=["ram:64M"])
    url = attaching.url(0, target)
    sh(["modprobe", "-a", "loop", "fuse"], show=False)
    for number in range(ROUNDS):
        for way in WAYS:
            found = measure(way, url)
            lab.say(f"  round {number + 1} {way:6} " + " ".join(f"{work} {value:.0f}" for work, value in found.items() if value))
            for work, value in found.items():
                iops.setdefault((way, work), []).append(value)


def table():
    lab.say(f"  {'IOPS':8}" + "".join(f"{work:>10}{'x bare':>8}" for work in WORKS))
    for way in WAYS:
        line = f"  {way:8}"
        for work in WORKS:
            values, base = iops[way, work], iops["bare", work]
            line += f"{statistics.median(values):10.0f}" if values[0] else f"{'-':>10}"
            line += f"{statistics.median(values) / statistics.median(base):8.2f}" if base[0] and values[0] else f"{'':8}"
        lab.say(line)


if __name__ == "__main__":
    lab.main(measured, table)
