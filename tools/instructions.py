#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Instructions per I/O of the target without its runtime, counted by callgrind on a fixed replay of PDUs (bench/replay), against
the budgets of bench/replay/budgets.txt. Exits 1 when one is exceeded by more than the slack, 77 where it cannot be counted.

Only our own code counts: what libc and ISA-L do to copy and sum payloads depends on the processor, and is the same whatever
we write around it. docs/performance/instructions.md tells how to read a count and when to raise a budget."""
import argparse
import collections
import concurrent.futures
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUDGETS = ROOT / "bench/replay/budgets.txt"
CASES = [f"{work}{digests}" for work in ("4k-read", "4k-write", "64k-write") for digests in ("", "-digests")]
OPERATIONS = {"4k": 2048, "64k": 512}
SLACK = 0.03
SKIPPED = 77
# Copies bytes as memcpy does, and as much depends on the processor: base/copy.cpp.
COPIES = ("perilune::copy_past_caches(", "perilune::(anonymous namespace)::stream_lines_")
HEADER = """# Instructions per I/O: case, budget. Our own code, x86-64, release preset of g++ 12, callgrind.
# Lower one after an improvement, raise one knowingly: docs/performance/instructions.md.
"""


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIPPED)


def own_costs(profile, program):
    """{function: instructions} of the functions in `program` itself (the format is in Valgrind's manual, Callgrind 6)."""
    names, costs = {"ob": {}, "fn": {}}, collections.Counter()
    now, ours, is_call = {"ob": None, "fn": None}, False, False
    for line in profile.read_text(errors="replace").splitlines():
        if match := re.match(r"(c?)(ob|fn)=\((\d+)\)(?: (.*))?$", line):
            called, kind, number, name = match.groups()
            if name:
                names[kind][number] = name
            if not called:
                now[kind] = number
                ours = pathlib.Path(names["ob"].get(now["ob"], "")).name == program.name
        elif line.startswith("calls="):
            is_call = True  # the next line is the cost of the call, which its function counts by itself
        elif re.match(r"[-+*\d]", line):
            name = names["fn"].get(now["fn"], "?")
            if not is_call and ours and not name.startswith(COPIES):
                costs[name] += int(line.split()[1])
            is_call = False
    return costs


def count(program, case, keep):
    """{function: instructions per operation} of one case; `keep`: a folder for callgrind's file, or None."""
    with tempfile.TemporaryDirectory(prefix="perilune-instructions-") as folder:
        out = pathlib.Path(keep or folder) / f"callgrind.{case}.out"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--collect-atstart=no",
                   "--toggle-collect=measured_receive", "--toggle-collect=measured_sent", "--toggle-collect=measured_turn",
                   "--zero-before=measured_from_here", str(program), case, str(OPERATIONS[case.split("-")[0]])]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        operations = int(done.stdout.split()[-1])
        return {name: cost / operations for name, cost in own_costs(out, program).items()}


def budgets():
    lines = [line.split() for line in BUDGETS.read_text().splitlines() if line and not line.startswith("#")]
    return {case: int(budget) for case, budget in lines}


def record(limits):
    BUDGETS.write_text(HEADER + "".join(f"{case:20} {limits[case]:8}\n" for case in CASES if case in limits))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "build/bin/replay")
    parser.add_argument("--only", default="", help="cases that match this regular expression, at their beginning")
    parser.add_argument("--top", type=int, default=0, help="the functions that take most, so many of each case")
    parser.add_argument("--record", action="store_true", help="write what was counted as the new budgets")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for callgrind's files (KCachegrind, callgrind_annotate)")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        skip("valgrind is not installed (./dev deps bench)")
    if platform.machine() != "x86_64":
        skip("the budgets are those of x86-64")
    program = options.program.resolve()
    limits = budgets() if BUDGETS.exists() else {}
    cases = [case for case in CASES if re.match(options.only, case)]
    over = []
    print(f"{'case':20} {'instructions/IO':>16} {'budget':>8}")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for case, costs in zip(cases, pool.map(lambda case: count(program, case, options.keep), cases)):
            total = sum(costs.values())
            limit = limits.get(case)
            change = f"  {100 * (total / limit - 1):+.1f} %" if limit else ""
            print(f"{case:20} {total:16.0f} {limit or '-':>8}{change}", flush=True)
            for name, cost in sorted(costs.items(), key=lambda item: -item[1])[:options.top]:
                print(f"    {cost:8.0f}  {name}")
            if limit is None or total > limit * (1 + SLACK):
                over.append(case)
            if options.record:
                limits[case] = round(total)
    if options.record:
        record(limits)
    elif over:
        print(f"over budget by more than {SLACK:.0%}: {', '.join(over)}; docs/performance/instructions.md says what to do")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
