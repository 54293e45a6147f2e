#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""QEMU's block layer against our target: qemu-img convert to and from iscsi://, qemu-io verify patterns, without
authentication, with CHAP, and with a header digest. (QEMU's iscsi driver cannot do mutual CHAP.)"""
import filecmp
import os
import re

from served import Served, h

SIZE = 64 << 20


def disk(folder):
    path = folder / "lun"
    with open(path, "wb") as f:
        f.truncate(SIZE)
    return path


def options(served, digest):
    """--image-opts for the logical unit."""
    words = ["driver=raw", "file.driver=iscsi", "file.transport=tcp", f"file.portal={served.host}:{served.relay.port}",
             f"file.target={served.iqn}", f"file.lun={served.lun}", f"file.header-digest={'crc32c' if digest else 'none'}"]
    if served.auth != "none":
        words += [f"file.user={h.USER}", "file.password-secret=chap"]
    return ",".join(words)


def objects(served):
    return ["--object", f"secret,id=chap,data={h.SECRET}"] if served.auth != "none" else []


def every_login(stack, check):
    for auth in ("none", "chap"):
        for digest in (False, True):
            folder = h.temp_dir(stack)
            served = Served(stack, disk(folder), auth)
            check(served, folder, digest)
            served.check_wire(digest)


def convert_by_url_there_and_back(stack):
    source = h.pattern_file(h.temp_dir(stack) / "source", SIZE)
    for auth in ("none", "chap"):
        folder = h.temp_dir(stack)
        served = Served(stack, disk(folder), auth)
        url, back = served.url(), folder / "back"
        h.run(["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", source, url], timeout=120)
        h.run(["qemu-img", "convert", "-f", "raw", "-O", "raw", url, back], timeout=120)
        if not filecmp.cmp(source, back, shallow=False):
            h.fail(f"what came back over {url} differs")
        if not filecmp.cmp(source, folder / "lun", shallow=False):
            h.fail("the backing file differs from what was written")
        served.check_wire()


def convert_qcow2_onto_the_unit(stack):
    def check(served, folder, digest):
        source = h.pattern_file(folder / "source", SIZE, seed=7)
        h.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", source, folder / "source.qcow2"], timeout=120)
        h.run(["qemu-img", "convert", *objects(served), "-n", "--target-image-opts", "-f", "qcow2",
               folder / "source.qcow2", options(served, digest)], timeout=120)
        h.run(["qemu-img", "compare", *objects(served), "--image-opts", f"driver=file,filename={source}",
               options(served, digest)], timeout=120)

    every_login(stack, check)


def qemu_io(served, digest, *commands):
    words = ["qemu-io", *objects(served), "-t", "none", "--image-opts", options(served, digest)]
    for command in commands:
        words += ["-c", command]
    done = h.run(words, timeout=120, check=False)
    if done.code != 0 or re.search(r"failed|[Ee]rror", done.out + done.err):
        h.fail(str(done))


def io_patterns_verify(stack):
    def check(served, folder, digest):
        qemu_io(served, digest,
                "write -P 0xa5 0 1M", "write -P 0x5a 1M 4k", "write -f -P 0x11 1028k 512", "flush",
                "writev -P 0x33 3M 4k 8k 512 64k", "aio_write -P 0x77 8M 2M", "aio_write -P 0x78 10M 2M", "aio_flush",
                "write -P 0x99 63M 1M", "write -P 0xee 16M 4M", "write -z 17M 1M", "write -z -u 18M 1M", "discard 20M 1M",
                "read -P 0xa5 0 1M", "read -P 0x5a 1M 4k")
        qemu_io(served, digest,       # a session of its own, so that nothing comes out of the writer's memory
                "read -P 0xa5 0 1M", "read -P 0x5a 1M 4k", "read -P 0x11 1028k 512", "readv -P 0x33 3M 4k 8k 512 64k",
                "aio_read -P 0x77 8M 2M", "aio_read -P 0x78 10M 2M", "aio_flush", "read -P 0x99 63M 1M",
                "read -P 0xee 16M 1M", "read -P 0 17M 2M", "read -P 0xee 19M 1M", "read -P 0 40M 1M")

    every_login(stack, check)


def a_wrong_password_is_refused(stack):
    served = Served(stack, disk(h.temp_dir(stack)), "chap")
    done = h.run(["qemu-img", "info", served.url(secret="not-the-password")], check=False)
    if done.code == 0 or "Failed to connect to LUN" not in done.err + done.out:
        h.fail(str(done))


h.need("qemu-img", "qemu-io")
if "iscsi" not in h.run(["qemu-img", "--help"]).out:
    h.skip("this QEMU has no iscsi driver (package qemu-block-extra)")
os.environ.pop("LIBISCSI_CHAP_USERNAME", None)
h.main(convert_by_url_there_and_back, convert_qcow2_onto_the_unit, io_patterns_verify, a_wrong_password_is_refused)
