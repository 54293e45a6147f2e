#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A PC boots from our target: QEMU (tcg), Debian's iPXE ROM, and a boot sector that this file assembles.

iPXE gets its script by TFTP from QEMU's user network and runs `sanboot`. The boot sector reads block 5 through INT 13h
(iPXE turns it into a SCSI READ), writes it to block 9, and prints it on the serial port; the test looks for the text
there and for the written block in the backing file. Without authentication, with CHAP and with mutual CHAP."""
import os
import re
import struct

from served import AUTH, Served, h

MARKER = b"perilune-sanboot-ok"
READ_BLOCK, WRITE_BLOCK = 5, 9
IMAGE_SIZE = 64 << 20


def boot_sector():
    """512 bytes of real-mode code, loaded at 7c00 with the drive in DL."""
    origin, message, read_packet, write_packet = 0x7C00, 0x80, 0xA0, 0xB0
    code = bytearray(512)

    def disk_packet(at, block):  # INT 13h extended read/write: one block at 0000:8000
        struct.pack_into("<BBHHHQ", code, at, 16, 0, 1, 0x8000, 0, block)

    text = b"boot sector: disk error\r\n\0"
    code[message:message + len(text)] = text
    disk_packet(read_packet, READ_BLOCK)
    disk_packet(write_packet, WRITE_BLOCK)
    program = bytes.fromhex("31c0 8ed8 8ec0 8ed0 bc007c 52")                         # segments 0, stack, push dx
    program += b"\xbe" + struct.pack("<H", origin + read_packet) + bytes.fromhex("b442 cd13 5a 52")
    fail_read = len(program)
    program += bytes.fromhex("7200")                                                 # jc fail
    program += b"\xbe" + struct.pack("<H", origin + write_packet) + bytes.fromhex("b80043 cd13")
    fail_write = len(program)
    program += bytes.fromhex("7200 be0080 eb03")                                     # jc fail; si = 8000; jmp print
    fail = len(program)
    program += b"\xbe" + struct.pack("<H", origin + message)
    program += bytes.fromhex("baf803 ac 84c0 7403 ee ebf8 f4 ebfd")                  # print to COM1, then halt
    program = bytearray(program)
    for at in (fail_read, fail_write):
        program[at + 1] = fail - (at + 2)
    assert len(program) <= message
    code[:len(program)] = program
    code[510:] = b"\x55\xaa"
    return bytes(code)


def image(folder):
    path = folder / "boot.img"
    data = bytearray(1 << 20)
    data[:512] = boot_sector()
    at = READ_BLOCK * 512
    text = MARKER + b"\r\n\0"
    data[at:at + len(text)] = text
    path.write_bytes(data)
    os.truncate(path, IMAGE_SIZE)
    return path


def script(served):
    lines = ["#!ipxe", "set initiator-iqn iqn.2026-11.io.perilune:ipxe"]
    if served.auth != "none":
        lines += [f"set username {h.USER}", f"set password {h.SECRET}"]
    if served.auth == "mutual":
        lines += [f"set reverse-username {h.MUTUAL_USER}", f"set reverse-password {h.MUTUAL_SECRET}"]
    lines += [f"sanboot iscsi:10.0.2.2::{served.relay.port}:{served.lun:x}:{served.iqn} || echo sanboot-failed"]
    return "\n".join(lines) + "\n"


def boots(stack, auth, script=script, timeout=150):
    """Boots an iPXE client with script(served) until the boot sector has read and written."""
    folder = h.temp_dir(stack)
    disk = image(folder)
    served = Served(stack, disk, auth)
    tftp = folder / "tftp"
    tftp.mkdir()
    (tftp / "boot.ipxe").write_text(script(served))
    console = folder / "console"
    command = ["qemu-system-x86_64", "-accel", "tcg", "-machine", "pc,graphics=off", "-m", "128", "-display", "none",
               "-monitor", "none", "-no-reboot", "-serial", f"file:{console}", "-boot", "n",
               "-netdev", f"user,id=net,tftp={tftp},bootfile=boot.ipxe", "-device", "virtio-net-pci,netdev=net"]
    errors = open(folder / "qemu.err", "w+")
    stack.callback(errors.close)
    qemu = h.start(command, stdout=errors, stderr=errors)
    stack.callback(qemu.wait)
    stack.callback(qemu.kill)

    def output():
        return console.read_bytes() if console.exists() else b""

    try:
        h.wait_for(lambda: re.search(MARKER + rb"|sanboot-failed|disk error", output()), "the boot marker", timeout, qemu)
        if MARKER not in output():
            h.fail("iPXE could not boot")
    except AssertionError as e:
        errors.seek(0)
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output().decode(errors="replace"))
        raise AssertionError(f"{e}\n{errors.read()}{text[-3000:]}") from None
    served.check_wire()

    def written():
        with open(disk, "rb") as f:
            return os.pread(f.fileno(), len(MARKER), WRITE_BLOCK * 512) == MARKER

    if not written():
        h.fail("the block that the boot sector wrote is not in the backing file")


def boots_without_authentication(stack):
    boots(stack, AUTH[0])


def boots_with_chap(stack):
    boots(stack, AUTH[1])


def boots_with_mutual_chap(stack):
    boots(stack, AUTH[2])


def need_ipxe():
    h.need("qemu-system-x86_64")
    if not os.path.exists("/usr/lib/ipxe/qemu/pxe-virtio.rom"):
        h.skip("Debian's iPXE ROMs are not installed (package ipxe-qemu)")


if __name__ == "__main__":
    need_ipxe()
    h.main(boots_without_authentication, boots_with_chap, boots_with_mutual_chap)
