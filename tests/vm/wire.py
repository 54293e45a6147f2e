# SPDX-License-Identifier: Apache-2.0
"""Damage on the wire: a proxy flips bits of headers and of data, in both directions, and resets connections, while fio writes
and verifies with both digests on. Each is noticed by the side that receives it, the session recovers, and no byte is wrong."""
import re

import lab
from lab import sh

VM = {"mutants": {"altered-reads": {"wire": "alter_reads"}, "no-digests": {"wire": "no_digest"}}}

# direction, part, how often
DAMAGE = (("in", "data", 3), ("in", "header", 2), ("out", "header", 2), ("out", "data", 2))
target, disk = {}, ""


def logged_in():
    global disk
    target.update(lab.serve(disks=["64M"], options=["-v"], proxied=True))
    lab.iscsid()
    lab.discover(target)
    lab.update(target, **{"node__conn[0]__iscsi__HeaderDigest": "CRC32C", "node__conn[0]__iscsi__DataDigest": "CRC32C",
                          "node__conn[0]__timeo__noop_out_interval": 2, "node__conn[0]__timeo__noop_out_timeout": 5})
    disk = lab.login(target)
    lab.expect(sh("iscsiadm -m session -P 2", show=False).out, r"^\t\tHeaderDigest: CRC32C$", r"^\t\tDataDigest: CRC32C$")
    lab.allow(r"detected conn error", r"ping timeout", r"digest")


def counts():
    return lab.host.counts(portal=target["portals"][0])


def errors_counted():
    """Connection errors that the kernel counted, by its number."""
    numbers = re.findall(r"detected conn error \((\d+)\)", lab.dmesg())
    return {number: numbers.count(number) for number in set(numbers)}


def damage_is_noticed_and_mended():
    """A write of 8 KiB takes its data along: damaged, the command is rejected (RFC 7143 7.8), and the target, at this recovery level,
    ends the connection, because Linux does not send a rejected command again."""
    for number, (direction, part, times) in enumerate(DAMAGE):
        for _ in range(times):
            before, flipped, offset = counts()["connections"], counts().get("flipped", 0), number * 8
            lab.host.flip(portal=target["portals"][0], direction=direction, part=part, skip=20)
            sh(["fio", "--name=damage", f"--filename={disk}", f"--offset={offset}m", "--size=2m", "--rw=randrw", "--bs=8k",
                "--direct=1", "--ioengine=libaio", "--iodepth=4", "--verify=crc32c", "--verify_fatal=1", "--minimal",
                f"--randseed={number + 1}"], show=False)
            now = counts()
            lab.check(now.get("flipped", 0) == flipped + 1, f"one {part} going {direction} was damaged, and fio saw nothing of it")
            lab.check(now["connections"] > before, "the connection was given up and made anew")
    lab.say(f"  connection errors by number: {errors_counted()}")


def both_sides_counted():
    sh("iscsiadm -m session -s")
    log = lab.host.log()
    lab.say("\n".join(log.splitlines()[-30:]))
    seen = len(re.findall(r"digest", log))
    lab.check(seen >= 4, f"the target logged the damage that ended connections ({seen} lines)")
    errors = errors_counted()
    lab.check(errors.get("1014", 0) >= 2 and errors.get("1015", 0) >= 3, "so did the kernel: header and data digest errors by number")


def resets_are_mended():
    job = lab.start(["fio", "--name=resets", f"--filename={disk}", "--offset=32m", "--size=6m", "--rw=randrw", "--bs=8k", "--direct=1",
                     "--ioengine=libaio", "--iodepth=4", "--verify=crc32c", "--verify_fatal=1", "--loops=2"], "/tmp/fio.log")
    cuts = 0
    while cuts < 6:
        done = counts().get("in 0x21", 0)
        lab.wait_for(lambda: counts().get("in 0x21", 0) > done + 50 or job.poll() is not None, "traffic")
        if job.poll() is not None:
            break
        before = counts()["connections"]
        lab.host.cut(portal=target["portals"][0])
        lab.wait_for(lambda: counts()["connections"] > before, "a new connection")
        cuts += 1
    lab.check(cuts >= 3, f"{cuts} connections were reset under load")
    lab.wait_for(lambda: job.poll() is not None, "fio to end")
    lab.check(job.returncode == 0, "fio ended well, and verified what it wrote")
    lab.logout(target)


if __name__ == "__main__":
    lab.main(logged_in, damage_is_noticed_and_mended, both_sides_counted, resets_are_mended)
