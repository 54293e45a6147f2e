# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy that knows iSCSI's framing (RFC 7143 11.2): it counts PDUs, and on request stalls, refuses, cuts, flips
bits without mending the digest (damage on the wire), or changes PDUs and mends the digest (a target that lies; what
`./dev vm mutants` uses). Runs beside the host's side of a scenario, or inside a guest. Standard library only.

Threads: one accepts, two per connection copy. Rules are called on the copying threads, one PDU at a time."""
import collections
import contextlib
import itertools
import random
import re
import socket
import struct
import threading

IN, OUT = "in", "out"            # towards the initiator, towards the target
SCSI_COMMAND, DATA_OUT, LOGIN_RESPONSE, SCSI_RESPONSE, DATA_IN = 0x01, 0x05, 0x23, 0x21, 0x25

_TABLE = []
for _n in range(256):
    for _ in range(8):
        _n = (_n >> 1) ^ (0x82F63B78 if _n & 1 else 0)
    _TABLE.append(_n)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return struct.pack("<I", crc ^ 0xFFFFFFFF)


class Closed(Exception):
    pass


class Pdu:
    """header: BHS and AHS; data without padding; both may be changed, within their lengths or not."""

    def __init__(self, header, data):
        self.header, self.data = bytearray(header), bytearray(data)

    @property
    def opcode(self):
        return self.header[0] & 0x3F

    @property
    def tag(self):
        return bytes(self.header[16:20])


class Wire:
    """One connection: whether its digests are on, and the CDB of every command whose end was not seen yet."""

    def __init__(self):
        self.header_digest = self.data_digest = self.full_feature = False
        self.login_text = b""
        self.commands = {}
        self.copying = 2

    def see(self, direction, pdu):
        if direction == OUT and pdu.opcode == SCSI_COMMAND:
            self.commands[pdu.tag] = bytes(pdu.header[32:48])
        if direction == IN and pdu.opcode == LOGIN_RESPONSE and not self.full_feature:
            self.login_text += bytes(pdu.data)
            if pdu.header[1] & 0x83 == 0x83 and pdu.header[36] == 0:   # T=1, NSG full feature phase, success
                self.full_feature = True
                self.header_digest = b"HeaderDigest=CRC32C" in self.login_text
                self.data_digest = b"DataDigest=CRC32C" in self.login_text

    def cdb(self, pdu):
        return self.commands.get(pdu.tag, bytes(16))


class Proxy:
    """Listens on (host, any port) and connects each client to upstream. mode: "pass", "stall" (nothing moves, nothing
    closes: a black hole) or "refuse" (connections are reset)."""

    def __init__(self, host, upstream, rules=(), source=None):
        """source: the address that connections to upstream come from."""
        self.upstream, self.mode, self.rules, self.source = upstream, "pass", list(rules), source
        self.login_text = b""
        self.counts = collections.Counter()
        self._flips = []
        self._sockets, self._lock, self._moving = set(), threading.Lock(), threading.Condition()
        self._listener = socket.create_server((host, 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.mode = "refuse"
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def set_mode(self, mode):
        with self._moving:
            self.mode = mode
            self._moving.notify_all()
        if mode == "refuse":
            self.cut()

    def cut(self):
        """Resets every connection."""
        with self._lock:
            sockets = list(self._sockets)
        for s in sockets:
            with contextlib.suppress(OSError):
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                s.shutdown(socket.SHUT_RDWR)
        with self._moving:
            self._moving.notify_all()

    def flip(self, direction, part, count, skip=0):
        """Damages the next `count` PDUs of that direction that have such a part ("header" or "data")."""
        self._flips.append({"direction": direction, "part": part, "count": count, "skip": skip})

    # --- copying ---

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            refused = self.mode == "refuse"
            self.counts["connections"] += 1   # after its fate is settled: who waits for the count may change the mode then
            if refused:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
                continue
            try:
                server = socket.create_connection(self.upstream, 10, (self.source, 0) if self.source else None)
                server.settimeout(None)
            except OSError:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
                continue
            wire = Wire()
            with self._lock:
                self._sockets |= {client, server}
            for source, sink, direction in ((client, server, OUT), (server, client, IN)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._copy, args=(source, sink, direction, wire), daemon=True).start()

    def _copy(self, source, sink, direction, wire):
        try:
            while True:
                sink.sendall(self._one(source, direction, wire))
        except (OSError, Closed):
            pass
        finally:
            for s in (source, sink):
                with contextlib.suppress(OSError):
                    s.shutdown(socket.SHUT_RDWR)
            with self._lock:
                wire.copying -= 1
                if wire.copying == 0:   # the other thread may still be in a call on both
                    self._sockets -= {source, sink}
                    source.close()
                    sink.close()

    def _take(self, source, length):
        taken = bytearray()
        while len(taken) < length:
            piece = source.recv(length - len(taken))
            if not piece:
                raise Closed
            taken += piece
        return taken

    def _one(self, source, direction, wire):
        """Receives one PDU and returns the bytes to send for it."""
        header = self._take(source, 48)
        header += self._take(source, header[4] * 4)
        # The digest state may change with the PDU that the other thread just saw, so it is read after the header came.
        header_digest, data_digest = wire.header_digest, wire.data_digest
        sent_header_digest = self._take(source, 4) if header_digest else b""
        length = int.from_bytes(header[5:8], "big")
        data = self._take(source, length + -length % 4)
        sent_data_digest = self._take(source, 4) if data_digest and length else b""
        with self._moving:
            self._moving.wait_for(lambda: self.mode != "stall")
        pdu = Pdu(header, data[:length])
        self.counts[f"{direction} {pdu.opcode:#04x}"] += 1
        wire.see(direction, pdu)
        if direction == IN and pdu.opcode == LOGIN_RESPONSE:
            self.login_text += pdu.data
        if changed := any([rule(direction, pdu, wire) for rule in self.rules if wire.full_feature or rule.in_login]):
            self.counts["changed"] += 1
        if direction == IN and pdu.opcode in (SCSI_RESPONSE, DATA_IN) and (pdu.opcode == SCSI_RESPONSE or pdu.header[1] & 1):
            wire.commands.pop(pdu.tag, None)
        if changed:
            padded = pdu.data + bytes(-len(pdu.data) % 4)
            pdu.header[5:8] = len(pdu.data).to_bytes(3, "big")
            return bytes(pdu.header + (crc32c(pdu.header) if header_digest else b"") + padded +
                         (crc32c(padded) if data_digest and pdu.data else b""))
        self._damage(direction, wire, header, data)
        return bytes(header + sent_header_digest + data + sent_data_digest)

    def _damage(self, direction, wire, header, data):
        for order in self._flips:
            if order["direction"] != direction or not wire.full_feature or (order["part"] == "data" and len(data) < 512):
                continue
            if order["skip"] > 0:
                order["skip"] -= 1
                continue
            if order["count"] > 0:
                order["count"] -= 1
                self.counts["flipped"] += 1
                victim, low, high = (data, 0, len(data)) if order["part"] == "data" else (header, 16, 40)
                victim[random.randrange(low, high)] ^= 1 << random.randrange(8)
                return


# --- lies: rules for the mutants -------------------------------------------------------------------------------------
# A rule is called with (direction, pdu, wire), changes the PDU and returns whether it did.

READS, WRITES = (0x08, 0x28, 0x88, 0xA8), (0x0A, 0x2A, 0x8A, 0xAA, 0x2E, 0x8E)


def _rule(function):
    function.in_login = False
    return function


def _large_every(n):
    """Every nth large payload: small ones are metadata that something else may check first."""
    count = itertools.count(1)
    return lambda data: len(data) >= 4096 and next(count) % n == 0


def alter_reads():
    """One byte in some large reads is not what the disk has."""
    chosen = _large_every(5)

    @_rule
    def rule(direction, pdu, wire):
        if direction == IN and pdu.opcode == DATA_IN and wire.cdb(pdu)[0] in READS and chosen(pdu.data):
            pdu.data[len(pdu.data) // 2 + 5] ^= 0x55
            return True
        return False
    return rule


def alter_writes():
    """One byte in some large writes is not what the initiator sent."""
    chosen = _large_every(5)

    @_rule
    def rule(direction, pdu, wire):
        if direction == OUT and pdu.opcode in (SCSI_COMMAND, DATA_OUT) and wire.cdb(pdu)[0] in WRITES and chosen(pdu.data):
            pdu.data[len(pdu.data) // 2 + 5] ^= 0x55
            return True
        return False
    return rule


def wrong_residual():
    """Reads and writes that moved all of their data claim that 16 MiB of them are missing. (Of less than was asked for Linux asks
    for the rest again, and of a single block for ever.)"""
    @_rule
    def rule(direction, pdu, wire):
        final = pdu.opcode == SCSI_RESPONSE or (pdu.opcode == DATA_IN and pdu.header[1] & 1)
        if direction == IN and final and wire.cdb(pdu)[0] in READS + WRITES and not pdu.header[1] & 0x06:
            pdu.header[1] |= 0x02
            pdu.header[44:48] = (16 << 20).to_bytes(4, "big")
            return True
        return False
    return rule


def _good_instead(matches):
    @_rule
    def rule(direction, pdu, wire):
        if direction == IN and pdu.opcode == SCSI_RESPONSE and pdu.header[3] == 0x02 and matches(pdu.data[2:], wire.cdb(pdu)):
            pdu.header[3] = 0
            pdu.header[1] &= ~0x06
            pdu.header[44:48] = bytes(4)
            pdu.data.clear()
            return True
        return False
    return rule


def _sense_key(sense):
    if len(sense) < 3:
        return None
    return sense[1] & 0x0F if sense[0] & 0x7F in (0x72, 0x73) else sense[2] & 0x0F


def lost_unit_attention():
    """A unit attention becomes GOOD: the initiator never hears of what happened."""
    return _good_instead(lambda sense, cdb: _sense_key(sense) == 6)


def lost_error():
    """ILLEGAL REQUEST and MISCOMPARE become GOOD: what was refused seems done."""
    return _good_instead(lambda sense, cdb: _sense_key(sense) in (5, 14))


def lost_conflict():
    """A RESERVATION CONFLICT becomes GOOD: who is fenced does not know it."""
    @_rule
    def rule(direction, pdu, wire):
        if direction == IN and pdu.opcode == SCSI_RESPONSE and pdu.header[3] == 0x18:
            pdu.header[3] = 0
            pdu.header[1] &= ~0x06
            pdu.header[44:48] = bytes(4)
            return True
        return False
    return rule


def no_write_cache():
    """The caching mode page says that there is no volatile cache (SBC-3 6.4.5: WCE is bit 2 of byte 2), so no flush comes."""
    @_rule
    def rule(direction, pdu, wire):
        if direction != IN or pdu.opcode != DATA_IN or wire.cdb(pdu)[0] not in (0x1A, 0x5A):
            return False
        at = bytes(pdu.data).find(b"\x08\x12")
        if at < 0 or at + 2 >= len(pdu.data):
            return False
        pdu.data[at + 2] &= ~0x04
        return True
    return rule


def short_capacity():
    """READ CAPACITY says one block less than there is."""
    @_rule
    def rule(direction, pdu, wire):
        if direction != IN or pdu.opcode != DATA_IN:
            return False
        width = {0x25: 4, 0x9E: 8}.get(wire.cdb(pdu)[0])
        if width is None or len(pdu.data) < width or (width == 8 and wire.cdb(pdu)[1] & 0x1F != 0x10):
            return False
        pdu.data[:width] = (int.from_bytes(pdu.data[:width], "big") - 1).to_bytes(width, "big")
        return True
    return rule


def unnoticed_medium():
    """Neither a unit attention nor an event of the media class (MMC-6 6.6.2.5) tells of another disc."""
    attention = lost_unit_attention()

    @_rule
    def event(direction, pdu, wire):
        polled = direction == IN and pdu.opcode == DATA_IN and wire.cdb(pdu)[0] == 0x4A and len(pdu.data) >= 8
        if not polled or pdu.data[2] & 7 != 4 or pdu.data[4] & 15 == 0:
            return False
        pdu.data[4] &= 0xF0
        return True

    @_rule
    def rule(direction, pdu, wire):
        return attention(direction, pdu, wire) or event(direction, pdu, wire)
    return rule


_portals = itertools.count()


def other_identity():
    """Each portal names another logical unit: the last byte of every designator of VPD page 83h is its own (SPC-4 7.8.6)."""
    mark = b"ghijklmnop"[next(_portals) % 10]

    @_rule
    def rule(direction, pdu, wire):
        cdb = wire.cdb(pdu)
        if direction != IN or pdu.opcode != DATA_IN or cdb[0] != 0x12 or not cdb[1] & 1 or cdb[2] != 0x83:
            return False
        at = 4
        while at + 4 <= len(pdu.data):
            end = at + 4 + pdu.data[at + 3]
            if at + 4 < end <= len(pdu.data):
                pdu.data[end - 1] = mark
            at = end
        return True
    return rule


def no_digest():
    """The login answers that there will be no digests, whatever was offered. (The peer that was answered otherwise is the
    target, so the rule also takes the offer away.)"""
    def rule(direction, pdu, wire):
        if pdu.opcode not in (0x03, LOGIN_RESPONSE) or wire.full_feature:
            return False
        text = re.sub(rb"(HeaderDigest|DataDigest)=[^\0]*", rb"\1=None", bytes(pdu.data))
        if text == pdu.data:
            return False
        pdu.data[:] = text
        return True
    rule.in_login = True
    return rule


def refused_rejoin():
    """Connections join the session until there are three; from then on the target says that it does not know it
    (RFC 7143 11.13.5, 020Ah)."""
    joined = []

    def rule(direction, pdu, wire):
        if pdu.header[14:16] == b"\0\0":
            return False
        if direction == OUT and pdu.opcode == 0x03 and not any(each is wire for each in joined):
            joined.append(wire)
        if direction != IN or pdu.opcode != LOGIN_RESPONSE or not any(each is wire for each in joined[2:]):
            return False
        pdu.header[1] &= 0x0C
        pdu.header[36:38] = b"\x02\x0a"
        pdu.data.clear()
        return True
    rule.in_login = True
    return rule


LIES = {function.__name__: function for function in (
    alter_reads, alter_writes, wrong_residual, lost_unit_attention, lost_error, lost_conflict, no_write_cache, short_capacity,
    other_identity, no_digest, refused_rejoin, unnoticed_medium)}
