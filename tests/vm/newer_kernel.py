# SPDX-License-Identifier: Apache-2.0
"""The 6.12 kernel of Debian's backports: it boots, has the ublk driver that a scenario may ask for, and meets our target as the
tutorial does: discovery, login, the kernel's disk lines, partitions, file systems, and every checksum after a new login."""
import os
import stat

import lab
import tutorial
from lab import sh

VM = {"kernel": "6.12", "memory": 640, "mutants": {"altered-writes": {"wire": "alter_writes"}}}


def the_kernel_of_backports():
    lab.expect(sh("uname -r").out, r"^6\.12\.\d+\S*$")


def ublk_is_there():
    sh("modprobe ublk_drv")
    lab.expect(sh("lsmod").out, r"^ublk_drv ")
    control = lab.pathlib.Path("/dev/ublk-control")
    lab.wait_for(control.exists, f"{control}")
    mode, device = control.stat().st_mode, control.stat().st_rdev
    lab.check(stat.S_ISCHR(mode), f"{control} is a character device")
    number = lab.pathlib.Path("/sys/class/misc/ublk-control/dev").read_text().strip()
    lab.check(f"{os.major(device)}:{os.minor(device)}" == number, "and the driver's own")


if __name__ == "__main__":
    lab.main(the_kernel_of_backports, ublk_is_there, tutorial.served, tutorial.discovery, tutorial.login,
             tutorial.what_the_kernel_says, tutorial.partitions, tutorial.file_systems, tutorial.logout,
             tutorial.everything_is_there_after_a_new_login, tutorial.records_go)
