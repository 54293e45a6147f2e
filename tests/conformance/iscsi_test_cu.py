#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs each test of libiscsi's iscsi-test-cu alone, in a process of its own, against one logical unit.

A test's outcome is one of passed, skipped, failed, timeout, crash (of the tool) and died (of our server). The outcomes
are compared with expected.txt: a test that does worse than expected there fails the run, a test that does better is
reported so that the file can be raised (--record rewrites it). The last line is `N passed, N skipped, N failed`.

The tests of MultipathIO get two portals in two portal groups, those of ReadOnly a unit that is read-only. Sanitize.Reset wants a unit that takes
longer than four seconds to overwrite, and waits for it a minute at a time: it gets one of 2 TiB that keep nothing, in one run. WRITE SAME of zero
blocks is of all up to the last one, and MAXIMUM WRITE SAME LENGTH counts for it too (SBC-3 5.41): the two tests of it get a unit that is no longer. CRYPTOGRAPHIC ERASE
is served where what is stored is encrypted: the three tests that try it get a file that is, thin or thick, with blocks as long as the others'.
"""
import argparse
import contextlib
import os
import pathlib
import re
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness  # noqa: E402

EXPECTED = pathlib.Path(__file__).resolve().parent / "expected.txt"
LIMIT_SECONDS = 30
SLOW_TEST, SLOW_LIMIT_SECONDS = "Sanitize.Reset", 400
SIZE = 256 << 20
MAX_WRITE_SAME_BLOCKS = 32768
RANK = {"passed": 2, "skipped": 1}           # everything else is 0: a failure
# The tool clears reservations before and after each test, on every path, and says this where the target has none.
AROUND_EVERY_TEST = "[SKIPPED] PERSISTENT RESERVE IN is not implemented."
SUMMARY = re.compile(r"^\s*tests\s+\d+\s+(?P<ran>\d+)\s+(?P<passed>\d+)\s+(?P<failed>\d+)", re.M)


def all_tests():
    names = [line[4:] for line in harness.run(["iscsi-test-cu", "--list"]).out.splitlines()
             if re.match(r"^ALL\.[^.]+\..+", line)]
    if len(names) < 200:
        harness.fail(f"iscsi-test-cu lists only {len(names)} tests")
    return names


def kinds_of(args):
    """What a line of expected.txt may be for."""
    return {args.backing, "thick" if args.thick else "thin", str(args.block_size)}


def is_for(kinds, fields):
    """A third word names the only kind of unit that a line is for."""
    return len(fields) < 3 or fields[2] in kinds


def expectations(backing, kinds=("thin", "512")):
    """name -> (outcome, reason)"""
    table = {}
    for line in EXPECTED.read_text().splitlines():
        words = line.split("#", 1)
        if (fields := words[0].split()) and is_for({backing, *kinds}, fields):
            table[fields[0]] = (fields[1], words[1].strip() if len(words) > 1 else "")
    return table


def classify(code, output, paths):
    if code is None:
        return "timeout"
    summary = SUMMARY.search(output)
    if code < 0 or summary is None:
        return "crash"
    if int(summary["failed"]) or code != 0:
        return "failed"
    if int(summary["ran"]) != 1:
        return "crash"
    skips = [line for line in output.splitlines() if "[SKIPPED]" in line]
    around = [line for line in skips if line.strip() == AROUND_EVERY_TEST]
    return "skipped" if len(skips) > min(2 * paths, len(around)) else "passed"


def run_one(name, urls):
    """Returns (outcome, output)."""
    paths = 2 if name.startswith("MultipathIO.") else 1
    command = ["iscsi-test-cu", "--dataloss", "--allow-sanitize", "--normal", f"--test=ALL.{name}", *urls[:paths]]
    process = harness.start(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    try:
        output = process.communicate(timeout=SLOW_LIMIT_SECONDS if name == SLOW_TEST else LIMIT_SECONDS)[0]
        code = process.returncode
    except subprocess.TimeoutExpired:
        process.kill()
        output, code = process.communicate()[0], None
    return classify(code, output, paths), output


class Target:
    """Our server, or tgtd for comparison; restarted when a test has killed it."""

    def __init__(self, args, stack, folder, read_only=False, slow=False, encrypted=False, size=SIZE):
        self.args, self.stack, self.folder, self.read_only, self.slow, self.size = args, stack, folder, read_only, slow, size
        self.encrypted, self.server = encrypted, None

    def disk(self):
        path = self.folder / ("read-only-disk" if self.read_only else "encrypted-disk" if self.encrypted else f"disk-{self.size}")
        with open(path, "wb") as f:
            f.truncate(self.size)
        return path

    def options(self):
        options = ["--portal", "127.0.0.1:0,1", "--portal", "127.0.0.1:0,2", "--block-size", str(self.args.block_size)]
        if self.args.block_size == 4096:     # several logical blocks in a physical one, as with blocks of 512
            options += ["--physical-block-size", "16384"]
        if self.encrypted:
            options += ["--encrypt", "--state", self.folder / "state-encrypted"]
        elif self.args.backing == "file" and not self.read_only:   # WRITE ATOMIC needs a place for its journal
            options += ["--state", self.folder / f"state-{self.size}"]
        return options + ["--thick"] * self.args.thick + ["--read-only"] * self.read_only

    def urls(self):
        """Of the unit, through one portal and through another."""
        if self.args.backing == "tgtd":
            if self.server is None:
                self.server = harness.Tgtd(self.stack)
                self.server.target(1, "iqn.2026-11.io.perilune:conformance", self.disk())
            return [f"iscsi://127.0.0.1:{self.server.port}/iqn.2026-11.io.perilune:conformance/1"] * 2
        if self.server is None:
            what = "null:2T" if self.slow else f"ram:{self.size >> 20}M" if self.args.backing == "ram" and not self.encrypted else self.disk()
            self.server = harness.Serve([what], self.options(), folder=self.folder)
        return self.server.urls

    def died(self):
        """The log of a server that the last test has killed, or None."""
        if self.server is None or self.server.process.poll() is None:
            return None
        log = self.server.errors() if isinstance(self.server, harness.Serve) else ""
        self.server = None
        return f"the server ended: {log[-3000:]}\n"

    def stop(self):
        if isinstance(self.server, harness.Serve):
            self.server.stop()


def judge(results, outputs, expected):
    """Prints what differs from expected.txt; returns the number of regressions."""
    regressions = 0
    for name, outcome in results.items():
        want, reason = expected.get(name, ("passed", ""))
        if RANK.get(outcome, 0) < RANK.get(want, 0) or (RANK.get(outcome, 0) == 0 and outcome != want):
            regressions += 1
            harness.say(f"REGRESSION {name}: {outcome}, expected {want}\n{outputs[name][-3000:]}")
        elif RANK.get(outcome, 0) > RANK.get(want, 0):
            harness.say(f"better than expected: {name}: {outcome}, expected {want} ({reason})")
    return regressions


def record(results, expected, kinds):
    old_lines = EXPECTED.read_text().splitlines() if EXPECTED.exists() else []
    kept = [line for line in old_lines
            if line.startswith("#") or len(line.split("#", 1)[0].split()) == 3]   # those for one backing: by hand
    by_hand = {line.split()[0] for line in kept if not line.startswith("#") and is_for(kinds, line.split("#", 1)[0].split())}
    results = {name: outcome for name, outcome in results.items() if name not in by_hand}
    with open(EXPECTED, "w") as f:
        f.writelines(line + "\n" for line in kept)
        for name, outcome in results.items():
            old, reason = expected.get(name, ("", ""))
            if outcome != "passed":
                f.write(f"{name:38} {outcome:8}" + (f"  # {reason}" if reason and old == outcome else "") + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backing", choices=("ram", "file", "tgtd"), default="ram")
    parser.add_argument("--thick", action="store_true", help="a unit whose space is there from the beginning")
    parser.add_argument("--block-size", type=int, choices=(512, 4096), default=512)
    parser.add_argument("--only", default="", help="regular expression on Suite.Test")
    parser.add_argument("--record", action="store_true", help="rewrite expected.txt with this run's outcomes")
    parser.add_argument("--show", action="store_true", help="print the output of every test")
    args = parser.parse_args()
    harness.need("iscsi-test-cu")
    kinds = kinds_of(args)
    expected = expectations(args.backing, kinds) if EXPECTED.exists() else {}
    usual = args.backing == "ram" and not args.thick and args.block_size == 512
    names = [name for name in all_tests() if re.search(args.only, name) and (usual or name != SLOW_TEST)]
    results, outputs = {}, {}
    with contextlib.ExitStack() as stack:
        folder = harness.temp_dir(stack)
        writable, read_only = Target(args, stack, folder), Target(args, stack, folder, read_only=True)
        slow = Target(args, stack, folder, slow=True)
        short = Target(args, stack, folder, size=MAX_WRITE_SAME_BLOCKS * args.block_size)
        encrypted = Target(args, stack, folder, encrypted=True)
        own = {SLOW_TEST: slow, "Sanitize.CryptoErase": encrypted, "Sanitize.Readonly": encrypted, "Sanitize.Reservations": encrypted,
               "WriteSame10.ZeroBlocks": short, "WriteSame16.ZeroBlocks": short}
        begin = time.monotonic()
        for number, name in enumerate(names, 1):
            target = read_only if name.startswith("ReadOnly.") else own.get(name, writable)
            outcome, output = run_one(name, target.urls())
            if log := target.died():
                outcome, output = "died", output + log
            results[name], outputs[name] = outcome, output
            harness.say(f"{number:3}/{len(names)} {outcome:8} {name}")
            if args.show:
                harness.say(output)
        writable.stop()
        read_only.stop()
        slow.stop()
        short.stop()
        encrypted.stop()
        what = f"{args.backing}{', thick' if args.thick else ''}, blocks of {args.block_size}"
        harness.say(f"{len(names)} tests against {what} in {time.monotonic() - begin:.0f} s")
    if args.record:
        record(results, expected, kinds)
    regressions = 0 if args.record or args.backing == "tgtd" else judge(results, outputs, expected)
    counts = {kind: sum(1 for outcome in results.values() if outcome == kind) for kind in ("passed", "skipped")}
    failed = len(results) - counts["passed"] - counts["skipped"]
    by_design = sum(1 for name, outcome in results.items() if not RANK.get(outcome) and expected.get(name, ("",))[0] == outcome)
    harness.say(f"{what}: {counts['passed']} passed, {counts['skipped']} skipped, {failed} failed"
                + (f" ({by_design} of them the tool's own errors, see expected.txt)" if by_design else "")
                + (f", {regressions} regressions" if regressions else ""))
    sys.exit(1 if regressions else 0)


if __name__ == "__main__":
    os.environ["LC_ALL"] = "C"
    main()
