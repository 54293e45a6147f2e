#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tgtadm, tgt-admin, tgt-setup-lun and tgtimg against the daemon, and that our initiator finds the disks."""
import os
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "conformance"))

import harness as h
import raw_pdu as p
import targetd as d

ONE, CONF = "iqn.2026-11.io.perilune:one", "iqn.2026-11.io.perilune:conf"
MIB = 1 << 20


class Tgt:
    def __init__(self, daemon):
        self.env = {**os.environ, "PERILUNE_TARGETD_SOCKET": str(daemon.socket)}

    def __call__(self, *words, check=True):
        return h.run([h.PERILUNE, *(str(word) for word in words)], env=self.env, check=check)

    def adm(self, line, check=True):
        return self("tgtadm", "--lld", "iscsi", *line.split(), check=check)


def units(stack):
    daemon = d.Targetd(stack)
    tgt, port = Tgt(daemon), h.free_port()
    image = daemon.folder / "a.img"
    assert tgt("tgtimg", "--op", "new", "--device-type", "disk", "--type", "disk", "--size", 8, "--file", image).out == \
        f"Created blank DISK image file : {image}\n"
    assert image.stat().st_size == 8 * MIB
    again = tgt("tgtimg", "--op", "new", "--device-type", "disk", "--type", "disk", "--size", 8, "--file", image, check=False)
    assert again.code == 22 and image.stat().st_size == 8 * MIB, again
    # A target of tgtadm's own begins with a portal at 3260, which may be somebody else's here.
    env = {**tgt.env, "HOME": str(h.temp_dir(stack))}
    h.run([h.PERILUNE, "targetcli"], env=env, input=f"set global auto_add_default_portal=false\n/iscsi create {ONE}\n")
    h.run([h.PERILUNE, "targetcli", f"/iscsi/{ONE}/tpg1/portals", "create", "127.0.0.1", str(port)], env=env)
    tgt.adm("--op update --mode target --tid 1 --name state --value ready")
    tgt.adm(f"--op new --mode logicalunit --tid 1 --lun 1 -b {image}")
    tgt.adm("--op bind --mode target --tid 1 -I ALL")
    shown = tgt.adm("--op show --mode target").out
    for line in (f"Target 1: {ONE}\n", "        LUN: 1\n            Type: disk\n", "            Size: 8 MB, Block size: 512\n",
                 f"            Backing store path: {image}\n", "    ACL information:\n        ALL\n"):
        assert line in shown, f"{line!r} is not in:\n{shown}"
    size = h.run([h.PERILUNE, "readcap", f"iscsi://127.0.0.1:{port}/{ONE}/1"]).out
    assert str(8 * MIB) in size, size
    session = p.Connection(("127.0.0.1", port))
    stack.callback(session.close)
    session.login(ONE)
    listed = tgt.adm("--op show --mode conn --tid 1").out
    sid = re.match(r"Session: (\d+)\n    Connection: 0\n        Initiator: iqn", listed)
    assert sid, listed
    assert tgt.adm("--op delete --mode target --tid 1", check=False).err.startswith("tgtadm: this target is still active")
    assert tgt.adm(f"--op delete --mode conn --tid 1 --sid {sid[1]} --cid 7", check=False).code == 22
    tgt.adm(f"--op delete --mode conn --tid 1 --sid {sid[1]} --cid 0")
    session.until_closed()
    h.wait_for(lambda: tgt.adm("--op show --mode conn --tid 1").out == "", "the session to be gone")
    refused = tgt.adm("--op delete --mode target --tid 7", check=False)
    assert refused.code == 22 and refused.err.startswith("tgtadm: can't find the target"), refused
    tgt.adm("--op delete --mode target --tid 1")
    assert tgt.adm("--op show --mode target").out == ""
    daemon.stop()
    assert tgt.adm("--op show --mode target", check=False).code == 107


def targets_conf(stack):
    daemon = d.Targetd(stack)
    tgt = Tgt(daemon)
    image, conf = daemon.folder / "b.img", pathlib.Path(daemon.folder) / "targets.conf"
    with open(image, "wb") as f:
        f.truncate(4 * MIB)
    conf.write_text(f"<target {CONF}>\n  backing-store {image}\n</target>\n")
    plan = tgt("tgt-admin", "-c", conf, "-e", "-p").out
    assert f"add /iscsi/{CONF}/tpg1/luns/lun1\n" in plan, plan
    assert tgt("tgt-admin", "-s").out == ""
    conf.write_text("<target nonsense\n")
    broken = tgt("tgt-admin", "-c", conf, "--execute", check=False)
    assert tgt("tgt-admin", "-c", daemon.folder / "nosuch.conf", "-e", check=False).code == 2
    assert broken.code == 1 and f"{conf}:1: " in broken.err and broken.err.count("\n") == 1, broken
    daemon.stop()


if __name__ == "__main__":
    h.main(units, targets_conf)
