#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Several connections of one session on the wire (RFC 7143 4.2.2, 6.3.4, 11.14): bytes by hand, no code of ours."""
import contextlib
import socket
import struct

import harness as h

NAME = "iqn.2026-11.io.perilune:several"
READ_CAPACITY = b"\x25" + bytes(9)
TEST_UNIT_READY = bytes(6)


class Wire:
    """One connection, logged in: StatSN by itself, CmdSN given by the test."""

    def __init__(self, stack, server, cid, tsih=0, cmd_sn=1, keys=b"", name=NAME):
        host, port = server.portal.rsplit(":", 1)
        self.socket = stack.enter_context(socket.create_connection((host, int(port)), timeout=20))
        self.cid = cid
        text = f"InitiatorName={name}\0TargetName={server.iqn}\0SessionType=Normal\0".encode() + keys
        bhs = struct.pack(">BBBBB3s6sHIHHII16x", 0x43, 0x87, 0, 0, 0, len(text).to_bytes(3, "big"),
                          b"\x80\x12\x34\x56\x00\x00", tsih, 1, cid, 0, cmd_sn, 0)
        self.socket.sendall(bhs + text + b"\0" * (-len(text) % 4))
        header, self.keys = self.receive()
        if header[0] != 0x23:
            h.fail(f"not a Login Response: {header.hex()}")
        self.status = struct.unpack(">H", header[36:38])[0]
        self.tsih = struct.unpack(">H", header[14:16])[0]
        self.stat_sn = struct.unpack(">I", header[24:28])[0] + 1
        self.exp_cmd_sn, self.max_cmd_sn = struct.unpack(">II", header[28:36])

    def exactly(self, size):
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def receive(self):
        header = self.exactly(48)
        length = int.from_bytes(header[5:8], "big")
        return header, self.exactly((length + 3) // 4 * 4)[:length]

    def expect(self, opcode, itt):
        """The next PDU, which must be this one; its StatSN is the next of this connection."""
        header, data = self.receive()
        if header[0] != opcode or struct.unpack(">I", header[16:20])[0] != itt:
            h.fail(f"connection {self.cid}: expected {opcode:#x} for {itt}: {header.hex()}")
        if opcode != 0x31:
            stat_sn = struct.unpack(">I", header[24:28])[0]
            if stat_sn != self.stat_sn:
                h.fail(f"connection {self.cid}: StatSN {stat_sn}, expected {self.stat_sn}")
            self.stat_sn += 1
        self.exp_cmd_sn, self.max_cmd_sn = struct.unpack(">II", header[28:36])
        return header, data

    def command(self, itt, cmd_sn, cdb, read=0, write=0, data=b""):
        flags = 0x81 | (0x40 if read else 0) | (0x20 if write else 0)
        self.socket.sendall(struct.pack(">BBxxB3sQIIII16s", 0x01, flags, 0, len(data).to_bytes(3, "big"), 0, itt,
                                        read or write, cmd_sn, self.stat_sn, cdb.ljust(16, b"\0")) + data)

    def logout(self, itt, cmd_sn, reason, cid):
        self.socket.sendall(struct.pack(">BBxxxxxx8xIHxxII16x", 0x46, 0x80 | reason, itt, cid, cmd_sn, self.stat_sn))

    def ended(self):
        with contextlib.suppress(ConnectionResetError):
            while self.socket.recv(65536):
                pass


def lead(stack, server, cid=1, connections=4, **options):
    wire = Wire(stack, server, cid, keys=f"MaxConnections={connections}\0".encode(), **options)
    if wire.status != 0:
        h.fail(f"login failed: {wire.status:#06x}")
    return wire


def join(stack, server, leader, cid, cmd_sn, status=0, **options):
    wire = Wire(stack, server, cid, tsih=leader.tsih, cmd_sn=cmd_sn, **options)
    if wire.status != status:
        h.fail(f"joining as {cid}: status {wire.status:#06x}, expected {status:#06x}")
    return wire


def clear_attention(wire, cmd_sn):
    wire.command(900, cmd_sn, TEST_UNIT_READY)
    wire.expect(0x21, 900)
    return cmd_sn + 1


def the_number_is_negotiated(stack):
    server = stack.enter_context(h.serve("ram:16M", options=("--max-connections", "2")))
    first = lead(stack, server, connections=8)
    if b"MaxConnections=2\0" not in first.keys:
        h.fail(f"the limit does not hold: {first.keys}")
    join(stack, server, first, 2, 1)
    join(stack, server, first, 3, 1, status=0x0206)             # too many connections
    join(stack, server, first, 2, 1, status=0x0209 + 1, name=NAME + "-other")   # 020a: no such session of theirs
    with contextlib.ExitStack() as own:
        one = h.serve("ram:16M", options=("--max-connections", "1"))
        alone = lead(own, own.enter_context(one), connections=8)
        if b"MaxConnections=1\0" not in alone.keys:
            h.fail(f"the limit does not hold: {alone.keys}")


def commands_take_their_turn(stack):
    server = stack.enter_context(h.serve("ram:16M"))
    first = lead(stack, server)
    sn = clear_attention(first, 1)
    second = join(stack, server, first, 2, sn)
    if second.exp_cmd_sn != sn:
        h.fail(f"ExpCmdSN of the joining connection: {second.exp_cmd_sn}, expected {sn}")
    # The later command comes first, on the second connection, with its data; it may not run before the earlier one has.
    write = b"\x2a\x00" + struct.pack(">IBH", 0, 0, 1) + b"\0"
    read = b"\x28\x00" + struct.pack(">IBH", 0, 0, 1) + b"\0"
    second.command(21, sn + 1, write, write=512, data=b"later".ljust(512, b"."))
    second.socket.sendall(struct.pack(">BBxxI8xII4x20x", 0x40, 0x80, 0, 77, 0xffffffff))   # NOP-Out: it has been read
    second.expect(0x20, 77)
    first.command(11, sn, read, read=512)
    header, data = first.expect(0x25, 11)
    if data != bytes(512):
        h.fail(f"the later command ran first: {data[:16]}")
    second.expect(0x21, 21)
    first.command(12, sn + 2, read, read=512)
    header, data = first.expect(0x25, 12)
    if not data.startswith(b"later"):
        h.fail(f"the later command has not run: {data[:16]}")


def a_dropped_connection_leaves_the_session(stack):
    server = stack.enter_context(h.serve("ram:16M"))
    first = lead(stack, server)
    sn = clear_attention(first, 1)
    second = join(stack, server, first, 2, sn)
    write = b"\x2a\x00" + struct.pack(">IBH", 0, 0, 8) + b"\0"
    second.command(21, sn, write, write=4096)
    second.expect(0x31, 21)                                     # an R2T that is never answered
    second.socket.close()
    for turn in range(20):
        first.command(30 + turn, sn + 1 + turn, READ_CAPACITY, read=8)
        first.expect(0x25, 30 + turn)
    again = join(stack, server, first, 2, sn + 21)
    again.command(60, sn + 21, READ_CAPACITY, read=8)
    again.expect(0x25, 60)


def connections_log_out_one_by_one(stack):
    server = stack.enter_context(h.serve("ram:16M"))
    first = lead(stack, server)
    sn = clear_attention(first, 1)
    second, third = join(stack, server, first, 2, sn), join(stack, server, first, 3, sn)
    second.logout(40, sn, 1, 2)                                 # itself
    header, _ = second.expect(0x26, 40)
    second.ended()
    first.logout(41, sn, 1, 3)                                  # another
    third.ended()
    header, _ = first.expect(0x26, 41)
    if header[2] != 0:
        h.fail(f"logout of connection 3: response {header[2]}")
    first.logout(42, sn, 1, 3)
    header, _ = first.expect(0x26, 42)
    if header[2] != 1:
        h.fail(f"logout of a connection that is gone: response {header[2]}")
    first.command(43, sn, READ_CAPACITY, read=8)
    first.expect(0x25, 43)
    second = join(stack, server, first, 2, sn + 1)
    second.logout(44, sn + 1, 0, 0)                             # the session
    second.expect(0x26, 44)
    second.ended()
    first.ended()
    h.wait_for(lambda: server.errors().count("session_ended") == 1, "the end of the session")


def a_connection_is_reinstated(stack):
    server = stack.enter_context(h.serve("ram:16M"))
    first = lead(stack, server)
    sn = clear_attention(first, 1)
    second = join(stack, server, first, 2, sn)
    write = b"\x2a\x00" + struct.pack(">IBH", 0, 0, 8) + b"\0"
    second.command(21, sn, write, write=4096)
    second.expect(0x31, 21)
    new = join(stack, server, first, 2, sn + 1)                 # the old one still stands
    second.ended()
    new.command(22, sn + 1, READ_CAPACITY, read=8)
    new.expect(0x25, 22)
    # Also the only one of a session: the session stays.
    new.logout(23, sn + 2, 1, 1)
    new.expect(0x26, 23)
    newest = join(stack, server, first, 2, sn + 2)
    new.ended()
    newest.command(24, sn + 2, READ_CAPACITY, read=8)
    newest.expect(0x25, 24)
    if "session_ended" in server.errors():
        h.fail("the session ended")
    # A new session with the same name and ISID takes the place of the whole.
    fresh = lead(stack, server)
    newest.ended()
    if fresh.tsih == first.tsih:
        h.fail("the same TSIH again")
    join(stack, server, first, 5, 1, status=0x020a)


def the_session_ends_with_its_last_connection(stack):
    server = stack.enter_context(h.serve("ram:16M"))
    first = lead(stack, server)
    second = join(stack, server, first, 2, 1)
    first.socket.close()
    h.wait_for(lambda: second_answers(second), "an answer")
    second.socket.close()
    h.wait_for(lambda: server.errors().count("session_ended") == 1, "the end of the session")


def second_answers(wire):
    wire.socket.sendall(struct.pack(">BBxxI8xII4x20x", 0x40, 0x80, 0, 77, 0xffffffff))
    wire.expect(0x20, 77)
    return True


if __name__ == "__main__":
    h.main(the_number_is_negotiated, commands_take_their_turn, a_dropped_connection_leaves_the_session,
           connections_log_out_one_by_one, a_connection_is_reinstated, the_session_ends_with_its_last_connection)
