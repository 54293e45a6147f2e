#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the initiator under a mounted file system leaves nothing that needs a reboot: the file system unmounts,
`perilune detach --cleanup` says what it removed, nothing of ours is left behind, and the disk can be attached again
with everything on it that had been synced. Once with the server of `perilune attach`, once with iscsid."""
import contextlib
import os
import pathlib
import signal

import harness as h

SIZE = 256 << 20


def disk(stack):
    path = h.temp_dir(stack) / "disk"
    with open(path, "wb") as f:
        f.truncate(SIZE)
    return path


def our_mounts():
    """FUSE mounts of perilune's own."""
    return [line.split()[1] for line in open("/proc/mounts") if "fuse" in line.split()[2] and "perilune" in line]


def device_is_gone(device):
    return h.block_size(device) == 0


def unmount(folder):
    """umount may report the lost writes; it must come back, and the mount must be gone."""
    h.run(["umount", folder], check=False, timeout=60)
    if h.is_mounted(folder):
        h.run(["umount", "-l", folder], check=False, timeout=60)
    if h.is_mounted(folder):
        h.fail(f"{folder} cannot be unmounted")


def kill_under_a_mount(stack, initiator, device, pids):
    """mkfs, mount, sync one file, leave another one unsynced, kill -9, unmount, clean up; returns the synced bytes."""
    folder = h.temp_dir(stack)
    synced = os.urandom(3 << 20)
    h.run(["mkfs.ext4", "-q", "-F", device], timeout=120)
    h.run(["mount", device, folder])
    stack.callback(lambda: h.is_mounted(folder) and h.run(["umount", "-l", folder], check=False))
    (folder / "synced").write_bytes(synced)
    os.sync()
    with open(folder / "unsynced", "wb") as unsynced:
        unsynced.write(os.urandom(8 << 20))
    if not pids:
        h.fail("no process of the initiator was found")
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    h.wait_for(lambda: not any(is_running(pid) for pid in pids), "the killed processes to end")
    unmount(folder)
    done = initiator.perilune("detach", "--cleanup")
    text = done.out + done.err
    h.say("   " + text.strip().replace("\n", "\n   "))
    if not device_is_gone(device):
        h.fail(f"{device} is still there after the cleanup: {done}")
    if os.path.basename(device) not in text:
        h.fail(f"the cleanup did not say that it removed {device}: {done}")
    return synced


def is_running(pid):
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def nothing_is_left(before_loops, before_mounts):
    if h.perilune_loops() != before_loops:
        h.fail(f"loop devices left behind: {h.perilune_loops()}")
    if our_mounts() != before_mounts:
        h.fail(f"mounts left behind: {our_mounts()}")


def everything_synced_is_there(stack, device, synced):
    with h.mounted(device, h.temp_dir(stack)) as folder:
        if (folder / "synced").read_bytes() != synced:
            h.fail("a synced file is not what was written")


def attach_server_is_killed(stack):
    before = h.perilune_loops(), our_mounts()
    server = stack.enter_context(h.serve(disk(stack)))
    initiator = h.Initiator(stack)          # its environment marks the processes that `attach` leaves running
    device = initiator.perilune("attach", server.urls[0]).out.strip()
    synced = kill_under_a_mount(stack, initiator, device, initiator.daemon_pids())
    nothing_is_left(*before)
    if not server.alive():
        h.fail("the server did not survive its initiator")
    device = initiator.perilune("attach", server.urls[0]).out.strip()
    everything_synced_is_there(stack, device, synced)
    initiator.perilune("detach", device)
    nothing_is_left(*before)


def iscsid_is_killed(stack):
    before = h.perilune_loops(), our_mounts()
    server = stack.enter_context(h.serve(disk(stack)))
    initiator = h.Initiator(stack)
    node = ("-m", "node", "-T", server.iqn, "-p", server.portal)
    initiator.iscsiadm("-m", "discovery", "-t", "sendtargets", "-p", server.portal)
    initiator.iscsiadm(*node, "--login")
    device = initiator.wait_device(server.iqn)
    synced = kill_under_a_mount(stack, initiator, device, initiator.daemon_pids())
    nothing_is_left(*before)
    initiator.iscsiadm(*node, "--login")
    everything_synced_is_there(stack, initiator.wait_device(server.iqn), synced)
    initiator.iscsiadm(*node, "--logout")
    initiator.close()
    nothing_is_left(*before)


h.need("mkfs.ext4", "mount", "umount")
h.need_root_and_devices()
h.main(attach_server_is_killed, iscsid_is_killed)
