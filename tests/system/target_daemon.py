#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The target daemon: what an administrator changes while initiators are at work, what a refused command leaves behind (nothing), and
what a kill -9 leaves (everything that was answered)."""
import os
import pathlib
import random
import signal
import socket
import struct
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "conformance"))

import harness as h
import raw_pdu as p
import targetd as d

A, B = "iqn.2026-11.io.perilune:a", "iqn.2026-11.io.perilune:b"
HOST, OTHER = "iqn.2026-11.io.perilune:host", "iqn.2026-11.io.perilune:other"
MIB = 1 << 20
RESIZED = (6, 0x2a, 0x09)
LUNS_CHANGED, POWER_ON, NO_LUN = (6, 0x3f, 0x0e), (6, 0x29, 0x00), (5, 0x25, 0x00)
PROTECTED = (7, 0x27, 0x00)
TEST_UNIT_READY = bytes(6)
_isid = iter(range(1, 1 << 16))


def disk(daemon, name, size=4 * MIB):
    path = daemon.folder / name
    with open(path, "wb") as f:
        f.truncate(size)
    return path


def login(stack, port, target, name=HOST, chap=None):
    connection = p.Connection(("127.0.0.1", port), name=name, isid=struct.pack(">HI", 0x8000, next(_isid)))
    stack.callback(connection.close)
    return connection.login(target)


def refused_login(stack, port, target, name=HOST):
    """The status class and detail."""
    connection = p.Connection(("127.0.0.1", port), name=name, isid=struct.pack(">HI", 0x8000, next(_isid)))
    stack.callback(connection.close)
    pdu = connection.login_step(0x87, *connection.names(target))
    return pdu.bhs[36] << 8 | pdu.bhs[37]


def refused(client, op, **args):
    try:
        client(op, **args)
    except d.Refused as e:
        return str(e)
    raise AssertionError(f"{op} was not refused")


def sense(session, lun, cdb=TEST_UNIT_READY, edtl=0, **fields):
    return session.run(cdb, edtl, lun=lun, **fields).asc


class Load(threading.Thread):
    """Writes and reads one LUN until told to stop. `told`: the unit attentions that it hears; what else goes wrong is `trouble`."""

    def __init__(self, session, lun):
        super().__init__(daemon=True)
        self.session, self.lun, self.count, self.trouble, self.over = session, lun, 0, None, threading.Event()
        self.told = set()

    def run(self):
        try:
            while not self.over.is_set():
                data = struct.pack(">I", self.count) * 128
                at = self.count % 64
                self.good(p.write10(at, 1), write=data)
                assert self.good(p.read10(at, 1), 512).data == data
                self.count += 1
        except BaseException as e:
            self.trouble = e

    def good(self, cdb, edtl=0, **fields):
        while (result := self.session.run(cdb, edtl, lun=self.lun, **fields)).asc and result.asc[0] == 6:
            self.told.add(result.asc)
        assert result.status == p.GOOD, result
        return result

    def finish(self):
        before = self.count
        h.wait_for(lambda: self.count > before or self.trouble, "the load to go on")
        self.over.set()
        self.join(30)
        assert self.trouble is None, f"the load was disturbed: {self.trouble}"


def live_changes(stack, threads):
    daemon = d.Targetd(stack, threads)
    c = daemon.client()
    port = h.free_port()
    c("commit", changes=[*d.add_file("one", disk(daemon, "one"), "11111111-2222-3333-4444-555555555555", 4 * MIB),
                         *d.add_target(A, port), d.add_lun(A, 0, "one")])
    busy = login(stack, port, A)
    assert sense(busy, 0) == POWER_ON
    load = Load(busy, 0)
    load.start()
    watcher = login(stack, port, A, name=OTHER)
    assert sense(watcher, 0) == POWER_ON
    # VPD 83 has the NAA that LIO derives from the serial.
    page = watcher.good(struct.pack(">BBBHx", 0x12, 1, 0x83, 255), 255).data
    assert bytes.fromhex("60014051111111122223333444455555") in page, page.hex()
    two = disk(daemon, "two")
    for _ in range(5):
        c("commit", changes=[*d.add_file("two", two, "two-serial", 4 * MIB), d.add_lun(A, 5, "two")])
        assert sense(watcher, 5) == POWER_ON
        assert sense(watcher, 0) == LUNS_CHANGED
        watcher.clear_attentions((0, 5))
        watcher.good(p.write10(3, 1), lun=5, write=b"\x33" * 512)
        c("commit", changes=[d.remove("lun", d.lun(A, 5)), d.remove("alua_group", d.alua_group("two")),
                             d.remove("storage_object", d.storage("two"))])
        assert sense(watcher, 5) == NO_LUN
        watcher.clear_attentions((0,))
        assert two.read_bytes()[3 * 512:4 * 512] == b"\x33" * 512
    busy_session = next(s for s in c("sessions")["sessions"] if s["initiator"] == HOST)
    assert busy_session["target"] == A and busy_session["tag"] == 1 and len(busy_session["connections"]) == 1, busy_session

    # Grown while it is served.
    os.truncate(daemon.folder / "one", 8 * MIB)
    os.kill(daemon.process.pid, signal.SIGHUP)
    h.wait_for(lambda: "unit_resized" in daemon.errors(), "the resize in the log")
    h.wait_for(lambda: sense(watcher, 0) == RESIZED, "the attention of the resize")

    # A closed group: its sessions go, nobody comes; then it is open again.
    off = {"enable": False, "attributes": d.OPEN}
    load.finish()
    assert load.told <= {LUNS_CHANGED, RESIZED}, load.told
    c("commit", changes=[d.change("portal_group", d.group(A), off)])
    h.wait_for(lambda: not c("sessions")["sessions"], "the sessions to end")
    assert refused_login(stack, port, A) == 0x0301
    c("commit", changes=[d.change("portal_group", d.group(A), {**off, "enable": True})])
    again = login(stack, port, A)
    c("pause", target=A, tag=1)
    assert refused_login(stack, port, A) == 0x0301
    again.clear_attentions((0,)).good(p.read10(0, 1), 512)
    c("resume", target=A, tag=1)
    login(stack, port, A, name=OTHER)
    c("drain", target=A, tag=1, seconds=1)
    h.wait_for(lambda: not c("sessions")["sessions"], "the sessions to be dropped")
    assert refused_login(stack, port, A) == 0x0301
    daemon.stop()


def access(stack):
    daemon = d.Targetd(stack, 2)
    c = daemon.client()
    port = h.free_port()
    closed = {"generate_node_acls": 0}
    c("commit", changes=[*d.add_file("one", disk(daemon, "one"), "one", 4 * MIB), *d.add_target(A, port, **closed), d.add_lun(A, 3, "one"),
                         d.add("node_acl", d.acl(A, HOST), {}),
                         d.add("mapped_lun", {**d.acl(A, HOST), "mapped_lun": 0}, {"tpg_lun": 3, "write_protect": True})])
    assert refused_login(stack, port, A, OTHER) == 0x0202
    session = login(stack, port, A).clear_attentions((0,))
    assert sense(session, 3) == NO_LUN
    assert session.run(p.write10(0, 1), lun=0, write=bytes(512)).asc == PROTECTED
    c("commit", changes=[d.change("mapped_lun", {**d.acl(A, HOST), "mapped_lun": 0}, {"tpg_lun": 3, "write_protect": False})])
    session.clear_attentions((0,))
    session.good(p.write10(0, 1), write=bytes(512))
    # Its ACL goes: so does the session.
    c("commit", changes=[d.remove("mapped_lun", {**d.acl(A, HOST), "mapped_lun": 0}), d.remove("node_acl", d.acl(A, HOST))])
    h.wait_for(lambda: not c("sessions")["sessions"], "the session to end")
    assert refused_login(stack, port, A) == 0x0202
    # CHAP of the ACL.
    c("commit", changes=[d.change("portal_group", d.group(A), {"enable": True, "attributes": {**d.OPEN, **closed, "authentication": 1}}),
                         d.add("node_acl", d.acl(A, HOST), {"chap_userid": "someone", "chap_password": "short"})])
    assert refused_login(stack, port, A) == 0x0201
    daemon.stop()


def secrets_outside(stack):
    """A secret that is kept in a file: read when it is named, at the start and by SIGHUP, and written nowhere else."""
    daemon = d.Targetd(stack)
    c, port = daemon.client(), h.free_port()
    where = pathlib.Path(h.temp_dir(stack)) / "secret"
    group = f"/iscsi/{A}/tpg1"

    def keep(text, mode=0o600):
        where.write_text(text)
        where.chmod(mode)

    def targetcli(*words, code=0):
        done = h.run([h.PERILUNE, "targetcli", "--socket", daemon.socket, *words], check=False)
        assert done.code == code, done
        return done.out + done.err

    def admitted(secret):
        return h.run([h.PERILUNE, "inq", f"iscsi://someone%{secret}@127.0.0.1:{port}/{A}/0"], check=False).code == 0

    def reload(event):
        seen = daemon.errors().count(event)
        os.kill(daemon.process.pid, signal.SIGHUP)
        h.wait_for(lambda: daemon.errors().count(event) > seen, event, process=daemon.process)

    c("commit", changes=[*d.add_file("one", disk(daemon, "one"), "one", 4 * MIB), *d.add_target(A, port, authentication=1), d.add_lun(A, 0, "one")])
    before = c("configuration")
    set_auth = (group, "set", "auth", "userid=someone", f"password=@file:{where}")
    assert f"{where}: No such file or directory" in targetcli(*set_auth, code=1)
    keep("secret-of-someone\n", 0o644)
    assert f"{where} may be opened by others than its owner; chmod it to 0600" in targetcli(*set_auth, code=1)
    assert c("configuration") == before
    keep("secret-of-someone\n")
    assert f"password is now '@file:{where}'" in targetcli(*set_auth)
    assert admitted("secret-of-someone") and not admitted("another-secret-1") and not admitted(f"@file:{where}")
    # Another secret holds from SIGHUP on; one that cannot be read changes nothing.
    keep("another-secret-1")
    assert admitted("secret-of-someone")
    reload("secrets_changed count=1")
    assert admitted("another-secret-1") and not admitted("secret-of-someone")
    where.unlink()
    reload("secret_not_read")
    assert admitted("another-secret-1")
    # Without it at the start nobody gets in.
    daemon.stop()
    daemon.start()
    assert f'not_served reason="{group}: {where}: No such file' in daemon.errors(), daemon.errors()
    assert not admitted("another-secret-1") and not admitted("")
    keep("another-secret-1")
    c = daemon.client()
    c("reload")
    assert admitted("another-secret-1")
    # The journal, the export, backups and the log know where it is, and nothing more.
    c("save")
    c("save")
    daemon.stop()
    texts = {path: path.read_bytes() for path in daemon.folder.rglob("*") if path.is_file() and path.name != "one"}
    assert any(f"@file:{where}".encode() in text for text in texts.values())
    for path, text in texts.items():
        assert b"secret-of-someone" not in text and b"another-secret-1" not in text, path


def refusals(stack):
    """A command that fails has changed nothing, in memory, on the wire and on disk."""
    daemon = d.Targetd(stack)
    c = daemon.client()
    port, taken = h.free_port(), h.free_port()
    c("commit", changes=[*d.add_file("one", disk(daemon, "one"), "one", 4 * MIB), *d.add_target(A, port), d.add_lun(A, 0, "one")])
    before = c("configuration")
    stack.enter_context(socket.create_server(("127.0.0.1", taken)))
    missing = daemon.folder / "missing"
    cases = {
        str(missing): d.add_file("two", missing, "two", MIB),
        f"127.0.0.1:{taken}": d.add_target(B, taken),
        "exported by another target": [*d.add_target(B, h.free_port()), d.add_lun(B, 0, "one")],
        "already": d.add_file("one", missing, "two", MIB),
    }
    for words, changes in cases.items():
        message = refused(c, "commit", changes=[*d.add_file("three", disk(daemon, "three"), "three", 4 * MIB), *changes])
        assert words in message, (words, message)
        assert c("configuration") == before, words
    assert refused_login(stack, port, B) == 0x0203
    # What the failed transactions had opened is closed again.
    c("commit", changes=d.add_file("three", daemon.folder / "three", "three", 4 * MIB))
    assert "no operation" in refused(c, "nonsense")
    assert "changes must be a list" in refused(c, "commit")
    assert "take away all" in refused(c, "restore", saveconfig='{"storage_objects": [], "fabric_modules": [], "targets": []}')
    assert "no command" in refused(c, "command", front_end="nonsense", arguments=[])
    # Two of one daemon.
    second = h.run([h.PERILUNE, "targetd", "--foreground", "--config", daemon.folder / "etc", "--socket", daemon.folder / "other"], check=False)
    assert second.code == 1 and "busy" in second.err + second.out or "use" in second.err, second
    daemon.stop()


def events(stack):
    daemon = d.Targetd(stack)
    c, watcher = daemon.client(), daemon.client()
    watcher.send("subscribe")
    assert watcher.read()["progress"]["event"] == "subscribed"
    port = h.free_port()
    number = c("commit", why="a test", changes=[*d.add_file("one", disk(daemon, "one"), "one", 4 * MIB), *d.add_target(A, port),
                                                d.add_lun(A, 0, "one")])["sequence"]
    told = watcher.read()["progress"]
    assert told["event"] == "transaction" and told["sequence"] == number and told["who"].endswith("a test"), told
    assert f"add /iscsi/{A}/tpg1/luns/lun0" in told["changes"], told
    login(stack, port, A).close()
    seen = [watcher.read()["progress"] for _ in range(2)]
    assert [e["event"] for e in seen] == ["login", "session_ended"] and seen[0]["initiator"] == HOST, seen
    daemon.stop()


def restores(stack):
    """restore takes the difference alone; saving, and reading what was saved."""
    daemon = d.Targetd(stack)
    c = daemon.client()
    port = h.free_port()
    c("commit", changes=[*d.add_file("one", disk(daemon, "one"), "one", 4 * MIB), *d.add_target(A, port), d.add_lun(A, 0, "one")])
    saved = c("save")
    assert saved["path"] == str(daemon.folder / "etc/saveconfig.json") and os.stat(saved["path"]).st_mode & 0o777 == 0o600
    load = Load(login(stack, port, A).clear_attentions((0,)), 0)
    load.start()
    c("commit", changes=[*d.add_file("two", disk(daemon, "two"), "two", 4 * MIB), d.add_lun(A, 1, "two")])
    plan = c("restore", path=saved["path"], dry_run=True)["plan"]
    assert plan and all("two" in line or "lun1" in line for line in plan), plan
    c("restore", path=saved["path"])
    assert c("restore", path=saved["path"])["plan"] == []
    load.finish()
    assert load.told == {LUNS_CHANGED}, load.told
    assert c("save", path=str(daemon.folder / "elsewhere.json"))["path"].endswith("elsewhere.json")
    daemon.stop()


def replaces(stack):
    """An object that becomes another one under its LUNs, in one transaction: initiators find another unit. Where the other one cannot be
    had, the one of before is there again."""
    daemon = d.Targetd(stack, 2)
    c = daemon.client()
    port = h.free_port()
    c("commit", changes=[*d.add_file("one", disk(daemon, "one"), "one", 4 * MIB), *d.add_file("two", disk(daemon, "two"), "two", 4 * MIB),
                         *d.add_target(A, port), d.add_lun(A, 0, "one"), d.add_lun(A, 1, "two")])
    saved = c("save")["path"]
    session = login(stack, port, A).clear_attentions((0, 1))
    load = Load(login(stack, port, A, name=OTHER).clear_attentions((0, 1)), 1)
    load.start()
    session.good(p.write10(0, 1), write=b"\x11" * 512)
    text = pathlib.Path(saved).read_text()
    other = daemon.folder / "other.json"
    other.write_text(text.replace(f'"{daemon.folder}/one"', f'"{disk(daemon, "other")}"'))
    c("restore", path=str(other))
    assert sense(session, 0) == POWER_ON
    session.clear_attentions((0, 1))
    assert session.good(p.read10(0, 1), 512).data == bytes(512), "another disk"
    missing = daemon.folder / "missing.json"
    missing.write_text(text.replace(f'"{daemon.folder}/one"', f'"{daemon.folder}/nowhere"'))
    assert "nowhere" in refused(c, "restore", path=str(missing))
    session.clear_attentions((0, 1))
    session.good(p.write10(0, 1), write=b"\x22" * 512)
    c("restore", path=saved)
    session.clear_attentions((0, 1))
    assert session.good(p.read10(0, 1), 512).data == b"\x11" * 512
    # Read-only and back, in place.
    for read_only in (True, False):
        c("commit", changes=[d.change("storage_object", d.storage("one"), {"dev": str(daemon.folder / "one"), "wwn": "one", "size": 4 * MIB,
                                                                           "readonly": read_only})])
        session.clear_attentions((0, 1))
        assert (session.run(p.write10(0, 1), write=b"\x11" * 512).asc == PROTECTED) == read_only
    load.finish()
    assert load.told == {LUNS_CHANGED}, load.told


def finds_a_backing_that_was_missing(stack):
    """A backing that is not there at the start is served when it comes, without a restart; initiators are told."""
    daemon = d.Targetd(stack, 2)
    port = h.free_port()
    path = disk(daemon, "one")
    daemon.client()("commit", changes=[*d.add_file("one", path, "one", 4 * MIB), *d.add_file("two", disk(daemon, "two"), "two", 4 * MIB),
                                       *d.add_target(A, port), d.add_lun(A, 0, "two"), d.add_lun(A, 1, "one")])
    daemon.stop()
    away = path.rename(daemon.folder / "away")
    daemon.start()
    assert "not_served" in daemon.errors(), daemon.errors()
    watcher = daemon.client()
    watcher.send("subscribe")
    assert watcher.read()["progress"]["event"] == "subscribed"
    session = login(stack, port, A).clear_attentions((0,))
    assert sense(session, 1) == NO_LUN
    away.rename(path)
    while (event := watcher.read()["progress"])["event"] == "login":
        pass
    assert event == {"event": "served_again", "object": "/backstores/fileio/one"}, event
    assert sense(session, 0) == LUNS_CHANGED
    session.clear_attentions((0, 1)).good(p.write10(0, 1), lun=1, write=b"\x44" * 512)
    daemon.stop()
    assert path.read_bytes()[:512] == b"\x44" * 512


def waits_for_its_ports(stack):
    """A port that is still held when the daemon starts, as by one that was killed a moment ago, is waited for."""
    daemon = d.Targetd(stack)
    port = h.free_port()
    daemon.client()("commit", changes=[*d.add_file("one", disk(daemon, "one"), "one", 4 * MIB), *d.add_target(A, port), d.add_lun(A, 0, "one")])
    daemon.stop()
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", port))
    holder.listen()
    letting_go = threading.Timer(0.3, holder.close)
    letting_go.start()
    daemon.start()
    letting_go.join()
    login(stack, port, A).clear_attentions((0,))
    daemon.stop()


def serves_an_address_that_comes_later(stack):
    """An address that the machine does not have is refused to an administrator; but when the daemon starts, it may be on its way."""
    if os.geteuid() != 0:
        print("not run: needs root to give this machine an address")
        return
    address, port = "192.0.2.1", h.free_port()
    portal = d.add("portal", {**d.group(A), "address": address, "port": port}, {})
    daemon = d.Targetd(stack)
    daemon.client()("commit", changes=d.add_target(A, h.free_port()))
    assert address in refused(daemon.client(), "commit", changes=[portal])

    def give(what):
        subprocess.run(["ip", "address", what, f"{address}/32", "dev", "lo"], check=True)

    give("add")
    stack.callback(lambda: subprocess.run(["ip", "address", "del", f"{address}/32", "dev", "lo"], stderr=subprocess.DEVNULL))
    daemon.client()("commit", changes=[portal])
    daemon.stop()
    give("del")
    daemon.start()
    assert "not_served" not in daemon.errors(), daemon.errors()
    give("add")
    connection = p.Connection((address, port), name=HOST, isid=struct.pack(">HI", 0x8000, next(_isid)))
    stack.callback(connection.close)
    connection.login(A)
    daemon.stop()


def killed(stack):
    """kill -9 at any moment: a restart has every transaction that was answered, and no half of another."""
    daemon = d.Targetd(stack)
    seed = random.randrange(1 << 30)
    dice = random.Random(seed)
    port = h.free_port()
    c = daemon.client()
    path = disk(daemon, "keeper")
    c("commit", changes=[*d.add_file("keeper", path, "keeper", 4 * MIB), *d.add_target(A, port), d.add_lun(A, 0, "keeper")])
    session = login(stack, port, A).clear_attentions((0,))
    # PERSISTENT RESERVE OUT, REGISTER with APTPL.
    parameters = struct.pack(">QQ4xB3x", 0, 0xabcdef, 1)
    session.good(struct.pack(">BBBxxIB", 0x5f, 0x00, 0x00, 24, 0), write=parameters)
    answered, number = set(), 0
    for round_ in range(4):
        c = daemon.client()
        stop = threading.Timer(dice.uniform(0.0, 0.25), daemon.kill)
        stop.start()
        try:
            while True:
                name = f"r{number}"
                number += 1
                c("commit", changes=[d.add("storage_object", d.storage(name, "ramdisk"), {"wwn": name, "size": MIB}),
                                     d.add("alua_group", d.alua_group(name, "ramdisk"), {"tg_pt_gp_id": 0})])
                answered.add(name)
        except (OSError, EOFError):
            pass
        stop.join()
        daemon.start()
        text = daemon.client()("configuration")["saveconfig"]
        for name in answered:
            assert f'"name": "{name}"' in text, f"{name} is lost (seed {seed})"
    assert answered
    session = login(stack, port, A).clear_attentions((0,))
    keys = session.good(struct.pack(">BBxxxxxHx", 0x5e, 0x00, 64), 64).data
    assert keys[8:16] == struct.pack(">Q", 0xabcdef), keys.hex()
    daemon.stop()


def live_on_one_thread(stack):
    live_changes(stack, 1)


def live_on_two_threads(stack):
    live_changes(stack, 2)


if __name__ == "__main__":
    h.main(live_on_one_thread, live_on_two_threads, access, secrets_outside, refusals, events, restores, replaces,
           finds_a_backing_that_was_missing, waits_for_its_ports,
           serves_an_address_that_comes_later, killed)
