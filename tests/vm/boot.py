# SPDX-License-Identifier: Apache-2.0
"""A system that boots with its iSCSI disk: systemd and the units of open-iscsi, a record with node.startup automatic, a _netdev
line in fstab. The guest is set up, reboots, and finds the file system mounted, without a command from anybody."""
import json
import pathlib
import re

import lab
from lab import sh

VM = {"boot": "systemd", "boots": 2, "memory": 768, "limit": 1500,
      "mutants": {"altered-writes": {"wire": "alter_writes"}}}

SUMS = pathlib.Path("/root/sums.json")


def set_up():
    target = lab.serve(disks=["256M"])
    pathlib.Path("/root/target.json").write_text(json.dumps(target))
    lab.patient_records()
    sh("systemctl enable iscsid.service open-iscsi.service")
    sh("systemctl start iscsid.service")
    done = sh("systemctl is-active iscsid.service")
    lab.same_shape(done.out, "active")
    lab.discover(target)
    lab.update(target, node__startup="automatic", **{"node__conn[0]__startup": "automatic"})
    disk = lab.login(target)
    sh(["mkfs.ext4", "-q", "-F", "-L", "netdisk", disk])
    with open("/etc/fstab", "a") as f:
        f.write("LABEL=netdisk /mnt/net ext4 _netdev,nofail 0 2\n")
    pathlib.Path("/mnt/net").mkdir()
    sh("systemctl daemon-reload; mount /mnt/net")
    SUMS.write_text(json.dumps(lab.write_tree("/mnt/net", files=60)))
    sh("sync")
    lab.the_kernels_log()
    pathlib.Path("/run/lab-reboot").touch()
    lab.say("== the guest reboots")
    lab.os._exit(0)


def it_is_mounted_after_boot():
    target = json.loads(pathlib.Path("/root/target.json").read_text())
    done = sh("systemctl is-active iscsid.service open-iscsi.service remote-fs.target", code=None)
    lab.same_shape(done.out, "active\nactive\nactive")
    done = sh("iscsiadm -m session")
    lab.expect(done.out, rf"^tcp: \[1\] {re.escape(target['portals'][0])},1 {re.escape(target['iqn'])} \(non-flash\)$")
    done = sh("findmnt -n -o SOURCE,FSTYPE,OPTIONS /mnt/net")
    lab.expect(done.out, r"^/dev/sd\w+ +ext4 +rw")
    lab.check_tree("/mnt/net", json.loads(SUMS.read_text()))
    sums = lab.write_tree("/mnt/net", files=20, seed=2)
    sh("systemctl list-dependencies --after remote-fs.target --no-pager", show=False)
    done = sh("systemctl --failed --no-legend --plain")
    lab.check(not re.search(r"iscsi|mnt-net|remote-fs", done.out), "no unit of this failed")
    sh("umount /mnt/net")
    sh("systemctl stop open-iscsi.service")
    sh("iscsiadm -m session", code=21)
    disk = lab.login(target)
    with lab.mounted(disk, "/mnt/net", "ro"):
        lab.check_tree("/mnt/net", {**json.loads(SUMS.read_text()), **sums})


if __name__ == "__main__":
    lab.main(*([it_is_mounted_after_boot] if SUMS.exists() else [set_up]))
