# SPDX-License-Identifier: Apache-2.0
"""sg3-utils over the commands that the disk advertises, blkdiscard, what the kernel derives for its queues, and a disk that grows. What a
command changes is looked for where it must be: in the sectors, by the guest and by the host."""
import os
import re

import lab
from lab import sh

VM = {"short": True,
      "mutants": {"lost-unit-attention": {"wire": "lost_unit_attention"}, "lost-error": {"wire": "lost_error"},
                  "short-capacity": {"wire": "short_capacity"}}}

BLOCKS, BLOCK = 131072, 512    # 64 MiB
target, disk, other, second = {}, "", "", ""


def pattern(seed, blocks=8):
    return lab.random.Random(seed).randbytes(blocks * BLOCK)


def put(lba, data, device=None):
    fd = os.open(device or disk, os.O_WRONLY | os.O_SYNC)
    os.pwrite(fd, data, lba * BLOCK)
    os.close(fd)


def get(lba, blocks=8, device=None):
    sh(["blockdev", "--flushbufs", device or disk], show=False)
    fd = os.open(device or disk, os.O_RDONLY)
    data = os.pread(fd, blocks * BLOCK, lba * BLOCK)
    os.close(fd)
    return data


def holds(lba, data, what, unit=0):
    lab.check(get(lba, len(data) // BLOCK, (disk, other)[unit]) == data, f"{what}, as the guest reads it")
    lab.check(lab.host.digest(disk=unit, offset=lba * BLOCK, length=len(data)) == lab.hashlib.sha256(data).hexdigest(),
              f"{what}, as the host reads it")


def file_of(data, name="/tmp/pattern"):
    with open(name, "wb") as f:
        f.write(data)
    return name


def two_units_and_two_sessions():
    """The second session (an interface of its own) is the other initiator that a unit attention is for."""
    global disk, other, second
    target.update(lab.serve(disks=["64M", "64M"]))
    lab.iscsid()
    sh("iscsiadm -m iface -I second -o new")
    sh(["iscsiadm", "-m", "iface", "-I", "second", "-o", "update", "-n", "iface.initiatorname", "-v", f"{lab.INITIATOR}-2"])
    sh(["iscsiadm", "-m", "discovery", "-t", "st", "-p", target["portals"][0], "-I", "default", "-I", "second"])
    lab.node(target, "--login")
    lab.settle()
    lines = lab.wait_for(lambda: (t := sh("lsscsi", show=False).out.strip().splitlines()) and len(t) == 4 and t, "four disks")
    sh("lsscsi -i")
    names = {}
    for line in lines:
        host, unit = re.match(r"\[(\d+):0:0:(\d+)\]", line).groups()
        names[int(host), int(unit)] = line.split()[-1]
    first, another = sorted({host for host, _ in names})
    disk, other, second = names[first, 0], names[first, 1], names[another, 0]
    put(0, pattern(1))
    lab.check(get(0, 8, second) == pattern(1), "both sessions see the same unit")


def inquiry():
    done = sh(["sg_inq", disk])
    lab.expect(done.out, r"PQual=0 .*PDT=0 .*RMB=0", r"CmdQue=1", r"^ Vendor identification: PERILUNE$")
    done = sh(["sg_vpd", "-a", disk])
    lab.expect(done.out, r"^Supported VPD pages VPD page:$", r"^Unit serial number VPD page:$",
               r"^Device Identification VPD page:$", r"^extended INQUIRY data VPD page:$", r"^Block limits VPD page \(SBC\):$",
               r"^Block device characteristics VPD page \(SBC\):$", r"^Logical block provisioning VPD page \(SBC\):$")
    lab.check(not re.search(r"malformed|failed|too short|unable", done.out), "sg_vpd decodes every page")
    serial = {device: sh(["sg_vpd", "-p", "sn", "-r", device], show=False).out for device in (disk, other, second)}
    lab.check(serial[disk] == serial[second] != serial[other], "a unit has one identity, and it is its own")
    done = sh(["sg_readcap", "-l", disk])
    lab.expect(done.out, rf"Last LBA={BLOCKS - 1} .*Number of logical blocks={BLOCKS}$", r"Logical block length=512 bytes",
               r"lbpme=1, lbprz=1")


def what_is_advertised():
    done = sh(["sg_opcodes", disk])
    lab.expect(done.out, r"^ 12 .*Inquiry$", r"^ 28 .*Read\(10\)$", r"^ 2a .*Write\(10\)$", r"^ 42 .*Unmap$",
               r"^ 89 .*Compare and write$")
    rows = [(line[1:3], line[3:16].strip()) for line in done.out.splitlines() if re.match(r" [0-9a-f]{2} ", line)]
    lab.check(len(rows) == len(set(rows)) >= 40, f"{len(rows)} commands are listed, each once")
    for opcode, action in rows[::7]:   # some of them, one by one
        words = ["sg_opcodes", f"--opcode=0x{opcode}"] + ([f"--sa=0x{action}"] if action else []) + [disk]
        lab.expect(sh(words).out, r"Command is supported|Command supported|supported \[conforming")
    done = sh(["sg_opcodes", "--opcode=0xd0", disk])
    lab.expect(done.out, r"(?i)not supported")


def pages():
    done = sh(["sg_modes", "-a", disk])
    lab.expect(done.out, r"Caching", r"Control", r"Informational exceptions")
    done = sh(["sg_logs", "-a", disk])
    lab.expect(done.out, r"(?i)supported log pages")
    done = sh(["sg_luns", disk])
    lab.expect(done.out, r"^Lun list length = 16 which imples 2 lun entr")
    done = sh(["sg_rtpg", "-d", disk], code=None)
    if done.code == 0:
        lab.expect(done.out, r"asymmetric access state : 0x00 \(active/optimized\)")
    sh(["sg_turs", disk])
    sh(["sg_requests", disk])
    sh(["sg_sync", disk])
    sh(["sg_start", "--start", disk])
    sh(["sg_verify", "--lba=0", "--count=64", disk])
    sh(["sg_dd", f"if={disk}", "of=/tmp/by-sg", "bs=512", "count=8", "blk_sgio=1"], show=False)
    lab.check(open("/tmp/by-sg", "rb").read() == pattern(1), "sg_dd reads what was written")


def unmap_and_provisioning():
    put(4096, pattern(2, 4096))
    holds(4096, pattern(2, 4096), "2 MiB are written")
    done = sh(["sg_get_lba_status", "--lba=4096", "-v", disk])
    lab.expect(done.out, r"mapped")
    before = lab.host.allocated()
    sh(["sg_unmap", "--lba=4096", "--num=4096", "--force", disk])
    holds(4096, bytes(4096 * BLOCK), "unmapped blocks read as zeroes")
    lab.check(lab.host.allocated() < before, "the host's file is smaller for it")
    done = sh(["sg_get_lba_status", "--lba=4096", disk])
    lab.expect(done.out, r"(?i)deallocated")


def write_same():
    block = pattern(3, 1)
    sh(["sg_write_same", f"--in={file_of(block)}", "--lba=100", "--num=64", "--xferlen=512", disk])
    holds(100, block * 64, "WRITE SAME repeats its block")
    sh(["sg_write_same", "--16", f"--in={file_of(block)}", "--lba=300", "--num=8", "--xferlen=512", disk])
    holds(300, block * 8, "WRITE SAME (16) too")
    sh(["sg_write_same", "--16", "--unmap", "--lba=100", "--num=64", "--in=/dev/zero", "--xferlen=512", disk])
    holds(100, bytes(64 * BLOCK), "WRITE SAME with UNMAP leaves zeroes")


def compare_and_write():
    old, new = pattern(4, 1), pattern(5, 1)
    put(500, old)
    sh(["sg_compare_and_write", f"--in={file_of(old + new)}", "--lba=500", "--num=1", "--xferlen=1024", disk])
    holds(500, new, "equal data were exchanged")
    done = sh(["sg_compare_and_write", f"--in={file_of(old + new)}", "--lba=500", "--num=1", "--xferlen=1024", disk], code=None)
    lab.check(done.code == 14, "different data are a miscompare (exit 14)")
    holds(500, new, "and nothing was written")


def out_of_range_is_refused():
    done = sh(["sg_dd", f"if={disk}", "of=/dev/null", "bs=512", f"skip={BLOCKS}", "count=1", "blk_sgio=1"], code=None)
    lab.check(done.code != 0, "a read past the end fails")
    done = sh(["sg_write_same", f"--in={file_of(pattern(6, 1))}", f"--lba={BLOCKS}", "--num=1", "--xferlen=512", disk], code=None)
    lab.check(done.code != 0, "a write past the end fails")
    done = sh(["sg_raw", disk, "d0", "00", "00", "00", "00", "00"], code=None)
    lab.expect(done.out, r"(?i)illegal request", r"(?i)invalid command operation code")


def extended_copy():
    data = pattern(7, 64)
    put(2000, data)
    sh(["sg_xcopy", f"if={disk}", f"of={other}", "bs=512", "skip=2000", "seek=3000", "count=64"])
    holds(3000, data, "EXTENDED COPY moved 64 blocks to the other unit", unit=1)
    sh(["sg_copy_results", "--params", disk], code=None)


def a_reset_is_announced_to_the_other_initiator():
    sh(["sg_turs", disk])
    sh(["sg_turs", second])
    sh(["sg_reset", "--device", disk])
    done = sh(["sg_turs", "-v", second], code=None)
    lab.check(done.code == 6, "the other initiator is told (unit attention, exit 6)")
    lab.expect(done.out, r"(?i)unit attention")
    sh(["sg_turs", second])
    sh(["sg_reset", "--target", disk])
    lab.wait_for(lambda: sh(["sg_turs", second], code=None, show=False).code == 0, "the unit to be ready for the other")
    holds(500, pattern(5, 1), "a reset loses nothing")


def discard():
    put(8192, pattern(8, 8192))
    before = lab.host.allocated()
    sh(["blkdiscard", "-o", str(8192 * BLOCK), "-l", str(8192 * BLOCK), disk])
    holds(8192, bytes(8192 * BLOCK), "discarded blocks read as zeroes")
    lab.check(lab.host.allocated() < before, "the host's file is smaller for it")
    put(8192, pattern(9, 64))
    sh(["blkdiscard", "-z", "-o", str(8192 * BLOCK), "-l", str(64 * BLOCK), disk])
    holds(8192, bytes(64 * BLOCK), "zeroed blocks are zero")


def what_the_kernel_derives():
    sh(["lsblk", "-D", "-t", disk])
    values = {name: lab.sysfs(disk, f"queue/{name}") for name in sorted(os.listdir(f"/sys/block/{os.path.basename(disk)}/queue"))
              if os.path.isfile(f"/sys/block/{os.path.basename(disk)}/queue/{name}") and name not in ("wbt_lat_usec",)}
    lab.say("\n".join(f"    {name} {value}" for name, value in values.items()))
    want = {"logical_block_size": "512", "physical_block_size": "4096", "minimum_io_size": "4096", "fua": "1",
            "write_cache": "write back"}
    for name, value in want.items():
        lab.check(values[name] == value, f"{name} is {value}")
    lab.check(int(values["discard_max_bytes"]) >= 1 << 20, "discards are offered")
    lab.check(int(values["write_zeroes_max_bytes"]) >= 1 << 20, "write zeroes is offered")
    lab.check(int(values["discard_granularity"]) in (512, 4096), "the discard granularity is a block")
    lab.check(int(values["max_hw_sectors_kb"]) >= 1024, "a request may have a mebibyte")


def online_resize():
    """Linux is told when it next sends a command, and has the new size after a rescan."""
    size = lambda: int(sh(["blockdev", "--getsize64", disk], show=False).out)   # noqa: E731
    lab.check(size() == BLOCKS * BLOCK, "64 MiB to begin with")
    lab.host.hang_up(grow="96M")

    def told():
        sh(["sg_turs", disk], code=None, show=False)
        get(0)
        return "Capacity data has changed" in lab.dmesg()
    lab.wait_for(told, "the unit attention in the kernel's log")
    sh("iscsiadm -m session --rescan")
    lab.wait_for(lambda: size() == 96 << 20, "96 MiB")
    lab.check(int(sh(["blockdev", "--getsize64", second], show=False).out) == 96 << 20, "and for the other initiator")
    lab.expect(sh(["sg_readcap", "-16", disk]).out, r"Last LBA=196607 ")
    put(196600, pattern(11))
    holds(196600, pattern(11), "the last blocks are there")


if __name__ == "__main__":
    lab.main(two_units_and_two_sessions, inquiry, what_is_advertised, pages, unmap_and_provisioning, write_same,
             compare_and_write, out_of_range_is_refused, extended_copy, a_reset_is_announced_to_the_other_initiator, discard,
             what_the_kernel_derives, online_resize)
