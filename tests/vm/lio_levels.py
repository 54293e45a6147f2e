# SPDX-License-Identifier: Apache-2.0
"""Our initiator against the kernel's own target with several connections in a session and recovery level 2: connections are killed
one at a time under a load that verifies what it wrote, and the session is the same afterwards."""
import lab
import lio
from lab import sh

VM = {"draft": True, "memory": 768, "disks": ["128M"], "processors": 2}

devices = []


def connections():
    """Local ports of our side, as the kernel has them."""
    return [line.split()[2] for line in sh("ss -Htn state established dport = :3260", show=False).out.splitlines()]


def lio_agrees_to_level_2():
    done = sh("targetcli", code=None, input=f"/iscsi/{lio.IQN}/tpg1 set parameter ErrorRecoveryLevel=2 MaxConnections=4 "
              f"DefaultTime2Wait=0 DefaultTime2Retain=20\n/iscsi/{lio.IQN}/tpg1/acls/{lio.INITIATOR} set attribute default_erl=2\nexit\n")
    lab.expect(done.out, "ErrorRecoveryLevel is now '2'", "MaxConnections is now '4'", "DefaultTime2Retain is now '20'", "default_erl is now '2'")


def log_in_with_three_connections():
    lio.update(node__session__iscsi__ERL="2", node__session__iscsi__MaxConnections="3",
               node__session__iscsi__DefaultTime2Wait="0", node__session__iscsi__DefaultTime2Retain="20")
    lio.log_in()
    devices[:] = lio.devices
    lab.wait_for(lambda: len(connections()) == 3, "three connections")
    lab.expect(lio.iscsiadm("-m", "session", "-P", "2").out, r"^\t\tErrorRecoveryLevel: 2$", r"^\t\tMaxConnections: 3$",
               r"^\t\tConnections \(CID\): 0, 1, 2$")


def connections_are_killed_under_load():
    job = lab.start(f"""fio --name=load --filename={devices[0]} --size=64m --rw=randwrite --bs=16k --direct=1 --ioengine=libaio
        --iodepth=16 --verify=crc32c --verify_fatal=1 --do_verify=1 --loops=2 --rate_iops=600 --randseed=7""".replace("\n", " "),
                    "/tmp/fio.log")
    sh("nft add table inet cut; nft add chain inet cut out '{ type filter hook output priority 0 ; }'", show=False)
    for _ in range(4):
        before = connections()
        lab.wait_for(lambda: int(lab.sysfs(devices[0], "stat").split()[4]) > 50, "the load to run")
        port = before[0].rsplit(":", 1)[1]
        sh(f"nft add rule inet cut out tcp sport {port} tcp dport 3260 reject with tcp reset", show=False)
        lab.wait_for(lambda: before[0] not in connections(), "the connection to end", timeout=30)
        lab.wait_for(lambda: len(connections()) == 3, "the connection to come again", timeout=60)
    lab.wait_for(lambda: job.poll() is not None, "the load to end", timeout=120)
    lab.say(open("/tmp/fio.log").read()[-1500:])
    lab.check(job.returncode == 0, "the load ended well, and verified what it wrote")
    lio.log_out()
    lio.iscsiadm("-k", "0")


if __name__ == "__main__":
    lab.main(lio.lio_is_set_up, lio.discovery, lio_agrees_to_level_2, log_in_with_three_connections, connections_are_killed_under_load)
