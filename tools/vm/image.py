# SPDX-License-Identifier: Apache-2.0
"""Builds the guest from Debian packages: one root file system with both kernels' modules, and per kernel a vmlinuz and a
small initial RAM disk. Needs root (or sudo, which ./dev vm uses), mmdebstrap and e2fsprogs; the machine's own apt
configuration is read for its mirror and never written. A build that is interrupted leaves nothing behind that counts."""
import contextlib
import fcntl
import gzip
import hashlib
import io
import lzma
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import harness as h

import recipe

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("PERILUNE_VM_CACHE") or pathlib.Path.home() / ".cache/perilune-vm")


def fingerprint():
    digest = hashlib.sha256()
    for name in ("recipe.py", "image.py"):
        digest.update((HERE / name).read_bytes())
    return digest.hexdigest()[:16]


class Image:
    """What a machine boots: root (an ext4 file), and per kernel a vmlinuz and an initial RAM disk."""

    def __init__(self, folder):
        self.folder = folder
        self.root = folder / "root.ext4"

    def vmlinuz(self, kernel):
        return self.folder / f"vmlinuz-{kernel}"

    def initrd(self, kernel):
        return self.folder / f"initrd-{kernel}"


def ensure():
    """The image of the current recipe, built now if it is not there yet. Two builders wait for each other."""
    folder = CACHE / fingerprint()
    if not folder.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with open(CACHE / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                _build(folder)
    return Image(folder)


def _build(folder):
    h.need("mmdebstrap", "mke2fs", "depmod", "apt-get", "dpkg-deb")
    if os.geteuid() != 0:
        h.skip("the guest image is not built, and building it needs root (./dev vm build)")
    h.say(f"==> building the guest image {folder.name} (once; several minutes)")
    for stale in CACHE.glob("work-*"):
        shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="work-", dir=CACHE) as work:
        work = pathlib.Path(work)
        root, result = work / "root", work / "result"
        result.mkdir()
        sources = debian_sources()
        _bootstrap(root, sources)
        for kernel, suite in recipe.KERNELS.items():
            _kernel(work, sources, kernel, suite, root, result)
        _settle(root)
        _file_system(root, result / "root.ext4")
        os.rename(result, folder)
    images = [old for old in CACHE.iterdir() if re.fullmatch(r"[0-9a-f]{16}", old.name)]
    for old in sorted(images, key=os.path.getmtime)[:-2]:   # the last one may be another checkout's
        shutil.rmtree(old, ignore_errors=True)
    h.say(f"==> built {folder}")


def _run(command, **options):
    """A long command with its output shown only when it fails."""
    h.say("  $ " + " ".join(str(word) for word in command[:4]) + (" ..." if len(command) > 4 else ""))
    return h.run(command, timeout=3600, **options)


# --- where packages come from ----------------------------------------------------------------------------------------

def debian_sources():
    """The machine's own Debian mirrors, as [(uri, suite, components, options)], for the suites this recipe needs."""
    entries = []
    for path in [pathlib.Path("/etc/apt/sources.list"), *sorted(pathlib.Path("/etc/apt/sources.list.d").glob("*"))]:
        if path.suffix == ".list" and path.is_file():
            entries += _one_line_sources(path.read_text())
        elif path.suffix == ".sources" and path.is_file():
            entries += _deb822_sources(path.read_text())
    wanted = [entry for entry in entries if re.fullmatch(rf"{recipe.SUITE}(-updates|-security)?", entry[1])]
    if not any(entry[1] == recipe.SUITE for entry in wanted):
        h.skip(f"the guest image is not built, and no apt source of this machine has {recipe.SUITE}")
    return wanted


def _one_line_sources(text):
    for line in text.splitlines():
        if match := re.match(r"deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+(.+)", line.strip()):
            yield match[2], match[3], match[4].split("#")[0].strip(), match[1] or ""


def _deb822_sources(text):
    for paragraph in re.split(r"\n\s*\n", text):
        fields = {}
        for line in paragraph.splitlines():
            if (match := re.match(r"([\w-]+):\s*(.*)", line)) and not line.startswith("#"):
                fields[match[1].lower()] = match[2].strip()
        if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes") != "no":
            signed = fields.get("signed-by", "")
            options = f"signed-by={signed}" if signed.startswith("/") else ""
            for uri in fields.get("uris", "").split():
                for suite in fields.get("suites", "").split():
                    yield uri, suite, fields.get("components", "main"), options


def _lines(sources):
    return "".join(f"deb {f'[{options}] ' if options else ''}{uri} {suite} {components}\n"
                   for uri, suite, components, options in sources)


# --- the root file system --------------------------------------------------------------------------------------------

def _bootstrap(root, sources):
    debs = CACHE / "debs"   # what one recipe downloaded, the next one need not
    debs.mkdir(exist_ok=True)
    excluded = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("man", "locale", "doc", "info")]
    _run(["mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory", "--skip=download/empty",
          "--aptopt=Apt::Install-Recommends \"false\"", "--dpkgopt=force-unsafe-io", *excluded,
          f"--setup-hook=mkdir -p \"$1\"/var/cache/apt/archives && cp {debs}/*.deb \"$1\"/var/cache/apt/archives/ || true",
          f"--customize-hook=cp -n \"$1\"/var/cache/apt/archives/*.deb {debs}/ && rm -f \"$1\"/var/cache/apt/archives/*.deb",
          f"--include={','.join(recipe.PACKAGES)}", recipe.SUITE, root, "-"], input=_lines(sources))


def _settle(root):
    """What makes a configured Debian tree a guest of ours: no password, no service that a scenario did not ask for."""
    (root / "etc/hostname").write_text("guest\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost guest\n")
    (root / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
    (root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    (root / "etc/iscsi/initiatorname.iscsi").write_text("InitiatorName=iqn.2026-11.io.perilune:guest\n")
    wants = root / "etc/systemd/system"
    for unit in ("multipathd.service", "multipathd.socket", "iscsid.socket", "open-iscsi.service", "nvmet.service",
                 "rtslib-fb-targetctl.service", "lvm2-monitor.service", "e2scrub_reap.service", "fstrim.timer",
                 "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer"):
        for link in wants.glob(f"*.wants/{unit}"):
            link.unlink()


def _file_system(root, path):
    with open(path, "wb") as f:
        f.truncate(recipe.IMAGE_SIZE)
    _run(["mke2fs", "-q", "-F", "-t", "ext4", "-L", "guest", "-O", "^metadata_csum,^metadata_csum_seed", "-m", "0",
          "-E", "lazy_itable_init=1,lazy_journal_init=1", "-d", root, path])


# --- kernels ---------------------------------------------------------------------------------------------------------

def _private_apt(work, sources, suite):
    """An apt of its own in a folder, so that the machine's lists and sources stay as they are."""
    folder = work / f"apt-{suite}"
    for part in ("lists/partial", "archives/partial", "empty", "log"):
        (folder / part).mkdir(parents=True)
    (folder / "status").touch()
    extra = [(uri, suite, components, options) for uri, have, components, options in sources if have == recipe.SUITE]
    (folder / "sources.list").write_text(_lines(sources if suite == recipe.SUITE else sources + extra))
    options = {"Dir::State::Lists": folder / "lists", "Dir::State::status": folder / "status",
               "Dir::Cache": folder, "Dir::Cache::archives": folder / "archives",
               "Dir::Etc::SourceList": folder / "sources.list", "Dir::Etc::SourceParts": folder / "empty",
               "Dir::Etc::PreferencesParts": folder / "empty", "Dir::Etc::Preferences": "/dev/null",
               "Dir::Log": folder / "log", "APT::Sandbox::User": "root", "Acquire::Languages": "none"}
    if suite != recipe.SUITE:
        options["APT::Default-Release"] = suite
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    _run(["apt-get", "-q", *words, "update"])
    return words


def _kernel(work, sources, kernel, suite, root, result):
    """Downloads and unpacks one kernel, takes the modules the recipe names, and makes its initial RAM disk."""
    words = _private_apt(work, sources, suite)
    depends = h.run(["apt-cache", *words, "depends", "linux-image-amd64"], timeout=120).out
    package = re.search(r"Depends: (linux-image-\S+)", depends)
    if not package:
        h.fail(f"linux-image-amd64 of {suite} names no kernel:\n{depends}")
    debs = CACHE / "debs"
    debs.mkdir(exist_ok=True)
    for old in debs.glob(f"{package[1]}_*.deb"):
        shutil.copy(old, work)
    _run(["apt-get", "-q", *words, "download", package[1]], cwd=work)
    deb = max(work.glob(f"{package[1]}_*.deb"), key=os.path.getmtime)
    with contextlib.suppress(shutil.SameFileError):
        shutil.copy(deb, debs)
    unpacked = work / f"kernel-{kernel}"
    _run(["dpkg-deb", "-x", deb, unpacked])
    release = next((unpacked / "lib/modules").iterdir()).name
    if not re.match(rf"{re.escape(kernel)}\.", release):
        h.fail(f"{suite} has kernel {release}, not {kernel}")
    _run(["depmod", "-b", unpacked, release])
    tree = Modules(unpacked, release)
    tree.install(root)
    _run(["depmod", "-b", root, release])
    shutil.copy(unpacked / f"boot/vmlinuz-{release}", result / f"vmlinuz-{kernel}")
    _initrd(result / f"initrd-{kernel}", root, tree)


class Modules:
    """The modules of one kernel: paths relative to its folder, by name, with their dependencies."""

    def __init__(self, unpacked, release):
        self.release = release
        self.source = unpacked / "lib/modules" / release
        self.depends, self.by_name = {}, {}
        for line in (self.source / "modules.dep").read_text().splitlines():
            path, _, rest = line.partition(":")
            self.depends[path] = rest.split()
            self.by_name[pathlib.PurePath(path).name.split(".ko")[0].replace("-", "_")] = path

    def closure(self, paths):
        """These modules and all they need, dependencies first."""
        ordered = []

        def visit(path):
            if path not in ordered:
                for other in reversed(self.depends[path]):
                    visit(other)
                ordered.append(path)

        for path in paths:
            visit(path)
        return ordered

    def install(self, root):
        target = root / "lib/modules" / self.release

        def wanted(path):
            inside = path.removeprefix("kernel/")
            return inside.startswith(recipe.MODULES) and not inside.startswith(recipe.NO_MODULES)

        for path in self.closure([path for path in self.depends if wanted(path)]):
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path.removesuffix(".xz")).write_bytes(self.data(path))
        for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
            shutil.copy(self.source / name, target)

    def data(self, path):
        """A module as insmod of any age reads it, and without its signature: checking that takes an emulated processor longer
        than everything else about loading a module. It is at the end, with its length (linux/module_signature.h)."""
        data = (self.source / path).read_bytes()
        data = lzma.decompress(data) if path.endswith(".xz") else data
        marker = b"~Module signature appended~\n"
        if data.endswith(marker):
            info = len(data) - len(marker) - 12
            data = data[:info - int.from_bytes(data[info + 8:info + 12], "big")]
        return data


def _initrd(path, root, tree):
    archive = Cpio()
    for folder in ("bin", "dev", "proc", "sys", "root", "modules"):
        archive.folder(folder)
    archive.file("bin/busybox", (root / "bin/busybox").read_bytes(), 0o755)
    for applet in ("sh", "mount", "umount", "insmod", "sleep", "cp", "rm", "cat", "poweroff", "switch_root"):
        archive.symlink(f"bin/{applet}", "busybox")
    names = []
    for module in tree.closure([tree.by_name[name] for name in recipe.BOOT_MODULES if name in tree.by_name]):
        name = pathlib.PurePath(module).name.split(".ko")[0] + ".ko"
        archive.file(f"modules/{name}", tree.data(module), 0o644)
        names.append(name)
    archive.file("modules/order", ("\n".join(names) + "\n").encode(), 0o644)
    path.write_bytes(gzip.compress(archive.bytes(), 1))


class Cpio:
    """An archive in the kernel's "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst)."""

    def __init__(self):
        self._out, self._inode, self._folders = io.BytesIO(), 1, set()

    def _entry(self, name, mode, data=b""):
        encoded = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
        self._inode += 1
        self._out.write(b"070701" + b"".join(b"%08X" % field for field in fields) + encoded)
        self._pad()
        self._out.write(data)
        self._pad()

    def _pad(self):
        self._out.write(b"\0" * (-self._out.tell() % 4))

    def folder(self, name):
        if name not in self._folders:
            self._folders.add(name)
            self._entry(name, 0o040755)

    def file(self, name, data, mode):
        self._entry(name, 0o100000 | mode, data)

    def symlink(self, name, target):
        self._entry(name, 0o120777, target.encode())

    def tree(self, files):
        """{path: (bytes, mode)} with the folders above them."""
        for name, (data, mode) in sorted(files.items()):
            for parent in reversed(pathlib.PurePosixPath(name).parents[:-1]):
                self.folder(str(parent))
            self.file(name, data, mode)

    def bytes(self):
        ended = Cpio()
        ended._out.write(self._out.getvalue())
        ended._entry("TRAILER!!!", 0)
        return ended._out.getvalue() + b"\0" * (-len(ended._out.getvalue()) % 512)
