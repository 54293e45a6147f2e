# SPDX-License-Identifier: Apache-2.0
"""A small iSCSI client that sends bytes and says what came back, for the tests of the target on the wire.

Headers are laid out by hand from RFC 7143 section 11, CRC32C comes from a table of its own, CHAP from hashlib: nothing is
shared with src/iscsi/. A Connection has no opinion on what is sent, but checks on every PDU received what always holds:
StatSN (RFC 7143 4.2.2.2), ExpCmdSN and MaxCmdSN that never go back (4.2.2.1), zero in reserved fields, padding of zeroes.
"""
import contextlib
import hashlib
import itertools
import socket
import struct

BHS = 48
RESERVED_TAG = 0xffffffff
NOP_OUT, SCSI_COMMAND, TASK_MANAGEMENT, LOGIN, TEXT, DATA_OUT, LOGOUT, SNACK = 0, 1, 2, 3, 4, 5, 6, 0x10
NOP_IN, SCSI_RESPONSE, TASK_MANAGEMENT_RESPONSE, LOGIN_RESPONSE, TEXT_RESPONSE, DATA_IN, LOGOUT_RESPONSE = range(0x20, 0x27)
R2T, ASYNC, REJECT = 0x31, 0x32, 0x3f
IMMEDIATE = 0x40
FINAL, READ, WRITE = 0x80, 0x40, 0x20      # byte 1 of a SCSI Command
GOOD, CHECK_CONDITION, BUSY, RESERVATION_CONFLICT, TASK_SET_FULL, TASK_ABORTED = 0, 2, 8, 0x18, 0x28, 0x40
PATIENCE = 20.0                            # seconds for an answer; nothing in these tests needs one


class Closed(AssertionError):
    """The target has closed the connection."""


# ---- CRC32C (RFC 7143 13.1: polynomial 11EDC6F41h, reflected), byte by byte

def _crc_table():
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82f63b78 if value & 1 else 0)
        table.append(value)
    return table


_CRC = _crc_table()


def crc32c(data):
    value = 0xffffffff
    for byte in data:
        value = value >> 8 ^ _CRC[(value ^ byte) & 0xff]
    return value ^ 0xffffffff


def digest(data):
    return struct.pack("<I", crc32c(data))


assert digest(bytes(32)).hex() == "aa36918a"             # RFC 7143 has the examples of RFC 3720 B.4
assert digest(b"\xff" * 32).hex() == "43aba862"
assert digest(bytes(range(32))).hex() == "4e79dd46"


def pad(data):
    return data + b"\0" * (-len(data) % 4)


def after(a, b):
    """Serial number arithmetic (RFC 1982): a is behind b."""
    return a != b and (a - b) % 2**32 < 2**31


def lun_bytes(lun):
    """A LUN given as a number (peripheral addressing, flat from 256 on: SAM-5 4.7) or as its eight bytes."""
    if isinstance(lun, bytes):
        return lun
    return struct.pack(">H6x", lun if lun < 256 else 0x4000 | lun)


# ---- headers, RFC 7143 11.3 to 11.18; the data segment's length is filled in when the PDU is sent

def scsi_command(itt, cmd_sn, exp_stat_sn, cdb, flags=FINAL | 1, edtl=0, lun=0, immediate=False):
    return struct.pack(">BBxxB3x8sIIII16s", SCSI_COMMAND | (IMMEDIATE if immediate else 0), flags, 0, lun_bytes(lun), itt, edtl,
                       cmd_sn, exp_stat_sn, cdb)


def task_management(itt, cmd_sn, exp_stat_sn, function, lun=0, referenced=RESERVED_TAG, ref_cmd_sn=0, immediate=True):
    return struct.pack(">BBxxB3x8sIIIIII8x", TASK_MANAGEMENT | (IMMEDIATE if immediate else 0), 0x80 | function, 0,
                       lun_bytes(lun), itt, referenced, cmd_sn, exp_stat_sn, ref_cmd_sn, 0)


def data_out(itt, ttt, exp_stat_sn, data_sn, offset, final, lun=0):
    return struct.pack(">BBxxB3x8sII4xI4xII4x", DATA_OUT, FINAL if final else 0, 0, lun_bytes(lun), itt, ttt, exp_stat_sn,
                       data_sn, offset)


def nop_out(itt, cmd_sn, exp_stat_sn, ttt=RESERVED_TAG, immediate=True, lun=0):
    return struct.pack(">BBxxB3x8sIIII16x", NOP_OUT | (IMMEDIATE if immediate else 0), FINAL, 0, lun_bytes(lun), itt, ttt,
                       cmd_sn, exp_stat_sn)


def text_request(itt, cmd_sn, exp_stat_sn, flags=FINAL, ttt=RESERVED_TAG, immediate=True):
    return struct.pack(">BBxxB3x8xIIII16x", TEXT | (IMMEDIATE if immediate else 0), flags, 0, itt, ttt, cmd_sn, exp_stat_sn)


def logout_request(itt, cmd_sn, exp_stat_sn, reason=0, cid=0, immediate=True):
    return struct.pack(">BBxxB3x8xIHxxII16x", LOGOUT | (IMMEDIATE if immediate else 0), 0x80 | reason, 0, itt, cid, cmd_sn,
                       exp_stat_sn)


def snack(itt, exp_stat_sn, kind=0, ttt=RESERVED_TAG, begin=0, run=0):
    return struct.pack(">BBxxB3x8xII4xI8xII", SNACK, 0x80 | kind, 0, itt, ttt, exp_stat_sn, begin, run)


def login_request(flags, isid, tsih=0, itt=0, cid=0, cmd_sn=0, exp_stat_sn=0, version_max=0, version_min=0,
                  opcode=LOGIN | IMMEDIATE):
    return struct.pack(">BBBBB3x6sHIHxxII16x", opcode, flags, version_max, version_min, 0, isid, tsih, itt, cid, cmd_sn,
                       exp_stat_sn)


def keys(*pairs):
    """Text from "Key=value" strings, bytes as they are: each followed by a NUL."""
    return b"".join((p if isinstance(p, bytes) else p.encode()) + b"\0" for p in pairs)


def parse_keys(data):
    return [tuple(pair.decode(errors="replace").split("=", 1)) for pair in data.split(b"\0") if pair]


class Pdu:
    """A received PDU; the fields that most answers have in common by name, the others by u16() and u32()."""

    def __init__(self, bhs, ahs, data):
        self.bhs, self.ahs, self.data = bhs, ahs, data
        self.opcode, self.flags = bhs[0] & 0x3f, bhs[1]
        self.itt, self.ttt = self.u32(16), self.u32(20)
        self.stat_sn, self.exp_cmd_sn, self.max_cmd_sn = self.u32(24), self.u32(28), self.u32(32)

    def u16(self, at):
        return struct.unpack_from(">H", self.bhs, at)[0]

    def u32(self, at):
        return struct.unpack_from(">I", self.bhs, at)[0]

    @property
    def keys(self):
        return dict(parse_keys(self.data))

    def __repr__(self):
        return f"<{self.opcode:02x}h {self.bhs.hex(' ', 4)} + {self.data[:64].hex()}>"

    def window(self):
        """How many more commands the initiator may send."""
        return (self.max_cmd_sn - self.exp_cmd_sn + 1) % 2**32


class Result:
    """What became of one SCSI command: its PDUs, the data in place, status, sense and residuals."""

    def __init__(self, edtl):
        self.data = bytearray()
        self.pdus, self.r2ts = [], []
        self.edtl = edtl
        self.status = self.last = None
        self.sense = b""
        self.overflow = self.underflow = False
        self.residual = 0

    def end(self, pdu):
        self.last, self.status = pdu, pdu.bhs[3]
        self.overflow, self.underflow = bool(pdu.flags & 4), bool(pdu.flags & 2)
        self.residual = pdu.u32(44)
        if pdu.opcode == SCSI_RESPONSE and pdu.data:
            length = int.from_bytes(pdu.data[:2], "big")     # RFC 7143 11.4.7.2: SenseLength, then the sense
            assert 2 + length <= len(pdu.data), f"SenseLength {length} in a data segment of {len(pdu.data)}"
            self.sense = pdu.data[2:2 + length]

    @property
    def asc(self):
        """(sense key, ASC, ASCQ) of either format; None without sense."""
        if not self.sense:
            return None
        if self.sense[0] & 0x7f in (0x72, 0x73):
            return self.sense[1] & 0xf, self.sense[2], self.sense[3]
        return self.sense[2] & 0xf, self.sense[12], self.sense[13]

    @property
    def information(self):
        """The INFORMATION field when it is valid."""
        if self.sense and self.sense[0] == 0xf0:
            return int.from_bytes(self.sense[3:7], "big")
        if self.sense and self.sense[0] & 0x7f == 0x72:
            at = 8
            while at < len(self.sense):
                if self.sense[at] == 0 and self.sense[at + 2] & 0x80:
                    return int.from_bytes(self.sense[at + 4:at + 12], "big")
                at += 2 + self.sense[at + 1]
        return None

    def __repr__(self):
        return f"<status {self.status} sense {self.asc} residual {self.overflow, self.underflow, self.residual}>"


_itts = itertools.count(0x10000)


class Connection:
    """One TCP connection. Everything may be said wrongly on purpose: raw() sends bytes, send() a header with its data."""

    def __init__(self, address, name="iqn.2026-11.io.perilune:raw", isid=b"\x80\x12\x34\x56\x78\x9a", cid=0, cmd_sn=1):
        self.socket = socket.create_connection(address, timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.name, self.isid, self.cid, self.tsih = name, isid, cid, 0
        self.cmd_sn, self.exp_stat_sn = cmd_sn, 0
        self.held = None                      # an ExpStatSN to send instead: statuses from it on stay unacknowledged
        self.resends = False                  # above recovery level 0: what was asked for again keeps the StatSN it had
        self.stat_sn_known = False
        self.window = None                    # (ExpCmdSN, MaxCmdSN) as last told
        self.header_digest = self.data_digest = False
        self.full_feature = False
        self.params = {}                      # what the target answered or declared
        self.ended = False                    # seen by barrier_or_end()
        self.unread = []                      # PDUs that came while something else was waited for

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.close()

    # ---- bytes

    def raw(self, data):
        try:
            self.socket.sendall(data)
        except (ConnectionResetError, BrokenPipeError):
            pass                              # whether the target closed is asked by reading

    def frame(self, bhs, data=b"", ahs=b"", length=None):
        """The bytes of a PDU with the digests of this connection. `length`: a DataSegmentLength that lies."""
        assert len(bhs) == BHS and len(ahs) % 4 == 0
        header = bytearray(bhs)
        header[4] = len(ahs) // 4
        header[5:8] = (len(data) if length is None else length).to_bytes(3, "big")
        out = bytes(header) + ahs
        if self.header_digest:
            out += digest(out)
        if data:
            out += pad(data)
            if self.data_digest:
                out += digest(pad(data))
        return out

    def send(self, bhs, data=b"", ahs=b"", length=None):
        self.raw(self.frame(bhs, data, ahs, length))

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            try:
                part = self.socket.recv(count - len(data))
            except ConnectionResetError:
                part = b""
            except socket.timeout:
                raise AssertionError(f"no answer within {PATIENCE} s") from None
            if not part:
                raise Closed(f"closed by the target after {len(data)} of {count} bytes")
            data += part
        return data

    # ---- receiving

    def receive(self):
        """The next PDU from the wire; Closed when there is none."""
        bhs = self._exactly(BHS)
        ahs = self._exactly(bhs[4] * 4)
        if self.header_digest:
            assert self._exactly(4) == digest(bhs + ahs), f"bad header digest of {bhs.hex()}"
        size = int.from_bytes(bhs[5:8], "big")
        whole = self._exactly(size + -size % 4)
        if self.data_digest and size:
            assert self._exactly(4) == digest(whole), f"bad data digest of {bhs.hex()}"
        assert not any(whole[size:]), f"padding is not zero in {bhs.hex()}"
        pdu = Pdu(bhs, ahs, whole[:size])
        self._check(pdu)
        return pdu

    def _check(self, pdu):
        if pdu.opcode == DATA_IN and not pdu.flags & 1:
            assert pdu.stat_sn == 0, f"StatSN in a Data-In without S: {pdu}"
        else:
            counts = not (pdu.opcode == R2T or pdu.opcode == NOP_IN and pdu.itt == RESERVED_TAG)
            if self.resends and after(self.exp_stat_sn, pdu.stat_sn):
                counts = None                 # seen before
            elif self.stat_sn_known:
                assert pdu.stat_sn == self.exp_stat_sn, f"StatSN {pdu.stat_sn:#x}, expected {self.exp_stat_sn:#x}: {pdu}"
            self.stat_sn_known = True
            if counts is not None:
                self.exp_stat_sn = (pdu.stat_sn + (1 if counts else 0)) % 2**32
        if not self.full_feature:
            return
        assert pdu.window() < 2**31, f"MaxCmdSN more than one below ExpCmdSN: {pdu}"
        if self.window:
            assert not after(self.window[0], pdu.exp_cmd_sn), f"ExpCmdSN went back from {self.window[0]:#x}: {pdu}"
            assert not after(self.window[1], pdu.max_cmd_sn), f"MaxCmdSN went back from {self.window[1]:#x}: {pdu}"
        self.window = pdu.exp_cmd_sn, pdu.max_cmd_sn

    def next(self, wanted=lambda pdu: True):
        """The first PDU, kept or new, that is wanted; the others are kept for later."""
        for index, pdu in enumerate(self.unread):
            if wanted(pdu):
                return self.unread.pop(index)
        while True:
            pdu = self.receive()
            if wanted(pdu):
                return pdu
            self.unread.append(pdu)

    def expect(self, opcode, itt=None):
        """The next PDU must be this one."""
        pdu = self.next()
        assert pdu.opcode == opcode and itt in (None, pdu.itt), f"{pdu} instead of {opcode:02x}h for {itt}"
        return pdu

    def until_closed(self):
        """The target must close the connection; what it said before."""
        said, self.unread = self.unread, []
        with contextlib.suppress(Closed):
            while True:
                said.append(self.receive())
                assert len(said) < 10000
        return said

    def barrier(self):
        """Everything the target says before it answers an immediate ping: after that it has dealt with all that was sent."""
        said = []
        self._barrier(said)
        return said

    def barrier_or_end(self):
        """The same, where the target may also close the connection: `ended` tells."""
        said = []
        try:
            self._barrier(said)
        except Closed:
            self.ended = True
        return said

    def _barrier(self, said):
        said += self.unread
        self.unread = []
        itt = self.ping(b"")
        while True:
            pdu = self.receive()
            if pdu.opcode == NOP_IN and pdu.itt == itt:
                return
            said.append(pdu)

    def silent(self, what):
        said = self.barrier()
        assert not said, f"{what} was answered: {said}"

    # ---- login

    def login_pdu(self, flags, text=b"", **fields):
        fields = {"isid": self.isid, "tsih": self.tsih, "cid": self.cid, "cmd_sn": self.cmd_sn,
                  "exp_stat_sn": self.exp_stat_sn, **fields}
        self.send(login_request(flags, **fields), text)

    def login_step(self, flags, *pairs, **fields):
        """One Login Request and its answer. flags: T 80h, C 40h, CSG in bits 2 and 3, NSG in 0 and 1."""
        self.login_pdu(flags, keys(*pairs), **fields)
        pdu = self.receive()
        assert pdu.opcode == LOGIN_RESPONSE, f"{pdu} is no Login Response"
        return self.learn(pdu)

    def learn(self, pdu):
        self.params.update(parse_keys(pdu.data))
        if pdu.bhs[36] == 0 and pdu.flags & 0x83 == 0x83:
            self.tsih = pdu.u16(14)
            self.full_feature = True
            self.window = pdu.exp_cmd_sn, pdu.max_cmd_sn
            self.header_digest = self.params.get("HeaderDigest") == "CRC32C"
            self.data_digest = self.params.get("DataDigest") == "CRC32C"
        return pdu

    def names(self, target):
        if target is None:
            return [f"InitiatorName={self.name}", "SessionType=Discovery"]
        return [f"InitiatorName={self.name}", f"TargetName={target}", "SessionType=Normal"]

    def login(self, target, *pairs):
        """Straight to full-feature phase from the operational stage; keys of `pairs` beside the names. Answers to what the
        target asks for itself are its own values: it may have them."""
        pdu = self.login_step(0x87, *self.names(target), *pairs)
        asked = {pair.split("=", 1)[0] for pair in pairs}
        for _ in range(4):
            if self.full_feature or pdu.bhs[36] != 0:
                break
            answers = [f"{k}={v}" for k, v in parse_keys(pdu.data) if k not in asked
                       and k in ("InitialR2T", "ImmediateData", "MaxBurstLength", "FirstBurstLength")]
            pdu = self.login_step(0x87, *answers)
        assert self.full_feature, f"the login failed: {pdu} {pdu.bhs[36:38].hex()}"
        return self

    # ---- full-feature phase

    @property
    def ack(self):
        """The ExpStatSN of what is sent."""
        return self.exp_stat_sn if self.held is None else self.held

    def snack(self, kind, itt=RESERVED_TAG, begin=0, run=0, tag=RESERVED_TAG):
        """kind 0: Data/R2T, 1: Status, 2: DataACK, 3: R-Data (RFC 7143 11.16.1)."""
        self.send(snack(itt, self.ack, kind, tag, begin, run))

    def take_cmd_sn(self):
        sn = self.cmd_sn
        self.cmd_sn = (sn + 1) % 2**32
        return sn

    def ping(self, data=b"", **fields):
        itt = next(_itts)
        self.send(nop_out(itt, self.cmd_sn, self.ack, **fields), data)
        return itt

    def command(self, cdb, edtl=0, flags=FINAL, data=b"", lun=0, immediate=False, cmd_sn=None, itt=None, attribute=1, ahs=b""):
        """Sends a SCSI Command and returns its task tag. flags: FINAL, READ, WRITE."""
        itt = next(_itts) if itt is None else itt
        if cmd_sn is None:
            cmd_sn = self.cmd_sn if immediate else self.take_cmd_sn()
        cdb = cdb.ljust(16, b"\0")
        self.send(scsi_command(itt, cmd_sn, self.ack, cdb, flags | attribute, edtl, lun, immediate), data, ahs)
        return itt

    def data_out(self, itt, ttt, data_sn, offset, data, final, lun=0):
        self.send(data_out(itt, ttt, self.ack, data_sn, offset, final, lun), data)

    def answer_r2t(self, r2t, data, segment=8192, lun=0):
        """All the Data-Out PDUs of one R2T; `data` is the whole command's."""
        offset, left = r2t.u32(40), r2t.u32(44)
        for data_sn in itertools.count():
            part = data[offset:offset + min(left, segment)]
            left -= len(part)
            self.data_out(r2t.itt, r2t.ttt, data_sn, offset, part, left == 0, lun)
            offset += len(part)
            if left == 0:
                return

    def finish(self, itt, edtl=0, data=b"", lun=0):
        """Follows a command to its status, answering R2Ts from `data`."""
        result = Result(edtl)
        while True:
            pdu = self.next(lambda p: p.itt == itt and p.opcode in (DATA_IN, R2T, SCSI_RESPONSE))
            result.pdus.append(pdu)
            if pdu.opcode == R2T:
                result.r2ts.append(pdu)
                self.answer_r2t(pdu, data, lun=lun)
            elif pdu.opcode == DATA_IN:
                offset = pdu.u32(40)
                assert offset + len(pdu.data) <= edtl, f"Data-In beyond the expected length: {pdu}"
                result.data[offset:offset + len(pdu.data)] = pdu.data
                if pdu.flags & 1:
                    result.end(pdu)
                    return result
            else:
                assert pdu.bhs[2] == 0, f"not completed at target: {pdu}"
                result.end(pdu)
                return result

    def run(self, cdb, edtl=0, write=None, immediate_data=None, lun=0, **fields):
        """A whole command: reads `edtl` bytes, or writes `write` (of which `immediate_data` bytes go with the command)."""
        if write is not None:
            edtl = edtl or len(write)
            count = min(len(write), 8192) if immediate_data is None else immediate_data
            itt = self.command(cdb, edtl, FINAL | WRITE, write[:count], lun=lun, **fields)
            return self.finish(itt, edtl, write, lun)
        itt = self.command(cdb, edtl, FINAL | (READ if edtl else 0), lun=lun, **fields)
        return self.finish(itt, edtl)

    def good(self, cdb, edtl=0, **fields):
        result = self.run(cdb, edtl, **fields)
        assert result.status == GOOD, f"{cdb.hex()} ended in {result}"
        return result

    def refused(self, cdb, asc, edtl=0, **fields):
        """The command must end in CHECK CONDITION with this (sense key, ASC, ASCQ)."""
        result = self.run(cdb, edtl, **fields)
        assert result.status == CHECK_CONDITION and result.asc == asc, f"{cdb.hex()} ended in {result}, not in {asc}"
        return result

    def clear_attentions(self, luns=(0,)):
        for lun in luns:
            for _ in range(16):
                if self.run(bytes(6), lun=lun).status == GOOD:
                    break
            else:
                raise AssertionError("unit attentions without end")
        return self

    def open_window(self, places):
        """A window of so many commands at least: it may open by being used."""
        for _ in range(16):
            room = self.window[1] - self.cmd_sn + 1
            if room % 2**32 >= places:
                return self
            for tag in [self.command(TEST_UNIT_READY) for _ in range(max(room, 1))]:
                self.finish(tag)
        raise AssertionError(f"the window does not open to {places} commands")

    def manage(self, function, lun=0, referenced=RESERVED_TAG, ref_cmd_sn=0, immediate=True, cmd_sn=None):
        """Sends a task management request and returns its tag."""
        itt = next(_itts)
        if cmd_sn is None:
            cmd_sn = self.cmd_sn if immediate else self.take_cmd_sn()
        self.send(task_management(itt, cmd_sn, self.ack, function, lun, referenced, ref_cmd_sn, immediate))
        return itt

    def managed(self, itt):
        """The response code of a task management request."""
        return self.next(lambda p: p.itt == itt and p.opcode == TASK_MANAGEMENT_RESPONSE).bhs[2]

    def text(self, data, flags=FINAL, ttt=RESERVED_TAG, itt=None, immediate=True):
        itt = next(_itts) if itt is None else itt
        cmd_sn = self.cmd_sn if immediate else self.take_cmd_sn()
        self.send(text_request(itt, cmd_sn, self.ack, flags, ttt, immediate), data)
        return self.next(lambda p: p.opcode in (TEXT_RESPONSE, REJECT))

    def logout(self, reason=0, cid=None, immediate=True):
        itt = next(_itts)
        cmd_sn = self.cmd_sn if immediate else self.take_cmd_sn()
        self.send(logout_request(itt, cmd_sn, self.ack, reason, self.cid if cid is None else cid, immediate))
        return self.next(lambda p: p.itt == itt and p.opcode == LOGOUT_RESPONSE)


# ---- CHAP (RFC 1994; algorithm numbers: IANA, PPP Authentication Algorithms)

CHAP_HASHES = {5: hashlib.md5, 6: hashlib.sha1, 7: hashlib.sha256, 8: hashlib.sha3_256}


def chap_response(algorithm, identifier, secret, challenge):
    return CHAP_HASHES[algorithm](bytes([identifier]) + secret.encode() + challenge).digest()


def binary(text):
    """A binary value of a text key: 0x… here."""
    assert text[:2] in ("0x", "0X"), text
    return bytes.fromhex(text[2:])


# ---- CDBs (SPC-4 clause 6, SBC-3 clause 5)

TEST_UNIT_READY = bytes(6)


def read10(lba, blocks, flags=0):
    return struct.pack(">BBIBHB", 0x28, flags, lba, 0, blocks, 0)


def write10(lba, blocks, flags=0):
    return struct.pack(">BBIBHB", 0x2a, flags, lba, 0, blocks, 0)


def read16(lba, blocks, flags=0):
    return struct.pack(">BBQIBB", 0x88, flags, lba, blocks, 0, 0)


def write16(lba, blocks, flags=0):
    return struct.pack(">BBQIBB", 0x8a, flags, lba, blocks, 0, 0)


def inquiry(allocation=255, page=None):
    return struct.pack(">BBBHB", 0x12, 0 if page is None else 1, page or 0, allocation, 0)


def request_sense(allocation=252, descriptor=False):
    return struct.pack(">BBxxBB", 0x03, 1 if descriptor else 0, allocation, 0)


def report_luns(allocation=4096, select=0):
    return struct.pack(">BxBxxxIxB", 0xa0, select, allocation, 0)


def mode_sense6(page, allocation=255, subpage=0, dbd=True, control=0):
    return struct.pack(">BBBBBB", 0x1a, 8 if dbd else 0, control << 6 | page, subpage, allocation, 0)


def mode_select6(length, pf=True, sp=False):
    return struct.pack(">BBxxBB", 0x15, (0x10 if pf else 0) | (1 if sp else 0), length, 0)


def compare_and_write(lba, blocks):
    return struct.pack(">BBQxxxBxB", 0x89, 0, lba, blocks, 0)
