# SPDX-License-Identifier: Apache-2.0
"""From runs to text: medians, spread, ratios, and what was reached. Pure: takes the record of a run, prints nothing."""
import statistics

from benching import work

BETTER_TGTD = ("tgtd rdwr", "tgtd aio")


def median(runs, key):
    values = [run[key] for run in runs if run.get(key) is not None]
    return statistics.median(values) if values else None


def spread(runs, key="iops"):
    """Half of the way from the worst to the best, in percent of the median."""
    values = [run[key] for run in runs]
    middle = statistics.median(values)
    return 50 * (max(values) - min(values)) / middle if middle else 0


def best(rows, names, key="iops", pick=max):
    """The best median among the contestants that took part, or None."""
    values = [median(rows[name], key) for name in names if name in rows]
    return pick(values) if values else None


def ratio(a, b):
    return a / b if a is not None and b else None


def paired(rows, name, others, key="iops", pick=max):
    """The median over the rounds of ours / theirs in the same round, of the best of them by its median: the better of two
    in each round would be the luckier one."""
    theirs = [rows[other] for other in others if other in rows]
    if name not in rows or not theirs:
        return None
    best_of_them = pick(theirs, key=lambda runs: median(runs, key))
    return statistics.median(ours[key] / other[key] for ours, other in zip(rows[name], best_of_them))


def turns_line(turns):
    return (f"{turns['taken_again']} turns taken again because the host had moved the two cores meanwhile (a word to the other and back: "
            f"usually {turns['usual_ns']:.0f} ns), {turns['odd']} counted although it had")


def cell(value, form, width):
    return f"{'-' if value is None else format(value, form):>{width}}"


HEADER = (f"{'':22}{'IOPS':>11}{'MiB/s':>8}{'+-%':>5}{'x ceil':>8}{'x tgtd':>8}{'p50 us':>9}{'p99':>8}{'p99.9':>8}"
          f"{'us/IO':>8}{'busy':>6}{'calls':>8}{'client':>8}")


def table(name, rows, calls):
    """The lines of one workload. us/IO, busy: the server's processor; client: the client's share of its core."""
    ceiling, tgtd = best(rows, work.MEASURES), best(rows, BETTER_TGTD + ("tgtd disk rdwr", "tgtd disk aio"))
    lines = [f"{name}"]
    for who, runs in rows.items():
        iops = median(runs, "iops")
        busy, client = median(runs, "server_busy"), median(runs, "client_busy")
        lines.append(f"  {who:20}{cell(iops, ',.0f', 11)}{cell(median(runs, 'mib_per_s'), ',.0f', 8)}"
                     f"{cell(spread(runs), '.0f', 5)}{cell(ratio(iops, ceiling), '.2f', 8)}{cell(ratio(iops, tgtd), '.2f', 8)}"
                     f"{cell(median(runs, 'p50'), '.1f', 9)}{cell(median(runs, 'p99'), '.1f', 8)}"
                     f"{cell(median(runs, 'p999'), '.1f', 8)}{cell(median(runs, 'server_us'), '.2f', 8)}"
                     f"{cell(None if busy is None else 100 * busy, '.0f', 5)}%{cell(calls.get(who), '.3f', 8)}"
                     f"{cell(None if client is None else 100 * client, '.0f', 7)}%")
        if "probe" in runs[0]:
            probes = [run["probe"] for run in runs]
            lines.append(f"    its probe at depth 1: p50 {median(probes, 'p50'):.1f} us, p99 {median(probes, 'p99'):.1f} us, "
                         f"p99.9 {median(probes, 'p999'):.1f} us")
    return lines


def markdown(record):
    """The rows of ours as a table: the server that the row is about, as it is delivered."""
    lines = ["| work | IOPS | x ceiling | x the better tgtd | p50, p99 us | server us/IO | calls/IO |", "|---|---|---|---|---|---|---|"]
    for name, rows in record["workloads"].items():
        ceiling, tgtd = (best(rows, names) for names in (work.MEASURES, ("tgtd disk rdwr", "tgtd disk aio") if name.endswith("on disk")
                                                         else BETTER_TGTD))
        for who in ("perilune", "perilune tmpfs", "perilune disk", "perilune disk both"):
            if who not in rows:
                continue
            runs, calls = rows[who], record["calls"].get(name, {}).get(who)
            aside = " (both ends adaptive)" if who.endswith("both") else ""
            cells = [name + aside, f"{median(runs, 'iops'):,.0f}", cell(ratio(median(runs, "iops"), ceiling), ".2f", 0),
                     cell(ratio(median(runs, "iops"), tgtd), ".2f", 0), f"{median(runs, 'p50'):.0f}, {median(runs, 'p99'):.0f}",
                     f"{median(runs, 'server_us'):.2f}", cell(calls, ".3f", 0)]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


# --- goals -----------------------------------------------------------------------------------------------------------

def goal(what, value, bar, at_most=False, aside=""):
    """(text, met), or nothing where a side was not measured."""
    if value is None:
        return []
    met = value <= bar if at_most else value >= bar
    return [(f"{what}: {value:.2f}{aside}, goal {'at most' if at_most else 'at least'} {bar:g}", met)]


def ceiling_goal(rows, name, bar, what="x ceiling"):
    """Against the responder over the same disk; what the sockets alone would allow stands beside it."""
    sockets = paired(rows, name, work.SOCKETS)
    aside = "" if sockets is None else f" ({sockets:.2f} of the sockets alone)"
    return goal(what, paired(rows, name, work.CEILINGS), bar, aside=aside)


def probe_ratio(rows):
    ours = median([run["probe"] for run in rows.get("perilune", [])], "p99") if "perilune" in rows else None
    theirs = [median([run["probe"] for run in rows[name]], "p99") for name in work.CEILINGS if name in rows]
    return ratio(ours, min(theirs)) if theirs else None


def small_goals(w, rows):
    against = lambda name, others=work.CEILINGS, key="iops", pick=max: paired(rows, name, others, key, pick)  # noqa: E731
    if w.shape in ((4, 32), (16, 32)):
        yield from ceiling_goal(rows, "perilune", 0.90)
        if w.rw == "randread":
            yield from goal("x tgtd rdwr", against("perilune", ["tgtd rdwr"]), 12)
        elif w.shape == (4, 32):
            yield from goal("x tgtd rdwr", against("perilune", ["tgtd rdwr"]), 15)
        yield from goal("x the better tgtd", against("perilune", BETTER_TGTD), 5)
    elif w.shape == (1, 32):
        yield from ceiling_goal(rows, "perilune asleep", 0.90, "asleep, x sleeping ceiling")
        yield from ceiling_goal(rows, "perilune", 1.10, "adaptive, x sleeping ceiling")
    elif w.lonely:
        fastest = lambda name, others: against(name, others, "p50", min)  # noqa: E731
        yield from goal("asleep, p50 x sleeping ceiling's", fastest("perilune asleep", work.CEILINGS), 1.15, at_most=True)
        yield from goal("spinning, p50 x spinning ceiling's", fastest("perilune spin", work.SPINNING_CEILINGS), 1.15, at_most=True)
        yield from goal("adaptive, IOPS x sleeping ceiling's", against("perilune"), 2.4)
        yield from goal("p50 x the better tgtd's", fastest("perilune", BETTER_TGTD), 1, at_most=True)


def digest_goals(w, rows):
    if w.block == "4k" and w.shape == (1, 32):
        yield from goal("x without digests", paired(rows, "perilune", ["perilune plain"]), 0.85)
        yield from ceiling_goal(rows, "perilune", 1.35, "adaptive, x sleeping responder with digests")
    if w.block == "256k":
        yield from ceiling_goal(rows, "perilune", 0.90, "x responder with digests")


def disk_goal(w, rows):
    """Against fio or the responder over the same file, whichever gets less; what the other would ask stands beside it."""
    # One at a time, who sleeps for an answer over the wire waits longer than fio does for the disk.
    ours, text, names = (("perilune disk both", "both ends adaptive, ", ["fio"]) if w.lonely else
                         ("perilune disk", "", ["fio", work.DISK_CEILING]))
    lower, *higher = sorted((name for name in names if name in rows), key=lambda name: median(rows[name], "iops")) or [None]
    aside = "".join(f" ({paired(rows, ours, [name]):.2f} of {name})" for name in higher if ours in rows)
    yield from goal(f"{text}x {lower}", paired(rows, ours, [lower]), 0.90, aside=aside)


def goals(w, rows):
    """(text, met) of what this workload has to reach."""
    if w.probe:
        found = goal("p99 of the probe x the responder's", probe_ratio(rows), 1.3, at_most=True)
    elif w.group == "tmpfs":
        found = ceiling_goal(rows, "perilune tmpfs", 0.75) if w.shape == (4, 32) else []
    elif w.group == "disk":
        found = disk_goal(w, rows)
    elif w.digests:
        found = digest_goals(w, rows)
    elif w.block == "4k":
        found = small_goals(w, rows)
    else:
        found = ceiling_goal(rows, "perilune", 0.95)
        if w.block == "256k":
            found += goal("x the better tgtd", paired(rows, "perilune", BETTER_TGTD), 3)
    return [(f"{w.name}: {text}", met) for text, met in found]


def calls_goals(w, calls):
    if w.group == "ram" and not w.digests and w.block == "4k" and w.shape == (4, 32) and not w.probe:
        return [(f"{w.name}: {text}", met) for text, met in goal("system calls per I/O", calls.get("perilune"), 0.2, at_most=True)]
    return []


def login_lines(results, chap):
    yield f"logins per second{' with CHAP' if chap else ''}"
    for name, runs in results.items():
        yield (f"  {name:20}{median(runs, 'logins_per_s'):>11,.0f}{spread(runs, 'logins_per_s'):>13.0f}%   "
               f"p50 {median(runs, 'p50'):.0f} us, server {median(runs, 'server_us'):.0f} us each")


def login_goals(results, chap):
    return goal(f"logins{' with CHAP' if chap else ''} x tgtd", paired(results, "perilune", ["tgtd rdwr"], "logins_per_s"), 1.2)


def idle_lines(results):
    yield "idle sessions: KiB of memory per session (PSS), and processor time"
    for kind, counts in results.items():
        cells = ", ".join(f"{count} sessions: {r['kib_per_session']:.1f} KiB, {r['cpu_percent']:.2f} %" for count, r in counts.items())
        yield f"  {kind:20}{cells}"


def idle_goals(results):
    largest = results.get("perilune", {}).get("1024")
    if not largest:
        return []
    return (goal("KiB per idle session at 1024", largest["kib_per_session"], 16, at_most=True) +
            goal("processor time at 1024 idle sessions, percent", largest["cpu_percent"], 0.5, at_most=True))


def scaling_lines(results):
    yield "the server's CPU per I/O, 4 KiB random read, depth 4 per session, by the number of sessions"
    for name, runs in results.items():
        yield f"  {name:20}{median(runs, 'server_us'):>11.2f} us {median(runs, 'iops'):>11,.0f} IOPS"


def scaling_goals(results):
    def grown(who):
        return ratio(median(results[f"{who}, 1000"], "server_us"), median(results[f"{who}, 4"], "server_us"))
    return goal("CPU per I/O, 1000 sessions x 4 sessions", grown("perilune asleep"), 1.2, at_most=True,
                aside=f" (the ceiling's: {grown('ceiling uring'):.2f})")


def unit_lines(results):
    yield "the server's CPU per I/O, 4 KiB random read, 1,000 sessions at depth 4, by the number of units"
    for count, runs in results.items():
        yield f"  {count:>5} units         {median(runs, 'server_us'):>11.2f} us {median(runs, 'iops'):>11,.0f} IOPS"


def unit_goals(results):
    (_, few), (_, many) = results.items()
    return goal("CPU per I/O, 1000 units x 1 unit", ratio(median(many, "server_us"), median(few, "server_us")), 1.2, at_most=True)


def thread_lines(results):
    yield "the server's CPU per I/O, 4 KiB random read, 64 sessions at depth 4, by its threads; client and server on both cores"
    for count in ("1", "2"):
        runs = results[count]
        yield (f"  {count} thread(s)        {median(runs, 'server_us'):>11.2f} us {median(runs, 'iops'):>11,.0f} IOPS, "
               f"busiest thread: {100 * results['shares'][count]:.0f} % of the time")


def thread_goals(results):
    """Threads share nothing that a command touches: what two can do more than one is told by what an I/O costs."""
    one, two = median(results["1"], "server_us"), median(results["2"], "server_us")
    return (goal("two threads x one, by CPU per I/O", 2 * ratio(one, two), 1.7) +
            goal("the busier of two threads, part of their time", results["shares"]["2"], 0.6, at_most=True))


def attach_lines(results):
    yield "attached by FUSE + loop, beside the session alone: 4 KiB at depth 32"
    for name, runs in results.items():
        yield f"  {name:24}{median(runs, 'iops'):>11,.0f} IOPS   p50 {median(runs, 'p50'):.1f} us"


def client_lines(results):
    yield "clients: 4 KiB reads at depth 32 against our target (`ceiling ask`: against the ceiling)"
    for name, runs in results.items():
        us = median(runs, "client_us")
        yield f"  {name:20}{median(runs, 'iops'):>11,.0f} IOPS {us:>8.2f} us of CPU each {1e6 / us if us else 0:>11,.0f} IOPS per core"
