# SPDX-License-Identifier: Apache-2.0
"""The target daemon is restarted fifty times, by SIGTERM and by kill -9 in turn, while fio writes by the kernel's initiator and verifies
what it wrote: no error, no wait of five seconds, and the key of a persistent reservation is there afterwards. (tests/system/target_restarts.py
does it with our initiator.)"""
import os
import pathlib

import lab
import resident

VM = {"memory": 768, "processors": 2, "limit": 1800, "mutants": {"lost-state": {"restart_edit": "state"}, "slow": {"restart_edit": "slow"}}}

RESTARTS = 50
FOLDER, LOG = pathlib.Path("/root/targetd"), pathlib.Path("/root/targetd.log")
ENVIRONMENT = {"PERILUNE_CONFIG": str(FOLDER), "PERILUNE_SOCKET": "/run/targetd.sock"}
daemon, disk = [], []


def start():
    mark = LOG.read_text().count("info ready") if LOG.exists() else 0
    daemon[:] = [lab.start(f"exec {lab.PERILUNE} targetd --foreground 2>>{LOG}", "/root/targetd.out", env=ENVIRONMENT)]
    lab.wait_for(lambda: LOG.exists() and LOG.read_text().count("info ready") > mark, "targetd to be ready")


def sabotaged():
    """What a daemon would do that comes late, or has forgotten."""
    kind = lab.mutant().get("restart_edit")
    if kind == "slow":
        lab.time.sleep(7)
    elif kind == "state":
        for path in (FOLDER / "state").glob("*"):
            if path.is_file():
                path.unlink()


def a_target_and_a_load():
    FOLDER.mkdir()
    start()
    os.environ.update(ENVIRONMENT)
    resident.set_up([lab.PERILUNE, "targetcli"], 1)
    lab.iscsid()
    disk.append(resident.kernel_initiator())


def fifty_restarts():
    lab.allow(r"detected conn error")
    load = resident.Load(disk[0])
    restarts = 2 if lab.mutant() else RESTARTS   # enough to be caught
    for number in range(restarts):
        if number % 2 == 0:
            daemon[0].terminate()
            lab.check(daemon[0].wait(timeout=60) == 0, f"restart {number + 1}: ended well")
        else:
            daemon[0].kill()
            daemon[0].wait()
        sabotaged()
        start()
        load.goes_on(f"the load goes on after restart {number + 1}")
    longest = load.end()
    lab.check(longest < resident.LONGEST, f"{restarts} restarts: the longest wait was {longest:.2f} s")
    resident.key_is_there(disk[0])
    lab.logout(resident.TARGET)
    daemon[0].terminate()
    lab.check(daemon[0].wait(timeout=60) == 0, "targetd ends well")


if __name__ == "__main__":
    lab.main(a_target_and_a_load, fifty_restarts)
