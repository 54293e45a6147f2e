# SPDX-License-Identifier: Apache-2.0
"""What attach_nbd and attach_ublk have in common: a unit on the host becomes a block device of the guest by `perilune attach`,
and behaves as a disk does: limits, partitions, file systems, cuts, power failure, refusals, and a server that is killed."""
import json
import os
import pathlib
import signal

import lab
import power_cut
import recovery
from lab import sh

RUN_DIR = pathlib.Path("/run/perilune/attach")
NODES = {"nbd": "/dev/nbd", "ublk": "/dev/ublkb", "fuse": "/dev/loop"}
driver = "auto"   # what is asked for
kind = ""         # what it has to be
target, sums = {}, {}


def url(lun=0, of=None):
    of = of or target
    return f"iscsi://{of['portals'][0]}/{of['iqn']}/{lun}"


def attach(what, *words):
    device = sh([lab.PERILUNE, "attach", "--driver", driver, *words, what]).out.strip()
    lab.check(device.startswith(NODES[kind]), f"{device} is a device of {kind}")
    return device


def detach(what, *words, code=0):
    return sh([lab.PERILUNE, "detach", *words, what], code=code)


def records():
    return [json.loads(path.read_text()) for path in RUN_DIR.glob("*.json")] if RUN_DIR.is_dir() else []


def record_of(device):
    return next(record for record in records() if record["device"] == device)


def nothing_is_left():
    lab.check(not records(), "no record is left")
    disks = [path.name for path in pathlib.Path("/sys/block").iterdir() if path.name.startswith("ublkb") or (path / "backend").exists()]
    lab.check(not disks, "no device is left")
    lab.check(not lab.glob.glob("/sys/class/ublk-char/*"), "no queue is left")
    running = sh("pgrep -a perilune", code=None, show=False).out
    lab.check("attach" not in running, "no server is left")


# --- steps -----------------------------------------------------------------------------------------------------------

def a_unit_becomes_a_disk():
    target.update(lab.serve(disks=["64M", "320M", "16M"], proxied=True))
    device = attach(url())
    record = record_of(device)
    lab.check(record["driver"] == kind and record["name"] == url().replace(":3260", ""), "the record says what it is")
    lab.check(int(lab.sysfs(device, "size")) == 64 << 11, "it has the unit's size")
    wanted = {"logical_block_size": "512", "write_cache": "write back", "fua": "1", "rotational": "0"}
    for name, value in wanted.items():
        lab.check(lab.sysfs(device, f"queue/{name}") == value, f"{name} is {value}")
    lab.check(int(lab.sysfs(device, "queue/discard_max_bytes")) > 0, "it takes discards")
    lab.check(int(lab.sysfs(device, "queue/max_sectors_kb")) >= 512, "requests may be large")
    lab.check("attached already" in sh([lab.PERILUNE, "attach", url()], code=None).out, "the same unit twice is refused")
    sh(["parted", "-s", device, "mklabel", "gpt", "mkpart", "data", "1MiB", "100%"])
    detach(device)
    nothing_is_left()
    device = attach(url())
    lab.wait_for(lambda: os.path.exists(f"{device}p1"), f"{device}p1")
    sh(["wipefs", "-q", "-a", device])
    detach(device)


def file_systems():
    small, large = attach(url(0)), attach(url(1))
    lab.settle()
    for lun, device, make in ((0, small, "mkfs.ext4 -q -F"), (1, large, "mkfs.xfs -q -f")):
        sh(f"{make} {device}")
        with lab.mounted(device, f"/mnt/{lun}", "discard"):
            sums[lun] = lab.write_tree(f"/mnt/{lun}", files=40, seed=lun)
    done = None
    with lab.mounted(small, "/mnt/0"):
        done = detach(small, code=1)
        lab.expect(done.out, rf"^perilune detach: {small} is mounted on /mnt/0$", r"stays attached; unmount first, or use --force$")
        lab.check_tree("/mnt/0", sums[0])
    detach(small)
    detach(large)
    nothing_is_left()
    lab.drop_caches()
    for lun in (0, 1):
        device = attach(url(lun), "--read-only")
        lab.check(lab.sysfs(device, "ro") == "1", f"{device} is read-only")
        with lab.mounted(device, f"/mnt/{lun}", "ro"):
            lab.check_tree(f"/mnt/{lun}", sums[lun])
        detach(device)


def cuts_under_load():
    device = attach(url(2))
    load = recovery.Load(device, 3)
    portal = target["portals"][0]
    for number, cut in enumerate((lambda: lab.host.cut(portal=portal), lambda: (lab.host.kill(), lab.host.restart()))):
        wanted = load.completed + 100
        lab.wait_for(lambda: load.completed > wanted, "the load to run")
        cut()
        wanted = load.completed + 50
        lab.wait_for(lambda: load.completed > wanted, f"the load to go on after cut {number}")
    load.stop()
    lab.check(not load.errors, "no write failed")
    load.verify()
    lab.say(f"  ok: {load.completed} writes, every block has its last version")
    detach(device)


def nothing_flushed_is_lost():
    """The target is in the guest here, on a device that loses its writes."""
    power_cut.a_target_on_a_device_that_can_lose_power()
    device = attach(url(0, power_cut.target))
    power_cut.disk = device
    load = power_cut.FlushingLoad(device, 1)
    lab.wait_for(lambda: load.completed > 8, "the load to run")
    load.stop()
    power_cut.cut_and_verify(load, 1)
    detach(device)
    power_cut.server.terminate()
    lab.check(power_cut.server.wait(60) == 0, "the target ends well")
    power_cut.unmount()
    sh("dmsetup remove power", show=False)


def a_killed_server_blocks_nobody():
    device = attach(url(1))
    sh(["mount", device, "/mnt/1"])
    lab.allow(r"I/O error", r"XFS .*", r"lost async page write", r"Buffer I/O error", r"nbd\d+: ", r"ublk")
    job = lab.start(["fio", "--name=load", "--directory=/mnt/1", "--rw=randwrite", "--bs=16k", "--ioengine=libaio", "--direct=1",
                     "--iodepth=8", "--size=16m", "--loops=1000"], "/tmp/fio.log")
    lab.wait_for(lambda: int(lab.sysfs(device, "stat").split()[4]) > 200, "the load to run")
    server = record_of(device)["pid"]
    os.kill(server, signal.SIGKILL)
    lab.wait_for(lambda: job.poll() is not None, "the load to end", timeout=60)
    lab.check(job.returncode != 0, "the load was told")
    sh("umount /mnt/1", timeout=60)
    done = sh([lab.PERILUNE, "detach", "--cleanup"], timeout=60)
    lab.expect(done.out, rf"^detached {device}$", rf"^removed .*process {server} is gone\)$")
    nothing_is_left()
    device = attach(url(1))
    sh(["xfs_repair", "-n", device], code=None, show=False)   # its log wants a mount first
    with lab.mounted(device, "/mnt/1"):
        sh("rm -f /mnt/1/load*", show=False)
        lab.check_tree("/mnt/1", sums[1])
    detach(device)


def by_force():
    device = attach(url())
    sh(["mkfs.ext4", "-q", "-F", device])
    sh(["mount", device, "/mnt/0"])
    files = lab.write_tree("/mnt/0", files=10, seed=9)
    detach(device, "--force")
    nothing_is_left()
    device = attach(url())
    with lab.mounted(device, "/mnt/0", "ro"):
        lab.check_tree("/mnt/0", files)
    detach(device)
    nothing_is_left()


STEPS = (a_unit_becomes_a_disk, file_systems, cuts_under_load, nothing_flushed_is_lost, a_killed_server_blocks_nobody, by_force)
