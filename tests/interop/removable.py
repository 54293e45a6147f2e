#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Media that can be taken out, with real clients: QEMU reads a disc, a PC boots from one (QEMU's own initiator, as a CD drive of
the machine, and Debian's iPXE ROM by sanboot), and libiscsi's tests of PREVENT ALLOW, START STOP and absent media pass on
a removable disk, and that of START STOP on a disc."""
import os
import re
import struct
import subprocess

from served import h

MARKER = b"perilune-disc-ok"
BLOCK = 2048
CATALOG, BOOT_IMAGE, TEXT_BLOCK, BLOCKS = 19, 20, 21, 400


def boot_code():
    """Real-mode code that El Torito loads at 7c00: reads TEXT_BLOCK through INT 13h and prints it on the serial port."""
    code = bytearray(BLOCK)
    packet = 0x80
    struct.pack_into("<BBHHHQ", code, packet, 16, 0, 1, 0x8000, 0, TEXT_BLOCK)
    program = bytes.fromhex("31c0 8ed8 8ec0 8ed0 bc007c")                    # segments 0, stack
    program += b"\xbe" + struct.pack("<H", 0x7C00 + packet) + bytes.fromhex("b442 cd13")
    program += bytes.fromhex("be0080 baf803 ac 84c0 7403 ee ebf8 f4 ebfd")    # si = 8000; print to COM1; halt
    code[:len(program)] = program
    return bytes(code)


def volume_descriptor(kind, rest=b""):
    return (bytes([kind]) + b"CD001\x01" + rest).ljust(BLOCK, b"\0")


def disc(folder):
    """ISO 9660 with an El Torito boot record and no files (ECMA-119 8; El Torito 1.0)."""
    validation = bytearray(32)
    validation[0], validation[30], validation[31] = 1, 0x55, 0xAA
    struct.pack_into("<H", validation, 28, -sum(struct.unpack("<16H", validation)) & 0xFFFF)
    entry = struct.pack("<BBHBBHI20x", 0x88, 0, 0, 0, 0, 4, BOOT_IMAGE)       # bootable, no emulation, 4 x 512 bytes
    primary = bytearray(volume_descriptor(1))
    struct.pack_into("<I", primary, 80, BLOCKS)
    struct.pack_into(">I", primary, 84, BLOCKS)
    struct.pack_into("<H", primary, 128, BLOCK)
    struct.pack_into(">H", primary, 130, BLOCK)
    image = bytearray(os.urandom(BLOCKS * BLOCK))
    blocks = {16: bytes(primary),
              17: volume_descriptor(0, b"EL TORITO SPECIFICATION".ljust(64, b"\0") + struct.pack("<I", CATALOG)),
              18: volume_descriptor(255), CATALOG: (bytes(validation) + entry).ljust(BLOCK, b"\0"),
              BOOT_IMAGE: boot_code(), TEXT_BLOCK: (MARKER + b"\r\n\0").ljust(BLOCK, b"\0")}
    image[:16 * BLOCK] = bytes(16 * BLOCK)
    for block, data in blocks.items():
        assert len(data) == BLOCK
        image[block * BLOCK:(block + 1) * BLOCK] = data
    path = folder / "boot.iso"
    path.write_bytes(image)
    return path


def serve(stack, *backings, options=()):
    server = stack.enter_context(h.serve(*backings, options=options))
    return server, f"iscsi://{server.host}:{server.port}/{server.iqn}"


def boot(stack, folder, arguments):
    console = folder / "console"
    errors = open(folder / "qemu.err", "w+")
    stack.callback(errors.close)
    qemu = h.start(["qemu-system-x86_64", "-accel", "tcg", "-machine", "pc,graphics=off", "-m", "128", "-display", "none", "-monitor",
                    "none", "-no-reboot", "-serial", f"file:{console}", *arguments], stdout=errors, stderr=errors)
    stack.callback(qemu.wait)
    stack.callback(qemu.kill)

    def output():
        return console.read_bytes() if console.exists() else b""

    h.wait_for(lambda: re.search(MARKER + rb"|sanboot-failed", output()), "the text of the disc on the console", 150, qemu)
    if MARKER not in output():
        h.fail("the disc did not boot: " + output().decode(errors="replace")[-2000:])


def qemu_reads_every_block(stack):
    h.need("qemu-img")
    folder = h.temp_dir(stack)
    image = disc(folder)
    _, url = serve(stack, f"cd:{image}")
    copy = folder / "copy"
    h.run(["qemu-img", "convert", "-f", "raw", "-O", "raw", f"{url}/0", copy])
    if copy.read_bytes() != image.read_bytes():
        h.fail("QEMU read something else than the disc holds")


def pc_boots_from_its_cd_drive(stack):
    h.need("qemu-system-x86_64")
    folder = h.temp_dir(stack)
    _, url = serve(stack, f"cd:{disc(folder)}")
    boot(stack, folder, ["-boot", "d", "-drive", f"file={url}/0,format=raw,media=cdrom,readonly=on"])


def pc_boots_by_ipxe(stack):
    h.need("qemu-system-x86_64")
    if not os.path.exists("/usr/lib/ipxe/qemu/pxe-virtio.rom"):
        h.skip("Debian's iPXE ROMs are not installed (package ipxe-qemu)")
    folder = h.temp_dir(stack)
    server, _ = serve(stack, f"cd:{disc(folder)}")
    tftp = folder / "tftp"
    tftp.mkdir()
    (tftp / "boot.ipxe").write_text("#!ipxe\nset initiator-iqn iqn.2026-11.io.perilune:ipxe\n"
                                    f"sanboot iscsi:10.0.2.2::{server.port}:0:{server.iqn} || echo sanboot-failed\n")
    boot(stack, folder, ["-boot", "n", "-netdev", f"user,id=net,tftp={tftp},bootfile=boot.ipxe", "-device", "virtio-net-pci,netdev=net"])


LOCKS = ("PreventAllow.Simple", "PreventAllow.Eject", "PreventAllow.ITNexusLoss", "PreventAllow.Logout", "PreventAllow.WarmReset",
         "PreventAllow.ColdReset", "PreventAllow.LUNReset", "PreventAllow.2ITNexuses", "StartStopUnit.Simple")
# Said around each test, where a unit has no persistent reservations; and of cold resets, which the tool itself cannot do.
NO_SKIPS = re.compile(r"\[SKIPPED\] (PERSISTENT RESERVE IN is not implemented|Task Management function *for ColdReset is not)")


def libiscsi_passes(tests, backing, options=()):
    """Each test against a target of its own: one that leaves the tray open would hold up the next for ever."""
    h.need("iscsi-test-cu")
    failed = []
    for test in tests:
        with h.serve(backing, options=options) as server:
            url = f"iscsi://{server.host}:{server.port}/{server.iqn}/0"
            try:
                done = subprocess.run(["iscsi-test-cu", "--dataloss", "-t", f"SCSI.{test}", url], capture_output=True, text=True,
                                      timeout=60, check=False)
            except subprocess.TimeoutExpired:
                failed.append(f"{test}: no end")
                continue
        skipped = "[SKIPPED]" in NO_SKIPS.sub("", done.stdout.partition("Suite:")[2])
        if skipped or not re.search(r"tests +1 +1 +1 +0 ", done.stdout):
            failed.append(f"{test}:\n{done.stdout[-1500:]}")
    if failed:
        h.fail("\n".join(failed))


def libiscsi_locks_ejects_and_loads_a_disk(_stack):
    """Two tests are left out: StartStopUnit.NoLoej wants a removable unit that was stopped (START 0) to be ready, and
    StartStopUnit.PwrCnd power conditions, which a unit need not have."""
    libiscsi_passes((*LOCKS, "NoMedia.NoMediaSBC"), "ram:64M", ["--removable"])


def libiscsi_ejects_and_loads_a_disc(stack):
    """Those of PREVENT ALLOW skip whatever is not a disk."""
    libiscsi_passes(("StartStopUnit.Simple",), f"cd:{disc(h.temp_dir(stack))}")


h.main(qemu_reads_every_block, libiscsi_locks_ejects_and_loads_a_disk, libiscsi_ejects_and_loads_a_disc, pc_boots_from_its_cd_drive, pc_boots_by_ipxe)
