#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Our initiator against Debian's tgtd: discovery, node records, login with and without CHAP, session listing, attach,
partition, mkfs, mount, verified files, logout; the same job that `./dev demo` does against our own target."""
import hashlib
import os
import random
import re

import harness as h

IQN = "iqn.2026-11.io.perilune:interop-tgtd"
SIZE = 512 << 20


def target(stack, chap=None, mutual=None):
    disk = h.temp_dir(stack) / "disk"
    with open(disk, "wb") as f:
        f.truncate(SIZE)
    server = h.Tgtd(stack)
    server.target(1, IQN, disk, chap=chap, mutual=mutual)
    return server, f"127.0.0.1:{server.port}"


def discover(initiator, portal):
    listing = initiator.iscsiadm("-m", "discovery", "-t", "sendtargets", "-p", portal).out
    if listing != f"{portal},1 {IQN}\n":
        h.fail(f"discovery printed {listing!r}")


def login(initiator, portal):
    text = initiator.iscsiadm("-m", "node", "-T", IQN, "-p", portal, "--login").out
    if not re.search(r"^Logging in to \[iface: default, target: .*\]", text, re.M) or not re.search(
            r"^Login to \[iface: default, target: .*\] successful\.$", text, re.M):
        h.fail(f"login printed {text!r}")


def logout(initiator, portal):
    text = initiator.iscsiadm("-m", "node", "-T", IQN, "-p", portal, "--logout").out
    if not re.search(r"^Logout of \[sid: \d+, target: .*\] successful\.$", text, re.M):
        h.fail(f"logout printed {text!r}")
    done = initiator.iscsiadm("-m", "session", check=False)
    if done.code != 21 or "No active sessions" not in done.err:
        h.fail(f"after the logout: {done}")


def write_tree(folder, seed):
    """A few directories of files of many sizes; returns their checksums."""
    generator, sums = random.Random(seed), {}
    for number in range(120):
        path = folder / f"d{number % 7}" / f"file-{number}"
        path.parent.mkdir(exist_ok=True)
        data = generator.randbytes(generator.choice((0, 1, 511, 4096, 70_000, 1_500_000)))
        path.write_bytes(data)
        sums[path.relative_to(folder)] = hashlib.sha256(data).hexdigest()
    return sums


def verify_tree(folder, sums):
    for name, want in sums.items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != want:
            h.fail(f"{name} came back different")


def file_system_survives_a_new_session(stack):
    h.need("mkfs.xfs", "mkfs.ext4", "parted", "mount")
    h.need_root_and_devices()
    _, portal = target(stack, (h.USER, h.SECRET))
    initiator = h.Initiator(stack)
    discover(initiator, portal)
    initiator.set_chap(IQN, portal, h.USER, h.SECRET)
    login(initiator, portal)
    device = initiator.wait_device(IQN)
    if h.block_size(device) != SIZE:
        h.fail(f"{device} has {h.block_size(device)} bytes, the unit {SIZE}")
    h.run(["parted", "-s", device, "mklabel", "gpt", "mkpart", "one", "1MiB", "70%", "mkpart", "two", "70%", "100%"])
    sums = []
    for number, make in ((1, ["mkfs.xfs", "-q", "-f"]), (2, ["mkfs.ext4", "-q", "-F"])):
        node = h.partition_node(device, number)
        h.run([*make, node], timeout=120)
        with h.mounted(node, h.temp_dir(stack)) as folder:
            sums.append(write_tree(folder, number))
    logout(initiator, portal)
    h.wait_for(lambda: h.block_size(device) == 0, f"{device} to be gone")
    login(initiator, portal)
    device = initiator.wait_device(IQN)
    for number, want in enumerate(sums, 1):
        with h.mounted(h.partition_node(device, number), h.temp_dir(stack)) as folder:
            verify_tree(folder, want)
    logout(initiator, portal)
    initiator.close()


def chap_decides_who_may_log_in(stack):
    _, portal = target(stack, (h.USER, h.SECRET), (h.MUTUAL_USER, h.MUTUAL_SECRET))
    initiator = h.Initiator(stack)
    discover(initiator, portal)
    initiator.set_chap(IQN, portal, h.USER, "not-the-password")
    done = initiator.iscsiadm("-m", "node", "-T", IQN, "-p", portal, "--login", check=False)
    if done.code != 24 or "not-the-password" in done.out + done.err:
        h.fail(f"wrong password: {done}")
    initiator.set_chap(IQN, portal, h.USER, h.SECRET, h.MUTUAL_USER, "not-its-password")
    done = initiator.iscsiadm("-m", "node", "-T", IQN, "-p", portal, "--login", check=False)
    if done.code != 19:
        h.fail(f"target with the wrong secret: {done}")
    initiator.set_chap(IQN, portal, h.USER, h.SECRET, h.MUTUAL_USER, h.MUTUAL_SECRET)
    login(initiator, portal)
    logout(initiator, portal)
    initiator.close()


def attach_works_without_records(stack):
    h.need_root_and_devices()
    server, _ = target(stack)
    device = h.run([h.PERILUNE, "attach", f"iscsi://127.0.0.1:{server.port}/{IQN}/1"]).out.strip()
    try:
        if not re.fullmatch(r"/dev/\w+", device) or h.block_size(device) != SIZE:
            h.fail(f"attach printed {device!r}")
        data = os.urandom(1 << 20)
        with open(device, "r+b", buffering=0) as f:
            f.seek(3 << 20)
            f.write(data)
            os.fsync(f.fileno())
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            f.seek(3 << 20)
            if f.read(len(data)) != data:
                h.fail("what was read is not what was written")
    finally:
        h.run([h.PERILUNE, "detach", device])
    if h.block_size(device):
        h.fail(f"{device} is still there after detach")


h.need("tgtd", "tgtadm")
h.main(chap_decides_who_may_log_in, attach_works_without_records, file_system_survives_a_new_session)
