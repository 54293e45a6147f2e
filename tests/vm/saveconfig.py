# SPDX-License-Identifier: Apache-2.0
"""LIO's configuration goes to Perilune and comes back: what the real targetcli has made and saved is restored by ours, whose disks
keep their names; what ours saves is restored by the real one without an error, and what that saves then is what it saved at first."""
import json
import pathlib
import re

import lab
from lab import sh

VM = {"memory": 768, "disks": ["64M"], "mutants": {"another-serial": {"guest_edit": "wwn"}, "lost-acl": {"guest_edit": "acl"}}}

IQN, INITIATOR, GUEST = "iqn.2026-01.lab.test:lio", "iqn.2026-11.io.perilune:initiator", "iqn.2026-11.io.perilune:guest"
PORTAL = "127.0.0.1:3260"
FROM_LIO, FROM_OURS, BACK = "/root/lio.json", "/root/perilune.json", "/root/back.json"
ENVIRONMENT = {"PERILUNE_CONFIG": "/root/targetd", "PERILUNE_SOCKET": "/run/targetd"}
names, daemon = {}, []


def real(*lines):
    """One run of the real shell; its exit code says little, so what it prints is searched for failures."""
    done = sh("targetcli", input="\n".join([*lines, "exit"]) + "\n", code=None)
    if re.search(r"Cannot|Could not (?!load preferences)|No such path|Traceback|[Ii]nvalid|rror", done.out):
        lab.fail(f"targetcli: {done.out}")
    return done


def ours(*words):
    return sh([lab.PERILUNE, "targetcli", *words], env=ENVIRONMENT)


def inquiry_pages():
    """What a host tells the disks by: the serial number and the designators of each."""
    pages = {}
    for lun in range(3):
        url = f"iscsi://{PORTAL}/{IQN}/{lun}"
        for page in ("0x80", "0x83"):
            text = sh([lab.PERILUNE, "inq", "-i", INITIATOR, "-e", "1", "-c", page, url]).out
            found = re.findall(r"Unit Serial Number:\[?([^\]\n]+)|NAA[^\n]*?([0-9a-f]{32})|Designator:\[?([0-9a-f]{32})", text)
            pages[lun, page] = sorted({one for some in found for one in some if one})
    return pages


def lio_is_set_up():
    for folder in ("/etc/target", "/run/dbus", "/etc/rtslib-fb-target/backup", ENVIRONMENT["PERILUNE_CONFIG"]):
        lab.os.makedirs(folder, exist_ok=True)
    sh("dbus-daemon --system --fork", show=False)   # targetcli asks the bus for tcmu-runner before anything else
    for module in ("configfs", "target_core_mod", "target_core_file", "target_core_iblock", "iscsi_target_mod"):
        sh(["modprobe", module], show=False)
    sh("mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config", show=False)
    tpg = f"/iscsi/{IQN}/tpg1"
    real("set global auto_save_on_exit=false", "set global auto_add_default_portal=false",
         "/backstores/fileio create name=file file_or_dev=/root/file.img size=64M",
         "/backstores/ramdisk create name=memory size=32M", "/backstores/block create name=disk dev=/dev/vdb",
         "/backstores/fileio/file set attribute emulate_tpu=1", f"/iscsi create {IQN}", f"{tpg}/portals create 127.0.0.1 3260",
         *(f"{tpg}/luns create /backstores/{kind}" for kind in ("fileio/file", "ramdisk/memory", "block/disk")),
         f"{tpg}/acls create {INITIATOR}", f"{tpg}/acls create {GUEST} add_mapped_luns=false",
         f"{tpg}/acls/{GUEST} create mapped_lun=7 tpg_lun_or_backstore=lun1 write_protect=1",
         f"{tpg}/acls/{GUEST} set auth userid=labuser password=labsecret12345 mutual_userid=labtarget mutual_password=targetsecret678",
         f"{tpg} set attribute authentication=0", f"{tpg} set parameter MaxOutstandingR2T=4", f"saveconfig {FROM_LIO}")
    names.update(inquiry_pages())
    lab.check(all(names.values()), f"every disk has its names: {names}")
    real("set global auto_save_on_exit=false", "clearconfig confirm=True")
    sh("stat -c '%a %n' /root; chmod 700 /root")   # the real one leaves a folder that it has saved to without a way in


def ours_restores_it():
    daemon.append(lab.start([lab.PERILUNE, "targetd", "--foreground", "--config", ENVIRONMENT["PERILUNE_CONFIG"], "--socket",
                             ENVIRONMENT["PERILUNE_SOCKET"]], "/root/targetd.log"))
    lab.wait_for(lambda: "info ready" in pathlib.Path("/root/targetd.log").read_text(), "targetd to be ready")
    ours("restoreconfig", FROM_LIO)
    ours("ls")
    lab.check(inquiry_pages() == names, "every disk keeps the names that it had with LIO")
    ours("saveconfig", FROM_OURS)
    theirs, own = (json.loads(pathlib.Path(name).read_text()) for name in (FROM_LIO, FROM_OURS))
    found = list(differences(theirs, own))
    lab.check(not found, f"ours saves what was restored: {found}")
    daemon[0].terminate()
    lab.check(daemon[0].wait(timeout=60) == 0, "targetd ends well")


def sabotaged():
    """What a program that loses something would have written."""
    kind = lab.mutant().get("guest_edit")
    if not kind:
        return
    path = pathlib.Path(FROM_OURS)
    saved = json.loads(path.read_text())
    if kind == "wwn":
        saved["storage_objects"][0]["wwn"] = "11111111-2222-3333-4444-555555555555"
    else:
        del saved["targets"][0]["tpgs"][0]["node_acls"][0]
    path.write_text(json.dumps(saved))


def differences(one, other, path=""):
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            yield from differences(one.get(key), other.get(key), f"{path}/{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        def place(item):
            return json.dumps([item.get(key) for key in ("plugin", "name", "wwn", "node_wwn", "tag", "index", "ip_address")]) if isinstance(
                item, dict) else str(item)
        for number, pair in enumerate(zip(sorted(one, key=place), sorted(other, key=place))):
            yield from differences(*pair, f"{path}/{number}")
    elif one != other:
        yield f"{path}: {one!r} -> {other!r}"


def the_real_one_restores_ours():
    sabotaged()
    real("set global auto_save_on_exit=false", f"restoreconfig {FROM_OURS} clear_existing=True", "ls", f"saveconfig {BACK}")
    first, back = (json.loads(pathlib.Path(name).read_text()) for name in (FROM_LIO, BACK))
    found = list(differences(first, back))
    lab.check(not found, f"what it saves now is what it saved first: {found}")
    lab.check(inquiry_pages() == names, "every disk has the names that it had at first")


if __name__ == "__main__":
    lab.main(lio_is_set_up, ours_restores_it, the_real_one_restores_ours)
