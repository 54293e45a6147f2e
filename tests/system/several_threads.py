#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`serve --threads`: sessions on all threads, what crosses from one to another, and the end of it all under load."""
import contextlib
import pathlib
import re
import signal
import struct
import threading

import harness as h
from several_connections import READ_CAPACITY, Wire, clear_attention, join, lead

NAME = "iqn.2026-11.io.perilune:threads-"
TWO = ("--threads", "2")
BLOCK = 512


def thread_names(server):
    return sorted(path.read_text().strip() for path in pathlib.Path(f"/proc/{server.pid}/task").glob("*/comm"))


def shard_of(server, wire):
    return int(re.search(rf"login connection=\S+ .* tsih={wire.tsih} .*shard=(\d+)", server.errors())[1])


def on_both(stack, server):
    """A session on each thread: the less loaded one takes the next."""
    wires = [lead(stack, server, name=f"{NAME}{i}") for i in range(2)]
    if [shard_of(server, wire) for wire in wires] != [0, 1]:
        h.fail(f"not on both threads:\n{server.errors()}")
    return wires


def sessions_land_on_both_threads(stack):
    server = stack.enter_context(h.serve("ram:16M", options=TWO))
    h.wait_for(lambda: "perilune-1" in thread_names(server), "the second thread")
    wires = [lead(stack, server, name=f"{NAME}{i}") for i in range(10)]
    for wire in wires:
        sn = clear_attention(wire, 1)
        wire.command(1, sn, READ_CAPACITY, read=8)
        _, data = wire.expect(0x25, 1)
        if data != struct.pack(">II", (16 << 20) // BLOCK - 1, BLOCK):
            h.fail(f"READ CAPACITY: {data.hex()}")
    shards = [shard_of(server, wire) for wire in wires]
    if shards.count(0) != 5 or shards.count(1) != 5:
        h.fail(f"not balanced: {shards}")
    # Places that become free are taken again.
    for wire, shard in zip(wires, shards):
        if shard == 1:
            wire.socket.close()
    h.wait_for(lambda: server.errors().count("session_ended") == 5, "the end of five sessions")
    again = [lead(stack, server, name=f"{NAME}again-{i}") for i in range(5)]
    if {shard_of(server, wire) for wire in again} != {1}:
        h.fail("the idle thread was not used")


def a_session_is_reinstated_on_another_thread(stack):
    server = stack.enter_context(h.serve("ram:16M", options=TWO))
    keep, old = on_both(stack, server)
    sn = clear_attention(old, 1)
    old.command(21, sn, b"\x2a\x00" + struct.pack(">IBH", 0, 0, 8) + b"\0", write=4096)
    old.expect(0x31, 21)                                        # an R2T that is never answered
    new = lead(stack, server, name=f"{NAME}1")
    old.ended()
    if new.tsih == old.tsih or server.errors().count("session_ended") != 1:
        h.fail("the old session did not end first")
    sn = clear_attention(new, 1)
    new.command(22, sn, READ_CAPACITY, read=8)
    new.expect(0x25, 22)
    # Many at once: one after the other takes the place of the one before, and one is left.
    with contextlib.ExitStack() as own:
        failures = []

        def again():
            try:
                lead(own, server, name=f"{NAME}1")
            except (EOFError, OSError):
                pass                                            # reinstated by the next before it had its answer
            except Exception as e:
                failures.append(e)
        threads = [threading.Thread(target=again) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
    h.wait_for(lambda: server.errors().count("session_ended") == server.errors().count(" login connection=") - 1,
               "one session to be left")
    sn = clear_attention(keep, 1)
    keep.command(23, sn, READ_CAPACITY, read=8)
    keep.expect(0x25, 23)


def connections_join_on_another_thread(stack):
    server = stack.enter_context(h.serve("ram:16M", options=(*TWO, "--max-connections", "2")))
    _, first = on_both(stack, server)
    sn = clear_attention(first, 1)
    options = {"name": f"{NAME}1"}
    second = join(stack, server, first, 2, sn, **options)
    if second.exp_cmd_sn != sn:
        h.fail(f"ExpCmdSN of the joining connection: {second.exp_cmd_sn}, expected {sn}")
    second.command(31, sn, READ_CAPACITY, read=8)
    second.expect(0x25, 31)
    join(stack, server, first, 3, sn + 1, status=0x0206, **options)                 # too many
    join(stack, server, first, 3, sn + 1, status=0x020a, name=f"{NAME}0")           # somebody else's session
    new = join(stack, server, first, 2, sn + 1, **options)                          # in the place of the second
    second.ended()
    new.command(32, sn + 1, READ_CAPACITY, read=8)
    new.expect(0x25, 32)
    first.socket.close()
    new.command(33, sn + 2, READ_CAPACITY, read=8)
    new.expect(0x25, 33)


def count_up(server, name, rounds, total):
    """Adds to the counter in block 7 by COMPARE AND WRITE, as a cluster's lock does it."""
    with contextlib.ExitStack() as stack:
        wire = lead(stack, server, name=name)
        sn = clear_attention(wire, 1)
        read = b"\x28\x00" + struct.pack(">IBH", 7, 0, 1) + b"\0"
        compare = b"\x89\x00" + struct.pack(">Q", 7) + b"\0\0\0\1\0\0"
        itt = done = 0
        while done < rounds:
            itt += 2
            wire.command(itt, sn, read, read=BLOCK)
            _, old = wire.expect(0x25, itt)
            new = struct.pack(">Q", struct.unpack(">Q", old[:8])[0] + 1).ljust(BLOCK, b"\0")
            wire.command(itt + 1, sn + 1, compare, write=2 * BLOCK, data=old + new)
            header, sense = wire.expect(0x21, itt + 1)
            sn += 2
            if header[3] == 0:
                done += 1
            elif header[3] != 2 or sense[4] & 15 != 0x0e:       # CHECK CONDITION, MISCOMPARE: somebody was faster
                h.fail(f"COMPARE AND WRITE: status {header[3]}, sense {sense.hex()}")
        total.append(done)


def compare_and_write_is_atomic_over_all_threads(stack):
    server = stack.enter_context(h.serve("ram:16M", options=TWO))
    total = []
    threads = [threading.Thread(target=count_up, args=(server, f"{NAME}{i}", 150, total)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if {int(shard) for shard in re.findall(r"shard=(\d)", server.errors())} != {0, 1}:
        h.fail("not on both threads")
    wire = lead(stack, server, name=f"{NAME}judge")
    sn = clear_attention(wire, 1)
    wire.command(1, sn, b"\x28\x00" + struct.pack(">IBH", 7, 0, 1) + b"\0", read=BLOCK)
    _, data = wire.expect(0x25, 1)
    if struct.unpack(">Q", data[:8])[0] != 600 or sum(total) != 600:
        h.fail(f"counted {struct.unpack('>Q', data[:8])[0]} of {sum(total)}")


def a_reset_reaches_every_thread(stack):
    server = stack.enter_context(h.serve("ram:16M", options=TWO))
    one, other = on_both(stack, server)
    for issuer in (one, other):
        sn = clear_attention(issuer, 1)
    sn = 2
    one.socket.sendall(struct.pack(">BBxxxxxx8xIIII16x", 0x42, 0x80 | 5, 50, 0xffffffff, sn, one.stat_sn))   # LOGICAL UNIT RESET
    header, _ = one.expect(0x22, 50)
    if header[2] != 0:
        h.fail(f"LOGICAL UNIT RESET: response {header[2]}")
    other.command(51, sn, bytes(6))
    header, sense = other.expect(0x21, 51)
    if header[3] != 2 or sense[2 + 12:2 + 14] != b"\x29\x03":
        h.fail(f"the other thread's session does not know of the reset: {header[3]} {sense.hex()}")
    one.socket.sendall(struct.pack(">BBxxxxxx8xIIII16x", 0x42, 0x80 | 7, 52, 0xffffffff, sn, one.stat_sn))   # TARGET COLD RESET
    one.ended()
    other.ended()
    h.wait_for(lambda: server.errors().count("session_ended") == 2, "the end of both sessions")
    clear_attention(lead(stack, server, name=f"{NAME}0"), 1)


def tools_do_not_notice(stack):
    server = stack.enter_context(h.serve("ram:64M", options=TWO))
    url = server.urls[0]
    for _ in range(4):
        h.run([h.PERILUNE, "ls", f"iscsi://{server.portal}"])
        h.run([h.PERILUNE, "readcap", url])
        h.run(["iscsi-ls", "-s", f"iscsi://{server.portal}"])
        h.run(["iscsi-inq", url])
    h.run([h.PERILUNE, "bench", url, "--rw", "randwrite", "--sessions", 6, "--depth", 8, "--seconds", 2, "--verify"])
    h.run([h.PERILUNE, "bench", url, "--rw", "read", "--bs", "256k", "--sessions", 3, "--depth", 4, "--seconds", 1])


@contextlib.contextmanager
def load(server, sessions=4, rw="randwrite"):
    process = h.start([h.PERILUNE, "bench", server.urls[0], "--rw", rw, "--sessions", sessions, "--depth", 16, "--seconds", 60],
                      stdout=h.subprocess.DEVNULL, stderr=h.subprocess.DEVNULL)
    try:
        h.wait_for(lambda: server.errors().count(" login connection=") >= sessions, "the sessions of the load")
        yield process
    finally:
        process.kill()
        process.wait()


def logins_under_load(stack):
    server = stack.enter_context(h.serve("ram:64M", options=TWO))
    with load(server):
        result = h.run([h.PERILUNE, "bench", server.urls[0], "--logins", "--sessions", 8, "--seconds", 3], timeout=60)
        h.say("   " + result.out.strip().replace("\n", "\n   "))
        for i in range(20):
            with contextlib.ExitStack() as own:
                wire = lead(own, server, name=f"{NAME}{i}")
                clear_attention(wire, 1)


def clients_are_killed(stack):
    server = stack.enter_context(h.serve("ram:64M", options=TWO))
    for _ in range(3):
        before = server.errors().count(" login connection=")
        with load(server, sessions=6) as process:
            h.wait_for(lambda: server.errors().count(" login connection=") >= before + 6, "six sessions")
            process.kill()
        h.wait_for(lambda: server.errors().count("session_ended") == server.errors().count(" login connection="),
                   "the end of every session")
    clear_attention(lead(stack, server, name=f"{NAME}0"), 1)


def sigterm_while_connections_move(stack):
    for backing in ("ram:64M", disk(stack)):
        server = h.Serve([backing], TWO)
        over = threading.Event()

        def log_in(number, server=server, over=over):
            while not over.is_set():
                with contextlib.suppress(OSError, EOFError, AssertionError), contextlib.ExitStack() as own:
                    lead(own, server, name=f"{NAME}{number}")
        clients = [threading.Thread(target=log_in, args=(i,)) for i in range(4)]
        try:
            with load(server):
                for client in clients:
                    client.start()
                h.wait_for(lambda: server.errors().count("session_ended") > 4, "logins to come and go")
                server.process.send_signal(signal.SIGTERM)
                server.process.send_signal(signal.SIGTERM)     # a second one changes nothing
                server.stop()                                   # and a third; exit code 0
        finally:
            over.set()
            for client in clients:
                client.join()
            server.process.kill()


def disk(stack):
    path = h.temp_dir(stack) / "disk"
    with open(path, "wb") as f:
        f.truncate(64 << 20)
    return path


def numbers_out_of_bounds_are_refused(stack):
    for number in ("0", "65", "-1", "two"):
        done = h.run([h.PERILUNE, "serve", "--threads", number, "ram:16M"], check=False)
        if done.code != 2:
            h.fail(f"--threads {number}: {done}")


if __name__ == "__main__":
    h.need("iscsi-ls", "iscsi-inq")
    h.main(sessions_land_on_both_threads, a_session_is_reinstated_on_another_thread, connections_join_on_another_thread,
           compare_and_write_is_atomic_over_all_threads, a_reset_reaches_every_thread, tools_do_not_notice,
           logins_under_load, clients_are_killed, sigterm_while_connections_move,
           numbers_out_of_bounds_are_refused)
