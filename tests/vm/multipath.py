# SPDX-License-Identifier: Apache-2.0
"""Two portals through two interfaces, one map of dm-multipath with two paths: what multipath -ll shows, verified I/O while each
path is dropped and restored in turn, both path selectors, and the priorities that multipathd takes from the target: what an
operator changes about its portal groups moves the I/O."""
import os
import pathlib
import re

import lab
from lab import sh

VM = {"networks": 2, "memory": 640,
      "mutants": {"two-identities": {"wire": "other_identity"}}}

CONFIGURATION = """
defaults {{
    user_friendly_names yes
    polling_interval 2
    max_polling_interval 2
    path_grouping_policy {policy}
    failback immediate
    path_selector "{selector} 0"
    no_path_retry 60
    find_multipaths no
}}
blacklist {{
    devnode "^vd"
}}
"""
BOTH_OPTIMIZED = "1 optimized\n2 optimized\n"
target, paths = {}, []


def configure(selector, policy="multibus"):
    pathlib.Path("/etc/multipath.conf").write_text(CONFIGURATION.format(selector=selector, policy=policy))


def two_interfaces():
    target.update(lab.serve(disks=["128M"], portals=2, proxied=True, groups=BOTH_OPTIMIZED))
    lab.iscsid()
    for number in (0, 1):
        sh(["iscsiadm", "-m", "iface", "-I", f"path{number}", "-o", "new"])
        sh(["iscsiadm", "-m", "iface", "-I", f"path{number}", "-o", "update", "-n", "iface.net_ifacename", "-v", f"eth{number}"])
    done = sh(["iscsiadm", "-m", "discovery", "-t", "st", "-p", target["portals"][0], "-I", "path0"])
    lab.same_shape(done.out, "{0},1 {iqn}\n{1},2 {iqn}".replace("{0}", target["portals"][0]).replace("{1}", target["portals"][1]),
                   iqn=target["iqn"])
    sh(["iscsiadm", "-m", "discovery", "-t", "st", "-p", target["portals"][1], "-I", "path1"], show=False)
    for interface, portal in (("path0", 1), ("path1", 0)):   # the other portal is not behind this interface
        sh(["iscsiadm", "-m", "node", "-T", target["iqn"], "-p", target["portals"][portal], "-I", interface, "-o", "delete"])
    for portal in (0, 1):
        lab.update(target, portal, node__session__timeo__replacement_timeout=5, **{
            "node__conn[0]__timeo__noop_out_interval": 2, "node__conn[0]__timeo__noop_out_timeout": 3})
    done = sh("iscsiadm -m node -P 1")
    lab.expect(done.out, r"Iface Name: path0", r"Iface Name: path1")


def one_map_with_two_paths():
    for module in ("dm_multipath", "dm_service_time", "dm_round_robin"):
        sh(["modprobe", module], show=False)
    configure("service-time")
    lab.start("exec multipathd -d -v2", "/run/multipathd.log")
    lab.wait_for(lambda: sh("multipathd show status", code=None, show=False).code == 0, "multipathd")
    sh("iscsiadm -m node --login")
    paths[:] = [os.path.basename(lab.disk(target, portal)) for portal in (0, 1)]
    lab.wait_for(lambda: active(show=False) == set(paths), "a map with two paths", 90)
    done = sh("multipath -ll")
    lab.expect(done.out, r"^mpatha \(\S{17,40}\) dm-\d+ PERILUNE,VIRTUAL-DISK$",
               r"^size=128M features='1 queue_if_no_path' hwhandler='1 alua' wp=rw$",
               r"^`-\+- policy='service-time 0' prio=50 status=(active|enabled)$",
               *(rf"^  [|`]- \d+:0:0:0 {name} +\d+:\d+ +active ready running$" for name in paths))
    done = sh("multipathd show paths format '%d %p %t %T %P %s'")
    lab.expect(done.out, *(rf"^{name} " for name in paths))
    priority_of_the_target()


def priority_of_the_target():
    """With TPGS in the INQUIRY data the priority is ALUA's: 50 for active/optimized."""
    tpgs = re.search(r"TPGS=(\d)", sh(["sg_inq", f"/dev/{paths[0]}"], show=False).out)[1]
    done = sh("multipathd show paths format '%d %p'", show=False)
    for name in paths:
        lab.expect(done.out, rf"^{name} +{50 if tpgs != '0' else 1}\b")


def active(show=True):
    text = sh("multipathd show maps topology", show=show, code=None).out
    return set(re.findall(r"\d+:\d+:\d+:\d+ +(sd\w+) +\d+:\d+ +active +ready +running", text))


def fio(name, *words):
    return ["fio", f"--name={name}", "--filename=/dev/mapper/mpatha", "--bs=16k", "--direct=1", "--ioengine=libaio", "--iodepth=4",
            "--verify=crc32c", "--verify_fatal=1", *words]


def paths_go_and_come_back_under_load():
    lab.allow(r"detected conn error", r"ping timeout", r"recovery timed out", r"I/O error, dev sd", r"FAILED Result", r"rejecting I/O",
              r"Failing path", r"Reinstating path")
    job = lab.start(fio("load", "--size=24m", "--rw=randrw", "--loops=1000", "--time_based=1", "--runtime=600"), "/tmp/fio.log")
    for victim in (1, 0):
        portal, other = target["portals"][victim], paths[1 - victim]
        lab.host.mode(portal=portal, mode="refuse")
        lab.wait_for(lambda o=other: active(show=False) == {o}, f"{paths[victim]} to fail")
        sh("multipath -ll")
        written = int(lab.sysfs(other, "stat").split()[4])
        lab.wait_for(lambda o=other, w=written: int(lab.sysfs(o, "stat").split()[4]) > w + 20, "writes on the other path")
        lab.check(job.poll() is None, f"I/O goes on over {other} alone")
        lab.host.mode(portal=portal, mode="pass")
        lab.wait_for(lambda: active(show=False) == set(paths), f"{paths[victim]} to come back")
        lab.say(f"  ok: {paths[victim]} is back")
    job.terminate()
    lab.wait_for(lambda: job.poll() is not None, "fio to end")
    text = open("/tmp/fio.log").read()
    lab.check("verify:" not in text and "error" not in text.replace("err= 0", ""), "fio verified everything it read")


def both_selectors():
    for selector in ("round-robin", "service-time"):
        configure(selector)
        sh("multipathd reconfigure")
        lab.wait_for(lambda s=selector: f"policy='{s} 0'" in sh("multipath -ll", show=False).out and active(show=False) == set(paths),
                     f"the map with {selector}")
        lab.expect(sh("dmsetup table mpatha").out, rf"multipath .* {selector} 0 2 ")
        before = [sum(int(lab.sysfs(name, "stat").split()[n]) for n in (0, 4)) for name in paths]
        sh(fio("selector", "--size=8m", "--offset=32m", "--rw=write"), show=False)
        after = [sum(int(lab.sysfs(name, "stat").split()[n]) for n in (0, 4)) for name in paths]
        lab.check(all(b > a + 20 for a, b in zip(before, after)), f"{selector} uses both paths ({before} -> {after})")


def topology():
    """path -> (priority of its group, status of its group, its own state)"""
    found, group = {}, None
    for line in sh("multipathd show maps topology", show=False, code=None).out.splitlines():
        if match := re.search(r"prio=(-?\d+) status=(\w+)", line):
            group = int(match[1]), match[2]
        elif match := re.search(r"\d+:\d+:\d+:\d+ +(sd\w+) +\d+:\d+ +(\w+) +(\w+) +running", line):
            found[match[1]] = (*group, match[3])
    return found


def writes_of(name):
    return int(lab.sysfs(name, "stat").split()[4])


def io_moves_to(chosen, text, priorities, states=("ready", "ready")):
    """After the operator has said `text`: priorities and states of the paths, and all of the I/O on the chosen one."""
    lab.host.hang_up(groups=text)
    wanted = {name: (priorities[n], "active" if n == chosen else "enabled", states[n]) for n, name in enumerate(paths)}
    lab.wait_for(lambda: topology() == wanted, f"the paths to be {wanted}", 60)
    sh("multipath -ll")
    before = [writes_of(name) for name in paths]
    lab.wait_for(lambda: writes_of(paths[chosen]) > before[chosen] + 50, f"writes on {paths[chosen]}")
    lab.check(writes_of(paths[1 - chosen]) == before[1 - chosen], f"no writes on {paths[1 - chosen]}")


def priorities_follow_the_operator():
    lab.allow(r"alua: ", r"Add. Sense: Logical unit not accessible", r"Sense Key : Not Ready")
    configure("service-time", "group_by_prio")
    sh("multipathd reconfigure")
    job = lab.start(fio("failover", "--size=24m", "--rw=randrw", "--loops=1000", "--time_based=1", "--runtime=600"), "/tmp/failover.log")
    io_moves_to(0, "1 optimized\n2 nonoptimized\n", (50, 10))
    io_moves_to(1, "1 nonoptimized\n2 optimized\n", (10, 50))
    io_moves_to(0, "1 optimized preferred\n2 standby\n", (50, 1), ("ready", "ghost"))
    io_moves_to(1, "1 standby\n2 optimized\n", (1, 50), ("ghost", "ready"))      # away from the path in use
    lab.host.hang_up(groups=BOTH_OPTIMIZED)
    lab.check(job.poll() is None, "fio has seen no error")
    job.terminate()
    lab.wait_for(lambda: job.poll() is not None, "fio to end")
    text = open("/tmp/failover.log").read()
    lab.check("verify:" not in text and "error" not in text.replace("err= 0", ""), "fio verified everything it read")
    configure("service-time")
    sh("multipathd reconfigure")
    lab.wait_for(lambda: active(show=False) == set(paths) and len({state[:2] for state in topology().values()}) == 1,
                 "both paths in one group again", 60)


def a_file_system_over_both():
    sh("mkfs.ext4 -q -F /dev/mapper/mpatha")
    with lab.mounted("/dev/mapper/mpatha", "/mnt/m"):
        sums = lab.write_tree("/mnt/m", files=40)
    for name in paths:   # each path alone has all of it
        sh(["blockdev", "--flushbufs", f"/dev/{name}"], show=False)
    with open(f"/dev/{paths[0]}", "rb") as one, open(f"/dev/{paths[1]}", "rb") as two:
        lab.check(one.read(16 << 20) == two.read(16 << 20), "both paths lead to the same bytes")
    with lab.mounted("/dev/mapper/mpatha", "/mnt/m", "ro"):
        lab.check_tree("/mnt/m", sums)
    sh("multipath -F")
    sh("iscsiadm -m node --logout")


if __name__ == "__main__":
    lab.main(two_interfaces, one_map_with_two_paths, paths_go_and_come_back_under_load, both_selectors,
             priorities_follow_the_operator, a_file_system_over_both)
