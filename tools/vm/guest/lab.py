# SPDX-License-Identifier: Apache-2.0
"""What a scenario has inside the guest: commands shown as on a terminal, conditions to wait for, checks, the open-iscsi
commands everybody types, and `host`, which asks the side of the laboratory that runs outside.

A scenario ends with `lab.main(step, step, ...)`. Steps run in order; the first failed check ends it. At the end the
kernel's log is searched for errors, and one that the scenario did not allow fails it too."""
import contextlib
import glob
import hashlib
import json
import mmap
import os
import pathlib
import random
import re
import shlex
import subprocess
import sys
import time
import traceback

NUMBER = int((re.search(r"lab\.guest=(\d+)", pathlib.Path("/proc/cmdline").read_text()) or [0, 1])[1])   # which guest this is
INITIATOR = "iqn.2026-11.io.perilune:guest" + (f"-{NUMBER}" if NUMBER > 1 else "")
PERILUNE = "/lab/perilune"
SHOWN_LINES = 60


class Failed(Exception):
    pass


def say(text):
    print(text, flush=True)


def uptime():
    return float(pathlib.Path("/proc/uptime").read_text().split()[0])


def fail(text):
    raise Failed(text)


def check(condition, text):
    """One thing this scenario claims: said when it holds, the end of the run when it does not."""
    if not condition:
        fail(text)
    say(f"  ok: {text}")


class Host:
    """The host's side, over the virtio port: one request line, one answer line. Any method name is a request."""

    def __init__(self):
        self._port = None

    def _open(self):
        def find():
            found = glob.glob("/dev/vport*p1")
            return found and found[0]
        self._port = open(wait_for(find, "the port to the host"), "r+b", buffering=0)

    def call(self, request, /, **arguments):
        if self._port is None:
            self._open()
        self._port.write(json.dumps({"call": request, **arguments}).encode() + b"\n")
        line = b""
        while not line.endswith(b"\n"):
            piece = self._port.read(65536)
            if not piece:
                time.sleep(0.05)   # a port with nobody on the other side reads as its end
            line += piece or b""
        answer = json.loads(line)
        if "error" in answer:
            fail(f"the host could not {request}: {answer['error']}")
        return answer["value"]

    def __getattr__(self, name):
        return lambda **arguments: self.call(name, **arguments)


host = Host()


# --- commands --------------------------------------------------------------------------------------------------------

class Done:
    def __init__(self, command, code, out):
        self.command, self.code, self.out = command, code, out

    def __str__(self):
        return f"$ {self.command}\n{self.out}[exit {self.code}]"


def sh(command, *, code=0, timeout=600, show=True, input=None, env=None):
    """Runs a shell command, or a list of words, and shows it with its output (standard error in its place among it).
    `code` is the exit code that is expected; None takes any."""
    shown = command if isinstance(command, str) else shlex.join(str(word) for word in command)
    argv = ["sh", "-c", command] if isinstance(command, str) else [str(word) for word in command]
    if show:
        say(f"$ {shown}")
    # Output by way of a file: a daemon that a command leaves behind must not keep us waiting for the end of a pipe.
    with open(f"/tmp/out-{random.randrange(1 << 40)}", "w+b") as out:
        os.unlink(out.name)
        process = subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})},
                                   stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL)
        try:
            process.communicate(input.encode() if input is not None else None, timeout=timeout)
            ended = process.returncode
        except subprocess.TimeoutExpired:
            process.kill()
            ended = f"none after {timeout} s"
        out.seek(0)
        text = out.read().decode(errors="replace")
    done = Done(shown, ended, text)
    wrong = code is not None and ended != code
    if show or wrong:
        lines = text.splitlines()
        if len(lines) > SHOWN_LINES and not wrong:
            lines = lines[:SHOWN_LINES] + [f"... ({len(lines) - SHOWN_LINES} more lines)"]
        for line in [*([] if show else [f"$ {shown}"]), *lines, *([f"[exit {ended}]"] if ended != 0 else [])]:
            say(line)
    if wrong:
        fail(f"exit {ended}, expected {code}: {shown}")
    return done


def start(command, log, env=None):
    """A process that runs beside the scenario, its output in a file."""
    argv = ["sh", "-c", command] if isinstance(command, str) else [str(word) for word in command]
    say(f"$ {command if isinstance(command, str) else shlex.join(argv)} &")
    with open(log, "wb") as out:
        return subprocess.Popen(argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})})


def wait_for(condition, what, timeout=180.0, every=0.05):
    """Polls until the condition is true and returns its value. Time is the guest's."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            fail(f"waited {timeout} s for {what}")
        time.sleep(every)


def expect(text, *patterns):
    """Every pattern is found in the text, as whole lines are: ^ and $ match at line ends."""
    for pattern in patterns:
        if not re.search(pattern, text, re.MULTILINE):
            fail(f"no match for {pattern!r} in:\n{text}")
    say(f"  ok: {len(patterns)} expected lines are there")


def same_shape(text, reference, **replacements):
    """The text is the reference, after each {NAME} of the reference was replaced and trailing spaces ignored."""
    for name, value in replacements.items():
        reference = reference.replace("{" + name + "}", str(value))
    got = [line.rstrip() for line in text.strip("\n").splitlines()]
    wanted = [line.rstrip() for line in reference.strip("\n").splitlines()]
    for number, (a, b) in enumerate(zip(got, wanted)):
        if a != b:
            fail(f"line {number + 1} is {a!r}, the reference has {b!r}")
    if len(got) != len(wanted):
        fail(f"{len(got)} lines, the reference has {len(wanted)}:\n{text}")
    say(f"  ok: the same {len(got)} lines as the reference")


# --- the kernel's log ------------------------------------------------------------------------------------------------

BAD = re.compile(r"I/O error|FAILED Result|rejecting I/O|BUG:|WARNING:|Call Trace|Oops|hung_task|blocked for more than|"
                 r"detected conn error|ping timeout|recovery timed out|EXT4-fs (error|warning)|XFS .*(rror|orruption)|"
                 r"BTRFS (error|critical|warning)|Sense Key : (Medium|Hardware|Aborted)|invalid .*(PDU|opcode)|"
                 r"digest|lost async page write|JBD2: .*rror|Unhandled")
allowed = []


def allow(*patterns):
    """Kernel messages that this scenario brings about on purpose from here on."""
    allowed.extend(re.compile(pattern) for pattern in patterns)


def dmesg():
    done = subprocess.run(["dmesg"], capture_output=True, text=True, errors="replace", check=True)
    return done.stdout


# The kernel's own warning about one of its work queues, from its "cut here" to its "end trace": scsi_remove_target's power
# management waits for a queue that is not meant for memory reclaim. Any logout can bring it, with any target.
QUEUE_WARNING = re.compile(r"^[^\n]*(?:cut here[^\n]*\n[^\n]*)?workqueue: WQ_MEM_RECLAIM iscsi.*?end trace[^\n]*\n",
                           re.MULTILINE | re.DOTALL)


def dmesg_errors():
    text = QUEUE_WARNING.sub("", dmesg())
    return [line for line in text.splitlines() if BAD.search(line) and not any(p.search(line) for p in allowed)]


def the_kernels_log():
    errors = dmesg_errors()
    if errors:
        fail("the kernel's log has errors:\n" + "\n".join(errors[:20]))
    say("  ok: the kernel's log is free of errors")


def serve(**arguments):
    """Starts a target on the host (HostSide.serve). Where the host put a proxy before a portal, connections of this guest
    go through it: the portal's address stays the one that the target announces."""
    target = host.serve(**arguments)
    use_proxies(target)
    return target


def use_proxies(target):
    """What serve() does for a target that another guest started."""
    if target["via"]:
        redirect("".join(f"ip daddr {portal.rpartition(':')[0]} tcp dport {portal.rpartition(':')[2]} dnat to :{port}\n"
                         for portal, port in target["via"].items()))


def mutant():
    """The sabotage of this run, {} mostly."""
    return host.sabotage()


def guest_wire(address, port):
    """For a target inside this guest: with a sabotage {"guest_wire": LIE} a lying proxy stands before it."""
    name = mutant().get("guest_wire")
    if name:
        import proxy
        source = "127.0.0.9"   # what the proxy sends from, so that its own connections do not come back to it
        sh(["ip", "addr", "add", f"{source}/32", "dev", "lo"], show=False)
        front = proxy.Proxy(address, (address, port), [proxy.LIES[name]()], source)
        redirect(f"ip saddr != {source} ip daddr {address} tcp dport {port} dnat to :{front.port}\n")


def preload():
    """The environment for a target inside this guest: with a sabotage {"guest_preload": NAME} that library is in it."""
    return {"LD_PRELOAD": "/lab/preload.so"} if "guest_preload" in mutant() else {}


def redirect(rules):
    sh(["nft", "-f", "-"], show=False, input="table ip lab_proxies {\nchain output {\n"
       f"type nat hook output priority -100; policy accept;\n{rules}}}\n}}\n")


# --- open-iscsi ------------------------------------------------------------------------------------------------------

def patient_records():
    """An emulated processor on a busy host may not come to a NOP for five seconds, so records are made with a timeout of sixty;
    a scenario about timeouts sets its own."""
    with open("/etc/iscsi/iscsid.conf", "a") as f:
        f.write("\nnode.conn[0].timeo.noop_out_timeout = 60\n")


def iscsid():
    """Starts the initiator daemon of the quick guest."""
    patient_records()
    sh("modprobe iscsi_tcp", show=False)
    pathlib.Path("/etc/iscsi/initiatorname.iscsi").write_text(f"InitiatorName={INITIATOR}\n")
    pathlib.Path("/run/lock/iscsi").mkdir(parents=True, exist_ok=True)
    process = start("exec iscsid -f", "/run/iscsid.log")
    wait_for(lambda: "ISCSIADM" in pathlib.Path("/proc/net/unix").read_text(), "iscsid to listen")
    return process


def node(target, *words, portal=0, **options):
    return sh(["iscsiadm", "-m", "node", "-T", target["iqn"], "-p", target["portals"][portal], *words], **options)


def update(target, portal=0, **values):
    """Record fields, double underscores for dots."""
    pairs = [word for name, value in values.items() for word in ("-n", name.replace("__", "."), "-v", value)]
    node(target, "-o", "update", *pairs, portal=portal, show=False)


def discover(target, portal=0, **options):
    return sh(["iscsiadm", "-m", "discovery", "-t", "sendtargets", "-p", target["portals"][portal]], **options)


def login(target, portal=0, lun=0):
    """Logs in and returns the disk, /dev/sdX, once udev has its links."""
    node(target, "--login", portal=portal)
    return disk(target, portal, lun)


def disk_link(target, portal=0, lun=0):
    return f"/dev/disk/by-path/ip-{target['portals'][portal]}-iscsi-{target['iqn']}-lun-{lun}"


def disk(target, portal=0, lun=0):
    link = disk_link(target, portal, lun)
    wait_for(lambda: os.path.exists(link), f"{link}")
    return os.path.realpath(link)


def settle():
    """Waits until udev has nothing left to do."""
    sh("udevadm settle --timeout=600", show=False)


def logout(target, portal=0):
    settle()   # udev may still be reading what is about to go
    node(target, "--logout", portal=portal)
    link = disk_link(target, portal)
    wait_for(lambda: not os.path.lexists(link), f"{link} to go")


def sysfs(device, name):
    return pathlib.Path(f"/sys/block/{os.path.basename(device)}/{name}").read_text().strip()


# --- data ------------------------------------------------------------------------------------------------------------

def write_tree(folder, files=40, seed=1, largest=256 << 10):
    """A tree of files of all sizes, deterministic in its seed; returns {relative path: sha256}."""
    rng = random.Random(seed)
    sums = {}
    for number in range(files):
        path = pathlib.Path(folder) / f"d{number % 5}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        data = rng.randbytes(rng.choice((0, 1, 511, 4096, 4097, 65537, largest)))
        path.write_bytes(data)
        sums[str(path.relative_to(folder))] = hashlib.sha256(data).hexdigest()
    return sums


def check_tree(folder, sums):
    for name, want in sums.items():
        got = hashlib.sha256((pathlib.Path(folder) / name).read_bytes()).hexdigest()
        if got != want:
            fail(f"{folder}/{name} reads back different bytes")
    extra = {str(p.relative_to(folder)) for p in pathlib.Path(folder).rglob("f*") if p.is_file()} - set(sums)
    if extra:
        fail(f"{folder} has files nobody wrote: {sorted(extra)[:5]}")
    say(f"  ok: {len(sums)} files in {folder} have their checksums")


def drop_caches():
    sh("sync; echo 3 >/proc/sys/vm/drop_caches", show=False)


@contextlib.contextmanager
def mounted(device, folder, options="defaults"):
    os.makedirs(folder, exist_ok=True)
    sh(["mount", "-o", options, device, folder])
    try:
        yield folder
    finally:
        sh(["umount", folder])


# --- a scenario ------------------------------------------------------------------------------------------------------

def main(*steps):
    """Runs the steps; the first failure ends the scenario, or with --keep-going only its step."""
    keep_going = "lab.keep_going" in pathlib.Path("/proc/cmdline").read_text()
    failures = 0
    for step in (*steps, the_kernels_log):
        say(f"== [{uptime():.2f}] {step.__name__.replace('_', ' ')}")
        try:
            step()
        except Exception as e:
            say(f"FAILED: {e if isinstance(e, Failed) else traceback.format_exc()}")
            failures += 1
            show_logs()
            if not keep_going:
                break
    say(f"== [{uptime():.2f}] {'failed' if failures else 'passed'}")
    sys.exit(1 if failures else 0)


def show_logs():
    """What explains a failure best: the ends of the kernel's log and of the daemons' logs."""
    say("--- the end of dmesg\n" + "\n".join(dmesg().splitlines()[-40:]))
    for name, text in host.logs().items():
        say(f"--- the end of the log of target {name} on the host\n{text}")
    for path in glob.glob("/run/*.log"):
        say(f"--- the end of {path}\n" + "\n".join(pathlib.Path(path).read_text(errors="replace").splitlines()[-15:]))
