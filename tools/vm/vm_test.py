#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The laboratory's own parts, without a guest: a sabotage that does nothing would make every mutant pass unnoticed."""
import contextlib
import pathlib
import re
import socket
import sys
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "tests")]
import host  # noqa: E402
import image  # noqa: E402
import proxy  # noqa: E402
import vm  # noqa: E402

READ_10 = bytes.fromhex("28000000000000000800000000000000")
LOGIN_DONE = bytes([0x23, 0x87]) + bytes(46)      # T, CSG 1, NSG 3, status 0


def pdu(header, data=b""):
    header = bytearray(header)
    header[5:8] = len(data).to_bytes(3, "big")
    return bytes(header) + data + bytes(-len(data) % 4)


def command(cdb, tag=1):
    header = bytearray(48)
    header[0], header[16:20], header[32:48] = 0x01, tag.to_bytes(4, "big"), cdb
    return bytes(header)


def data_in(tag=1, final=True):
    header = bytearray(48)
    header[0], header[1], header[16:20] = 0x25, 0x81 if final else 0, tag.to_bytes(4, "big")
    return bytes(header)


class Target:
    """Answers nothing by itself: the test sends and receives on `.connection`."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()

    def accept(self):
        self.connection, _ = self.listener.accept()
        self.connection.settimeout(10)
        return self.connection


class ProxyTest(unittest.TestCase):
    def connect(self, rules=(), digests=b""):
        target = Target()
        self.addCleanup(target.listener.close)
        self.front = proxy.Proxy("127.0.0.1", target.address, rules)
        self.addCleanup(self.front.close)
        client = socket.create_connection(("127.0.0.1", self.front.port), 10)
        self.addCleanup(client.close)
        server = target.accept()
        self.addCleanup(server.close)
        login = pdu(LOGIN_DONE, digests)
        server.sendall(login)
        self.assertEqual(self.take(client, len(login)), login)
        return client, server

    @staticmethod
    def take(source, length):
        data = b""
        while len(data) < length:
            piece = source.recv(length - len(data))
            if not piece:
                break
            data += piece
        return data

    def through(self, source, sink, data):
        source.sendall(data)
        return self.take(sink, len(data))

    def test_crc32c_of_the_standard(self):
        # RFC 7143 B.4: 32 bytes of zeroes
        self.assertEqual(proxy.crc32c(bytes(32)), bytes.fromhex("aa36918a"))

    def test_passes_what_it_is_not_told_to_change(self):
        client, server = self.connect()
        for message in (pdu(command(READ_10)), pdu(command(READ_10), b"abc")):
            self.assertEqual(self.through(client, server, message), message)
        self.assertEqual(self.front.counts["out 0x01"], 2)

    def test_a_flip_damages_one_bit_and_leaves_the_digest(self):
        client, server = self.connect(digests=b"HeaderDigest=CRC32C\0DataDigest=CRC32C\0")
        header = data_in()
        sent = pdu(header, bytes(512))
        sent = sent[:48] + proxy.crc32c(sent[:48]) + sent[48:] + proxy.crc32c(bytes(512))
        self.front.flip("in", "data", 1, skip=1)
        self.assertEqual(self.through(server, client, sent), sent)
        got = self.through(server, client, sent)
        self.assertEqual(sum(bin(a ^ b).count("1") for a, b in zip(sent, got)), 1)
        self.assertEqual(got[-4:], sent[-4:])
        self.assertEqual(self.through(server, client, sent), sent)

    def test_a_lie_changes_data_and_mends_the_digest(self):
        client, server = self.connect([proxy.alter_reads()], b"HeaderDigest=None\0DataDigest=CRC32C\0")
        self.through(client, server, pdu(command(READ_10)))
        changed = 0
        for _ in range(10):
            got = self.through(server, client, pdu(data_in(final=False), bytes(4096)) + proxy.crc32c(bytes(4096)))
            changed += got[48:48 + 4096] != bytes(4096)
            self.assertEqual(got[-4:], proxy.crc32c(got[48:48 + 4096]))
        self.assertEqual(changed, 2)

    def test_a_unit_attention_becomes_good(self):
        client, server = self.connect([proxy.lost_unit_attention()])
        self.through(client, server, pdu(command(bytes(16))))
        response = bytearray(48)
        response[0], response[1], response[3], response[16:20] = 0x21, 0x80, 0x02, (1).to_bytes(4, "big")
        sense = bytes.fromhex("0012 70000600000000 0a 00000000 29000000 0000")
        server.sendall(pdu(response, sense))
        got = self.take(client, 48)
        self.assertEqual((got[3], got[5:8]), (0, bytes(3)))

    def test_portals_that_lie_name_different_units(self):
        page = bytes.fromhex("00830012 01030008 3123456789abcdef 02010002 4142")
        seen = []
        for _ in range(2):
            client, server = self.connect([proxy.other_identity()])
            self.through(client, server, pdu(command(bytes.fromhex("12018300ff") + bytes(11))))
            got = self.through(server, client, pdu(data_in(), page))[48:48 + len(page)]
            self.assertEqual((got[:15], got[16:21]), (page[:15], page[16:21]))
            seen.append((got[15], got[21]))
        self.assertEqual(len({value for pair in seen for value in pair}), 2)

    def test_a_stalled_proxy_moves_nothing_until_it_passes(self):
        client, server = self.connect()
        self.front.set_mode("stall")
        message = pdu(command(READ_10))
        client.sendall(message)
        server.settimeout(0.2)
        self.assertRaises(TimeoutError, server.recv, 1)
        server.settimeout(10)
        self.front.set_mode("pass")
        self.assertEqual(self.take(server, 48), message)

    def test_a_proxy_that_refused_passes_again(self):
        target = Target()
        self.addCleanup(target.listener.close)
        front = proxy.Proxy("127.0.0.1", target.address)
        self.addCleanup(front.close)
        front.set_mode("refuse")
        for _ in range(50):   # however quickly a client comes and goes; the reset may come before connect() returns
            with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", front.port), 10) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
        deadline = time.monotonic() + 20
        while front.counts["connections"] < 50 and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertEqual(front.counts["connections"], 50)
        front.set_mode("pass")
        with socket.create_connection(("127.0.0.1", front.port), 10) as client:
            server = target.accept()
            self.addCleanup(server.close)
            message = pdu(command(READ_10))
            self.assertEqual(self.through(client, server, message), message)

    def test_cut_ends_connections_on_both_sides(self):
        client, server = self.connect()
        self.front.cut()
        for end in (client, server):
            end.settimeout(10)
            try:
                self.assertEqual(end.recv(1), b"")
            except ConnectionResetError:
                pass


class ImageTest(unittest.TestCase):
    def test_reads_sources_of_both_formats(self):
        one = "# comment\ndeb [signed-by=/k] scheme:/mirror bookworm main contrib # x\ndeb-src scheme:/mirror bookworm main\n"
        self.assertEqual(list(image._one_line_sources(one)), [("scheme:/mirror", "bookworm", "main contrib", "signed-by=/k")])
        many = ("Types: deb\nURIs: scheme:/a\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By: /k\n\n"
                "Types: deb-src\nURIs: x\nSuites: y\n")
        self.assertEqual(list(image._deb822_sources(many)), [("scheme:/a", "bookworm", "main", "signed-by=/k"),
                                                             ("scheme:/a", "bookworm-updates", "main", "signed-by=/k")])

    def test_an_archive_has_the_form_that_the_kernel_unpacks(self):
        archive = image.Cpio()
        archive.tree({"lab/x": (b"hello", 0o755)})
        data = archive.bytes()
        self.assertEqual(len(data) % 512, 0)
        self.assertEqual([data[at:at + 6] for at in range(0, len(data)) if data[at:at + 6] == b"070701"], [b"070701"] * 3)
        self.assertIn(b"lab/x\0", data)
        self.assertIn(b"TRAILER!!!\0", data)


class ScenarioTest(unittest.TestCase):
    def test_every_scenario_has_a_sabotage_that_exists(self):
        for name in vm.names():
            mutants = vm.spec_of(name)["mutants"]
            self.assertTrue(mutants or name not in vm.proven(), name)
            for mutant in mutants.values():
                for key in ("wire", "guest_wire"):
                    self.assertIn(mutant.get(key, "alter_reads"), proxy.LIES)
                for key in ("preload", "guest_preload"):
                    if key in mutant:
                        self.assertTrue((vm.ROOT / "tests/system" / f"{mutant[key]}.c").is_file())

    def test_the_short_scenarios_are_those_of_ctest(self):
        listed = re.search(r"foreach\(scenario (.*)\)", (vm.SCENARIOS / "CMakeLists.txt").read_text())[1].split()
        self.assertEqual(sorted(listed), [name for name in vm.proven() if vm.spec_of(name)["short"]])


class HostTest(unittest.TestCase):
    def test_a_mutant_forgets_options_with_their_values(self):
        side = host.HostSide("/nowhere", "127.1.1", 1, {"drop": ["--chap-user"]})
        self.assertEqual(side._sabotaged_options(["--chap-user", "u", "--read-only"]), ["--read-only"])

    def test_what_is_no_request_is_refused(self):
        side = host.HostSide("/nowhere", "127.1.1", 1)
        for name in ("_environment", "close", "answer", "nothing"):
            self.assertIn("error", side.answer({"call": name}))
        self.assertEqual(side.answer({"call": "note", "name": "a", "value": 3}), {"value": 3})


if __name__ == "__main__":
    unittest.main()
