#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What administering costs, at several sizes: N logical units on N/10 targets with N node ACLs. The median time of one change, of
each kind, through the daemon's socket; the time of `targetcli ls /`, the whole tree, from start to end of the command; the time
until a daemon with that configuration is ready; its memory (PSS).

    ./dev bench admin [SIZE ...]        (10 100 1000 10000)"""
import contextlib
import json
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))

import harness as h
import targetd as d

PER_TARGET = 10
ROUNDS = 50
MIB = 1 << 20


def target_name(number):
    return f"iqn.2026-11.io.perilune:t{number}"


def host_name(number):
    return f"iqn.2026-11.io.perilune:h{number}"


def saveconfig(size, port):
    """What LIO would have written of it."""
    objects = [{"plugin": "ramdisk", "name": f"d{i}", "wwn": f"{i:08x}-0000-4000-8000-000000000000", "size": MIB, "nullio": False,
                "attributes": {}, "alua_tpgs": [{"name": "default_tg_pt_gp", "tg_pt_gp_id": 0}]} for i in range(size)]
    targets = []
    for first in range(0, size, PER_TARGET):
        numbers = range(first, min(size, first + PER_TARGET))
        targets.append({"fabric": "iscsi", "wwn": target_name(first // PER_TARGET), "tpgs": [{
            "tag": 1, "enable": True, "attributes": {"authentication": 0}, "parameters": {},
            "portals": [{"ip_address": "127.0.0.1", "port": port}],
            "luns": [{"index": i - first, "storage_object": f"/backstores/ramdisk/d{i}", "alua_tg_pt_gp_name": "default_tg_pt_gp"}
                     for i in numbers],
            "node_acls": [{"node_wwn": host_name(i), "mapped_luns": [
                {"index": n, "tpg_lun": n, "write_protect": False} for n in range(len(numbers))]} for i in numbers]}]})
    return {"storage_objects": objects, "fabric_modules": [], "targets": targets}


def timed(client, changes):
    begin = time.perf_counter()
    client("commit", changes=changes)
    return (time.perf_counter() - begin) * 1000


def measure_changes(client, size):
    """Median milliseconds of each kind of change."""
    target = target_name(size // PER_TARGET // 2)
    name = "measured"
    ramdisk = d.storage(name, "ramdisk")
    mapped = {**d.acl(target, host_name(1000000)), "mapped_lun": 0}
    steps = {
        "add object": [d.add("storage_object", ramdisk, {"wwn": name, "size": MIB}),
                       d.add("alua_group", d.alua_group(name, "ramdisk"), {"tg_pt_gp_id": 0})],
        "add LUN": [d.add_lun(target, 100, name, "ramdisk")],
        "add ACL": [d.add("node_acl", d.acl(target, host_name(1000000)), {})],
        "map LUN": [d.add("mapped_lun", mapped, {"tpg_lun": 100})],
        "unmap LUN": [d.remove("mapped_lun", mapped)],
        "remove ACL": [d.remove("node_acl", d.acl(target, host_name(1000000)))],
        "remove LUN": [d.remove("lun", d.lun(target, 100))],
        "remove object": [d.remove("alua_group", d.alua_group(name, "ramdisk")), d.remove("storage_object", ramdisk)],
    }
    times = {step: [] for step in steps}
    for _ in range(ROUNDS):
        for step, changes in steps.items():
            times[step].append(timed(client, changes))
    return {step: statistics.median(values) for step, values in times.items()}


def measure_ls(daemon):
    """The command, its seconds, the median; and how many lines it prints. The whole tree, or as deep as one answer can be."""
    command = [h.PERILUNE, "targetcli", "--socket", daemon.socket, "ls", "/"]
    while "longer than" in h.run(command, check=False).err:
        command = [*command[:6], str(int(command[6]) - 1 if len(command) > 6 else 5)]
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        result = h.run(command)
        times.append(time.perf_counter() - begin)
    return " ".join(command[4:]), statistics.median(times), result.out.count("\n")


def pss_mib(pid):
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("the kernel tells no PSS")


def run(size):
    with contextlib.ExitStack() as stack:
        daemon = d.Targetd(stack, threads=2)
        path = daemon.folder / "saved.json"
        path.write_text(json.dumps(saveconfig(size, h.free_port())))
        client = daemon.client()
        client.socket.settimeout(300)
        begin = time.perf_counter()
        client("restore", path=str(path))
        restored = time.perf_counter() - begin
        changes = measure_changes(client, size)
        listing, listed, lines = measure_ls(daemon)
        daemon.stop()
        begin = time.perf_counter()
        daemon.start()
        loaded = time.perf_counter() - begin
        pss = pss_mib(daemon.process.pid)
        daemon.stop()
    worst = max(changes, key=changes.get)
    print(f"{size:>6} LUNs: median of a change {statistics.median(changes.values()):6.2f} ms, of the slowest kind {changes[worst]:6.2f} ms "
          f"({worst}); {listing}, {lines} lines, {listed:5.2f} s; restored in {restored:6.2f} s, started in {loaded:6.2f} s; {pss:6.1f} MiB", flush=True)


if __name__ == "__main__":
    for wanted in [int(word) for word in sys.argv[1:]] or [10, 100, 1000, 10000]:
        run(wanted)
