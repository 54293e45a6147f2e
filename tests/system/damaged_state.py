#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The daemon's own files when something is wrong with them: a disk that is full while the journal is written, bytes that are damaged or missing,
files of a later version. It goes on as before, finds what was answered, or says in one line which file it is and does not start."""
import contextlib
import os
import subprocess

import harness as h
import targetd as d

MIB = 1 << 20


def disk(number):
    name = f"disk{number}"
    return [d.add("storage_object", d.storage(name, "ramdisk"), {"size": MIB, "wwn": f"serial-{number}"}),
            d.add("alua_group", d.alua_group(name, "ramdisk"), {"tg_pt_gp_id": 0})]


def state_file(daemon, name):
    path, = daemon.folder.rglob(name)
    return path


def picture(client):
    now = client("configuration")
    return now["sequence"], now["saveconfig"]


def a_full_disk(stack):
    if os.geteuid() != 0:
        print("not run: needs root to mount a small file system")
        return
    daemon = d.Targetd(stack)
    client = daemon.client()
    client("commit", changes=disk(0))
    state = state_file(daemon, "journal").parent
    daemon.stop()
    kept = {path.name: path.read_bytes() for path in state.iterdir() if path.is_file()}
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k,mode=0700", "tmpfs", state], stderr=subprocess.PIPE)
    if mounted.returncode != 0:
        print(f"not run: {mounted.stderr.decode().strip()}")
        return
    stack.callback(lambda: subprocess.run(["umount", "-l", state], check=True))
    for name, content in kept.items():
        (state / name).write_bytes(content)
    daemon.start()
    client = daemon.client()
    with contextlib.suppress(OSError), open(state / "filler", "wb", buffering=0) as filler:
        while True:
            filler.write(b"x" * 4096)
    # The journal's last page still has room for a few.
    answered, number = picture(client), 0
    for number in range(1, 100):
        try:
            client("commit", changes=disk(number))
        except d.Refused as refused:
            assert "No space left" in str(refused) and "journal" in str(refused) and "\n" not in str(refused), refused
            break
        answered = picture(client)
    else:
        raise AssertionError("the disk was never full")
    assert picture(client) == answered, "a refused command is in force"
    for again in range(3):
        try:
            client("commit", changes=disk(number))
            raise AssertionError("the disk is full, and a command was answered")
        except d.Refused:
            assert picture(client) == answered
    (state / "filler").unlink()
    client("commit", changes=disk(number))
    answered = picture(client)
    daemon.kill()
    daemon.start()
    assert picture(daemon.client()) == answered, "a restart finds something else"
    daemon.stop()


def start(daemon):
    """None when the daemon is ready; else its exit code and what it said."""
    daemon.log.unlink(missing_ok=True)
    try:
        daemon.start()
        return None
    except AssertionError:
        if daemon.process.poll() is None:
            raise
        return daemon.process.returncode, [line for line in daemon.errors().splitlines() if line.startswith("targetd: ")]


def damaged(stack):
    daemon = d.Targetd(stack)
    client = daemon.client()
    pictures = [picture(client)]
    for number in range(4):
        client("commit", changes=disk(number))
        pictures.append(picture(client))
    daemon.stop()
    path = state_file(daemon, "journal")
    whole = path.read_bytes()
    lines = [at + 1 for at, byte in enumerate(whole) if byte == 10]

    def begins_with(content, why):
        """Starts with what some prefix of the transactions made, or refuses and leaves the file as it is."""
        path.write_bytes(content)
        for torn in path.parent.glob("journal.torn"):
            torn.unlink()
        refused = start(daemon)
        if refused is None:
            found = picture(daemon.client())
            daemon.stop()
            assert found in pictures, f"{why}: neither the state before nor after a transaction"
            return pictures.index(found)
        code, said = refused
        assert code not in (0, None) and code > 0, f"{why}: {refused}"
        assert len(said) == 1 and "journal" in said[0], f"{why}: {refused}"
        assert path.read_bytes() == content, f"{why}: the file that was refused has changed"
        return None

    assert begins_with(whole, "untouched") == 4
    # Cut: what is whole stands.
    for size in (lines[0], lines[1] - 1, lines[1], lines[1] + 1, lines[3] + 7, len(whole) - 1):
        expected = sum(1 for end in lines[1:] if end <= size)
        assert begins_with(whole[:size], f"cut at {size}") == expected, f"cut at {size}"
    assert begins_with(whole[:lines[0] - 5], "cut in its head") is None
    assert begins_with(b"", "empty") is None
    # Damaged in the middle: never silently half.
    for at in (0, 9, lines[0] + 3, lines[1] - 1, lines[1] + 30, lines[2] + 11):
        flipped = bytearray(whole)
        flipped[at] ^= 0x10
        assert begins_with(bytes(flipped), f"flipped at {at}") is None
    # Damaged in the last record: nobody can tell it from one that was being written.
    flipped = bytearray(whole)
    flipped[lines[3] + 20] ^= 1
    assert begins_with(bytes(flipped), "flipped in the last record") == 3
    later = whole.replace(b'"format":1', b'"format":2', 1)
    head = later[9:later.index(b"\n")]
    assert begins_with(b"%08x " % crc32c(head) + later[9:], "of a later version") is None
    assert "later version" in daemon.errors(), daemon.errors()
    assert begins_with(whole, "put back") == 4


def crc32c(data):
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


if __name__ == "__main__":
    h.main(a_full_disk, damaged)
