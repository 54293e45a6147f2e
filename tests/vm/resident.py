# SPDX-License-Identifier: Apache-2.0
"""What the scenarios of a target daemon inside the guest have in common: it is set up by targetcli, loads of fio write to its disks and
verify what they wrote, by the kernel's initiator and by ours, and a persistent reservation key has to outlive whatever happens."""
import json
import pathlib
import re

import lab
from lab import sh

IQN, PORTAL = "iqn.2026-11.io.perilune:resident", "127.0.0.1:3260"
TARGET = {"iqn": IQN, "portals": [PORTAL]}
KEY = "0xabcdef"
LONGEST = 5.0   # seconds that an initiator may wait


def set_up(perilune, disks, size="128M"):
    """perilune: the words of the command. A target that is open to everybody, with that many files as disks."""
    lab.os.makedirs("/srv/disks", exist_ok=True)
    group = f"/iscsi/{IQN}/tpg1"
    lines = [f"/backstores/fileio create disk{n} /srv/disks/disk{n} {size}" for n in range(disks)]
    lines += [f"/iscsi create {IQN}", *(f"{group}/luns create /backstores/fileio/disk{n}" for n in range(disks)),
              f"{group} set attribute authentication=0 generate_node_acls=1 demo_mode_write_protect=0"]
    for line in lines:
        sh([*perilune, *line.split()])
    sh([*perilune, "ls"])


def kernel_initiator():
    """Logs in with open-iscsi, whose daemon runs; returns the disk of LUN 0 with a key registered that outlives a loss of power."""
    lab.discover(TARGET)
    disk = lab.login(TARGET)
    sh(["sg_persist", "--out", "--register", f"--param-sark={KEY}", "--param-aptpl", disk])
    key_is_there(disk)
    return disk


def key_is_there(disk):
    """Some unit attention may be waiting for whoever asks first."""
    def asked():
        done = sh(["sg_persist", "--in", "--read-keys", disk], code=None, show=False)
        return done.out if done.code == 0 else None
    text = lab.wait_for(asked, "an answer to READ KEYS")
    lab.check(re.search(rf"^\s*{KEY}$", text, re.M), f"the key {KEY} is registered")


class Load:
    """fio, writing blocks of a device at random and verifying each some hundred writes later."""

    def __init__(self, device):
        self.device, name = device, pathlib.Path(device).name
        self.report = pathlib.Path(f"/tmp/fio-{name}.json")
        self.process = lab.start(
            ["fio", f"--name={name}", f"--filename={device}", "--size=96m", "--direct=1", "--ioengine=libaio", "--rw=randwrite", "--bs=4k",
             "--iodepth=2", "--rate_iops=20", "--verify=crc32c", "--verify_backlog=32", "--verify_fatal=1", "--time_based", "--runtime=7200",
             "--output-format=json", f"--output={self.report}"], f"/tmp/fio-{name}.log")
        self.goes_on("the load to begin")

    def written(self):
        return int(lab.sysfs(self.device, "stat").split()[6])

    def goes_on(self, what):
        """Waits until it has written for a while, or has ended, which is a failure."""
        before = self.written()
        lab.wait_for(lambda: self.process.poll() is not None or self.written() > before + 160, what, every=0.1)
        lab.check(self.process.poll() is None, f"{self.device}: {what}")

    def end(self):
        """Checks its verdict and returns the longest time in seconds that one of its requests took."""
        self.process.send_signal(2)
        self.process.wait(timeout=120)
        text = self.report.read_text()
        job = json.loads(text[text.index("{"):])["jobs"][0]
        log = pathlib.Path(f"/tmp/fio-{pathlib.Path(self.device).name}.log").read_text()
        lab.check(job["error"] == 0 and "verify" not in log, f"fio met no error on {self.device} {log}")
        lab.check(job["read"]["total_ios"] > 0, f"{job['write']['total_ios']} writes, {job['read']['total_ios']} blocks verified")
        longest = max(job[way]["clat_ns"]["max"] for way in ("read", "write")) / 1e9
        lab.say(f"  the longest wait on {self.device} was {longest:.2f} s")
        return longest
