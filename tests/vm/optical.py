# SPDX-License-Identifier: Apache-2.0
"""A drive with a disc in it (`perilune serve cd:PATH`) under Linux's own driver: mounted, every file compared; the operator puts in
another, is held off while one is mounted, loads one after an eject of the guest, and takes the last away."""
import errno
import fcntl
import glob
import hashlib
import os

import lab
from lab import sh

VM = {"short": True, "memory": 384,
      "mutants": {"altered-reads": {"wire": "alter_reads"}, "unnoticed-medium": {"wire": "unnoticed_medium"}}}

CDROMEJECT, CDROM_DRIVE_STATUS, CDROM_LOCKDOOR = 0x5309, 0x5326, 0x5329     # linux/cdrom.h
CDS_NO_DISC, CDS_TRAY_OPEN = 1, 2
DRIVE = "/dev/sr0"
target, disc = {}, {}


def the_guest_finds_a_drive():
    sh("modprobe sr_mod", show=False)
    disc.update(lab.host.burn(label="FIRST", seed=1))
    target.update(lab.serve(backings=[f"cd:{disc['path']}"]))
    lab.iscsid()
    lab.discover(target)
    lab.node(target, "--login")
    lab.wait_for(lambda: os.path.exists(DRIVE), DRIVE)
    lab.settle()
    polling(500)
    lab.expect(sh("lsscsi").out, r"cd/dvd +PERILUNE VIRTUAL-CDROM .*/dev/sr0")


def polling(milliseconds):
    """How often the kernel asks the drive what has happened; 0: never. (What udev's rules set where they run at boot.)"""
    lab.pathlib.Path(f"/sys/block/{os.path.basename(DRIVE)}/events_poll_msecs").write_text(f"{milliseconds}\n")


def contents(device=DRIVE):
    with open(device, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def is_in_the_drive(label):
    """What the guest reads is the disc that the host has made, as a whole and file by file."""
    lab.check(int(lab.sysfs(DRIVE, "size")) * 512 == disc["size"], f"{disc['size']} bytes")
    lab.check(contents() == disc["sha256"], "every byte of the disc")
    lab.expect(sh(["blkid", "-p", DRIVE]).out, rf'LABEL="{label}".* TYPE="iso9660"')
    with lab.mounted(DRIVE, "/mnt/disc", "ro"):
        lab.check_tree("/mnt/disc", disc["files"])


def its_files_are_those_of_the_image():
    contents()
    is_in_the_drive("FIRST")
    lab.check(sh(["mount", "-o", "rw", "-t", "ext4", DRIVE, "/mnt"], code=None, show=False).code != 0, "it is no disk")


def lines_of(event):
    return lab.host.log().count(event)


def hang_up(*events):
    """SIGHUP, and which of these the server says of it."""
    before = {event: lines_of(event) for event in events}
    lab.host.hang_up()
    return lab.wait_for(lambda: next((e for e in events if lines_of(e) > before[e]), None), f"{events} in the server's log", timeout=60)


def is_empty(eject=False):
    """Asked without O_NONBLOCK the kernel would load what was ejected."""
    fd = os.open(DRIVE, os.O_RDONLY | os.O_NONBLOCK)
    if eject:
        fcntl.ioctl(fd, CDROM_LOCKDOOR, 0)      # as eject(1) does
        fcntl.ioctl(fd, CDROMEJECT)
    status = fcntl.ioctl(fd, CDROM_DRIVE_STATUS, 0x7fffffff)
    os.close(fd)
    return status in (CDS_NO_DISC, CDS_TRAY_OPEN)


def cannot_be_opened():
    try:
        os.close(os.open(DRIVE, os.O_RDONLY))
    except OSError as e:
        return e.errno == errno.ENOMEDIUM
    return False


def exchange(event):
    """udev locks every disc in a drive, so as to be asked before it goes: it hears of the operator's wish, and ejects."""
    before = lines_of(event)
    if hang_up(event, "medium_refused") == event:
        return
    lab.wait_for(lambda: lines_of(event) > before, f"the server does it when the guest has given the disc out: {event}", timeout=60, every=0.5)


def size_is(size):
    """Opening the drive is what makes Linux look at the disc."""
    def looked():
        try:
            os.close(os.open(DRIVE, os.O_RDONLY))
        except OSError:
            return False
        return int(lab.sysfs(DRIVE, "size")) * 512 == size
    return looked


def the_operator_changes_the_disc():
    lab.settle()
    disc.update(lab.host.burn(label="SECOND", seed=2, files=60))
    exchange("medium_changed")
    lab.wait_for(size_is(disc["size"]), "the other disc", timeout=30)
    is_in_the_drive("SECOND")


def a_mounted_disc_stays():
    lab.settle()
    second = dict(disc)
    polling(0)      # udev would eject it, mounted or not
    with lab.mounted(DRIVE, "/mnt/disc", "ro"):
        third = lab.host.burn(label="THIRD", seed=3, files=20)
        lab.check(hang_up("medium_changed", "medium_refused") == "medium_refused", "the server leaves it where it is")
        lab.drop_caches()
        lab.check_tree("/mnt/disc", second["files"])
    disc.update(third)
    polling(500)


def the_guest_ejects_and_gets_the_one_that_waits():
    lab.check(is_empty(eject=True), "there is no disc in the drive")
    exchange("medium_changed")
    lab.wait_for(size_is(disc["size"]), "the third disc", timeout=30)
    polling(0)      # the drive tells of the ejection and of the new disc: whoever hears of the second while it is mounted refuses to read it
    is_in_the_drive("THIRD")
    polling(500)


def the_operator_takes_it_away():
    lab.settle()
    lab.host.take_away()
    exchange("medium_removed")
    lab.check(is_empty() and cannot_be_opened(), "there is no disc in the drive, and none can be loaded")
    disc.update(lab.host.burn(label="LAST", seed=4))
    exchange("medium_changed")
    lab.wait_for(size_is(disc["size"]), "the last disc", timeout=30)
    is_in_the_drive("LAST")
    lab.settle()
    lab.node(target, "--logout")
    lab.wait_for(lambda: not glob.glob(DRIVE), "the drive to go")


if __name__ == "__main__":
    lab.main(the_guest_finds_a_drive, its_files_are_those_of_the_image, the_operator_changes_the_disc, a_mounted_disc_stays,
             the_guest_ejects_and_gets_the_one_that_waits, the_operator_takes_it_away)
