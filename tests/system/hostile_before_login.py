#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a stranger can send before it has logged in: limited in size, time and number, answered or dropped, and never
the end of anybody else's session."""
import contextlib
import pathlib
import random
import socket
import struct

import harness as h

HALF_OPEN_MAX = 256   # limits::max_half_open_logins


def login_pdu(text=b"", opcode=0x43, flags=0x87, length=None, itt=1):
    """A Login Request (RFC 7143 11.12): C, CSG, NSG in `flags`; `length` lies about the data segment."""
    size = len(text) if length is None else length
    bhs = struct.pack(">BBBBB3s6sHIHHII16x", opcode, flags, 0, 0, 0, size.to_bytes(3, "big"), b"\x80\x12\x34\x56\x78\x9a"[:6],
                      0, itt, 0, 0, 1, 0)
    return bhs + text + b"\0" * (-len(text) % 4)


def keys(**pairs):
    return b"".join(f"{k}={v}".encode() + b"\0" for k, v in pairs.items())


def connect(server):
    host, port = server.portal.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=20)


def answer(connection):
    """Everything the server says until it closes (or 20 s pass, which fails the test)."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            data += part
    return data


def still_serves(server):
    h.run([h.PERILUNE, "readcap", server.urls[0]], timeout=30)


def resident_kib(server):
    status = pathlib.Path(f"/proc/{server.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def bad_first_pdus_are_refused(stack):
    server = stack.enter_context(h.serve("ram:16M"))
    normal = keys(InitiatorName="iqn.2026-11.io.perilune:x", TargetName=server.iqn, SessionType="Normal")
    cases = {
        "not a login": login_pdu(opcode=0x01),
        "reserved opcode": login_pdu(opcode=0x1f),
        "16 MiB announced": login_pdu(length=0xffffff),
        "8 KiB and one announced": login_pdu(length=8193),
        "reserved stage": login_pdu(normal, flags=0x8b),
        "backwards": login_pdu(normal, flags=0x84),
        "no name": login_pdu(keys(TargetName=server.iqn)),
        "no equals sign": login_pdu(b"InitiatorName\0"),
        "a key of 300 bytes": login_pdu(b"K" * 300 + b"=1\0"),
        "only NULs": login_pdu(b"\0" * 512),
        "unknown target": login_pdu(keys(InitiatorName="iqn.2026-11.io.perilune:x", TargetName="iqn.2026-11.io.perilune:none")),
    }
    for name, pdu in cases.items():
        with connect(server) as connection:
            connection.sendall(pdu)
            connection.shutdown(socket.SHUT_WR)
            said = answer(connection)
            if said and (said[0] != 0x23 or len(said) < 48):
                h.fail(f"{name}: the answer is no Login Response: {said[:48].hex()}")
            if said and said[36] == 0 and said[1] & 0x83 == 0x83:
                h.fail(f"{name}: logged in")
    still_serves(server)


def endless_text_is_cut_off(stack):
    server = stack.enter_context(h.serve("ram:16M"))
    with connect(server) as connection:
        sent = 0
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for number in range(1000):
                connection.sendall(login_pdu(b"X-%04d=" % number + b"y" * 8000, flags=0x40))
                sent += 1
                reply = connection.recv(4096)
                if not reply or reply[36] != 0:
                    break
        if sent > 64:
            h.fail(f"{sent} continued login PDUs were taken")
    still_serves(server)


def garbage_harms_nobody(stack):
    server = stack.enter_context(h.serve("ram:16M"))
    noise = random.Random(7143)
    still_serves(server)
    before = resident_kib(server)
    for _ in range(300):
        with connect(server) as connection, contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(noise.randbytes(noise.randrange(1, 2000)))
    still_serves(server)
    grown = resident_kib(server) - before
    if grown > 16384:
        h.fail(f"the server has grown by {grown} KiB")


def half_open_connections_are_bounded(stack):
    server = stack.enter_context(h.serve("ram:16M"))
    session = stack.enter_context(connect(server))   # somebody who is logged in already
    session.sendall(login_pdu(keys(InitiatorName="iqn.2026-11.io.perilune:x", TargetName=server.iqn, SessionType="Normal")))
    reply = session.recv(4096)
    if reply[36] != 0 or reply[1] & 0x83 != 0x83:
        h.fail(f"the ordinary login failed: {reply[:48].hex()}")
    silent = [stack.enter_context(connect(server)) for _ in range(HALF_OPEN_MAX)]
    h.run([h.PERILUNE, "readcap", server.urls[0]], timeout=30)   # the oldest gave way
    if answer(silent[0]):
        h.fail("a silent connection was answered")
    silent[-1].setblocking(False)
    with contextlib.suppress(BlockingIOError):
        h.fail(f"one of the newest was closed: {silent[-1].recv(1)}")
    session.sendall(struct.pack(">BBxxI8xII4x20x", 0x40, 0x80, 0, 77, 0xffffffff))   # NOP-Out, immediate
    echo = session.recv(4096)
    if echo[:1] != b"\x20":
        h.fail(f"the session that was there does not answer: {echo[:48].hex()}")


def silence_ends_with_the_login_timeout(stack):
    server = stack.enter_context(h.serve("ram:16M", options=("--login-timeout", "1")))
    with connect(server) as connection:
        if answer(connection):
            h.fail("a silent connection was answered")
    with connect(server) as connection:   # one byte a time does not help
        pdu = login_pdu(keys(InitiatorName="iqn.2026-11.io.perilune:x"))
        connection.sendall(pdu[:20])
        if answer(connection):
            h.fail("half a header was answered")
    h.wait_for(lambda: server.errors().count("login timeout") == 2, "two log lines")
    still_serves(server)


if __name__ == "__main__":
    h.main(bad_first_pdus_are_refused, endless_text_is_cut_off, garbage_harms_nobody, half_open_connections_are_bounded,
           silence_ends_with_the_login_timeout)
