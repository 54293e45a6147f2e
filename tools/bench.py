#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How fast the target is: against the ceiling (a minimal TCP responder that moves the same bytes and does nothing else),
against Debian's tgtd and istgt, on the same disk, alternating in one run.

The server has one core, the client another; the client is `perilune bench` for every iSCSI target. Each workload runs in
rounds; in every round each contestant gets its turn, so that a noisy machine disturbs all of them alike. Prints medians,
spread, ratios, latencies, the server's processor time and system calls per I/O, then what was to be reached and was or was
not. docs/performance/README.md says how to read it.
"""
import argparse
import contextlib
import json
import pathlib
import re
import signal
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tools")]
import harness as h  # noqa: E402
from benching import extras, machine, plot, report, servers, work  # noqa: E402

# What a disk has saved up while it rested is spent before each turn: the disks of clouds are rationed, and serve bursts of
# seconds at twice their rate to whoever comes first.
SPENT_SECONDS = 1
EXTRAS = ("logins", "logins with CHAP", "idle sessions", "many sessions", "many units", "two threads", "attach", "clients")


def parse():
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help="alternating rounds per workload (default 5; on the disk 7)")
    parser.add_argument("--seconds", type=float, help="length of one turn (default 1)")
    parser.add_argument("--size-mib", type=int, help="size of the disk (default 1024)")
    parser.add_argument("--only", default="", help="regular expression on the name of a workload or extra (--list prints them)")
    parser.add_argument("--contestants", default="", help="regular expression on their names, for example 'ceiling|perilune$'")
    parser.add_argument("--client-wait", choices=("sleep", "spin", "adaptive"), default="sleep",
                        help="how the clients wait for answers (default sleep; adaptive is sleep for the ceiling's)")
    parser.add_argument("--congestion", default="cubic", help="TCP congestion control of who does not choose (default cubic)")
    parser.add_argument("--disk-folder", default="/var/tmp", help="where the file of the disk workloads lies (default /var/tmp)")
    parser.add_argument("--patience", type=float, default=600, metavar="SECONDS",
                        help="how long in all to wait, and to take turns again, when the host moves the two cores (default 600)")
    parser.add_argument("--favour", action="store_true", help="servers and clients go before the machine's other work")
    parser.add_argument("--no-calls", action="store_true", help="do not count system calls")
    parser.add_argument("--quick", action="store_true", help="a minute: few workloads and contestants, short turns, a small disk")
    parser.add_argument("--json", type=pathlib.Path, help="write every turn to this file")
    parser.add_argument("--from", dest="source", type=pathlib.Path, help="report and plot an earlier --json file; measure nothing")
    parser.add_argument("--plot", nargs="?", type=pathlib.Path, const=ROOT / "docs/performance/overview.svg",
                        help="draw the medians as SVG (default docs/performance/overview.svg)")
    parser.add_argument("--markdown", action="store_true", help="print the medians of perilune as a table for a document, too")
    parser.add_argument("--list", action="store_true", help="print the names of workloads and extras")
    args = parser.parse_args()
    quick = args.quick
    args.rounds_asked = args.rounds
    args.rounds = args.rounds or (3 if quick else 5)
    args.seconds = args.seconds or (0.5 if quick else 1.0)
    args.size_mib = args.size_mib or (256 if quick else 1024)
    return args


def chosen_workloads(args):
    return [w for w in work.matrix() if re.search(args.only, w.name) and (not args.quick or args.only or w.name in work.QUICK)]


def chosen_contestants(args, arena, workload):
    names = workload.contestants()
    if args.quick and not args.contestants:
        names = [name for name in names if name in work.QUICK_CONTESTANTS or not workload.group == "ram"]
    return [name for name in names if re.search(args.contestants, name) and arena.available(name)]


def measure(args, arena, workload, folder):
    """({contestant: [a dictionary per round]}, {contestant: system calls per I/O})"""
    names = chosen_contestants(args, arena, workload)
    for name in names:
        arena[name]  # made, and its disk filled, before the first turn
    results, lost = {name: [] for name in names}, set()
    rounds = args.rounds_asked or (7 if workload.group == "disk" else args.rounds)
    for number in range(rounds):
        shift = number % len(names) if names else 0
        for name in names[shift:] + names[:shift]:
            if name in lost:
                continue
            progress(f"{workload.name}: round {number + 1} of {rounds}, {name}")
            if workload.group == "disk" and arena.available("fio"):
                arena["fio"].run(workload, SPENT_SECONDS)
            try:
                results[name].append(arena[name].run(workload, args.seconds))
            except AssertionError as error:
                if not name.startswith(("tgtd", "istgt")):
                    raise
                h.say(f"  {workload.name}: not with {name}: {str(error).strip().splitlines()[-1]}")
                lost.add(name)
    names = [name for name in names if name not in lost]
    results = {name: results[name] for name in names}
    calls = {}
    if not args.no_calls and not args.quick:
        for name in names:
            progress(f"{workload.name}: system calls, {name}")
            calls[name] = servers.calls_per_io(arena[name], workload, folder)
    progress("")
    return results, calls


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def run_extras(args, arena, record):
    wanted = [name for name in EXTRAS if re.search(args.only, name) and not (args.quick and not args.only)]
    for name in wanted:
        progress(name)
        if name.startswith("logins"):
            found = extras.logins(arena, args.rounds, args.seconds, chap="CHAP" in name)
        elif name == "idle sessions":
            found = extras.idle(arena, 3)
        else:
            measures = {"many sessions": extras.scaling, "many units": extras.units, "two threads": extras.threads,
                        "attach": extras.attach, "clients": extras.clients}
            found = measures[name](arena, args.rounds, args.seconds)
        progress("")
        record["extras"][name] = found
        keep(args, record)
        say_extra(name, found)


def say_extra(name, found):
    if name.startswith("logins"):
        lines = report.login_lines(found, "CHAP" in name)
    else:
        lines = {"idle sessions": report.idle_lines, "many sessions": report.scaling_lines, "many units": report.unit_lines,
                 "two threads": report.thread_lines, "attach": report.attach_lines, "clients": report.client_lines}[name](found)
    h.say("\n".join(lines) + "\n")


def verdicts(record):
    found = []
    by_name = {w.name: w for w in work.matrix()}
    for name, results in record["workloads"].items():
        found += report.goals(by_name[name], results) + report.calls_goals(by_name[name], record["calls"].get(name, {}))
    for name, results in record["extras"].items():
        if name.startswith("logins"):
            found += report.login_goals(results, "CHAP" in name)
        elif name == "idle sessions":
            found += report.idle_goals(results)
        elif name == "many sessions":
            found += report.scaling_goals(results)
        elif name == "many units":
            found += report.unit_goals(results)
        elif name == "two threads":
            found += report.thread_goals(results)
    return found


def keep(args, record):
    """After each row, so that a run that is cut short has not been in vain."""
    if args.json:
        extras.dump(args.json, record)


def finish(args, record):
    h.say("x ceil, x tgtd: medians against the better ceiling, the better tgtd. Goals: the median of the ratios within each round.")
    for text, met in verdicts(record):
        h.say(f"{'met   ' if met else 'MISSED'}  {text}")
    if "turns" in record:
        h.say(report.turns_line(record["turns"]))
    keep(args, record)
    if args.markdown:
        h.say("\n".join(report.markdown(record)))
    if args.plot:
        args.plot.write_text(plot.svg(record))
        h.say(f"plot: {args.plot}")


def replay(args):
    record = json.loads(args.source.read_text())
    h.say(report.HEADER)
    for name, results in record["workloads"].items():
        h.say("\n".join(report.table(name, results, record["calls"].get(name, {}))))
    for name, found in record["extras"].items():
        say_extra(name, found)
    finish(args, record)


def run(args):
    begin = time.monotonic()
    network = machine.own_network(args.congestion)
    if args.favour:
        h.start = machine.favour(h.start)
    cores = machine.Cores(servers.round_trip, args.patience)
    if not cores.two:
        h.say("only one core: server and client share it, absolute figures mean little")
    record = {"machine": machine.describe(), "network": network, "rounds": args.rounds, "seconds": args.seconds,
              "client_wait": args.client_wait, "size_mib": args.size_mib, "workloads": {}, "calls": {}, "extras": {}}
    h.say(f"{record['machine']['cpu']}, Linux {record['machine']['kernel']}, load {record['machine']['load']:.1f}; {network}; "
          f"clients {args.client_wait}; {args.rounds} rounds of {args.seconds:g} s")
    with contextlib.ExitStack() as stack:
        arena = servers.Arena(stack, cores, args.size_mib << 20, args.client_wait, args.disk_folder)
        folder = h.temp_dir(stack)
        h.say(report.HEADER)
        for workload in chosen_workloads(args):
            results, calls = measure(args, arena, workload, folder)
            record["workloads"][workload.name], record["calls"][workload.name] = results, calls
            h.say("\n".join(report.table(workload.name, results, calls)))
            keep(args, record)
        run_extras(args, arena, record)
    record["turns"] = {"taken_again": cores.taken_again, "odd": cores.odd, "usual_ns": cores.usual_ns()}
    finish(args, record)
    h.say(f"{time.monotonic() - begin:.0f} s in all")


def main():
    args = parse()
    names = [w.name for w in work.matrix()] + list(EXTRAS)
    if args.list:
        h.say("\n".join(names))
        return
    if not any(re.search(args.only, name) for name in names):
        sys.exit("bench: nothing matches; there are: " + ", ".join(names))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: sys.exit(128 + got))
    try:
        replay(args) if args.source else run(args)
    except AssertionError as e:
        sys.exit(f"bench: {e}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
