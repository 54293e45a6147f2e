# SPDX-License-Identifier: Apache-2.0
"""The Debian packages that a guest installs: built once, and again under later versions, as upgrades come; with a sabotage, as a
careless maintainer would have made them."""
import pathlib
import re

import harness as h

# What is done to every version but the first.
SABOTAGES = ("forgets", "slow", "deaf")


def build(folder, count):
    """Builds the packages of this tree, and perilune again as `count` later versions. Returns {name: path}: perilune-0.deb to
    perilune-COUNT.deb and compat.deb."""
    h.need("dh", "dpkg-deb")
    folder = pathlib.Path(folder)
    h.run([h.ROOT / "packaging/build", "--binary", h.PERILUNE, "--out", folder], timeout=600)
    found = {"compat.deb": next(folder.glob("perilune-compat_*.deb"))}
    first = next(folder.glob("perilune_*.deb"))
    for number in range(count + 1):
        found[f"perilune-{number}.deb"] = _version(folder, first, number, None)
    return found


def sabotaged(folder, packages, kind):
    """The later versions, and with "deaf" the first too, spoilt in place:
    "forgets" loses the daemon's state, "slow" stops it at the beginning of an upgrade and takes its time, "deaf" is not watched."""
    if kind not in SABOTAGES:
        h.fail(f"no sabotage of packages is called {kind}")
    for name, path in packages.items():
        number = re.fullmatch(r"perilune-(\d+)\.deb", name)
        if number and (kind == "deaf" or number[1] != "0"):
            packages[name] = _version(pathlib.Path(folder), path, int(number[1]), kind)


def _version(folder, package, number, sabotage):
    tree = folder / f"tree-{number}-{sabotage}"
    h.run(["dpkg-deb", "-R", package, tree])
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"^Version: ([^+\n]*).*$", rf"Version: \1+{number}", control.read_text(), flags=re.M))
    if sabotage == "forgets":
        _prepend(tree / "DEBIAN/postinst", "rm -rf /var/lib/perilune/target/*\n")
    elif sabotage == "slow":
        _prepend(tree / "DEBIAN/preinst", "systemctl stop perilune-targetd.socket\nsleep 7\n")
    elif sabotage == "deaf":
        unit = tree / "lib/systemd/system/perilune-targetd.service"
        unit.write_text(unit.read_text().replace("WatchdogSec=20", "WatchdogSec=0"))
    result = folder / f"perilune-{number}-{sabotage or 'good'}.deb"
    h.run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, result])   # the guest's processor is slow
    return result


def _prepend(script, text):
    """Puts lines behind the first of a maintainer script, which is made when there is none."""
    first, _, rest = (script.read_text() if script.exists() else "#!/bin/sh\n").partition("\n")
    script.write_text(f"{first}\n{text}{rest}")
    script.chmod(0o755)
