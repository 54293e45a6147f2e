#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""targetcli against the daemon, as an administrator types it: a tutorial on standard input, single commands, what a wrong one leaves
behind, what a restart finds, and that our initiator finds the disk."""
import json
import os
import pathlib

import harness as h
import targetd as d

DISK = "iqn.2026-11.io.perilune:disk"
MIB = 1 << 20


class Shell:
    def __init__(self, stack, daemon):
        self.daemon = daemon
        self.home = h.temp_dir(stack)
        self.env = {**os.environ, "HOME": self.home}
        self.env.pop("TARGETCLI_HOME", None)

    def __call__(self, *words, options=(), check=True, input=None):
        command = [h.PERILUNE, "targetcli", "--socket", str(self.daemon.socket), *options, *words]
        return h.run(command, env=self.env, check=check, input=input)


def tutorial(daemon, port):
    group = f"/iscsi/{DISK}/tpg1"
    return f"""set global auto_add_default_portal=false
cd /backstores/fileio
create disk {daemon.folder}/disk.img 16M
cd /iscsi
create {DISK}
cd {DISK}/tpg1
portals/ create 127.0.0.1 {port}
luns/ create /backstores/fileio/disk
acls/ create iqn.2026-11.io.perilune:host
set attribute generate_node_acls=1 demo_mode_write_protect=0
ls /
{group}/luns create /backstores/fileio/nosuch
exit
"""


def a_tutorial(stack):
    daemon = d.Targetd(stack)
    shell, port = Shell(stack, daemon), h.free_port()
    out = shell(input=tutorial(daemon, port)).out
    for line in ("targetcli shell version ", f"Created fileio disk with size {16 * MIB}\n", f"Created target {DISK}.\nCreated TPG 1.\n",
                 f"Created network portal 127.0.0.1:{port}.\n", "Created LUN 0.\n",
                 "Created Node ACL for iqn.2026-11.io.perilune:host\nCreated mapped LUN 0.\n",
                 "Parameter generate_node_acls is now '1'.\nParameter demo_mode_write_protect is now '0'.\n",
                 f"[{daemon.folder}/disk.img (16.0MiB) write-back activated]\n", "storage object or path not valid",
                 "/iscsi/iqn.20...une:disk/tpg1> ", "Configuration saved to "):
        assert line in out, f"{line!r} is not in:\n{out}"
    url = f"iscsi://127.0.0.1:{port}"
    assert DISK in h.run([h.PERILUNE, "ls", url]).out
    inquiry = h.run([h.PERILUNE, "inq", f"{url}/{DISK}/0"]).out
    assert "disk" in inquiry, inquiry
    tree = shell("ls").out
    daemon.stop()
    daemon.start()
    assert shell("ls").out == tree, "the tree is another one after a restart"
    assert DISK in h.run([h.PERILUNE, "ls", url]).out
    daemon.stop()


def commands(stack):
    daemon = d.Targetd(stack)
    shell = Shell(stack, daemon)
    link = pathlib.Path(h.temp_dir(stack)) / "targetcli"
    link.symlink_to(h.PERILUNE)
    version = h.run([str(link), "--version"]).out
    assert version.startswith("targetcli version "), version
    assert shell("/backstores/ramdisk create ram 8M").out == "Created ramdisk ram with size 8M.\n"
    before = shell("ls").out
    for words, message in ((("/backstores/ramdisk", "create", "ram", "8M"), "Storage object ramdisk/ram exists"),
                           (("/backstores/fileio", "create", "x", "/nosuch/x", "1M"), "Could not open /nosuch/x"),
                           (("/backstores/fileio", "create", "x", str(daemon.folder / "x"), "10x"), "Cannot interpret size, wrong format: 10x"),
                           (("/nosuch", "ls"), "No such path /nosuch"), (("nosuch",), "Command not found nosuch")):
        done = shell(*words, check=False)
        assert done.code == 1 and done.out == "" and done.err.startswith(message), done
        assert done.err.count("\n") == 1, done
    assert shell("ls").out == before
    assert not (daemon.folder / "x").exists()
    plan = shell("/backstores/ramdisk", "delete", "ram", options=("--dry-run",)).out
    assert "Would remove /backstores/ramdisk/ram\n" in plan, plan
    assert json.loads(shell("/backstores/ramdisk/ram", "info", options=("--json",)).out)["size"] == str(8 * MIB)
    assert "Deleted storage object ram." in shell("/backstores/ramdisk", "delete", "ram").out
    assert shell("undo").out.startswith("Undid change ")
    assert shell("ls").out == before
    saved = shell("saveconfig").out.split()[-1]
    assert json.loads(pathlib.Path(saved).read_text())["storage_objects"][0]["name"] == "ram"
    assert os.stat(saved).st_mode & 0o777 == 0o600
    shell("clearconfig", "confirm=True")
    assert shell("restoreconfig", saved).out == f"Configuration restored from {saved}\n"
    assert shell("ls").out == before
    env = {"PERILUNE_TARGETD_SOCKET": str(daemon.socket), "HOME": str(shell.home)}
    mine = daemon.folder / "mine.json"
    h.run([h.PERILUNE, "targetctl", "save", mine], env=env)
    h.run([h.PERILUNE, "targetctl", "clear"], env=env)
    assert "ram" not in shell("ls", "/backstores/ramdisk", "1").out.replace("ramdisk", "")
    h.run([h.PERILUNE, "targetctl", "restore", mine], env=env)
    assert shell("ls").out == before
    daemon.stop()
    lost = shell("ls", check=False)
    assert lost.code == 1 and "the target daemon does not answer at" in lost.err, lost


if __name__ == "__main__":
    h.main(a_tutorial, commands)
