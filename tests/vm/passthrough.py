# SPDX-License-Identifier: Apache-2.0
"""A disk of the guest (scsi_debug) served by pscsi: and logged in to from the same guest, by two initiators. What the device says
arrives as it is, but for what a target has to say itself: its units, its ports, its reservations. Then a tape, a drive, a
changer and an enclosure; at last the disk is taken away while it is used."""
import glob
import os
import re
import signal

import lab
from lab import sh

VM = {"memory": 512, "processors": 2,
      "mutants": {"altered-reads": {"guest_wire": "alter_reads"}, "lost-unit-attention": {"guest_wire": "lost_unit_attention"},
                  "lost-conflict": {"guest_wire": "lost_conflict"}, "lost-reset": {"guest_preload": "lost_reset"}}}

IQN = "iqn.2026-11.io.perilune:passthrough"
PORTAL = "127.0.0.1:3260"
DEBUG = "/sys/bus/pseudo/drivers/scsi_debug"
TYPES = {0: "disk", 1: "tape", 5: "CD or DVD drive", 8: "medium changer", 13: "enclosure"}
target = {"iqn": IQN, "portals": [PORTAL]}
server, devices, local, remote, second = None, {}, {}, {}, {}   # the guest's own by type; the disk; the sessions' disks


def write(path, text):
    lab.pathlib.Path(path).write_text(f"{text}\n")


def nodes_of(driver):
    """The devices of the hosts of this driver, by host and unit."""
    hosts, found = hosts_of(driver), {}
    for folder in glob.glob("/sys/class/scsi_device/*/device"):
        host, _, _, lun = map(int, re.search(r"/(\d+):(\d+):(\d+):(\d+)/", folder).groups())
        sg, block = glob.glob(f"{folder}/scsi_generic/*"), glob.glob(f"{folder}/block/*")
        if host in hosts and sg:
            real = os.path.realpath(folder)
            found[host, lun] = {"type": int(lab.pathlib.Path(real, "type").read_text()), "sysfs": real, "id": os.path.basename(real),
                                "sg": "/dev/" + os.path.basename(sg[0]), "block": "/dev/" + os.path.basename(block[0]) if block else None}
    return found


def hosts_of(driver):
    return {int(re.search(r"host(\d+)$", path).group(1)) for path in glob.glob("/sys/class/scsi_host/host*")
            if lab.pathlib.Path(path, "proc_name").read_text().strip() == driver}


def devices_of_every_type():
    for module in ("sg", "sd_mod", "sr_mod", "st", "ch", "ses"):
        sh(["modprobe", module], code=None, show=False)
    sh("modprobe scsi_debug dev_size_mb=64 sector_size=512 lbpu=1 lbpws=1 lbprz=1 max_luns=1 num_tgts=1 ndelay=20000")
    for kind in list(TYPES)[1:]:   # every device of scsi_debug is of the type that is set at the moment
        write(f"{DEBUG}/ptype", kind)
        write(f"{DEBUG}/add_host", 1)
        nodes = lab.wait_for(lambda: (n := nodes_of("scsi_debug")) and len(n) == len(devices) + 1 + (not devices) and n, "a device")
        for node in nodes.values():
            devices[node["type"]] = node
        lab.settle()
    write(f"{DEBUG}/ptype", 0)
    sh("lsscsi -g")
    lab.check(set(devices) == set(TYPES), "one of each type")
    local.update(devices[0])


def serve(*backings, options=()):
    global server
    server = lab.start([lab.PERILUNE, "serve", "--portal", PORTAL, "--target", IQN, "--threads", "2", *options, *backings], "/run/serve.log", env=lab.preload())
    lab.wait_for(lambda: "ready" in lab.pathlib.Path("/run/serve.log").read_text() or server.poll() is not None, "the target")
    lab.say(lab.pathlib.Path("/run/serve.log").read_text())
    lab.check(server.poll() is None, "the target serves")


def refuses(what, *patterns):
    done = sh([lab.PERILUNE, "serve", "--portal", "127.0.0.1:0", f"pscsi:{what}"], code=None, timeout=30)
    lab.check(done.code in (1, 2), "it is refused")
    lab.expect(done.out, *patterns)


def what_is_no_device_is_refused():
    refuses("/dev/none", r"no such device")
    refuses("/dev/null", r"takes no SCSI commands")
    refuses("/etc/passwd", r"is no device")
    refuses("/dev/vda", r"takes no SCSI commands")
    tape = sorted(map(os.path.basename, glob.glob(f"{devices[1]['sysfs']}/scsi_tape/*")))
    refuses("/dev/" + tape[0], rf"its node for them is {devices[1]['sg']}$")
    sh(["mkfs.ext4", "-q", "-F", local["block"]])
    with lab.mounted(local["block"], "/mnt/held"):
        refuses(local["sg"], r"in use \(its disk sd. is mounted")
        refuses(local["block"], r"in use \(its disk sd. is mounted")


def two_initiators_log_in():
    serve(f"pscsi:{local['sg']}", "ram:8M")
    refuses(local["block"], r"in use|locked")
    lab.guest_wire("127.0.0.1", 3260)
    lab.iscsid()
    sh("iscsiadm -m iface -I second -o new")
    sh(["iscsiadm", "-m", "iface", "-I", "second", "-o", "update", "-n", "iface.initiatorname", "-v", f"{lab.INITIATOR}-2"])
    sh(["iscsiadm", "-m", "discovery", "-t", "st", "-p", PORTAL, "-I", "default", "-I", "second"])
    lab.node(target, "--login")
    sessions()


def sessions():
    """The disks of the two sessions: the device is unit 0 in each."""
    nodes = lab.wait_for(lambda: (n := nodes_of("iscsi_tcp")) and len(n) == 4 and n, "two disks in each session")
    lab.settle()
    sh("lsscsi -g")
    first, another = sorted({host for host, _ in nodes})
    remote.update(nodes[first, 0]), second.update(nodes[another, 0])


def raw(device, cdb, length, code=0):
    """What a command returns, as bytes, and what sg_raw says of its end."""
    path = "/tmp/raw"
    if os.path.exists(path):
        os.unlink(path)
    done = sh(["sg_raw", "-r", str(length), "-o", path, device, *(f"{byte:02x}" for byte in cdb)], code=code, show=False)
    return (lab.pathlib.Path(path).read_bytes() if os.path.exists(path) else b""), done.out


def inquiry(device, page=None, length=252):
    return raw(device, (0x12, 0 if page is None else 1, page or 0, length >> 8, length & 255, 0), length)[0]


def take_attentions(*nodes):
    for node in nodes or (local, remote, second):
        for _ in range(4):
            sh(["sg_turs", node["sg"]], code=None, show=False)


def inquiry_data_is_the_devices(here=local, there=remote):
    take_attentions(here, there)
    lab.check(inquiry(here["sg"]) == inquiry(there["sg"]) and len(inquiry(there["sg"])) >= 36, "standard INQUIRY data, byte by byte")
    pages = inquiry(here["sg"], 0)[4:]
    lab.check(bytes(page for page in pages if page != 0x8f) == inquiry(there["sg"], 0)[4:], "the same VPD pages")
    same = [page for page in pages if page not in (0x00, 0x83, 0x88, 0x8f, 0xb0)]
    for page in same:
        lab.check(inquiry(here["sg"], page) == inquiry(there["sg"], page), f"VPD page {page:02x}h, byte by byte")


def designators(page):
    at, found = 4, []
    while at + 4 <= len(page):
        length = page[at + 3]
        found.append((page[at + 1] >> 4 & 3, page[at + 1] & 15, page[at + 4:at + 4 + length]))
        at += 4 + length
    return found


def ports_and_limits_are_the_targets():
    here, there = (designators(inquiry(node["sg"], 0x83)) for node in (local, remote))
    lab.check([d for d in here if d[0] == 0] == [d for d in there if d[0] == 0] != [], "the unit is named as the device names it")
    lab.check({bytes(value).rstrip(b"\0").decode() for association, _, value in there if association and len(value) > 8} ==
              {f"{IQN},t,0x0001", IQN}, "the port and the target are ours")
    limit = int.from_bytes(inquiry(remote["sg"], 0xb0)[8:12], "big") * 512
    log = lab.pathlib.Path("/run/serve.log").read_text()
    lab.check(limit == int(re.search(r"transfers up to (\d+) KiB", log).group(1)) * 1024, f"no longer transfers than {limit} bytes are announced")
    done = sh(["sg_luns", remote["sg"]])
    lab.expect(done.out, r"^Lun list length = 16 which imples 2 lun entr")


def the_list_of_commands_is_true():
    codes = {nodes["sg"]: set(re.findall(r"^ ([0-9a-f]{2}) ", sh(["sg_opcodes", nodes["sg"]]).out, re.MULTILINE)) for nodes in (local, remote)}
    here, there = codes[local["sg"]], codes[remote["sg"]]
    lab.check({"28", "2a", "42", "12"} <= here & there, "what the device serves is listed")
    lab.check({"5e", "5f", "a0", "16", "17"} <= there, "and what the target answers")
    lab.check(not there & {"04", "3b", "48", "83", "84"}, "and nothing that is refused")
    lab.check(there - here <= {"5e", "5f", "a0", "a3", "16", "17", "56", "57"}, "nothing else was added")


def pages_are_the_devices(here=local, there=remote):
    for words in (["sg_turs"], ["sg_requests"], ["sg_modes", "-r"], ["sg_logs", "-r"]):
        answers = [sh([*words, node["sg"]], code=None, show=False) for node in (here, there)]
        lab.check(*((answers[0].code, answers[0].out.replace(here["sg"], "")) == (answers[1].code, answers[1].out.replace(there["sg"], "")),
                    f"{words[0]}: the same (exit {answers[0].code})"))


def digest(device):
    lab.drop_caches()
    return sh(f"dd if={device} bs=512k iflag=direct status=none | sha256sum", show=False).out


def a_file_system_is_the_same_on_both_sides():
    disk = remote["block"]
    sh(["mkfs.ext4", "-q", "-F", disk])
    with lab.mounted(disk, "/mnt/pass"):
        sums = lab.write_tree("/mnt/pass", files=60, largest=1 << 20)
    with lab.mounted(disk, "/mnt/pass", "ro"):
        lab.check_tree("/mnt/pass", sums)
    sh(["fsck.ext4", "-f", "-n", disk])
    lab.check(digest(disk) == digest(local["block"]), "the session's disk and the device hold the same bytes")
    fio = sh(["fio", "--name=deep", f"--filename={disk}", "--ioengine=libaio", "--direct=1", "--rw=randrw", "--bsrange=512-256k", "--blockalign=512",
              "--offset=32m", "--size=4m", "--iodepth=16", "--verify=crc32c", "--verify_fatal=1", "--group_reporting"], show=False)
    lab.expect(fio.out, r"err= 0")
    lab.check(digest(second["block"]) == digest(local["block"]), "and so does the other session's")


def sense_of(device, cdb):
    done = raw(device, cdb, 512, code=None)[1]
    return re.sub(r"(?s).*?(?=SCSI Status)", "", done)


def sense_arrives_as_it_is():
    lab.allow(r"I/O error, dev sd", r"Sense Key : Medium", r"FAILED Result", r"Unrecovered read error", r"critical medium error", r"Buffer I/O error")
    read_1234 = (0x28, 0, 0, 0, 0x12, 0x34, 0, 0, 1, 0)
    write(f"{DEBUG}/opts", 2)
    here, there = (sense_of(node["sg"], read_1234) for node in (local, remote))
    lab.say(there)
    lab.expect(there, r"Medium Error", r"0x1234")
    lab.check(here == there, "the sense of a medium error, word by word")
    write(f"{DEBUG}/opts", 0)
    past_the_end = (0x28, 0, 0x7f, 0, 0, 0, 0, 0, 1, 0)
    lab.check(sense_of(local["sg"], past_the_end) == sense_of(remote["sg"], past_the_end) != "", "and that of a wrong address")


def unmap_reaches_the_device():
    disk = remote["block"]
    data = lab.random.Random(7).randbytes(65536)
    fd = os.open(disk, os.O_WRONLY | os.O_SYNC)
    os.pwrite(fd, data, 48 << 20)
    os.close(fd)
    sh(["sg_unmap", "--force", f"--lba={(48 << 20) // 512}", "--num=128", remote["sg"]])
    for node in (local, remote):
        sh(["blockdev", "--flushbufs", node["block"]], show=False)
        with open(node["block"], "rb") as f:
            f.seek(48 << 20)
            lab.check(f.read(65536) == bytes(65536), f"{node['block']} reads as zeroes there")


def refused_ones_never_arrive():
    for name, cdb in (("FORMAT UNIT", (4, 0, 0, 0, 0, 0)), ("SANITIZE", (0x48, 2, 0, 0, 0, 0, 0, 0, 0, 0)),
                      ("RECEIVE COPY RESULTS", (0x84, 3, *(0,) * 8, 0, 0, 1, 0, 0, 0)), ("WRITE BUFFER", (0x3b, 5, 0, 0, 0, 0, 0, 0, 0, 0))):
        lab.expect(sense_of(remote["sg"], cdb), r"Invalid command operation code")
        lab.say(f"  {name}")


def reservations_are_ours():
    """The device has none that it would know us by; two initiators are kept apart all the same."""
    first, other = remote["sg"], second["sg"]
    lab.allow(r"reservation conflict", r"critical nexus error")
    sh(["sg_persist", "--out", "--register", "--param-sark=0xa1", first])
    sh(["sg_persist", "--out", "--reserve", "--param-rk=0xa1", "--prout-type=3", first])
    lab.expect(sh(["sg_persist", "-k", other]).out, r"0xa1$")
    lab.expect(sh(["sg_persist", "-r", other]).out, r"Exclusive Access")
    read = (0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0)
    lab.check("Reservation Conflict" in raw(other, read, 512, code=None)[1], "the other initiator is shut out")
    lab.check(len(raw(first, read, 512)[0]) == 512, "the holder is not")
    lab.check(len(raw(local["sg"], read, 512)[0]) == 512, "the device knows nothing of it")
    sh(["sg_persist", "--out", "--clear", "--param-rk=0xa1", first])
    take_attentions()
    lab.check(len(raw(other, read, 512)[0]) == 512, "afterwards the other one reads again")


def everybody_learns_of_the_devices_attention():
    take_attentions()
    write(f"{DEBUG}/virtual_gb", 1)   # CAPACITY DATA HAS CHANGED
    told = [sh(["sg_turs", "-v", node["sg"]], code=None).out for node in (remote, second)]
    for text in told:
        lab.expect(text, r"(?i)capacity data has changed")
    write(f"{DEBUG}/virtual_gb", 0)
    take_attentions()


def resets_of_the_device():
    """As scsi_debug says them in the kernel's log: of the unit, of the target, of the bus, of the host."""
    log = lab.dmesg()
    return [log.count(f"scsi_debug_{kind}_reset") for kind in ("device", "target", "bus", "host")]


def a_reset_reaches_the_device_and_nothing_else():
    take_attentions()
    lab.allow(r"iscsi: .*[Rr]eset", r"Power-on or device reset occurred", r"scsi_debug", r"device reset", r"target reset", r"Sense Key : Unit Attention")
    write(f"{DEBUG}/opts", 1)   # it says what it does
    before = resets_of_the_device()
    for option, resets in (("--device", 1), ("--target", 2)):
        sh(["sg_reset", option, "--no-esc", remote["sg"]])
        lab.check(resets_of_the_device() == [before[0] + resets, *before[1:]], f"{option}: the unit was reset once, and no other by it")
        told = sh(["sg_turs", "-v", second["sg"]], code=None).out
        lab.expect(told, r"(?i)reset( function)? occurred")
        take_attentions()
    write(f"{DEBUG}/opts", 0)
    lab.check(digest(remote["block"]) == digest(local["block"]), "the disk goes on")


def stop():
    server.send_signal(signal.SIGTERM)
    lab.wait_for(lambda: server.poll() is not None, "the target to end", timeout=60)
    lab.check(server.returncode == 0, "the target ends well")


def log_out():
    lab.settle()
    sh(["iscsiadm", "-m", "node", "-T", IQN, "--logout"])
    lab.wait_for(lambda: not hosts_of("iscsi_tcp"), "the sessions to go")


def other_types():
    log_out()
    stop()
    for kind in list(TYPES)[1:]:
        device = devices[kind]
        write(f"{DEBUG}/ptype", kind)
        serve(f"pscsi:{device['sg'] if kind != 13 else '/dev/bsg/' + device['id']}")
        lab.expect(lab.pathlib.Path("/run/serve.log").read_text(), rf"SCSI .*{TYPES[kind]}")
        lab.node(target, "-I", "default", "--login")
        there = lab.wait_for(lambda: next(iter(nodes_of("iscsi_tcp").values()), None), f"the {TYPES[kind]}")
        lab.check(there["type"] == kind, f"unit 0 is a {TYPES[kind]}")
        inquiry_data_is_the_devices(device, there)
        pages_are_the_devices(device, there)
        log_out()
        stop()
    write(f"{DEBUG}/ptype", 0)


def a_device_is_taken_away_in_use():
    serve(f"pscsi:{local['block']}")
    lab.allow(r"I/O error, dev sd", r"FAILED Result", r"Buffer I/O error", r"rejecting I/O", r"Sense Key : (Hardware|Aborted|Not Ready)", r"lost async page write")
    lab.node(target, "-I", "default", "--login")
    node = lab.wait_for(lambda: next((n for n in nodes_of("iscsi_tcp").values() if n["block"]), None), "the disk")
    lab.settle()
    job = lab.start(["fio", "--name=load", f"--filename={node['block']}", "--rw=randrw", "--bs=16k", "--direct=1", "--ioengine=libaio", "--iodepth=16",
                     "--size=60m", "--loops=1000"], "/tmp/fio.log")
    lab.wait_for(lambda: int(lab.sysfs(node["block"], "stat").split()[4]) > 50, "the load to run")
    write(f"{local['sysfs']}/delete", 1)
    lab.wait_for(lambda: job.poll() is not None, "the load to end", timeout=60)
    lab.check(job.returncode != 0, "the load was told")
    done = sh(["sg_turs", "-v", node["sg"]], code=None)
    lab.expect(done.out, r"(?i)does not respond to selection")
    data = inquiry(node["sg"], length=36)
    lab.check(data[0] == 0x20 and data[8:16] == b"Linux   ", "INQUIRY says that no device is connected")
    lab.settle()
    sh(["iscsiadm", "-m", "node", "-T", IQN, "-I", "default", "--logout"])
    stop()


if __name__ == "__main__":
    lab.main(devices_of_every_type, what_is_no_device_is_refused, two_initiators_log_in, inquiry_data_is_the_devices,
             ports_and_limits_are_the_targets, the_list_of_commands_is_true, pages_are_the_devices, sense_arrives_as_it_is,
             unmap_reaches_the_device, refused_ones_never_arrive, reservations_are_ours, everybody_learns_of_the_devices_attention, a_reset_reaches_the_device_and_nothing_else,
             a_file_system_is_the_same_on_both_sides, other_types, a_device_is_taken_away_in_use)
