#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What an administrator gets wrong: each wrong name, path, number, duplicate, object in use and damaged file is one line on standard error
that names it, an exit code, and no change at all: not of the configuration, not of its number in the journal, not of any file."""
import contextlib
import gzip
import json
import os
import pathlib
import socket
import sys

import harness as h
import targetd as d

ONE = "iqn.2026-11.io.perilune:one"
HOST = "iqn.2026-11.io.perilune:host"
GROUP = f"/iscsi/{ONE}/tpg1"
ACL = f"{GROUP}/acls/{HOST}"
NOWHERE = "198.51.100.77"  # of documentation (RFC 5737): no address of this machine


class World:
    def __init__(self, stack):
        self.daemon = d.Targetd(stack)
        self.folder = self.daemon.folder
        self.files = self.folder / "files"
        self.files.mkdir()
        self.client = self.daemon.client()
        self.env = {**os.environ, "HOME": h.temp_dir(stack), "PERILUNE_TARGETD_SOCKET": str(self.daemon.socket)}
        self.port = h.free_port()
        taken = socket.create_server(("127.0.0.1", 0))
        stack.callback(taken.close)
        self.taken = taken.getsockname()[1]
        for line in (f"/backstores/fileio create disk {self.files}/disk.img 8M", "/backstores/ramdisk create memory 8M",
                     "set global auto_add_default_portal=false", f"/iscsi create {ONE}", f"{GROUP}/portals create 127.0.0.1 {self.port}",
                     f"{GROUP}/luns create /backstores/fileio/disk", f"{GROUP}/acls create {HOST}"):
            h.run([h.PERILUNE, "targetcli", line], env=self.env)
        self.write_files()

    def write_files(self):
        saved = self.client("configuration")["saveconfig"]
        gone = json.loads(saved)
        gone["storage_objects"] = []
        twice = json.loads(saved)
        twice["targets"] *= 2
        lun = json.loads(saved)
        lun["targets"][0]["tpgs"][0]["luns"][0]["index"] = 70000
        texts = {"good.json": saved, "half.json": saved[:len(saved) // 2], "list.json": "[1]", "number.json": '{"targets": 7}', "empty.json": "",
                 "gone.json": json.dumps(gone), "twice.json": json.dumps(twice), "lun.json": json.dumps(lun), "deep.json": "[" * 100_000,
                 "block.conf": f"<target {ONE}>\n", "word.conf": f"<target {ONE}x>\n  nonsense 1\n</target>\n",
                 "store.conf": f"<target {ONE}x>\n  backing-store {self.files}/nosuch.img\n</target>\n",
                 "user.conf": f"<target {ONE}x>\n  incominguser hugo\n</target>\n",
                 "address.conf": f"<target {ONE}x>\n  initiator-address 10.0.0.1/99\n</target>\n"}
        for name, text in texts.items():
            (self.files / name).write_text(text)
        packed = gzip.compress(saved.encode())
        (self.files / "half.gz").write_bytes(packed[:len(packed) // 2])
        (self.files / "binary.json").write_bytes(bytes(range(256)))
        (self.files / "folder").mkdir()

    def picture(self):
        now = self.client("configuration")
        files = sorted((str(path), path.stat().st_size) for path in self.folder.rglob("*") if path != self.daemon.log)
        return now["sequence"], now["saveconfig"], files

    def cases(self):
        """(program, words, exit code, what the line must name)."""
        files = self.files
        yield from (("targetcli", [line], 1, names) for line, names in [
            # Paths and commands.
            ("/nowhere ls", "/nowhere"), (f"/iscsi/{ONE}/tpg9 ls", f"/iscsi/{ONE}/tpg9"), ("cd /backstores/tape", "/backstores/tape"),
            ("/backstores/fileio/nosuch info", "nosuch"), ("explode", "explode"), ("/iscsi explode", "explode"), ("ls / x", "x"),
            ('ls "/iscsi', "column 4"), ("bookmarks go nosuch", "nosuch"), ("@nosuch ls", "nosuch"), ("help explode", "explode"),
            ("/iscsi delete", "wwn"), (f"/iscsi create {ONE}x what=1", "what"), (f"/iscsi create {ONE}x second", "second"),
            # Storage objects.
            (f"/backstores/fileio create disk {files}/other.img 8M", "disk"), (f"/backstores/fileio create other {files}/disk.img", "disk.img"),
            (f"/backstores/fileio create a/b {files}/other.img 8M", "a/b"), (f"/backstores/fileio create other {files}/other.img", "other.img"),
            (f"/backstores/fileio create other {files}/other.img 0", "0"), (f"/backstores/fileio create other {files}/other.img 12Q", "12Q"),
            (f"/backstores/fileio create other {files}/other.img -5", "-5"), (f"/backstores/fileio create other {files}/other.img 9999999T", "9999999T"),
            (f"/backstores/fileio create other {files}/other.img 18446744073709551616", "18446744073709551616"),
            (f"/backstores/fileio create other {files}/nosuch/other.img 8M", "other.img"), (f"/backstores/fileio create other {files}/folder", "folder"),
            ("/backstores/fileio create other /dev/null", "/dev/null"), (f"/backstores/fileio create other {files}/other.img 8M sparse=perhaps", "perhaps"),
            (f"/backstores/fileio create other {files}/other.img 8M wwn={'x' * 300}", "wwn"),
            ("/backstores/block create other /dev/nosuch", "/dev/nosuch"), (f"/backstores/block create other {files}/disk.img", "disk.img"),
            ("/backstores/pscsi create other /dev/nosuch", "/dev/nosuch"), ("/backstores/pscsi create other /dev/null", "/dev/null"),
            ("/backstores/ramdisk create memory 8M", "memory"), ("/backstores/ramdisk create other 0", "/backstores/ramdisk/other"), ("/backstores/ramdisk create other x", "x"),
            ("/backstores/fileio delete nosuch", "nosuch"), ("/backstores/fileio/disk set attribute emulate_tpu=7", "emulate_tpu"),
            ("/backstores/fileio/disk set attribute nonsense=1", "nonsense"), ("/backstores/fileio/disk get attribute nonsense", "nonsense"),
            ("/backstores/fileio/disk get nonsense", "nonsense"), ("/backstores/fileio/disk set attribute 1", "1"),
            ("/backstores/fileio/disk/alua create group x", "x"), ("/backstores/fileio/disk/alua create group 0", "0"),
            ("/backstores/fileio/disk/alua create default_tg_pt_gp 5", "default_tg_pt_gp"),
            ("/backstores/fileio/disk/alua delete nosuch", "nosuch"), ("/backstores/fileio/disk/alua delete default_tg_pt_gp", "default_tg_pt_gp"),
            # Targets and portal groups.
            (f"/iscsi create {ONE}", ONE), ("/iscsi create nonsense", "nonsense"), ("/iscsi create iqn.no", "iqn.no"), (f"/iscsi create {'iqn.2026-11.io:' + 'x' * 300}", "iqn.2026-11.io:"),
            ("/iscsi delete iqn.2026-11.io.perilune:nosuch", "iqn.2026-11.io.perilune:nosuch"), (f"/iscsi/{ONE} create tpg1", "1"),
            (f"/iscsi/{ONE} create 70000", "70000"), (f"/iscsi/{ONE} create x", "x"), (f"/iscsi/{ONE} delete 7", "7"),
            (f"{GROUP} set attribute authentication=7", "authentication"), (f"{GROUP} set parameter MaxBurstLength=12", "MaxBurstLength"),
            (f"{GROUP} set parameter MaxBurstLength=x", "MaxBurstLength"), (f"{GROUP} set auth nonsense=1", "nonsense"),
            (f"{GROUP} set auth userid={'u' * 300}", "userid"), ("/iscsi set discovery_auth enable=perhaps", "enable"),
            # LUNs, ACLs, portals.
            (f"{GROUP}/luns create /backstores/fileio/nosuch", "/backstores/fileio/nosuch"), (f"{GROUP}/luns create /backstores/fileio/disk", "disk"),
            (f"{GROUP}/luns create /backstores/ramdisk/memory lun0", "0"), (f"{GROUP}/luns create /backstores/ramdisk/memory 99999", "99999"),
            (f"{GROUP}/luns create /backstores/ramdisk/memory x", "x"), (f"{GROUP}/luns delete 7", "7"), (f"{GROUP}/luns delete x", "x"),
            (f"{GROUP}/luns/lun0 set alua alua_tg_pt_gp_name=nosuch", "nosuch"), (f"{GROUP}/acls create {HOST}", HOST),
            (f"{GROUP}/acls create nonsense", "nonsense"), (f"{GROUP}/acls delete {HOST}x", f"{HOST}x"), (f"{ACL} create 0 0", "0"),
            (f"{ACL} create 1 9", "9"), (f"{ACL} create x 0", "x"), (f"{ACL} create 99999 0", "99999"), (f"{ACL} create 1 0 perhaps", "perhaps"),
            (f"{ACL} delete 9", "9"), (f"{ACL} set attribute nonsense=1", "nonsense"), (f"{ACL} set attribute dataout_timeout=x", "dataout_timeout"),
            (f"{GROUP}/portals create 127.0.0.1 {self.port}", "127.0.0.1"), (f"{GROUP}/portals create 127.0.0.1 {self.taken}", str(self.taken)),
            (f"{GROUP}/portals create {NOWHERE} {self.port}", NOWHERE), (f"{GROUP}/portals create 999.1.1.1", "999.1.1.1"),
            (f"{GROUP}/portals create 127.0.0.1 0", "0"), (f"{GROUP}/portals create 127.0.0.1 70000", "70000"), (f"{GROUP}/portals create 127.0.0.1 x", "x"),
            (f"{GROUP}/portals delete 127.0.0.9 3260", "127.0.0.9"), (f"{GROUP}/portals delete 127.0.0.1 x", "x"),
            (f"{GROUP}/portals/127.0.0.1:{self.port} enable_iser true", "iSER"),
            # The whole.
            ("clearconfig", "confirm"), ("clearconfig confirm=perhaps", "confirm"), ("sessions explode", "explode"), ("sessions list x", "x"),
            ("set global nonsense=1", "nonsense"), ("set global tree_max_depth=x", "x"), ("bookmarks explode", "explode"),
            (f"saveconfig {files}/nosuch/save.json", "nosuch/save.json"), (f"saveconfig {files}/folder", "folder"), ("saveconfig /proc/nosuch", "/proc/nosuch"),
        ])
        wrong = [("nosuch.json", "nosuch.json"), ("folder", "folder"), ("half.json", "half.json"), ("list.json", "list.json"), ("number.json", "number.json"),
                 ("empty.json", "empty.json"), ("gone.json", "disk"), ("twice.json", ONE), ("lun.json", "lun"), ("deep.json", "deep.json"),
                 ("half.gz", "half.gz"), ("binary.json", "binary.json")]
        for verb in ("restoreconfig {} clear_existing=True", "apply {}", "diff {}"):
            yield from (("targetcli", [verb.format(files / name)], 1, names) for name, names in wrong)
        yield "targetcli", [f"restoreconfig {files}/good.json"], 1, "clear_existing"
        yield "targetcli", [f"restoreconfig {files}/good.json clear_existing=True target={ONE}x"], 1, f"{ONE}x"
        yield "targetcli", [f"restoreconfig {files}/good.json clear_existing=True storage_object=nosuch"], 1, "nosuch"
        lld = ["--lld", "iscsi"]
        unit = ["--mode", "logicalunit", "--tid", "1"]
        yield from (("tgtadm", words, code, names) for words, code, names in [
            (["--nonsense"], 22, "nonsense"), (["--tid"], 22, "tid"), ([*lld, "--mode", "nonsense", "--op", "show"], 1, "nonsense"),
            ([*lld, "--mode", "target", "--op", "nonsense"], 1, "nonsense"), ([*lld, "--mode", "target", "--op", "show", "--tid", "x"], 22, "x"),
            ([*lld, "--mode", "target", "--op", "show", "--tid", "99"], 22, "target"), ([*lld, "--mode", "target", "--op", "new", "--tid", "1", "-T", ONE + "x"], 22, "target"),
            ([*lld, "--mode", "target", "--op", "new", "--tid", "2", "-T", ONE], 22, "target"), ([*lld, "--mode", "target", "--op", "new", "--tid", "2", "-T", "nonsense"], 22, "nonsense"),
            ([*lld, "--mode", "target", "--op", "new", "--tid", "0", "-T", ONE + "x"], 22, "tid"), ([*lld, "--mode", "target", "--op", "new", "--tid", "2"], 22, "targetname"),
            ([*lld, "--mode", "target", "--op", "delete", "--tid", "9"], 22, "target"), ([*lld, "--mode", "target", "--op", "update", "--tid", "1", "-n", "nonsense", "-v", "1"], 22, "nonsense"),
            ([*lld, "--mode", "target", "--op", "update", "--tid", "1", "-n", "MaxBurstLength", "-v", "x"], 22, "MaxBurstLength"),
            ([*lld, "--mode", "target", "--op", "update", "--tid", "1", "-n", "state", "-v", "x"], 22, "state"),
            ([*lld, "--mode", "target", "--op", "bind", "--tid", "1", "-I", "10.0.0.1/99"], 22, "10.0.0.1/99"), ([*lld, "--mode", "target", "--op", "bind", "--tid", "1", "-Q", "nonsense"], 22, "nonsense"),
            ([*lld, *unit, "--op", "new", "--lun", "0", "-b", f"{files}/other.img"], 22, "logical unit"), ([*lld, *unit, "--op", "new", "--lun", "5", "-b", f"{files}/nosuch"], 22, "nosuch"),
            ([*lld, *unit, "--op", "new", "--lun", "5", "-b", f"{files}/folder"], 22, "folder"), ([*lld, *unit, "--op", "new", "--lun", "x", "-b", f"{files}/disk.img"], 22, "x"),
            ([*lld, *unit, "--op", "new", "--lun", "99999", "-b", f"{files}/disk.img"], 22, "99999"), ([*lld, *unit, "--op", "new", "--lun", "5"], 22, "backing-store"),
            ([*lld, *unit, "--op", "new", "--lun", "5", "-b", f"{files}/good.json", "-E", "sheepdog"], 22, "sheepdog"),
            ([*lld, *unit, "--op", "new", "--lun", "5", "-b", f"{files}/good.json", "-Y", "tape"], 22, "tape"),
            ([*lld, *unit, "--op", "new", "--lun", "5", "-b", f"{files}/good.json", "-y", "513"], 22, "513"),
            ([*lld, *unit, "--op", "delete", "--lun", "9"], 22, "logical unit"), ([*lld, *unit, "--op", "update", "--lun", "9", "--params", "readonly=1"], 22, "logical unit"),
            ([*lld, "--mode", "account", "--op", "new", "--user", "hugo"], 22, "password"), ([*lld, "--mode", "account", "--op", "delete", "--user", "nosuch"], 22, "nosuch"),
            ([*lld, "--mode", "account", "--op", "bind", "--tid", "1", "--user", "nosuch"], 22, "nosuch"),
            ([*lld, "--mode", "portal", "--op", "new", "--param", "portal=999.1.1.1:3260"], 22, "999.1.1.1"), ([*lld, "--mode", "portal", "--op", "delete", "--param", "portal=127.0.0.9:3260"], 22, "127.0.0.9"),
        ])
        yield from (("tgt-admin", words, code, names) for words, code, names in [
            (["--nonsense"], 1, "nonsense"), (["--conf"], 1, "conf"), (["-e", "-c", f"{files}/nosuch.conf"], 2, "nosuch.conf"), (["-e", "-c", f"{files}/folder"], 1, "folder"),
            (["-e", "-c", f"{files}/block.conf"], 1, "block.conf:1"), (["-e", "-c", f"{files}/word.conf"], 1, "word.conf:2"),
            (["-e", "-c", f"{files}/store.conf"], 22, "nosuch.img"), (["-e", "-c", f"{files}/user.conf"], 1, "user.conf:2"),
            (["-e", "-c", f"{files}/address.conf"], 1, "address.conf:2"), (["-e", "-c", f"{files}/binary.json"], 1, "binary.json"),
            (["--delete", ONE + "x"], 22, ONE + "x"), (["--offline", "tid=9"], 22, "tid=9"), (["--ready", ONE + "x"], 22, ONE + "x"),
            (["--update", ONE + "x", "-c", f"{files}/empty.json"], 22, ONE + "x"),
        ])
        yield from (("tgt-setup-lun", words, 1, names) for words, names in [
            (["-z"], "-z"), (["-n", "x"], "device"), (["-d", f"{files}/disk.img"], "name"), (["-n", "x", "-d", f"{files}/nosuch"], "nosuch"),
            (["-n", "x", "-d", f"{files}/good.json", "-t", "fc"], "fc"), (["-n", "x", "-d", f"{files}/good.json", "10.0.0.1/99"], "10.0.0.1/99"),
        ])


def judge(world, program, words, code, names):
    """What is wrong with the answer, as lines."""
    before = world.picture()
    done = h.run([h.PERILUNE, program, *words], env=world.env, check=False)
    if done.code != code:
        yield f"exit code {done.code}, not {code}"
    lines = done.err.splitlines()
    if len(lines) != 1 or done.err != lines[0] + "\n":
        yield f"{len(lines)} lines on standard error"
    if names not in done.err:
        yield f"does not name {names!r}: {done.err!r}"
    if len(done.err) > 1000:
        yield f"{len(done.err)} bytes on standard error"
    if world.picture() != before:
        yield "something has changed"


def main():
    failures = count = 0
    with contextlib.ExitStack() as stack:
        world = World(stack)
        for case in world.cases():
            count += 1
            for problem in judge(world, *case):
                failures += 1
                print(f"FAILED {case[0]} {' '.join(case[1])[:160]}: {problem}", flush=True)
        world.daemon.stop()
    print(f"{count} wrong lines, {failures} not answered as they should be")
    return 1 if failures or count < 150 else 0


if __name__ == "__main__":
    sys.exit(main())
