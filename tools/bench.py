#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Our target against Debian's tgtd on the same RAM-backed disk, alternating in one run, with our client for both.

The server has one core, the client another. Each workload runs in rounds; in every round each server gets its turn, so
that a noisy machine disturbs all of them alike. Prints medians, ratios and the server's CPU time per I/O, and holds
the result against the goals: 4 KiB at 4x32 at least 5 times tgtd, 256 KiB sequential at least 3 times, and depth 1 with
a p50 no worse than tgtd's in every round. tgtd runs twice, with its rdwr and its aio backing store; ratios are against
the better of the two.
"""
import argparse
import contextlib
import json
import os
import pathlib
import re
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
import harness as h  # noqa: E402

SERVERS = ("perilune", "tgtd rdwr", "tgtd aio")
WARM_UP_SECONDS = 0.3


class Workload:
    def __init__(self, rw, block, depth, sessions=1, digests=False):
        self.rw, self.block, self.depth, self.sessions, self.digests = rw, block, depth, sessions, digests
        self.name = f"{block} {rw} {sessions}x{depth}" + (" crc32c" if digests else "")
        self.latency = depth == 1 and sessions == 1

    def options(self, seconds):
        words = ["--rw", self.rw, "--bs", self.block, "--depth", self.depth, "--sessions", self.sessions,
                 "--seconds", seconds, "--warm-up", WARM_UP_SECONDS]
        return words + (["--header-digest", "crc32c", "--data-digest", "crc32c"] if self.digests else [])


def workloads():
    for digests in (False, True):
        for rw in ("randread", "randwrite"):
            for sessions, depth in ((1, 1), (1, 32), (4, 32)):
                yield Workload(rw, "4k", depth, sessions, digests)
        for block, depth in (("64k", 16), ("256k", 8)):
            for rw in ("read", "write"):
                yield Workload(rw, block, depth, 1, digests)


class Bench:
    def __init__(self, stack, args):
        cores = sorted(os.sched_getaffinity(0))
        self.server_pin = ["taskset", "-c", cores[0]] if len(cores) > 1 else []
        self.client_pin = ["taskset", "-c", cores[1]] if len(cores) > 1 else []
        if not self.server_pin:
            h.say("only one core: server and client share it, absolute figures mean little")
        self.args, self.urls, self.pids = args, {}, {}
        size = args.size_mib << 20
        self._perilune(stack, args.size_mib)
        self._tgtd(stack, size)

    def _perilune(self, stack, size_mib):
        server = stack.enter_context(h.serve(f"ram:{size_mib}M", prefix=self.server_pin, folder=h.temp_dir(stack)))
        self.urls["perilune"], self.pids["perilune"] = server.urls[0], server.pid

    def _tgtd(self, stack, size):
        server = h.Tgtd(stack, prefix=self.server_pin)
        for tid, kind in enumerate(("rdwr", "aio"), 1):
            path = pathlib.Path(f"/dev/shm/perilune-bench-{os.getpid()}-{kind}")
            stack.callback(path.unlink)
            with open(path, "wb") as f:
                os.posix_fallocate(f.fileno(), 0, size)
            iqn = f"iqn.2026-11.io.perilune:bench-{kind}"
            server.target(tid, iqn, path, bstype=kind)
            for key in ("HeaderDigest", "DataDigest"):
                server.admin("--op", "update", "--mode", "target", "--tid", tid, "-n", key, "-v", "CRC32C,None")
            self.urls[f"tgtd {kind}"], self.pids[f"tgtd {kind}"] = f"iscsi://127.0.0.1:{server.port}/{iqn}/1", server.pid

    def one(self, server, workload, seconds):
        before = h.cpu_seconds(self.pids[server])
        done = h.run([*self.client_pin, h.PERILUNE, "bench", self.urls[server], "--json", *workload.options(seconds)],
                     timeout=seconds + 60)
        cpu = h.cpu_seconds(self.pids[server]) - before
        result = json.loads(done.out)
        # The server also worked for the warm-up, whose I/Os the client does not count.
        result["server_us_per_io"] = cpu * 1e6 / max(1, result["ios"]) * seconds / (seconds + WARM_UP_SECONDS)
        return result

    def warm_up(self):
        """Writes each disk from end to end, so that no measured I/O meets a page for the first time."""
        for server in SERVERS:
            blocks, seconds = self.args.size_mib * 4, 1.0
            while (ios := self.one(server, Workload("write", "256k", 8), seconds)["ios"]) < blocks and seconds < 60:
                seconds *= max(1.5, 1.3 * blocks / max(1, ios))

    def measure(self, workload):
        rounds = self.args.latency_rounds if workload.latency else self.args.rounds
        results = {server: [] for server in SERVERS}
        for number in range(rounds):
            order = SERVERS[number % len(SERVERS):] + SERVERS[:number % len(SERVERS)]
            for server in order:
                results[server].append(self.one(server, workload, self.args.seconds))
        return results


def median(runs, *path):
    def pick(run):
        for key in path:
            run = run[key]
        return run
    return statistics.median(pick(run) for run in runs)


def row(workload, results):
    """One line of the table and the ratio against the better tgtd."""
    iops = {server: median(runs, "iops") for server, runs in results.items()}
    p50 = {server: median(runs, "lat_us", "p50") for server, runs in results.items()}
    cpu = {server: median(runs, "server_us_per_io") for server, runs in results.items()}
    ratio = iops["perilune"] / max(iops["tgtd rdwr"], iops["tgtd aio"])
    line = f"{workload.name:26}" + "".join(f"{iops[s]:>11,.0f}" for s in SERVERS) + f"{ratio:>8.2f}"
    line += "   " + " / ".join(f"{p50[s]:>6.0f}" for s in SERVERS) + "   " + " / ".join(f"{cpu[s]:>5.1f}" for s in SERVERS)
    return line, ratio


def p50_rounds(results):
    """Per round: our p50 and the better tgtd's."""
    return [(ours["lat_us"]["p50"], min(rdwr["lat_us"]["p50"], aio["lat_us"]["p50"]))
            for ours, rdwr, aio in zip(*(results[s] for s in SERVERS))]


def goals(workload, ratio, results):
    """(text, met) for the goals that this workload has."""
    if workload.digests:
        return
    if (workload.block, workload.sessions, workload.depth) == ("4k", 4, 32):
        yield f"{workload.name}: {ratio:.2f} x tgtd, goal 5", ratio >= 5
    if workload.block == "256k":
        yield f"{workload.name}: {ratio:.2f} x tgtd, goal 3", ratio >= 3
    if workload.latency:
        pairs = p50_rounds(results)
        text = ", ".join(f"{ours:.0f}/{theirs:.0f}" for ours, theirs in pairs)
        yield f"{workload.name}: p50 per round, ours/tgtd: {text} us, goal no worse", all(a <= b for a, b in pairs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="alternating rounds per workload (default 3)")
    parser.add_argument("--latency-rounds", type=int, default=5, help="rounds of the depth 1 workloads (default 5)")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of one run (default 1.5)")
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--only", default="", help="regular expression on the workload's name, for example '4x32'")
    parser.add_argument("--json", type=pathlib.Path, help="write every run to this file")
    args = parser.parse_args()
    chosen = [w for w in workloads() if re.search(args.only, w.name)]
    if not chosen:
        sys.exit("bench: no workload matches; there are: " + ", ".join(w.name for w in workloads()))
    verdicts, record, begin = [], {}, time.monotonic()
    try:
        with contextlib.ExitStack() as stack:
            bench = Bench(stack, args)
            bench.warm_up()
            h.say(f"{'workload':26}{'perilune':>11}{'tgtd rdwr':>11}{'tgtd aio':>11}{'ratio':>8}   p50 us (same order)      "
                  "server CPU us per I/O")
            for workload in chosen:
                results = bench.measure(workload)
                line, ratio = row(workload, results)
                h.say(line)
                record[workload.name] = results
                verdicts += goals(workload, ratio, results)
    except AssertionError as e:
        sys.exit(f"bench: {e}")
    h.say(f"\nIOPS are medians; ratio is against the better tgtd; {time.monotonic() - begin:.0f} s in all")
    for text, met in verdicts:
        h.say(f"{'met   ' if met else 'MISSED'}  {text}")
    if args.json:
        args.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
