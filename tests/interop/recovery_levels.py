#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Our initiator against our target over real sockets: several connections in a session, one of which is cut and recovered (level
2), and payload that is damaged on the wire and asked for again (level 1). Without the level the same fault ends the session."""
import contextlib
import json
import pathlib
import socket
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness as h  # noqa: E402

SIZE = 64 << 20
FLIP_AT = 5_000_001   # of what the target sends by one connection: in the midst of the data of a large read


class BadRelay(h.Relay):
    """A relay that cuts one of its connections, or flips one bit of what the target sends."""

    def __init__(self, stack, port, flip=False):
        self.clients, self.sent, self.flip, self.flipped = [], 0, flip, 0
        super().__init__(stack, port)

    def _carry(self, client, server):
        self.clients.append((client, server))
        super()._carry(client, server)

    def _passes(self, data, kept):
        if kept is not self.from_server:
            return data
        at = FLIP_AT - self.sent
        self.sent += len(data)
        if self.flip and 0 <= at < len(data):
            data = data[:at] + bytes([data[at] ^ 4]) + data[at + 1:]
            self.flipped += 1
        return data

    def cut(self, index):
        for end in self.clients[index]:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def target(stack):
    return stack.enter_context(h.serve(f"ram:{SIZE}", options=["--max-connections", "4", "--error-recovery-level", "2"]))


def bench(server, relay, rw, size, seconds, check=True, **options):
    url = h.libiscsi_url("127.0.0.1", relay.port, server.iqn, 0, **options)
    done = h.run([h.PERILUNE, "bench", url, "--verify", "--json", "--rw", rw, "--bs", size, "--depth", "16", "--seconds",
                  str(seconds), "--warm-up", "0"], check=check)
    if done.code == 0 and json.loads(done.out)["ios"] <= 0:
        h.fail(str(done))
    return done


def four_connections_carry_one_session(stack):
    server = target(stack)
    relay = BadRelay(stack, server.port)
    for rw in ("randwrite", "randread"):
        bench(server, relay, rw, "64k", 0.5, connections=4, header_digest="crc32c", data_digest="crc32c")
    if len(relay.clients) != 8:
        h.fail(f"{len(relay.clients)} connections, not twice four")


def a_cut_connection_is_recovered_at_level_2(stack):
    server = target(stack)
    for level in (2, 0):
        relay = BadRelay(stack, server.port)
        cutter = threading.Timer(1, relay.cut, [1])
        cutter.start()
        done = bench(server, relay, "randwrite", "16k", 4, check=False, connections=3, error_recovery_level=level)
        cutter.join()
        if (done.code == 0) != (level == 2):
            h.fail(f"level {level}: {done}")
        if level == 2 and len(relay.clients) != 4:
            h.fail(f"{len(relay.clients)} connections, not three and the one that came again")


def damaged_data_is_asked_for_again_at_level_1(stack):
    server = target(stack)
    relay = BadRelay(stack, server.port)
    bench(server, relay, "write", "256k", 0.5)   # what the reads verify
    for level in (1, 0):
        relay = BadRelay(stack, server.port, flip=True)
        done = bench(server, relay, "read", "256k", 1, check=False, data_digest="crc32c", error_recovery_level=level)
        if relay.flipped != 1:
            h.fail(f"{relay.flipped} bits flipped, {relay.sent} bytes sent")
        if (done.code == 0) != (level == 1):
            h.fail(f"level {level}: {done}")


h.main(four_connections_carry_one_session, a_cut_connection_is_recovered_at_level_2, damaged_data_is_asked_for_again_at_level_1)
