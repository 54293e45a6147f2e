#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the daemon has given up when it serves: system calls that it does not need, capabilities, root; and that the root helper
does for it what it still needs, and no more."""
import os
import pathlib
import pwd
import re
import signal
import socket
import stat
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "conformance"))

import harness as h
import raw_pdu as p
import targetd as d

TARGET = "iqn.2026-11.io.perilune:confined"
MIB = 1 << 20
# CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_NET_BIND_SERVICE: capability.h's numbers
HELPER_CAPABILITIES = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 10


def status_of(pid, thread=None):
    """/proc/PID/status as a dictionary."""
    path = pathlib.Path(f"/proc/{pid}") if thread is None else pathlib.Path(f"/proc/{pid}/task/{thread}")
    return dict(re.findall(r"^(\w+):\s*(.*)$", (path / "status").read_text(), re.M))


def threads_of(pid):
    return [entry.name for entry in pathlib.Path(f"/proc/{pid}/task").iterdir()]


def sanitized(daemon):
    return "built with a sanitizer" in daemon.errors()


def helper_of(daemon):
    return int(re.findall(r"privileges dropped user=\S+ helper=(\d+)", daemon.errors())[-1])


def ended(pid):
    try:
        # Nobody may have waited for it in a container. Its files are closed when its last thread has gone.
        return status_of(pid)["State"].startswith("Z") and len(os.listdir(f"/proc/{pid}/task")) == 1
    except (FileNotFoundError, ProcessLookupError):
        return True


def is_root():
    if os.geteuid() == 0:
        return True
    print("this test gives up root's rights, and has none", flush=True)
    return False


def login(stack, port):
    connection = p.Connection(("127.0.0.1", port), name="iqn.2026-11.io.perilune:host", isid=struct.pack(">HI", 0x8000, 1))
    stack.callback(connection.close)
    return connection.login(TARGET).clear_attentions((0,))


def low_port():
    """One below 1024 that nobody listens on."""
    for port in range(861, 1024):
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise AssertionError("no free port below 1024")


def private_disk(daemon):
    """A file that only root reaches."""
    folder = daemon.folder / "private"
    folder.mkdir(mode=0o700)
    path = folder / "disk"
    with open(path, "wb") as f:
        f.truncate(4 * MIB)
    path.chmod(0o600)
    return path


def refused(client, op, **args):
    try:
        client(op, **args)
    except d.Refused as e:
        return str(e)
    raise AssertionError(f"{op} was not refused")


def system_calls(stack):
    daemon = d.Targetd(stack, threads=2)
    if sanitized(daemon):
        return  # the daemon has said so, and serves
    assert "info seccomp on" in daemon.errors(), daemon.errors()
    pid = daemon.process.pid
    for thread in threads_of(pid):
        assert status_of(pid, thread)["Seccomp"] == "2", f"thread {thread} is not filtered"
    daemon.client()("version")
    daemon.stop()


def without_filter(stack):
    daemon = d.Targetd(stack, options=["--no-seccomp", "--keep-privileges"])
    assert "warning seccomp off" in daemon.errors(), daemon.errors()
    assert "warning privileges kept" in daemon.errors(), daemon.errors()
    status = status_of(daemon.process.pid)
    assert status["Seccomp"] == "0" and status["CapEff"] == status_of("self")["CapEff"], status
    daemon.stop()


def capabilities(stack):
    if not is_root():
        return
    daemon = d.Targetd(stack, threads=2)
    pid = daemon.process.pid
    for thread in threads_of(pid):
        status = status_of(pid, thread)
        for which in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert int(status[which], 16) == 0, (thread, which, status[which])
        assert status["NoNewPrivs"] == "1", thread
    helper = status_of(helper_of(daemon))
    assert helper["Name"] == "perilune-root" and helper["PPid"] == str(pid), helper
    assert int(helper["CapEff"], 16) & ~HELPER_CAPABILITIES == 0 and helper["NoNewPrivs"] == "1", helper
    assert sanitized(daemon) or helper["Seccomp"] == "2", helper
    daemon.stop()


def as_nobody(stack):
    """A user without rights serves what only root may open, on a port that only root may have."""
    if not is_root():
        return
    daemon = d.Targetd(stack, threads=2, options=["--user", "nobody"])
    disk, port = private_disk(daemon), low_port()
    uid = pwd.getpwnam("nobody").pw_uid
    assert set(status_of(daemon.process.pid)["Uid"].split()) == {str(uid)}
    c = daemon.client()
    c("commit", changes=[*d.add_file("one", disk, "one-serial", 4 * MIB), *d.add_target(TARGET, port), d.add_lun(TARGET, 0, "one")])
    session = login(stack, port)
    session.good(p.write10(3, 1), write=b"\x5a" * 512)
    # FUA, whose descriptor is an open of its own.
    session.good(struct.pack(">BBIBHB", 0x2a, 0x08, 4, 0, 1, 0), write=b"\xa5" * 512)
    assert disk.read_bytes()[3 * 512:5 * 512] == b"\x5a" * 512 + b"\xa5" * 512
    # What it has made belongs to it, and others may not look.
    for folder in (daemon.folder / "etc", daemon.folder / "etc" / "state"):
        assert folder.stat().st_uid == uid and folder.stat().st_mode & 0o077 == 0, (folder, folder.stat())
    # targetcli finds the file usable, and makes one where the user could not.
    cli = [h.PERILUNE, "targetcli"]
    environment = {"PERILUNE_TARGETD_SOCKET": str(daemon.socket)}
    made = disk.parent / "made"
    h.run([*cli, "/backstores/fileio", "create", "two", made, "1M"], env=environment)
    assert made.stat().st_uid == uid and made.stat().st_mode & 0o777 == 0o600 and made.stat().st_size == MIB, made.stat()
    message = refused(c, "commit", changes=d.add_file("bad", "/etc/shadow", "bad-serial", 4 * MIB))
    assert "/etc/shadow is not below a folder in which the root helper opens files (--backing-folder)" in message, message
    # Killed and started again it finds all of it, and its own files.
    daemon.kill()
    daemon.start()
    login(stack, port).good(p.read10(3, 1), 512)
    daemon.stop()


def a_secret_by_the_helper(stack):
    """A credential of systemd's is root's, in a folder that only root enters."""
    if not is_root():
        return
    folder = pathlib.Path(h.temp_dir(stack))
    (folder / "host").write_text("secret-of-host\n")
    (folder / "host").chmod(0o400)
    daemon = d.Targetd(stack, options=["--user", "nobody", "--backing-folder", "/srv"], prefix=["env", f"CREDENTIALS_DIRECTORY={folder}"])
    c, port = daemon.client(), h.free_port()
    c("commit", changes=[d.add("storage_object", d.storage("one", "ramdisk"), {"wwn": "one", "size": MIB}),
                         d.add("alua_group", d.alua_group("one", "ramdisk"), {"tg_pt_gp_id": 0}),
                         *d.add_target(TARGET, port), d.add_lun(TARGET, 0, "one", "ramdisk")])
    account = {"enable": True, "chap_userid": "someone", "chap_password_from": "@credential:host", "attributes": {**d.OPEN, "authentication": 1}}
    c("commit", changes=[d.change("portal_group", d.group(TARGET), account)])
    h.run([h.PERILUNE, "inq", f"iscsi://someone%secret-of-host@127.0.0.1:{port}/{TARGET}/0"])
    message = refused(c, "commit", changes=d.add_file("bad", folder / "host", "bad-serial", MIB))
    assert "is not below a folder in which the root helper opens files" in message, message
    daemon.stop()


def background(stack, folder, options):
    """A daemon that has left its terminal; its number."""
    h.run([h.PERILUNE, "targetd", "--config", folder / "etc", "--socket", folder / "run" / "targetd.sock", *options])
    client = d.Client(folder / "run" / "targetd.sock")
    pid, _, _ = struct.unpack("3i", client.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))

    def end():
        client.close()
        if not ended(pid):
            os.kill(pid, signal.SIGTERM)
            h.wait_for(lambda: ended(pid), "the daemon to end")
    stack.callback(end)
    return client, pid


def walk(folder, shared):
    """All that is in it: relative paths, and what of it has another mode than 0600, or 0700 of a folder, or `shared` of the socket's."""
    found, wrong = set(), []
    for path in folder.rglob("*"):
        info = path.lstat()
        found.add(str(path.relative_to(folder)))
        right = shared if path == folder / "run" else 0o700 if stat.S_ISDIR(info.st_mode) else 0o600
        if stat.S_IMODE(info.st_mode) != right:
            wrong.append(f"{oct(info.st_mode)} {path}")
    return found, wrong


def everything_is_private(stack, options=()):
    """Each file that it makes, whatever the mask that it was started with: state, records, export, backups, log, socket."""
    folder = pathlib.Path(h.temp_dir(stack))
    folder.chmod(0o711)
    (folder / "etc").mkdir(mode=0o600)   # as LIO's targetcli leaves it
    before = os.umask(0)
    stack.callback(os.umask, before)
    client, pid = background(stack, folder, options)
    port = h.free_port()
    made = pathlib.Path(h.temp_dir(stack)) / "made"
    made.parent.chmod(0o777)
    h.run([h.PERILUNE, "targetcli", "--socket", folder / "run" / "targetd.sock", "/backstores/fileio", "create", "one", made, "4M"])
    client("commit", changes=[*d.add_target(TARGET, port), d.add_lun(TARGET, 0, "one")])
    session = login(stack, port)
    session.good(struct.pack(">BBBxxIB", 0x5f, 0x00, 0x00, 24, 0), write=struct.pack(">QQ4xB3x", 0, 0xabcdef, 1))  # a key that is kept
    session.good(struct.pack(">BBIBHB", 0x2a, 0x08, 4, 0, 1, 0), write=b"\xa5" * 512)
    # A journal long enough to become a snapshot; two exports, so that there is a backup; and a journal that was torn.
    for number in (0, 2000):
        client("commit", changes=[d.add("node_acl", d.acl(TARGET, f"iqn.2026-11.io.perilune:{n:0190}"), {"chap_userid": "u" * 250})
                                  for n in range(number, number + 2000)])
        client("save")
    os.kill(pid, signal.SIGKILL)
    h.wait_for(lambda: ended(pid), "the daemon to die")
    with open(folder / "etc/state/journal", "ab") as journal:
        journal.write(b"half a rec")
    (folder / "etc").chmod(0o600)        # again, now that it may be the user's
    background(stack, folder, options)
    found, wrong = walk(folder, 0o1770 if options else 0o700)   # root's stays root's, and the user makes its own there
    assert not wrong, wrong
    missed = {"etc/saveconfig.json", "etc/backup/lock", "etc/state/snapshot", "etc/state/journal", "etc/state/journal.torn", "etc/state/lock",
              "etc/state/units/atomic-journal", "run/targetd.sock", "run/targetd.sock.lock", "run/targetd.log"} - found
    assert not missed and any("unit-" in path for path in found) and any(path.endswith(".gz") for path in found), (missed, found)
    assert stat.S_IMODE(made.stat().st_mode) == 0o600, made.stat()


def everything_is_private_as_nobody(stack):
    if is_root():
        everything_is_private(stack, ["--user", "nobody"])


def helper_dies(stack):
    """The server goes on; what needs the helper says so."""
    if not is_root():
        return
    daemon = d.Targetd(stack, options=["--user", "nobody"])
    disk, port = private_disk(daemon), h.free_port()
    c = daemon.client()
    c("commit", changes=[*d.add_file("one", disk, "one-serial", 4 * MIB), *d.add_target(TARGET, port), d.add_lun(TARGET, 0, "one")])
    session = login(stack, port)
    os.kill(helper_of(daemon), signal.SIGKILL)
    session.good(p.write10(0, 1), write=b"\x11" * 512)
    other = disk.parent / "other"
    other.write_bytes(bytes(MIB))
    message = refused(c, "commit", changes=d.add_file("two", other, "two-serial", MIB))
    assert f"{other}: the root helper has ended" in message, message
    session.good(p.read10(0, 1), 512)
    login(stack, port)
    daemon.stop()


def server_dies(stack):
    if not is_root():
        return
    daemon = d.Targetd(stack)
    helper = helper_of(daemon)
    assert pathlib.Path(f"/proc/{helper}").exists()
    daemon.kill()

    h.wait_for(lambda: ended(helper), "the helper to end")


if __name__ == "__main__":
    h.main(system_calls, without_filter, capabilities, as_nobody, a_secret_by_the_helper, everything_is_private, everything_is_private_as_nobody,
           helper_dies, server_dies)
