#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`./dev vm`: the laboratory of real kernels. docs/vm.md says what a scenario is and how to add one."""
import argparse
import ast
import concurrent.futures
import contextlib
import os
import pathlib
import resource
import shutil
import signal
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
import harness as h  # noqa: E402

import host as hosts  # noqa: E402
import image as images  # noqa: E402
import machine as machines  # noqa: E402
import packages  # noqa: E402

SCENARIOS = ROOT / "tests/vm"
DEFAULTS = {"boot": "quick", "kernel": "6.1", "networks": 1, "processors": 1, "memory": 512, "disks": [], "boots": 1, "guests": 1,
            "limit": 1200, "short": False, "draft": False, "packages": 0, "mutants": {}}


def spec_of(name):
    """The VM = {...} of a scenario, completed and checked."""
    path = SCENARIOS / f"{name}.py"
    if not path.is_file():
        h.fail(f"no scenario {name}; there are: {', '.join(names())}")
    for statement in ast.parse(path.read_text()).body:
        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", None) == "VM":
            spec = ast.literal_eval(statement.value)
            if unknown := set(spec) - set(DEFAULTS):
                h.fail(f"{path}: VM has unknown keys {sorted(unknown)}")
            return DEFAULTS | spec
    h.fail(f"{path} has no VM = {{...}}")


def names():
    return sorted(path.stem for path in SCENARIOS.glob("*.py") if "\nVM = " in path.read_text())


def proven():
    """The scenarios that `all` and `mutants` run; a draft was not yet seen to pass from its beginning to its end."""
    return [name for name in names() if not spec_of(name)["draft"]]


def run_scenario(name, mutant=None, keep_going=False):
    """Runs one scenario to its end; returns (exit code, what it printed)."""
    spec = spec_of(name) | {"keep_going": keep_going}
    limit = spec["limit"]
    h.need_perilune()
    if spec["boot"] == "host":
        return run_on_host(name, spec, mutant, limit)
    h.need("qemu-system-x86_64")
    image = images.ensure()
    with contextlib.ExitStack() as stack:
        remove_stale_folders()
        folder = h.temp_dir(stack, f"perilune-vm-{os.getpid()}-")
        stripped = folder / "perilune"
        shutil.copy(h.PERILUNE, stripped)
        if shutil.which("strip"):
            h.run(["strip", stripped])
        files = {"perilune": stripped}
        if mutant and "guest_preload" in mutant:
            files["preload.so"] = hosts.preload_library(folder, mutant["guest_preload"])
        if spec["packages"]:
            debs = packages.build(folder, spec["packages"])
            if mutant and "package" in mutant:
                packages.sabotaged(folder, debs, mutant["package"])
            files |= debs
        host = hosts.HostSide(folder, hosts.free_network(), spec["networks"], mutant)
        stack.callback(host.close)
        payload = machines.payload(SCENARIOS / f"{name}.py", files)
        guests = []
        for number in range(1, spec["guests"] + 1):
            own = folder / f"guest{number}"
            own.mkdir()
            guests.append(machines.Machine(image, own, spec, host, payload, number))
        with concurrent.futures.ThreadPoolExecutor(len(guests)) as pool:
            running = [pool.submit(guest.run, limit) for guest in guests]
            code = 0
            try:
                for done in concurrent.futures.as_completed(running):
                    code = done.result()
                    if code != 0:   # the other guest would wait for this one
                        break
            finally:   # also at SIGTERM and Ctrl-C: the pool waits for the guests
                for guest in guests:
                    guest.kill()
        return code, "\n".join(line for guest in guests for line in guest.output)


def remove_stale_folders():
    """What runs left behind that were killed: disks of a gigabyte are worth removing."""
    for folder in pathlib.Path(tempfile.gettempdir()).glob("perilune-vm-*-*"):
        if (pid := folder.name.split("-")[2]).isdigit() and not os.path.exists(f"/proc/{pid}"):
            shutil.rmtree(folder, ignore_errors=True)


def run_on_host(name, spec, mutant, limit):
    """A scenario without a Linux guest: the script itself, on this machine."""
    environment = {"PYTHONPATH": f"{ROOT / 'tests'}:{ROOT / 'tools/vm'}", "PYTHONDONTWRITEBYTECODE": "1"}
    if mutant:
        environment |= {f"LAB_MUTANT_{key.upper()}": str(value) for key, value in mutant.items()}
    done = h.run([sys.executable, "-u", SCENARIOS / f"{name}.py"], timeout=limit, env=environment, check=False)
    h.say(done.out + done.err)
    return done.code, done.out


def timed(name, mutant=None, keep_going=False):
    started, used = time.monotonic(), processor_seconds()
    try:
        code, output = run_scenario(name, mutant, keep_going)
    except AssertionError as e:
        h.say(f"vm: {name}: {e}")
        code, output = 124, str(e)
    except SystemExit as e:   # a prerequisite is missing, and that was said
        code, output = e.code, ""
    seconds = time.monotonic() - started
    h.say(f"vm: {name}: exit {code} after {seconds:.0f} s, with {processor_seconds() - used:.0f} s of processor time")
    return code, output, seconds


def processor_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def cmd_build(_):
    h.say(f"the guest image is {images.ensure().folder}")
    return 0


def cmd_list(_):
    for name in names():
        spec = spec_of(name)
        kind = "draft" if spec["draft"] else "short" if spec["short"] else ""
        h.say(f"{name:14} {spec['boot']:8} {kind:6} mutants: {', '.join(spec['mutants'])}")
    return 0


def cmd_run(arguments):
    spec = spec_of(arguments.scenario)
    mutant = None
    if arguments.mutant:
        if arguments.mutant not in spec["mutants"]:
            h.fail(f"{arguments.scenario} has no mutant {arguments.mutant}; it has: {', '.join(spec['mutants'])}")
        mutant = spec["mutants"][arguments.mutant]
    return timed(arguments.scenario, mutant, arguments.keep_going)[0]


def summary(results):
    h.say("")
    for name, verdict, seconds in results:
        h.say(f"  {verdict:8} {name:40} {seconds:5.0f} s")
    failed = [name for name, verdict, _ in results if verdict == "FAILED"]
    skipped = [name for name, verdict, _ in results if verdict == "skipped"]
    h.say(f"vm: {len(results) - len(failed) - len(skipped)} passed, {len(failed)} failed, {len(skipped)} skipped")
    return 1 if failed else 0


def cmd_all(_):
    results = []
    if drafts := sorted(set(names()) - set(proven())):
        h.say(f"not run, because they are drafts: {', '.join(drafts)}")
    for name in proven():
        h.say(f"\n=== {name}")
        code, _, seconds = timed(name)
        results.append((name, {0: "passed", h.SKIPPED: "skipped"}.get(code, "FAILED"), seconds))
    return summary(results)


def cmd_mutants(arguments):
    """Each scenario with each of its sabotages: the scenario must fail by a check of its own, not by a time limit."""
    results = []
    for name in [arguments.scenario] if arguments.scenario else proven():
        for mutant, sabotage in spec_of(name)["mutants"].items():
            h.say(f"\n=== {name} with {mutant}")
            code, output, seconds = timed(name, sabotage)
            caught = code == 1 and "FAILED" in output and "FAILED: the host could not" not in output
            verdict = "skipped" if code == h.SKIPPED else "caught" if caught else "FAILED"
            results.append((f"{name} / {mutant}", verdict, seconds))
    return summary(results)


def main():
    parser = argparse.ArgumentParser(prog="./dev vm", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("build", help="build the guest image if its recipe changed").set_defaults(run=cmd_build)
    verbs.add_parser("list", help="the scenarios").set_defaults(run=cmd_list)
    verb = verbs.add_parser("run", help="one scenario")
    verb.add_argument("scenario")
    verb.add_argument("--mutant", help="with this sabotage: it must fail")
    verb.add_argument("--keep-going", action="store_true", help="after a failed step go on with the next one")
    verb.set_defaults(run=cmd_run)
    verbs.add_parser("all", help="every scenario").set_defaults(run=cmd_all)
    verb = verbs.add_parser("mutants", help="every scenario with every sabotage of its own")
    verb.add_argument("scenario", nargs="?")
    verb.set_defaults(run=cmd_mutants)
    words = sys.argv[1:]
    if words and words[0] in names():
        words.insert(0, "run")
    arguments = parser.parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))   # so that what was started is taken down
    try:
        return arguments.run(arguments)
    except AssertionError as e:
        h.say(f"vm: {e}")
        return 1


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    sys.exit(main())
