# SPDX-License-Identifier: Apache-2.0
"""Our initiator against Debian's tgtd and istgt, on this machine, without a guest: discovery, CHAP, digests, an attached disk
with a file system, every checksum after a new login, and a target that is killed under load and comes back."""
import hashlib
import os
import pathlib
import random
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tools"), str(ROOT / "tools/vm")]
import harness as h  # noqa: E402
import proxy  # noqa: E402
from benching import servers  # noqa: E402

VM = {"boot": "host", "short": True,
      "mutants": {"altered-reads": {"wire": "alter_reads"}, "altered-writes": {"wire": "alter_writes"},
                  "no-digests": {"wire": "no_digest"}, "short-capacity": {"wire": "short_capacity"}}}

SIZE = 256 << 20
LIE = os.environ.get("LAB_MUTANT_WIRE")
ACCOUNT = ("labuser", "labsecret12345")


class Portal:
    """A target of this machine behind a proxy: kind is tgtd or istgt."""

    def __init__(self, stack, kind):
        folder = h.temp_dir(stack)
        self.disk = folder / "disk"
        with open(self.disk, "wb") as f:
            f.truncate(SIZE)
        if kind == "tgtd":
            self.iqn, self.lun = "iqn.2026-11.io.perilune:other", 1
            self.server = h.Tgtd(stack)
            self.server.target(1, self.iqn, self.disk, chap=ACCOUNT)
            for key in ("HeaderDigest", "DataDigest"):
                self.server.admin("--op", "update", "--mode", "target", "--tid", 1, "-n", key, "-v", "CRC32C,None")
        else:
            self.iqn, self.lun = "iqn.2026-11.io.perilune:other", 0
            self.server = servers.Istgt(stack, [], {"other": (self.disk, SIZE)}, chap=ACCOUNT)
        self.own = f"127.0.0.1:{self.server.port}"
        self.front = proxy.Proxy("127.0.0.1", ("127.0.0.1", self.server.port), [proxy.LIES[LIE]()] if LIE else [])
        stack.callback(self.front.close)
        self.portal = f"127.0.0.1:{self.front.port}"


def write_tree(folder, seed):
    rng, sums = random.Random(seed), {}
    for number in range(80):
        path = folder / f"d{number % 5}" / f"f{number}"
        path.parent.mkdir(exist_ok=True)
        data = rng.randbytes(rng.choice((0, 1, 511, 4096, 70_000, 1_000_000)))
        path.write_bytes(data)
        sums[path.relative_to(folder)] = hashlib.sha256(data).hexdigest()
    return sums


def check_tree(folder, sums):
    for name, want in sums.items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != want:
            h.fail(f"{name} reads back different bytes")


def log_in(initiator, target):
    text = initiator.iscsiadm("-m", "node", "-T", target.iqn, "-p", target.portal, "--login").out
    if not re.search(r"^Login to \[iface: default, target: .*\] successful\.$", text, re.M):
        h.fail(f"login printed {text!r}")
    device = initiator.wait_device(target.iqn)
    if h.block_size(device) != SIZE:
        h.fail(f"{device} has {h.block_size(device)} bytes, not {SIZE}")
    return device


def log_out(initiator, target, device):
    initiator.iscsiadm("-m", "node", "-T", target.iqn, "-p", target.portal, "--logout")
    h.wait_for(lambda: h.block_size(device) == 0, f"{device} to go")


def the_whole_tour(stack, kind):
    try:
        tour(stack, kind)
    except OSError as e:   # what a damaged file system answers
        h.fail(f"{e}")


def tour(stack, kind):
    target, initiator = Portal(stack, kind), h.Initiator(stack)
    listing = initiator.iscsiadm("-m", "discovery", "-t", "sendtargets", "-p", target.own).out
    if listing != f"{target.own},1 {target.iqn}\n":
        h.fail(f"discovery printed {listing!r}")
    initiator.iscsiadm("-m", "node", "-o", "new", "-T", target.iqn, "-p", target.portal)
    initiator.set_chap(target.iqn, target.portal, ACCOUNT[0], "not-the-password")
    done = initiator.iscsiadm("-m", "node", "-T", target.iqn, "-p", target.portal, "--login", check=False)
    if done.code != 24:
        h.fail(f"a wrong password: {done}")
    initiator.set_chap(target.iqn, target.portal, *ACCOUNT)
    initiator.set(target.iqn, target.portal, **{"node__conn[0]__iscsi__HeaderDigest": "CRC32C",
                                                "node__conn[0]__iscsi__DataDigest": "CRC32C"})
    device = log_in(initiator, target)
    details = initiator.iscsiadm("-m", "session", "-P", "3").out
    for line in ("HeaderDigest: CRC32C", "DataDigest: CRC32C"):
        if line not in details:
            h.fail(f"no {line} in\n{details}")
    h.run(["mkfs.ext4", "-q", "-F", device], timeout=120)
    with h.mounted(device, h.temp_dir(stack)) as folder:
        sums = write_tree(folder, kind)
    log_out(initiator, target, device)
    device = log_in(initiator, target)
    h.run(["fsck.ext4", "-f", "-n", device], timeout=120)
    with h.mounted(device, h.temp_dir(stack)) as folder:
        check_tree(folder, sums)
        for number in range(4):   # the connection is cut in the middle of writing, and the session recovers
            before = target.front.counts["connections"]
            sums |= {name: value for name, value in write_tree(folder, f"{kind}{number}").items()}
            target.front.cut()
            os.sync()
            h.wait_for(lambda: target.front.counts["connections"] > before, "a new connection")
        os.sync()
        check_tree(folder, sums)
    log_out(initiator, target, device)
    initiator.close()


def tgtd(stack):
    h.need("tgtd", "tgtadm")
    the_whole_tour(stack, "tgtd")


def istgt(stack):
    h.need("istgt")
    the_whole_tour(stack, "istgt")


if __name__ == "__main__":
    h.need("mkfs.ext4", "mount")
    h.need_root_and_devices()
    sys.exit(h.main(tgtd, istgt))
