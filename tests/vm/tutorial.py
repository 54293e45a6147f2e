# SPDX-License-Identifier: Apache-2.0
"""The tutorial of this field, against the Linux kernel: discovery, records, login, what the kernel and lsscsi say of the
disk, partitions, three file systems, logout, login, every checksum, session details, deletion of the records."""
import re

import lab
from lab import sh

VM = {"short": True, "memory": 640,
      "mutants": {"no-write-cache": {"wire": "no_write_cache"}, "altered-writes": {"wire": "alter_writes"}}}

SIZE = 1 << 30
FILE_SYSTEMS = (("xfs", "mkfs.xfs -q -f", "xfs_repair -n"), ("ext4", "mkfs.ext4 -q -F", "fsck.ext4 -f -n"),
                ("btrfs", "mkfs.btrfs -q -f", "btrfs check"))
target, device, sums = {}, "", {}


def no_records_and_no_sessions():
    done = sh("iscsiadm -m node", code=21)
    lab.same_shape(done.out, "iscsiadm: No records found")
    done = sh("iscsiadm -m session", code=21)
    lab.same_shape(done.out, "iscsiadm: No active sessions.")


def discovery():
    done = lab.discover(target)
    lab.same_shape(done.out, "{portal},1 {iqn}", portal=target["portals"][0], iqn=target["iqn"])
    done = sh("iscsiadm -m node")
    lab.same_shape(done.out, "{portal},1 {iqn}", portal=target["portals"][0], iqn=target["iqn"])


def the_record():
    address = target["portals"][0].split(":")[0]
    done = lab.node(target, "-o", "show")
    lab.expect(done.out, r"^# BEGIN RECORD 2\.1\.8$", rf"^node\.name = {re.escape(target['iqn'])}$", r"^node\.tpgt = 1$",
               r"^node\.startup = manual$", r"^iface\.transport_name = tcp$",
               rf"^node\.discovery_address = {re.escape(address)}$", r"^node\.discovery_type = send_targets$",
               r"^node\.session\.auth\.authmethod = None$", rf"^node\.conn\[0\]\.address = {re.escape(address)}$",
               r"^node\.conn\[0\]\.port = 3260$", r"^# END RECORD$")


def login():
    global device
    done = lab.node(target, "--login")
    lab.same_shape(done.out, """
Logging in to [iface: default, target: {iqn}, portal: {address},3260]
Login to [iface: default, target: {iqn}, portal: {address},3260] successful.
""", iqn=target["iqn"], address=target["portals"][0].split(":")[0])
    device = lab.disk(target)
    done = sh("lsscsi -t")
    lab.expect(done.out, rf"^\[\d+:0:0:0\] +disk +{re.escape(target['iqn'])},t,0x1 +{device} *$")
    done = sh("lsscsi -s")
    lab.expect(done.out, rf"^\[\d+:0:0:0\] +disk +PERILUNE .* {device} +1\.07GB$")
    done = sh("ls -l /dev/disk/by-path /dev/disk/by-id")
    name = device.removeprefix("/dev/")
    lab.expect(done.out, rf"ip-{re.escape(target['portals'][0])}-iscsi-{re.escape(target['iqn'])}-lun-0 -> \.\./\.\./{name}$",
               rf"scsi-3[0-9a-f]{{16,32}} -> \.\./\.\./{name}$", rf"wwn-0x[0-9a-f]{{16,32}} -> \.\./\.\./{name}$")


def what_the_kernel_says():
    name = device.removeprefix("/dev/")
    text = lab.wait_for(lambda: f"[{name}] Attached SCSI disk" in lab.dmesg() and lab.dmesg(), "the kernel's disk lines")
    lab.say("\n".join(line for line in text.splitlines() if re.search(r"scsi|sd \d", line)))
    lab.expect(text, r"iSCSI Initiator over TCP/IP$", r"scsi \d+:0:0:0: Direct-Access +PERILUNE .*ANSI: [67]$",
               rf"\[{name}\] 2097152 512-byte logical blocks: \(1\.07 GB/1\.00 GiB\)$", rf"\[{name}\] Write Protect is off$",
               rf"\[{name}\] Write cache: enabled, read cache: enabled, supports DPO and FUA$",
               rf"\[{name}\] Attached SCSI disk$")
    lab.check(int(lab.sysfs(device, "size")) * 512 == SIZE, "the disk has 1 GiB")


def partitions():
    table = "label: dos\n,300M\n,300M\n,\n"
    sh(["sfdisk", "--quiet", device], input=table)
    lab.settle()
    done = sh(["fdisk", "-l", device])
    lab.expect(done.out, rf"^Disk {device}: 1 GiB, 1073741824 bytes, 2097152 sectors$", r"^Disklabel type: dos$",
               rf"^{device}1 .* 300M 83 Linux$", rf"^{device}2 .* 300M 83 Linux$", rf"^{device}3 .* 83 Linux$")


def file_systems():
    for number, (kind, make, _) in enumerate(FILE_SYSTEMS, 1):
        sh(f"{make} {device}{number}")
        with lab.mounted(f"{device}{number}", f"/mnt/{kind}"):
            sums[kind] = lab.write_tree(f"/mnt/{kind}", files=60, seed=number)
            sh(f"df -hT /mnt/{kind}")
            lab.check_tree(f"/mnt/{kind}", sums[kind])
            if kind == "ext4":
                done = sh(f"fstrim -v /mnt/{kind}")
                lab.expect(done.out, r"^/mnt/ext4: .* trimmed$")


def session_details():
    done = sh("iscsiadm -m session")
    lab.expect(done.out, rf"^tcp: \[\d+\] {re.escape(target['portals'][0])},1 {re.escape(target['iqn'])} \(non-flash\)$")
    done = sh("iscsiadm -m session -P 3")
    lab.expect(done.out, rf"^Target: {re.escape(target['iqn'])} \(non-flash\)$",
               rf"^\tCurrent Portal: {re.escape(target['portals'][0])},1$",
               rf"^\tPersistent Portal: {re.escape(target['portals'][0])},1$", rf"^\t\tIface Initiatorname: {lab.INITIATOR}$",
               r"^\t\tiSCSI Connection State: LOGGED IN$", r"^\t\tiSCSI Session State: LOGGED_IN$",
               r"^\t\tInternal iscsid Session State: NO CHANGE$", r"^\t\tHeaderDigest: None$", r"^\t\tDataDigest: None$",
               r"^\t\tMaxRecvDataSegmentLength: 262144$", r"^\t\tImmediateData: Yes$", r"^\t\tMaxOutstandingR2T: 1$",
               rf"^\t\t\tAttached scsi disk {device.removeprefix('/dev/')}\t\tState: running$")
    done = sh("iscsiadm -m session -s")
    lab.expect(done.out, r"^\tdigest_err: 0$", r"^\ttimeout_err: 0$", r"^\trjt_pdus: 0$", r"^\teh_abort_cnt: 0$")
    counters = dict(re.findall(r"^\t(\w+): (\d+)$", done.out, re.MULTILINE))
    lab.check(counters["scsicmd_pdus"] == counters["scsirsp_pdus"] != "0", "every command was answered")


def logout():
    lab.settle()
    done = lab.node(target, "--logout")
    address = target["portals"][0].split(":")[0]
    sid = re.search(r"sid: (\d+)", done.out)[1]
    lab.same_shape(done.out, """
Logging out of session [sid: {sid}, target: {iqn}, portal: {address},3260]
Logout of [sid: {sid}, target: {iqn}, portal: {address},3260] successful.
""", sid=sid, iqn=target["iqn"], address=address)
    lab.wait_for(lambda: not lab.os.path.exists(device), "the disk to go")
    no_sessions = sh("iscsiadm -m session", code=21)
    lab.same_shape(no_sessions.out, "iscsiadm: No active sessions.")


def everything_is_there_after_a_new_login():
    global device
    device = lab.login(target)
    for number, (kind, _, verify) in enumerate(FILE_SYSTEMS, 1):
        lab.wait_for(lambda n=number: lab.os.path.exists(f"{device}{n}"), f"partition {number}")
        with lab.mounted(f"{device}{number}", f"/mnt/{kind}", "ro"):
            lab.check_tree(f"/mnt/{kind}", sums[kind])
        sh(f"{verify} {device}{number}")
    done = sh("iscsiadm -m session --rescan")
    lab.expect(done.out, r"^Rescanning session \[sid: \d+, target: ")
    with open(device, "rb") as f:
        digest = lab.hashlib.sha256(f.read(32 << 20)).hexdigest()
    lab.check(digest == lab.host.digest(length=32 << 20), "guest and host see the same first 32 MiB")


def records_go():
    lab.logout(target)
    sh("iscsiadm -m node -o delete")
    lab.same_shape(sh("iscsiadm -m node", code=21).out, "iscsiadm: No records found")
    lab.same_shape(sh("iscsiadm -m discoverydb").out, "{portal} via sendtargets", portal=target["portals"][0])
    sh(["iscsiadm", "-m", "discoverydb", "-t", "st", "-p", target["portals"][0], "-o", "delete"])
    sh("iscsiadm -m discoverydb", code=21)


def served():
    target.update(lab.serve(disks=["1G"]))
    lab.iscsid()
    sh("modprobe btrfs", show=False)


if __name__ == "__main__":
    lab.main(served, no_records_and_no_sessions, discovery, the_record, login, what_the_kernel_says, partitions,
             file_systems, session_details, logout, everything_is_there_after_a_new_login, records_go)
