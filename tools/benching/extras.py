# SPDX-License-Identifier: Apache-2.0
"""What is not a row of the matrix: logins per second, idle sessions, CPU per I/O with many sessions and units, our client
beside others."""
import contextlib
import json
import resource
import time

import harness as h
from benching import machine, servers, work

PARALLEL_LOGINS = 4
IDLE_SESSIONS = (1, 64, 1024)
IDLE_DISK = 64 << 20


def login_contestants(arena, chap):
    """name -> something with logins(). With CHAP each target has a second instance that asks for it."""
    if not chap:
        names = ("ceiling epoll", "perilune", "tgtd rdwr", "istgt")
        return {name: arena[name] for name in names if arena.available(name)}
    user, secret = h.USER, h.SECRET
    login = f"{user}%{secret}@"
    made = {}
    secret_file = h.secret_file(h.temp_dir(arena.stack), "secret", secret)
    server = arena.serve("ram:64M", options=["--chap-user", user, "--chap-secret-file", str(secret_file)])
    made["perilune"] = servers.Iscsi(arena, server.pid, server.urls[0].replace("iscsi://", f"iscsi://{login}"))
    if arena.available("tgtd"):
        tgtd = h.Tgtd(arena.stack, prefix=arena.cores.server)
        iqn = f"{servers.IQN}-chap"
        tgtd.target(1, iqn, arena.files.make("/dev/shm", "tgtd-chap", IDLE_DISK), chap=(user, secret))
        made["tgtd rdwr"] = servers.Iscsi(arena, tgtd.pid, f"iscsi://{login}127.0.0.1:{tgtd.port}/{iqn}/1")
    if arena.available("istgt"):
        path = arena.files.make("/dev/shm", "istgt-chap", IDLE_DISK)
        istgt = servers.Istgt(arena.stack, arena.cores.server, {"chap": (path, IDLE_DISK)}, chap=(user, secret))
        made["istgt"] = servers.Iscsi(arena, istgt.pid, istgt.url("chap", login))
    return made


def logins(arena, rounds, seconds, chap):
    made = login_contestants(arena, chap)
    results = {name: [] for name in made}
    for number in range(rounds):
        names = list(made)
        for name in names[number % len(names):] + names[:number % len(names)]:
            try:
                results[name].append(made[name].logins(seconds, PARALLEL_LOGINS))
            except AssertionError as error:
                h.say(f"  {name}: no logins: {str(error).strip().splitlines()[-1]}")
                made = {key: value for key, value in made.items() if key != name}
    return {name: runs for name, runs in results.items() if runs}


@contextlib.contextmanager
def fresh(arena, kind):
    """A target of its own with one small disk in memory; yields (pid, url)."""
    with contextlib.ExitStack() as stack:
        if kind == "perilune":
            server = stack.enter_context(h.serve("ram:64M", prefix=arena.cores.server, options=["--quiet"],
                                                 folder=h.temp_dir(stack)))
            yield server.pid, server.urls[0]
            return
        path = arena.files.make("/dev/shm", f"idle-{kind}", IDLE_DISK)
        if kind == "tgtd":
            tgtd = h.Tgtd(stack, prefix=arena.cores.server)
            tgtd.target(1, f"{servers.IQN}-idle", path)
            yield tgtd.pid, f"iscsi://127.0.0.1:{tgtd.port}/{servers.IQN}-idle/1"
            return
        istgt = servers.Istgt(stack, arena.cores.server, {"idle": (path, IDLE_DISK)})
        yield istgt.pid, istgt.url("idle")


def idle(arena, seconds, counts=IDLE_SESSIONS):
    """kind -> sessions -> {kib_per_session, cpu_percent}: what sessions that do nothing cost."""
    results = {}
    for kind in ("perilune", "tgtd", "istgt"):
        if not arena.available(kind):
            continue
        for count in counts:
            try:
                with fresh(arena, kind) as (pid, url):
                    results.setdefault(kind, {})[str(count)] = one_idle(arena, pid, url, count, seconds)
            except AssertionError as error:
                h.say(f"  {kind}: not with {count} sessions: {str(error).strip().splitlines()[-1]}")
    return results


def one_idle(arena, pid, url, count, seconds):
    before = machine.pss_kib(pid)
    command = [*arena.cores.client, h.PERILUNE, "bench", url, "--idle", "--sessions", count, "--seconds", 600]
    with open(h.temp_dir(arena.stack) / "client", "wb") as log:
        client = h.start(command, stdout=h.subprocess.PIPE, stderr=log, bufsize=0)
        try:
            h.read_line(client.stdout, time.monotonic() + 60, f"perilune bench --idle ({count} sessions)")
            time.sleep(1)  # what the logins left to do is done
            cpu = machine.cpu_seconds(pid)
            time.sleep(seconds)
            cpu = machine.cpu_seconds(pid) - cpu
            return {"kib_per_session": (machine.pss_kib(pid) - before) / count, "cpu_percent": 100 * cpu / seconds,
                    "kib_at_start": before}
        finally:
            client.kill()
            client.wait()
            client.stdout.close()


def scaling(arena, rounds, seconds):
    """The server's CPU per I/O at depth 4 per session, with 4 and with 1,000 sessions: ours, and the kernel's share by the ceiling."""
    results = {}
    for _ in range(rounds):
        # Who spins takes the time that the client needs.
        for who in ("perilune asleep", "ceiling uring"):
            for sessions in (4, 1000):
                run = arena[who].run(work.Workload("randread", "4k", sessions, 4), seconds)
                results.setdefault(f"{who}, {sessions}", []).append(run)
    return results


def units(arena, rounds, seconds, count=1000):
    """The server's CPU per I/O of 1,000 sessions, all on one unit, and each on one of its own."""
    results = {}
    for luns in (1, count):
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(h.serve(*[f"ram:{1000 // luns}M"] * luns, prefix=arena.cores.server,
                                                 options=["--quiet", "--polling", "never"], folder=h.temp_dir(stack)))
            target = servers.Iscsi(arena, server.pid, server.urls[0])
            words = ["--luns", luns, "--sessions", count, "--bs", "4k", "--depth", 4]
            # Every page is there before it is read.
            target.turn(target.client("--rw", "randwrite", "--luns", luns, "--sessions", count, "--bs", "64k", "--depth", 1,
                                      "--seconds", 4), 4)
            for _ in range(rounds):
                run = target.measured(seconds, "--rw", "randread", *words, "--seconds", seconds, "--warm-up", servers.WARM_UP_SECONDS)
                results.setdefault(str(luns), []).append(run)
    return results


def threads(arena, rounds, seconds):
    """The server's CPU per I/O with one thread and with two, 64 sessions, client and server on both cores; and which part of
    the work (of sessions that do all the same) the busiest thread had."""
    results = {"shares": {}}
    for count in (1, 2):
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(h.serve("ram:512M", options=["--quiet", "--threads", str(count), "--polling", "never"],
                                                 folder=h.temp_dir(stack)))
            command = [h.PERILUNE, "bench", server.urls[0], "--json", "--polling", "never"]
            fill = [*command, "--rw", "write", "--bs", "256k", "--depth", 8, "--seconds", 2]
            servers.one_turn(arena.cores, server.pid, fill, 3, False)
            command += ["--rw", "randread", "--bs", "4k", "--depth", 4, "--sessions", 64, "--seconds", seconds, "--warm-up",
                        servers.WARM_UP_SECONDS, "--cpu-of", server.pid]
            before = machine.thread_seconds(server.pid)
            for _ in range(rounds):
                run = servers.figures(servers.one_turn(arena.cores, server.pid, command, seconds, False), seconds)
                results.setdefault(str(count), []).append(run)
            used = [now - before.get(thread, 0) for thread, now in machine.thread_seconds(server.pid).items()]
            results["shares"][str(count)] = max(used) / sum(used)
    return results


def attach(arena, rounds, seconds):
    """fio on a block device of this host (FUSE + loop) beside the bare session: 4 KiB, 32 outstanding."""
    target = arena["perilune"]
    results = {}
    with contextlib.ExitStack() as stack:
        run_dir = h.temp_dir(stack)
        device = h.run([*arena.cores.client, h.PERILUNE, "attach", "--run-dir", run_dir, target.url], timeout=60).out.strip()
        stack.callback(h.run, [h.PERILUNE, "detach", "--run-dir", run_dir, device], timeout=60)
        for _ in range(rounds):
            for rw in ("randread", "randwrite"):
                bare = target.run(work.Workload(rw, "4k", 1, 32), seconds)
                results.setdefault(f"{rw}, session", []).append({"iops": bare["iops"], "p50": bare["p50"]})
                results.setdefault(f"{rw}, FUSE + loop", []).append(fio_on(device, rw, seconds))
    return results


def fio_on(device, rw, seconds):
    out = h.run(["fio", "--name=bench", f"--filename={device}", f"--rw={rw}", "--bs=4k", "--direct=1", "--ioengine=io_uring",
                 "--iodepth=32", "--time_based", f"--runtime={seconds}s", f"--ramp_time={servers.WARM_UP_SECONDS}s",
                 "--output-format=json"], timeout=seconds + 60).out
    side = json.loads(out[out.index("{"):])["jobs"][0]["write" if "write" in rw else "read"]
    return {"iops": side["iops"], "p50": side["clat_ns"]["percentile"]["50.000000"] / 1e3}


def clients(arena, rounds, seconds):
    """Our initiator beside libiscsi's, against our target: IOPS, and IOPS per core of the client."""
    url = arena["perilune"].url
    ios = int(60_000 * seconds)
    tools = {"perilune bench": None, "ceiling ask": None}
    if h.shutil.which("iscsi-perf"):
        tools["iscsi-perf"] = ["iscsi-perf", "-m", 32, "-b", 8, "-r", "-t", max(1, round(seconds)), url]
    if h.shutil.which("qemu-img"):
        tools["qemu-img bench"] = ["qemu-img", "bench", "-f", "raw", "-t", "none", "-c", ios, "-d", 32, "-s", 4096, url]
    results = {name: [] for name in tools}
    workload = work.Workload("randread", "4k", 1, 32)
    for _ in range(rounds):
        for name, command in tools.items():
            if command is None:
                run = arena["perilune" if name == "perilune bench" else "ceiling epoll"].run(workload, seconds)
                results[name].append({"iops": run["iops"], "client_us": run["client_us"]})
                continue
            results[name].append(foreign_client([*arena.cores.client, *command], name, seconds, ios))
    return results


def foreign_client(command, name, seconds, ios):
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = h.run(command, timeout=seconds * 20 + 60)
    wall, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if name == "iscsi-perf":
        rates = h.re.findall(r"iops average (\d+)", done.out)
        if not rates:
            h.fail(f"iscsi-perf prints no rate: {done}")
        ios, wall = int(int(rates[-1]) * max(1, round(seconds))), max(1, round(seconds))
    return {"iops": ios / wall, "client_us": cpu * 1e6 / max(1, ios)}


def dump(path, record):
    path.write_text(json.dumps(record, indent=1) + "\n")
