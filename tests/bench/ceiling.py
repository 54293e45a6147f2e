#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The minimal responder answers what was asked, on both engines, with and without digests and a disk behind it, and over a file; what
breaks its rules is cut off instead of measured."""
import json
import os
import pathlib
import socket
import struct
import subprocess
import threading
import time

import harness as h

CEILING = os.environ.get("CEILING", str(pathlib.Path(h.PERILUNE).parent / "ceiling"))
DISK = 16 << 20
MAGIC, MAGIC_WITH_DIGESTS = 0x6365696c, 0x6365696d


def serve(stack, *options):
    """The responder's port; it ends with the stack."""
    process = h.start([CEILING, "serve", *options], stdout=subprocess.PIPE, bufsize=0)

    def end():
        process.kill()
        process.wait()
        process.stdout.close()
    stack.callback(end)
    return int(h.read_line(process.stdout, time.monotonic() + 30, "ceiling serve").split()[1])


def ask(port, *options, ios=2000, check=True):
    done = h.run([CEILING, "ask", "--port", port, "--disk", DISK, "--ios", ios, *options], check=check)
    return json.loads(done.out) if done.code == 0 else done


def every_engine_answers_every_kind(stack):
    for engine in ("epoll", "uring"):
        for extra in ([], ["--spin"], ["--disk", DISK]):
            port = serve(stack, "--engine", engine, *extra)
            kinds = (("randread", 4096, 4), ("randwrite", 4096, 4), ("read", 262144, 1), ("write", 262144, 1))
            for rw, block, sessions, digests in [(*kind, flag) for kind in kinds for flag in ([], ["--digests"])]:
                got = ask(port, "--rw", rw, "--bs", block, "--sessions", sessions, "--depth", 32, *digests, ios=1000)
                if got["ios"] < 1000 or got["ios_all"] < got["ios"] or not 0 < got["lat_us"]["p50"] <= got["lat_us"]["p999"]:
                    h.fail(f"{engine} {extra} {rw} {digests}: {got}")


def a_probe_is_told_apart(stack):
    got = ask(serve(stack), "--sessions", 2, "--depth", 8, "--probe")
    if got["probe"]["ios"] == 0 or got["probe"]["p99"] <= 0:
        h.fail(str(got))


def a_distance_is_measured_between_two_processors_of_ours(stack):
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1 and float(h.run([CEILING, "distance", cores[0], cores[1]]).out) <= 0:
        h.fail("a word takes no time")
    for pair in ((cores[0], cores[0]), (cores[0], 1023)):
        done = h.run([CEILING, "distance", *pair], check=False)
        if done.code != 2 or "two processors" not in done.err:
            h.fail(f"{pair}: {done.code} {done.err}")


def logins_connect_anew(stack):
    got = ask(serve(stack), "--logins", "--sessions", 4, ios=200)
    if got["ios"] < 200:
        h.fail(str(got))


def request(in_bytes=0, out_bytes=0, offset=0, tag=7, magic=MAGIC):
    return struct.pack("=IIIIQ24x", magic, in_bytes, out_bytes, tag, offset)


def talk(port, sent, expected):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as s:
        s.sendall(sent)
        got = b""
        while len(got) < expected and (more := s.recv(65536)):
            got += more
        return got


def what_is_written_is_read_back(stack):
    for engine in ("epoll", "uring"):
        port = serve(stack, "--engine", engine, "--disk", DISK)
        data = bytes(range(256)) * 1024  # 256 KiB: received straight to its place
        small = b"\x5a" * 512 + b"\xa5" * 3584
        sent = (request(in_bytes=len(data), offset=1 << 20) + data + request(in_bytes=4096, offset=8192) + small +
                request(out_bytes=len(data), offset=1 << 20, tag=8) + request(out_bytes=4096, offset=8192, tag=9))
        got = talk(port, sent, 4 * 48 + len(data) + 4096)
        if got[96 + 12:96 + 16] != struct.pack("=I", 8) or got[144:144 + len(data)] != data or got[-4096:] != small:
            h.fail(f"{engine}: another answer came: {got[:200]!r}")


def a_file_is_served_past_the_page_cache(stack):
    path = h.temp_dir(stack) / "disk"
    path.write_bytes(os.urandom(DISK))
    port = serve(stack, "--file", path)
    data = os.urandom(256 << 10)  # received straight to its place; the block before it through the staging
    sent = request(in_bytes=4096, offset=8192) + data[:4096] + request(in_bytes=len(data), offset=1 << 20) + data
    if len(talk(port, sent, 96)) != 96:
        h.fail("a write was not answered")
    kept = path.read_bytes()
    if kept[8192:12288] != data[:4096] or kept[1 << 20:(1 << 20) + len(data)] != data:
        h.fail("what was written is not in the file")
    if talk(port, request(out_bytes=len(data), offset=1 << 20), 48 + len(data))[48:] != data:
        h.fail("other bytes were read")
    for rw, block, sessions, depth in (("randread", 4096, 4, 32), ("randwrite", 4096, 4, 32), ("read", 262144, 1, 8),
                                       ("write", 262144, 1, 8)):
        got = ask(port, "--rw", rw, "--bs", block, "--sessions", sessions, "--depth", depth, ios=1000)
        if got["ios"] < 1000:
            h.fail(f"{rw}: {got}")
    for name, sent in (("digests", request(out_bytes=512, magic=MAGIC_WITH_DIGESTS)), ("nothing", request()),
                       ("too long", request(out_bytes=(256 << 10) + 512)),
                       ("beyond the file", request(out_bytes=4096, offset=DISK - 512))):
        if talk(port, sent, 1) != b"":
            h.fail(f"{name}: answered")


def broken_rules_end_the_connection(stack):
    port = serve(stack, "--disk", DISK)
    for name, sent in (("magic", request(magic=1)), ("too long", request(out_bytes=(4 << 20) + 1)),
                       ("beyond the disk", request(out_bytes=4096, offset=DISK - 4095)),
                       ("wrong digest", request(out_bytes=512, magic=MAGIC_WITH_DIGESTS) + b"\0\0\0\0")):
        if talk(port, sent, 1) != b"":
            h.fail(f"{name}: answered")


def a_wrong_answer_is_not_measured(stack):
    """A responder that echoes: its answers have the wrong length for a read and the wrong tags from the second on."""
    listener = socket.create_server(("127.0.0.1", 0))
    stack.callback(listener.close)

    def answer():
        end = listener.accept()[0]
        with end:
            while end.recv(65536):
                end.sendall(request(tag=77))
    threading.Thread(target=answer, daemon=True).start()
    done = ask(listener.getsockname()[1], check=False)
    if not isinstance(done, h.Done) or done.code != 1:
        h.fail(f"measured all the same: {done}")


h.main(every_engine_answers_every_kind, a_probe_is_told_apart, a_distance_is_measured_between_two_processors_of_ours,
       logins_connect_anew, what_is_written_is_read_back, a_file_is_served_past_the_page_cache, broken_rules_end_the_connection,
       a_wrong_answer_is_not_measured)
