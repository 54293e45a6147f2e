#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is in the Debian packages, and what is not: no file under a name of another package outside perilune-compat, which refuses to
be beside those; the version of the project; manual pages for every verb; and lintian has no complaint where it is installed.
Whether they install, upgrade and purge is seen in a guest: ./dev vm run package."""
import contextlib
import re
import shutil

import harness as h

# What of ours other packages of Debian call theirs.
NAMES_OF_OTHERS = {"targetcli", "targetctl", "tgtadm", "tgt-admin", "tgt-setup-lun", "tgtimg", "iscsiadm", "iscsid"}
built = {}


def files_of(package):
    """{path: link target or None} of what is no folder."""
    found = {}
    for line in h.run(["dpkg-deb", "-c", package]).out.splitlines():
        mode, _, _, _, _, path, *more = line.split()
        if not mode.startswith("d"):
            found[path.removeprefix(".")] = more[1] if more else None
    return found


def field(package, name):
    return h.run(["dpkg-deb", "-f", package, name]).out.strip()


def they_are_built(_):
    h.run([h.ROOT / "packaging/build", "--binary", h.PERILUNE, "--out", FOLDER], timeout=200)
    for path in FOLDER.glob("*.deb"):
        built[field(path, "Package")] = path
    version = re.search(r"project\(perilune VERSION ([0-9.]+)", (h.ROOT / "CMakeLists.txt").read_text())[1]
    for package in ("perilune", "perilune-compat"):
        if field(built[package], "Version") != version:
            h.fail(f"{package} does not have the version {version}")


def the_package_takes_no_name_of_others(_):
    files = files_of(built["perilune"])
    taken = [path for path in files if path.split("/")[-1].split(".")[0] in NAMES_OF_OTHERS]
    if taken:
        h.fail(f"names of other packages: {taken}")
    for path in ("/usr/bin/perilune", "/lib/systemd/system/perilune-targetd.service", "/lib/systemd/system/perilune-targetd.socket",
                 "/lib/systemd/system/perilune-iscsid.service", "/usr/lib/sysusers.d/perilune.conf", "/usr/share/doc/perilune/copyright",
                 "/usr/share/bash-completion/completions/perilune"):
        if path not in files:
            h.fail(f"{path} is not in the package")
    if h.run(["dpkg-deb", "-I", built["perilune"], "conffiles"]).out.split() != ["/etc/default/perilune"]:
        h.fail("other configuration files than /etc/default/perilune")
    if "libc6" not in field(built["perilune"], "Depends") or "liburing2" not in field(built["perilune"], "Depends"):
        h.fail("it does not depend on the libraries that it is linked with")


def the_other_has_all_of_them_and_says_so(_):
    files = files_of(built["perilune-compat"])
    commands = {path.split("/")[-1] for path, target in files.items() if "bin/" in path and target in ("perilune", "../bin/perilune")}
    if commands != NAMES_OF_OTHERS:
        h.fail(f"commands {sorted(commands)}")
    conflicts = set(field(built["perilune-compat"], "Conflicts").split(", "))
    if conflicts != {"open-iscsi", "python3-rtslib-fb", "targetcli-fb", "tgt"}:
        h.fail(f"conflicts {conflicts}")
    ours = files_of(built["perilune"])
    for path, target in files.items():
        folder = path.rsplit("/", 1)[0]
        if target and target != "../bin/perilune" and f"{folder}/{target}" not in ours:
            h.fail(f"{path} leads to {target}, which is not there")


def every_verb_has_its_page(_):
    pages = {path.split("/")[-1].split(".")[0] for path in files_of(built["perilune"]) if "/man/" in path}
    overview = h.run([h.PERILUNE, "help"]).out
    verbs = re.findall(r"^  ([a-z-]+) ", overview[overview.index("Verbs:"):overview.index("Try it")], re.M)
    if len(verbs) < 10 or (missing := [verb for verb in verbs if f"perilune-{verb}" not in pages]):
        h.fail(f"no manual page for {missing if verbs else 'anything'}")


def lintian_is_content(_):
    if shutil.which("lintian") is None:
        h.say("   lintian is not installed")
        return
    done = h.run(["lintian", "--allow-root", "--fail-on", "none", built["perilune"], built["perilune-compat"]], timeout=120)
    if complaints := [line for line in done.out.splitlines() if line.startswith(("E:", "W:"))]:
        h.fail("\n".join(complaints))


h.need("dpkg-deb", "dh")
with contextlib.ExitStack() as folders:
    FOLDER = h.temp_dir(folders)
    h.main(they_are_built, the_package_takes_no_name_of_others, the_other_has_all_of_them_and_says_so, every_verb_has_its_page,
           lintian_is_content)
