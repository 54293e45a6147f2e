#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Where io_uring is forbidden (a seccomp filter, as container runtimes set it) everything works on epoll: the server says so
once, libiscsi's tools and our own read from it, attach and iscsid give block devices. What was asked for by name is not
replaced."""
import os
import sys

import harness as h

FORBIDDEN = (sys.executable, h.ROOT / "tests/without_io_uring.py")
FALLBACK = "Operation not permitted; using epoll instead"
SIZE = 64 << 20


def disk(stack):
    path = h.temp_dir(stack) / "disk"
    with open(path, "wb") as f:
        f.truncate(SIZE)
    return path


def verified(url, prefix, *options):
    done = h.run([*prefix, h.PERILUNE, "bench", url, "--verify", "--rw", "randwrite", "--bs", "16k", "--depth", "8",
                  "--seconds", "1", *options])
    return done.err


def serve_falls_back_and_says_so_once(stack):
    with h.serve(disk(stack), "ram:64M", prefix=FORBIDDEN) as server:
        for url in server.urls:
            h.run(["iscsi-inq", url])
            if str(SIZE // 512 - 1) not in h.run(["iscsi-readcapacity16", url]).out:
                h.fail(f"{url} has not the size of the disk")
            verified(url, ())                               # our initiator, on a ring
            if FALLBACK not in verified(url, FORBIDDEN):     # and without one
                h.fail("bench does not say that it fell back")
            verified(url, ("env", "PERILUNE_RUNTIME=epoll"), "--header-digest", "crc32c", "--data-digest", "crc32c")
        if h.run(["iscsi-ls", "-s", h.libiscsi_url(server.host, server.port)]).out.count("Lun:") != 2:
            h.fail("iscsi-ls does not show both units")
        h.run([*FORBIDDEN, h.PERILUNE, "ls", h.libiscsi_url(server.host, server.port)])
        if server.errors().count(FALLBACK) != 1:
            h.fail(f"the server does not say once that it fell back:\n{server.errors()}")


def what_was_asked_for_is_not_replaced(stack):
    for options, env in ((["--runtime", "uring"], {}), ([], {"PERILUNE_RUNTIME": "uring"})):
        done = h.run([*FORBIDDEN, h.PERILUNE, "serve", "--portal", "127.0.0.1:0", *options, "ram:1M"], env=env, check=False)
        if done.code != 1 or "io_uring cannot be used here" not in done.err:
            h.fail(str(done))
    done = h.run([h.PERILUNE, "serve", "--portal", "127.0.0.1:0", "ram:1M"], env={"PERILUNE_RUNTIME": "kqueue"}, check=False)
    if done.code != 2 or "PERILUNE_RUNTIME" not in done.err:
        h.fail(str(done))
    with h.serve("ram:1M", options=["--runtime", "epoll"]) as server:
        if "epoll" in server.errors():
            h.fail(f"what was asked for needs no line:\n{server.errors()}")


def keeps_what_is_written(device):
    pattern = os.urandom(1 << 20)
    with open(device, "r+b", buffering=0) as disk_file:
        disk_file.write(pattern)
        os.fsync(disk_file.fileno())
        os.posix_fadvise(disk_file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        disk_file.seek(0)
        if disk_file.read(len(pattern)) != pattern:
            h.fail(f"{device} does not give back what was written")


def attach_and_iscsid_work_without_rings(stack):
    h.need_root_and_devices()
    server = stack.enter_context(h.serve(disk(stack), prefix=FORBIDDEN))
    initiator = h.Initiator(stack, prefix=FORBIDDEN)
    device = initiator.perilune("attach", server.urls[0]).out.strip()
    keeps_what_is_written(device)
    initiator.perilune("detach", device)
    node = ("-m", "node", "-T", server.iqn, "-p", server.portal)
    initiator.iscsiadm("-m", "discovery", "-t", "sendtargets", "-p", server.portal)
    initiator.iscsiadm(*node, "--login")
    keeps_what_is_written(initiator.wait_device(server.iqn))
    initiator.iscsiadm(*node, "--logout")
    initiator.close()


h.need("iscsi-ls", "iscsi-inq", "iscsi-readcapacity16")
if h.run([*FORBIDDEN, "true"], check=False).code == h.SKIPPED:
    h.skip("this kernel has no seccomp filters")
h.main(serve_falls_back_and_says_so_once, what_was_asked_for_is_not_replaced, attach_and_iscsid_work_without_rings)
