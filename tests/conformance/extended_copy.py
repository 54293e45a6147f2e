#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""EXTENDED COPY between two logical units on the wire, by PDUs and parameter lists written by hand: memory to file and
back, several megabytes in segments, what RECEIVE COPY STATUS tells of it, and that no designator reaches a unit of
another target."""
import contextlib
import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness as h  # noqa: E402
from harness import fail  # noqa: E402

BLOCK, PIECE = 512, 8192                     # PIECE: of immediate data
GOOD, CHECK_CONDITION, UNIT_ATTENTION, COPY_ABORTED = 0x00, 0x02, 0x06, 0x0A
NOT_REACHABLE = (COPY_ABORTED, 0x0D, 0x02)


class Session:
    """One connection of one session; one command at a time."""

    def __init__(self, stack, server, name="iqn.2026-11.io.perilune:copier"):
        import socket
        self.socket = stack.enter_context(contextlib.closing(socket.create_connection((server.host, server.port), timeout=30)))
        self.command_sn, self.expected_stat_sn = 1, 0
        text = b"".join(f"{key}={value}".encode() + b"\0" for key, value in {
            "InitiatorName": name, "TargetName": server.iqn, "SessionType": "Normal"}.items())
        # Operational negotiation at once, on to full feature phase: every key keeps its default.
        self.send(struct.pack(">BBBBB3s6sHIHHII16x", 0x43, 0x87, 0, 0, 0, len(text).to_bytes(3, "big"),
                              b"\x80\x12\x34\x56\x78\x9a", 0, 0, 0, 0, 1, 0), text)
        header, _ = self.receive()
        if header[0] != 0x23 or header[36:38] != b"\0\0" or header[1] & 0x83 != 0x83:
            fail(f"the login was answered {header.hex()}")

    def send(self, header, data=b""):
        self.socket.sendall(header + data + b"\0" * (-len(data) % 4))

    def exactly(self, count):
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                fail("the server closed the connection")
            data += part
        return data

    def receive(self):
        header = self.exactly(48)
        length = int.from_bytes(header[5:8], "big")
        data = self.exactly(length + -length % 4)[:length]
        self.expected_stat_sn = struct.unpack(">I", header[24:28])[0] + 1
        return header, data

    def command(self, lun, cdb, out=b"", room=0):
        """(status, data-in, (sense key, ASC, ASCQ)) of one SCSI command; its data-out goes with it."""
        flags = 0x80 | (0x20 if out else 0x40 if room else 0) | 1
        self.send(struct.pack(">BBHB3sQIIII16s", 0x01, flags, 0, 0, len(out).to_bytes(3, "big"), lun << 48, self.command_sn,
                              len(out) or room, self.command_sn, self.expected_stat_sn, cdb.ljust(16, b"\0")), out)
        self.command_sn += 1
        data = b""
        while True:
            header, part = self.receive()
            if header[0] == 0x25:
                data += part
                if header[1] & 0x01:
                    return header[3], data, None
            elif header[0] == 0x21:
                sense = part[2:]
                return header[3], data, (sense[2] & 0x0F, sense[12], sense[13]) if sense else None

    def good(self, lun, cdb, out=b"", room=0):
        status, data, sense = self.command(lun, cdb, out, room)
        if status != GOOD:
            fail(f"LUN {lun}, {cdb.hex()}: status {status:#x}, sense {sense}")
        return data

    def settle(self, lun):
        while (answer := self.command(lun, bytes(6)))[0] != GOOD:
            if answer[2][0] != UNIT_ATTENTION:
                fail(f"TEST UNIT READY: {answer}")

    def write(self, lun, lba, data):
        for at in range(0, len(data), PIECE):
            part = data[at:at + PIECE]
            self.good(lun, struct.pack(">BBIBHB", 0x2A, 0, lba + at // BLOCK, 0, len(part) // BLOCK, 0), part)

    def read(self, lun, lba, blocks):
        return b"".join(self.good(lun, struct.pack(">BBIBHB", 0x28, 0, lba + at, 0, min(64, blocks - at), 0), room=64 * BLOCK)
                        [:min(64, blocks - at) * BLOCK] for at in range(0, blocks, 64))

    def naa(self, lun):
        page, at = self.good(lun, bytes([0x12, 1, 0x83, 1, 0, 0]), room=256), 4
        while at < len(page):
            length = page[at + 3]
            if page[at + 1] & 0x3F == 0x03:
                return page[at + 4:at + 4 + length]
            at += 4 + length
        return fail(f"no NAA designator in {page.hex()}")


def cscd(naa):
    return bytes([0xE4, 0, 0, 0, 1, 3, 0, len(naa)]) + naa.ljust(20, b"\0") + bytes([0, 0, 2, 0])


def segment(source, source_lba, destination, destination_lba, blocks):
    return struct.pack(">BBHHHHHQQ", 0x02, 0, 24, source, destination, 0, blocks, source_lba, destination_lba)


def lid1(identifier, cscds, segments):
    a, b = b"".join(cscds), b"".join(segments)
    return struct.pack(">BBHIII", identifier, 0, len(a), 0, len(b), 0) + a + b


def lid4(identifier, cscds, segments):
    a, b = b"".join(cscds), b"".join(segments)
    return struct.pack(">BBH11xBB3xI18xHHH", 1, 0, 0x20, 0, 0xFF, identifier, len(a), len(b), 0) + a + b


def copy_cdb(service_action, parameters):
    return struct.pack(">BB8xIBB", 0x83, service_action, len(parameters), 0, 0)


def between_two_units(stack, folder):
    file = folder / "disk"
    with open(file, "wb") as disk:
        disk.truncate(64 << 20)
    server = stack.enter_context(h.serve("ram:64M", file))
    session = Session(stack, server)
    for lun in (0, 1):
        session.settle(lun)
    units = [cscd(session.naa(0)), cscd(session.naa(1))]
    blocks = 1200
    pattern = b"".join(struct.pack(">Q", i) * (BLOCK // 8) for i in range(1, blocks + 1))
    session.write(0, 10, pattern)

    there = lid1(7, units, [segment(0, 10, 1, 5000, blocks // 2), segment(0, 10 + blocks // 2, 1, 5000 + blocks // 2, blocks // 2)])
    session.good(0, copy_cdb(0, there), there)
    if session.read(1, 5000, blocks) != pattern:
        fail("EXTENDED COPY(LID1) did not bring the blocks to the other unit")
    told = session.good(0, bytes([0x84, 0, 7]) + bytes(7) + struct.pack(">I", 12) + b"\0\0", room=12)
    if told != struct.pack(">IBHBI", 8, 1, 2, 0, blocks * BLOCK):
        fail(f"RECEIVE COPY STATUS(LID1) tells {told.hex()}")
    if pathlib.Path(file).read_bytes()[5000 * BLOCK:(5000 + blocks) * BLOCK] != pattern:
        fail("the file does not hold what LUN 1 reads")

    back = lid4(0xCAFE0001, units, [segment(1, 5000, 0, 60000, blocks)])
    session.good(1, copy_cdb(1, back), back)
    if session.read(0, 60000, blocks) != pattern:
        fail("EXTENDED COPY(LID4) did not bring the blocks back")
    return units[0]


def designators_of_other_targets_reach_nothing(stack, foreign):
    server = stack.enter_context(h.serve("ram:16M"))
    session = Session(stack, server)
    session.settle(0)
    own = cscd(session.naa(0))
    for units in ([own, foreign], [foreign, own]):
        parameters = lid1(1, units, [segment(0, 0, 1, 0, 8)])
        status, _, sense = session.command(0, copy_cdb(0, parameters), parameters)
        if status != CHECK_CONDITION or sense != NOT_REACHABLE:
            fail(f"a unit of another target: status {status:#x}, sense {sense}")


def main():
    with contextlib.ExitStack() as stack:
        foreign = between_two_units(stack, h.temp_dir(stack))
        designators_of_other_targets_reach_nothing(stack, foreign)
    h.say("extended copy between units: as written by hand")


if __name__ == "__main__":
    main()
