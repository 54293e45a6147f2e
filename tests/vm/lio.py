# SPDX-License-Identifier: Apache-2.0
"""Our initiator against the kernel's own target, set up with targetcli as its tutorials do: discovery, CHAP both ways,
digests, attached disks on a file, on memory and on a block device, file systems, and a LIO that goes away and comes back."""
import re

import lab
from lab import sh

VM = {"memory": 768, "disks": ["320M"], "processors": 2,
      "mutants": {"altered-reads": {"guest_wire": "alter_reads"}, "no-digests": {"guest_wire": "no_digest"}}}

IQN, INITIATOR = "iqn.2026-01.lab.test:lio", "iqn.2026-11.io.perilune:initiator"
PORTAL = "127.0.0.1:3260"
ACCOUNT, MUTUAL = ("labuser", "labsecret12345"), ("labtarget", "targetsecret678")
ENVIRONMENT = {"PERILUNE_CONFIG": "/root/perilune", "PERILUNE_SOCKET": "/run/perilune-iscsid"}
sums, devices = {}, []


def iscsiadm(*words, **options):
    return sh([lab.PERILUNE, "iscsiadm", *words], env=ENVIRONMENT, **options)


def node(*words, **options):
    return iscsiadm("-m", "node", "-T", IQN, "-p", PORTAL, *words, **options)


def update(**values):
    for name, value in values.items():
        node("-o", "update", "-n", name.replace("__", "."), "-v", value, show=False)


def targetcli(*lines):
    """Commands for one run of the shell; its exit code says little, so what it prints is searched for failures."""
    done = sh("targetcli", input="\n".join([*lines, "exit"]) + "\n", code=None)
    if re.search(r"Cannot|Could not (?!load preferences)|No such path|Traceback|[Ii]nvalid|rror", done.out):
        lab.fail(f"targetcli: {done.out}")
    return done


def lio_is_set_up():
    lab.os.makedirs("/etc/target", exist_ok=True)
    lab.os.makedirs("/run/dbus", exist_ok=True)
    sh("dbus-daemon --system --fork", show=False)   # targetcli asks the bus for tcmu-runner before anything else
    lab.allow(r"(?i)iSCSI Login negotiation failed")
    for module in ("configfs", "target_core_mod", "target_core_file", "target_core_iblock", "iscsi_target_mod", "loop", "fuse"):
        sh(["modprobe", module], show=False)
    sh("mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config", show=False)
    lab.os.makedirs("/etc/rtslib-fb-target/backup", exist_ok=True)
    lab.os.makedirs(ENVIRONMENT["PERILUNE_CONFIG"], 0o700)
    lab.pathlib.Path(ENVIRONMENT["PERILUNE_CONFIG"], "initiatorname.iscsi").write_text(f"InitiatorName={INITIATOR}\n")
    tpg = f"/iscsi/{IQN}/tpg1"
    targetcli("set global auto_save_on_exit=false", "set global auto_add_default_portal=false",
              "/backstores/fileio create name=file file_or_dev=/root/file.img size=128M",
              "/backstores/ramdisk create name=memory size=128M", "/backstores/block create name=disk dev=/dev/vdb",
              f"/iscsi create {IQN}", f"{tpg}/portals create 127.0.0.1 3260",
              *(f"{tpg}/luns create /backstores/{kind}" for kind in ("fileio/file", "ramdisk/memory", "block/disk")),
              f"{tpg}/acls create {INITIATOR}", f"{tpg} set attribute authentication=0", "saveconfig")
    lab.guest_wire("127.0.0.1", 3260)


def discovery():
    done = iscsiadm("-m", "discovery", "-t", "sendtargets", "-p", PORTAL)
    lab.same_shape(done.out, f"{PORTAL},1 {IQN}")
    lab.same_shape(iscsiadm("-m", "node").out, f"{PORTAL},1 {IQN}")


def log_in():
    done = node("--login")
    lab.same_shape(done.out, """
Logging in to [iface: default, target: {iqn}, portal: 127.0.0.1,3260]
Login to [iface: default, target: {iqn}, portal: 127.0.0.1,3260] successful.
""", iqn=IQN)
    devices[:] = attached(3)


def attached(count):
    def found():
        text = iscsiadm("-m", "session", "-P", "3", show=False).out
        names = re.findall(r"Lun: (\d+)\n\t*Attached scsi disk (\S+)\s+State: running", text)
        return len(names) == count and ["/dev/" + name.removeprefix("/dev/") for _, name in sorted(names)]
    return lab.wait_for(found, f"{count} attached disks")


def log_out():
    node("--logout")
    iscsiadm("-m", "session", code=21)


def chap_both_ways():
    tpg = f"/iscsi/{IQN}/tpg1"
    targetcli(f"{tpg} set attribute authentication=1",
              f"{tpg}/acls/{INITIATOR} set auth userid={ACCOUNT[0]} password={ACCOUNT[1]}",
              f"{tpg}/acls/{INITIATOR} set auth mutual_userid={MUTUAL[0]} mutual_password={MUTUAL[1]}", "saveconfig")

    def refused(code):
        lab.check(node("--login", code=None).code == code, f"login ends with {code}")

    refused(24)
    update(node__session__auth__authmethod="CHAP", node__session__auth__username=ACCOUNT[0],
           node__session__auth__password="not-the-password")
    refused(24)
    update(node__session__auth__password=ACCOUNT[1], node__session__auth__username_in=MUTUAL[0],
           node__session__auth__password_in="not-its-password")
    refused(19)
    update(node__session__auth__password_in=MUTUAL[1])
    log_in()
    log_out()


def digests():
    update(**{"node__conn[0]__iscsi__HeaderDigest": "CRC32C", "node__conn[0]__iscsi__DataDigest": "CRC32C"})
    log_in()
    done = iscsiadm("-m", "session", "-P", "3")
    lab.expect(done.out, r"^\t\tHeaderDigest: CRC32C$", r"^\t\tDataDigest: CRC32C$", r"^\t\tiSCSI Session State: LOGGED_IN$")


def file_systems():
    """The first one leaves the half of its disk alone that a load will write to."""
    for number, (device, make) in enumerate(zip(devices, ("mkfs.ext4 -q -F {} 60M", "mkfs.ext4 -q -F {}", "mkfs.xfs -q -f {}"))):
        sh(make.format(device))
        with lab.mounted(device, f"/mnt/{number}"):
            sums[number] = lab.write_tree(f"/mnt/{number}", files=40, seed=number)


def everything_is_there_after_a_new_login():
    log_out()
    lab.drop_caches()
    log_in()
    for number, device in enumerate(devices):
        with lab.mounted(device, f"/mnt/{number}", "ro"):
            lab.check_tree(f"/mnt/{number}", sums[number])


def lio_goes_away_under_load_and_comes_back():
    """The ramdisk is left alone: it comes back empty, as the initiator must notice by its identity, or by nothing at all."""
    job = lab.start(f"""fio --name=load --filename={devices[0]} --offset=64m --size=16m --rw=randwrite --bs=16k --direct=1
        --ioengine=libaio --iodepth=8 --verify=crc32c --verify_fatal=1 --do_verify=1 --time_based=0 --loops=2
        --randseed=7""".replace("\n", " "), "/tmp/fio.log")
    lab.wait_for(lambda: int(lab.sysfs(devices[0], "stat").split()[4]) > 50, "the load to run")
    sh("targetctl clear")
    lab.check(not lab.glob.glob("/sys/kernel/config/target/iscsi/iqn*"), "LIO serves nothing")
    lab.wait_for(lambda: re.search("Connection State: (?!LOGGED IN)",
                                   iscsiadm("-m", "session", "-P", "1", show=False, code=None).out), "the initiator to notice")
    lab.check(job.poll() is None, "the load waits, and has not failed")
    sh("targetctl restore")
    lab.wait_for(lambda: job.poll() is not None, "the load to end")
    lab.say(open("/tmp/fio.log").read()[-1500:])
    lab.check(job.returncode == 0, "the load ended well, and verified what it wrote")
    with lab.mounted(devices[0], "/mnt/0", "ro"):
        lab.check_tree("/mnt/0", sums[0])
    log_out()
    iscsiadm("-k", "0")


if __name__ == "__main__":
    lab.main(lio_is_set_up, discovery, chap_both_ways, digests, file_systems, everything_is_there_after_a_new_login,
             lio_goes_away_under_load_and_comes_back)
