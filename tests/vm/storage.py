# SPDX-License-Identifier: Apache-2.0
"""The LUN as people use it: fio with verification on the raw disk and on file systems, trees that are created, renamed, linked,
truncated and removed at random and compared with a model, fsck after each, and the LUN as an LVM physical volume."""
import hashlib
import os
import pathlib
import random

import lab
from lab import sh

VM = {"memory": 640, "mutants": {"altered-reads": {"wire": "alter_reads"}, "wrong-residual": {"wire": "wrong_residual"}}}

target, disk, other = {}, "", ""
FILE_SYSTEMS = (("xfs", "mkfs.xfs -q -f", "xfs_repair -n"), ("ext4", "mkfs.ext4 -q -F", "fsck.ext4 -f -n"),
                ("btrfs", "mkfs.btrfs -q -f", "btrfs check"))


def two_disks():
    global disk, other
    target.update(lab.serve(disks=["320M", "128M"]))
    lab.iscsid()
    sh("modprobe btrfs", show=False)
    lab.discover(target)
    disk = lab.login(target)
    other = lab.disk(target, lun=1)


def fio(name, *words):
    done = sh(["fio", f"--name={name}", "--ioengine=libaio", "--verify=crc32c", "--verify_fatal=1", "--group_reporting", *words],
              show=False)
    lab.expect(done.out, r"err= 0")
    lab.check("verify:" not in done.out, f"fio {name}: everything that was written is read back")


def fio_on_the_raw_disk():
    fio("large-blocks", f"--filename={disk}", "--direct=1", "--rw=write", "--bs=1m", "--size=32m", "--iodepth=4")
    fio("mixed-blocks", f"--filename={disk}", "--direct=1", "--rw=randrw", "--bsrange=512-64k", "--blockalign=512", "--offset=64m",
        "--size=6m", "--iodepth=8", "--fsync=32")
    fio("through-the-cache", f"--filename={disk}", "--direct=0", "--rw=randwrite", "--bs=4k", "--offset=96m", "--size=4m", "--fsync=64")


class Churn:
    """Random operations on a tree, and beside it what the tree must hold: {path: sha256}."""

    def __init__(self, root, seed):
        self.root, self.rng, self.files, self.number = pathlib.Path(root), random.Random(seed), {}, 0

    def run(self, operations):
        for _ in range(operations):
            self.rng.choice((self.create, self.create, self.append, self.truncate, self.rename, self.remove, self.link))()

    def _keep(self, name):
        self.files[name] = hashlib.sha256((self.root / name).read_bytes()).hexdigest()

    def _any(self):
        return self.rng.choice(sorted(self.files)) if self.files else None

    def _new(self):
        self.number += 1
        name = f"d{self.rng.randrange(6)}/e{self.rng.randrange(4)}/f{self.number}"
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        return name

    def create(self):
        name, data = self._new(), self.rng.randbytes(self.rng.choice((0, 17, 4096, 30_000, 200_000)))
        (self.root / name).write_bytes(data)
        self.files[name] = hashlib.sha256(data).hexdigest()

    def append(self):
        if name := self._any():
            with open(self.root / name, "ab") as f:
                f.write(self.rng.randbytes(5000))
                if self.rng.random() < 0.2:
                    f.flush()
                    os.fsync(f.fileno())
            for linked in self._links(name):
                self._keep(linked)

    def truncate(self):
        if name := self._any():
            os.truncate(self.root / name, self.rng.randrange(60_000))
            for linked in self._links(name):
                self._keep(linked)

    def _links(self, name):
        inode = (self.root / name).stat().st_ino
        return [other for other in self.files if (self.root / other).stat().st_ino == inode]

    def rename(self):
        if name := self._any():
            new = self._new()
            os.rename(self.root / name, self.root / new)
            self.files[new] = self.files.pop(name)

    def remove(self):
        if name := self._any():
            (self.root / name).unlink()
            del self.files[name]

    def link(self):
        if name := self._any():
            new = self._new()
            os.link(self.root / name, self.root / new)
            self.files[new] = self.files[name]


def file_systems_under_churn():
    for number, (kind, make, verify) in enumerate(FILE_SYSTEMS):
        sh(f"{make} {disk}")
        with lab.mounted(disk, f"/mnt/{kind}"):
            churn = Churn(f"/mnt/{kind}", number)
            churn.run(280)
            if kind == "ext4":
                fio("on-ext4", f"--filename=/mnt/{kind}/fio", "--direct=1", "--rw=randrw", "--bs=8k", "--size=4m", "--iodepth=4")
                os.unlink(f"/mnt/{kind}/fio")
        sh(f"{verify} {disk}")
        with lab.mounted(disk, f"/mnt/{kind}"):
            lab.check_tree(f"/mnt/{kind}", churn.files)
            churn.run(70)
        with lab.mounted(disk, f"/mnt/{kind}", "ro"):
            lab.check_tree(f"/mnt/{kind}", churn.files)
        sh(["wipefs", "-q", "-a", disk])


def a_physical_volume_of_lvm():
    for module in ("dm_mod", "dm_snapshot"):
        sh(["modprobe", module], show=False)
    sh(["pvcreate", disk, other])
    sh(["vgcreate", "lab", disk, other])
    done = sh("vgs --noheadings -o vg_name,pv_count,lv_count lab")
    lab.expect(done.out, r"lab +2 +0")
    sh("lvcreate -y -n striped -i 2 -I 64k -L 160M lab")
    sh("mkfs.ext4 -q -F /dev/lab/striped")
    with lab.mounted("/dev/lab/striped", "/mnt/lv"):
        sums = lab.write_tree("/mnt/lv", files=40)
    sh("lvextend -L 200M -r /dev/lab/striped")
    sh("vgchange -an lab")
    lab.logout(target)
    lab.login(target)
    lab.disk(target, lun=1)
    sh("vgchange -ay lab")
    lab.settle()
    with lab.mounted("/dev/lab/striped", "/mnt/lv", "ro"):
        lab.check_tree("/mnt/lv", sums)
    sh("fsck.ext4 -f -n /dev/lab/striped")
    sh("vgchange -an lab")
    sh("vgremove -y -f lab")
    lab.logout(target)


if __name__ == "__main__":
    lab.main(two_disks, fio_on_the_raw_disk, file_systems_under_churn, a_physical_volume_of_lvm)
