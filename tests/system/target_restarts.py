#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The target daemon is restarted, by SIGTERM and by kill -9 in turn, while fio writes to a disk of it and verifies what it wrote: fio
hears of no error, and the key of a persistent reservation is there afterwards. A few times as a test; for a soak:
target_restarts.py --restarts 50. It prints the longest time that fio waited for an answer."""
import argparse
import json
import pathlib
import signal
import struct
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "conformance"))

import harness as h
import raw_pdu as p
import targetd as d

TARGET, HOST = "iqn.2026-11.io.perilune:restarts", "iqn.2026-11.io.perilune:host"
SIZE, KEY = 128 << 20, struct.pack(">Q", 0xabcdef)
RESTARTS = 2
BACKLOG = 512  # blocks that fio writes before it reads them back


def log_in(stack, port):
    connection = p.Connection(("127.0.0.1", port), name=HOST, isid=struct.pack(">HI", 0x8000, 1))
    stack.callback(connection.close)
    return connection.login(TARGET).clear_attentions((0,))


def register(stack, port):
    """A key that outlives a loss of power (APTPL)."""
    log_in(stack, port).good(struct.pack(">BBBxxIB", 0x5f, 0x00, 0x00, 24, 0), write=struct.pack(">8x8s4xB3x", KEY, 1))


def keys(stack, port):
    data = log_in(stack, port).good(struct.pack(">BBxxxxxHx", 0x5e, 0x00, 64), 64).data
    return data[8:8 + struct.unpack_from(">I", data, 4)[0]]


def sectors(device, of):
    """What has been read from the disk or has reached it, as the kernel counts it."""
    return int(pathlib.Path(f"/sys/block/{pathlib.Path(device).name}/stat").read_text().split()[{"read": 2, "written": 6}[of]])


def fio(stack, device):
    folder = h.temp_dir(stack)
    process = subprocess.Popen(
        ["fio", "--name=restarts", f"--filename={device}", "--direct=1", "--ioengine=libaio", "--rw=randwrite", "--bs=4k", "--iodepth=16",
         "--verify=crc32c", f"--verify_backlog={BACKLOG}", "--verify_fatal=1", "--time_based", "--runtime=3600", "--output-format=json",
         f"--output={folder / 'report'}"], cwd=folder, stderr=subprocess.PIPE, text=True)
    stack.callback(lambda: process.poll() is None and (process.kill(), process.wait()))
    return process, folder / "report"


def restarts(stack):
    daemon = d.Targetd(stack)
    port = h.free_port()
    path = daemon.folder / "disk"
    with open(path, "wb") as f:
        f.truncate(SIZE)
    daemon.client()("commit", changes=[*d.add_file("disk", path, "disk", SIZE), *d.add_target(TARGET, port), d.add_lun(TARGET, 0, "disk")])
    register(stack, port)
    initiator = h.Initiator(stack)
    device = initiator.perilune("attach", f"iscsi://127.0.0.1:{port}/{TARGET}/0").out.strip()
    read_before = sectors(device, "read")
    writer, report = fio(stack, device)

    def goes_on(what):
        before = sectors(device, "written")
        h.wait_for(lambda: sectors(device, "written") > before + 64, what, timeout=60, process=writer)

    for number in range(RESTARTS):
        goes_on("fio to write")
        if number % 2 == 0:
            daemon.stop()
        else:
            daemon.kill()
        daemon.start()
        goes_on(f"fio to go on after restart {number + 1}")
    h.wait_for(lambda: sectors(device, "read") > read_before + 8 * BACKLOG, "fio to verify", timeout=60, process=writer)
    writer.send_signal(signal.SIGINT)
    errors = writer.communicate(timeout=120)[1]
    job = json.loads(report.read_text()[report.read_text().index("{"):])["jobs"][0]
    if job["error"] != 0 or "verify" in errors:
        h.fail(f"fio met an error: {job['error']} {errors}")
    if job["read"]["total_ios"] == 0:
        h.fail("fio verified nothing")
    h.say(f"   {RESTARTS} restarts, {job['write']['total_ios']} writes, {job['read']['total_ios']} blocks verified, longest wait "
          f"{max(job[way]['clat_ns']['max'] for way in ('read', 'write')) / 1e9:.2f} s")
    initiator.perilune("detach", device)
    if keys(stack, port) != KEY:
        h.fail("the key of the reservation is lost")
    daemon.stop()


h.need("fio")
h.need_root_and_devices()
if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--restarts", type=int, default=RESTARTS)
    options, rest = parser.parse_known_args()
    RESTARTS = options.restarts
    sys.argv[1:] = rest
    h.main(restarts)
