# SPDX-License-Identifier: Apache-2.0
"""The Debian package under systemd: installed, its units run and are watched, a configuration made by targetcli; five upgrades while the
kernel's initiator and ours write and verify; a purge that leaves nothing."""
import os
import pathlib
import re

import lab
import resident
from lab import sh

VM = {"boot": "systemd", "memory": 1024, "processors": 2, "packages": 5, "limit": 1800,
      "mutants": {"forgetful-upgrade": {"package": "forgets"}, "slow-upgrade": {"package": "slow"}, "no-watchdog": {"package": "deaf"}}}

SERVICE = "perilune-targetd.service"
UPGRADES = 5
# What changes whether the package comes or goes; and what the scenario itself makes, or other packages do meanwhile.
NOT_OURS = re.compile(r"^/(proc|sys|dev|lab|tmp|srv|root|mnt|run/(?!perilune)|var/(log|cache|tmp|lib/(dpkg|systemd/(?!deb-)))|etc/iscsi|etc/(passwd|group|shadow|"
                      r"gshadow|subuid|subgid|\.pwd\.lock)|etc/multipath/|lost\+found)")
before = set()


def show(*properties, unit=SERVICE):
    """The values of a unit's properties."""
    text = sh(["systemctl", "show", *(f"-p{name}" for name in properties), unit], show=False).out
    found = dict(line.split("=", 1) for line in text.splitlines())
    return [found[name] for name in properties]


def paths():
    return {path for path in sh("find / -xdev; find /run/perilune 2>/dev/null", code=None, show=False).out.splitlines() if not NOT_OURS.match(path)}


def installed():
    before.update(paths())
    sh("cp /etc/passwd /root/passwd; cp /etc/group /root/group", show=False)
    sh("dpkg -i /lab/perilune-0.deb")
    sh("dpkg -i /lab/compat.deb", code=1)   # targetcli-fb and open-iscsi are installed
    lab.expect(sh("dpkg -l perilune perilune-compat open-iscsi", code=None).out, r"^ii +perilune ", r"^ii +open-iscsi ")
    sh(["systemd-analyze", "--man=no", "verify", SERVICE, "perilune-targetd.socket", "perilune-iscsid.service", "perilune-iscsid.socket"])
    for unit, state, enabled in ((SERVICE, "active", "enabled"), ("perilune-targetd.socket", "active", "enabled"),
                                 ("perilune-iscsid.socket", "active", "enabled"), ("perilune-iscsid.service", "inactive", "disabled")):
        got = [sh(["systemctl", word, unit], code=None, show=False).out.strip() for word in ("is-active", "is-enabled")]
        lab.check(got == [state, enabled], f"{unit} is {got}")
    lab.expect(sh(["systemctl", "status", "--no-pager", SERVICE]).out, r'Status: "Serving; control socket /run/perilune/targetd.sock"')
    sh("getent passwd perilune")
    pid, = show("MainPID")
    lab.check(sh(["ps", "-o", "user=", "-p", pid], show=False).out.strip() == "perilune", "the daemon is perilune's")
    lab.expect(sh("stat -c '%U %a %n' /var/lib/perilune/target /run/perilune /run/perilune/targetd.sock").out,
               r"^perilune 700 /var/lib/perilune/target$", r"^root 1775 /run/perilune$", r"^perilune 600 /run/perilune/targetd.sock$")


def configured_by_targetcli():
    resident.set_up(["perilune", "targetcli"], 2)
    sh("perilune targetcli saveconfig")


def a_stopped_process_is_ended_and_started_again():
    pid, restarts = show("MainPID", "NRestarts")
    sh(["kill", "-STOP", pid])
    lab.wait_for(lambda: show("NRestarts")[0] != restarts and show("ActiveState")[0] == "active", "the watchdog to restart the daemon", 90)
    lab.check(show("MainPID")[0] != pid, "another process serves")
    lab.expect(sh(["journalctl", "--no-pager", "-u", SERVICE], show=False).out, r"Watchdog timeout")
    lab.expect(sh("perilune targetcli ls /iscsi").out, re.escape(resident.IQN))


def the_socket_starts_it():
    sh(["systemctl", "stop", SERVICE])
    lab.check(show("ActiveState")[0] == "inactive", "the daemon does not run")
    lab.expect(sh("perilune targetcli ls /iscsi").out, re.escape(resident.IQN))
    lab.check(show("ActiveState", "SubState") == ["active", "running"], "a command has started it")
    sh(["systemctl", "reload", SERVICE])
    lab.check(show("ActiveState", "SubState") == ["active", "running"], "a reload is over when it is")


def the_initiator_logs_in_at_boot():
    """As at boot: the unit starts, and the disk of an automatic record is there. Nobody else uses the records yet."""
    unit = "perilune-iscsid.service"
    node = ["perilune", "iscsiadm", "-m", "node", "-T", resident.IQN, "-p", resident.PORTAL]
    sh(["perilune", "iscsiadm", "-m", "discovery", "-t", "sendtargets", "-p", resident.PORTAL])
    sh([*node, "-o", "update", "-n", "node.startup", "-v", "automatic"])
    lab.check(show("ActiveState", unit=unit)[0] == "active", "iscsiadm has started the daemon by its socket")
    sh(["systemctl", "stop", unit])
    sh(["systemctl", "enable", "--now", unit])

    def attached():
        done = sh("perilune iscsiadm -m session -P 3", code=None, show=False)
        found = sorted(re.findall(r"Attached scsi disk (\S+)\s+State: running", done.out))
        return found if len(found) == 2 else None
    disks = lab.wait_for(attached, "both disks of the record")
    disk = f"/dev/{disks[0].removeprefix('/dev/')}"
    sh(f"dd if=/dev/urandom of=/root/random bs=64k count=16 && dd if=/root/random of={disk} bs=64k oflag=direct && cmp -n 1048576 /root/random {disk}")
    sh([*node, "-o", "update", "-n", "node.startup", "-v", "manual"])   # the next command starts the daemon again, by its socket
    sh(["systemctl", "disable", "--now", unit])
    sizes = [pathlib.Path("/sys/block", name.removeprefix("/dev/"), "size") for name in disks]
    lab.wait_for(lambda: all(size.read_text().strip() == "0" for size in sizes), "the disks to go with it")
    sh([*node, "-o", "delete"])


def five_upgrades_under_verification():
    lab.patient_records()
    sh("systemctl start iscsid.service")
    lab.allow(r"detected conn error", r"connection\d+:0:")
    kernel = resident.kernel_initiator()
    ours = sh(["perilune", "attach", f"iscsi://{resident.PORTAL}/{resident.IQN}/1"]).out.strip()
    loads = [resident.Load(kernel), resident.Load(ours)]
    kept = pathlib.Path("/etc/default/perilune")
    kept.write_text(kept.read_text().replace('TARGETD_OPTIONS=""', 'TARGETD_OPTIONS="--buffers 32"'))
    sessions = sh("iscsiadm -m session", show=False).out
    upgrades = 1 if lab.mutant() else UPGRADES   # one is enough to be caught
    for number in range(1, upgrades + 1):
        pid, = show("MainPID")
        sh(f"dpkg -i /lab/perilune-{number}.deb")
        lab.check(show("ActiveState")[0] == "active" and show("MainPID")[0] != pid, f"upgrade {number}: another process serves")
        for load in loads:
            load.goes_on(f"the load goes on after upgrade {number}")
    lab.check("--buffers 32" in kept.read_text(), "the configuration file is the administrator's")
    lab.check(pathlib.Path(f"/proc/{show('MainPID')[0]}/cmdline").read_text().split("\0")[5:7] == ["--buffers", "32"], "and is used")
    lab.check(sh("iscsiadm -m session", show=False).out == sessions, "the session is the same")
    waits = [load.end() for load in loads]
    lab.check(max(waits) < resident.LONGEST, f"{upgrades} upgrades: the longest wait was {waits[0]:.2f} s for the kernel's initiator, "
              f"{waits[1]:.2f} s for ours")
    resident.key_is_there(kernel)
    sh(["perilune", "detach", ours])
    lab.logout(resident.TARGET)


def a_purge_leaves_nothing():
    sh("dpkg --purge perilune")
    lab.check(not sh("systemctl list-units --all --plain --no-legend 'perilune*'", show=False).out.strip(), "no unit is left")
    lab.check(not sh("pgrep -a perilune", code=None).out, "no process is left")
    left = paths() - before
    lab.check(not left, f"no file is left {sorted(left)[:10]}")
    lab.check(os.path.exists("/srv/disks/disk0"), "but the disks are")
    sh("diff /root/passwd /etc/passwd && diff /root/group /etc/group")


if __name__ == "__main__":
    lab.main(installed, configured_by_targetcli, a_stopped_process_is_ended_and_started_again, the_socket_starts_it,
             the_initiator_logs_in_at_boot, five_upgrades_under_verification, a_purge_leaves_nothing)
