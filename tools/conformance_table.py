#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes docs/CONFORMANCE.md from tests/conformance/proofs.txt and from what a running target says of itself on the wire.

  tools/conformance_table.py            writes the table, unless something is wrong:
  tools/conformance_table.py --judge    fails when the target serves what no line names or does not serve what a line says,
                                        and when a proof does not exist or does not pass
  tools/conformance_table.py --check    the same, and when the table is old

Needs PERILUNE (the binary; build/bin/perilune by default). The operation codes come from REPORT SUPPORTED OPERATION CODES,
the pages from INQUIRY, MODE SENSE and LOG SENSE, of a unit in memory and of a file; keys, PDUs and functions from the
sources' tables.
"""
import contextlib
import os
import pathlib
import re
import struct
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "conformance")]
os.environ.setdefault("PERILUNE", str(ROOT / "build" / "bin" / "perilune"))
import harness as h  # noqa: E402
import iscsi_test_cu  # noqa: E402
import rules  # noqa: E402

PROOFS = ROOT / "tests" / "conformance" / "proofs.txt"
TABLE = ROOT / "docs" / "CONFORMANCE.md"
ROOM = 65535


class Line:
    def __init__(self, number, code, name, source, proof):
        self.number, self.code, self.name, self.source = number, code, name, source
        self.served = not proof.startswith("-")
        self.reason = "" if self.served else proof[1:].strip()
        self.proofs = [p.strip() for p in proof.split(",")] if self.served else []


def read_proofs():
    """{section: (title, [Line])}"""
    sections, current = {}, None
    for number, text in enumerate(PROOFS.read_text().splitlines(), 1):
        text = text.strip()
        if not text or text.startswith("#"):
            continue
        if text.startswith("["):
            name, title = re.fullmatch(r"\[(\w+)\] (.+)", text).groups()
            current = sections[name] = (title, [])
            continue
        fields = [field.strip() for field in text.split("|")]
        if len(fields) != 4 or not fields[3]:
            h.fail(f"proofs.txt:{number}: four fields are needed: {text}")
        current[1].append(Line(number, *fields))
    return sections


# ---- what exists

def existing_tests():
    names = set()
    for folder in ("src", "tests"):
        for path in (ROOT / folder).rglob("*.cpp"):
            for suite, name in re.findall(r"^(?:TYPED_)?TEST(?:_F|_P)?\((\w+),\s*(\w+)\)", path.read_text(), re.M):
                names.add(f"{suite}.{name}")
    for path in (ROOT / "tests" / "conformance").glob("wire_*.py"):
        for name in re.findall(r"^@rule\(.*\)\ndef (\w+)\(", path.read_text(), re.M):
            names.add(f"{path.stem}:{name}")
    for folder in ("system", "interop", "conformance", "vm"):
        for path in (ROOT / "tests" / folder).glob("*"):
            names.add(f"{folder}/{path.name}")
    return names


def libiscsi_tests():
    """The names that libiscsi's suite knows, and those of them that do not pass against a unit in memory."""
    listed = subprocess.run(["iscsi-test-cu", "--list"], capture_output=True, text=True, check=False).stdout
    known = {".".join(word.strip().split(".")[1:]) for word in listed.splitlines() if word.count(".") == 2}
    not_passing = {name for name, (outcome, _) in iscsi_test_cu.expectations("ram").items() if outcome != "passed"}
    return known, not_passing


# ---- what the target says

def inquire(session, cdb, lun=0):
    return session.good(bytes(cdb).ljust(16, b"\0"), ROOM, lun=lun).data


def pages_of(data, at):
    """The page codes of a MODE SENSE answer, from its first page on."""
    found = []
    while at < len(data):
        code, subpage = data[at] & 0x3F, 0
        if data[at] & 0x40:
            subpage, length = data[at + 1], struct.unpack(">H", data[at + 2:at + 4])[0] + 4
        else:
            length = data[at + 1] + 2
        found.append(f"{code:02X}/{subpage:02X}")
        at += length
    return found


def operation_codes(session, lun):
    data = session.good(bytes([0xA3, 0x0C, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0]), ROOM, lun=lun).data
    found = set()
    for at in range(4, 4 + struct.unpack(">I", data[:4])[0], 8):
        action = f"/{struct.unpack('>H', data[at + 2:at + 4])[0]:02X}" if data[at + 5] & 1 else ""
        found.add(f"{data[at]:02X}{action}")
    return found


def advertised():
    with contextlib.ExitStack() as stack:
        folder = h.temp_dir(stack)
        disc, disk = folder / "disc.iso", folder / "disk"
        disc.write_bytes(bytes(64 * 2048))
        disk.write_bytes(bytes(1 << 20))
        groups = folder / "port-groups"
        groups.write_text("explicit yes\n")
        server = stack.enter_context(h.serve("ram:64M", disk, f"cd:{disc}",
                                             options=["--removable", "--state", folder / "state", "--port-groups", groups]))
        session = rules.Target(server, stack).session(luns=(0, 1, 2))
        # Memory does not tear writes; a file keeps what it is told.
        says = {"opcode": operation_codes(session, 0) | operation_codes(session, 1), "cd": operation_codes(session, 2)}
        # And some commands are there where blocks carry protection information of type 2 alone.
        protected = stack.enter_context(h.serve("ram:1M", options=["--protection", "2"]))
        protected = rules.Target(protected, stack).session()
        says["opcode"] |= operation_codes(protected, 0)
        # And one where what is stored is encrypted.
        empty = folder / "empty"
        with open(empty, "wb") as file:
            file.truncate(1 << 20)
        encrypted = stack.enter_context(h.serve(empty, options=["--encrypt", "--state", folder / "keys"]))
        says["opcode"] |= operation_codes(rules.Target(encrypted, stack).session(), 0)
        data = inquire(session, [0x12, 1, 0, 0xFF, 0xFF])
        says["vpd"] = {f"{code:02X}" for code in data[4:]}
        data = inquire(session, [0x5A, 0x08, 0x3F, 0xFF, 0, 0, 0, 0xFF, 0xFF])
        says["mode"] = set(pages_of(data, 8)) | set(pages_of(inquire(protected, [0x5A, 0x08, 0x3F, 0xFF, 0, 0, 0, 0xFF, 0xFF]), 8))
        data = inquire(session, [0x4D, 0, 0x40, 0xFF, 0, 0, 0, 0xFF, 0xFF])
        says["log"] = {f"{data[at]:02X}/{data[at + 1]:02X}" for at in range(4, len(data), 2) if data[at + 1] != 0xFF}
    return says


def in_sources():
    constants = (ROOT / "src/iscsi/pdu/constants.hpp").read_text()
    opcodes = re.search(r"enum class Opcode.*?\{(.*?)\};", constants, re.S)[1]
    functions = re.search(r"enum class TmfFunction.*?\{(.*?)\};", constants, re.S)[1]
    keys = (ROOT / "src/iscsi/params/keys.hpp").read_text()
    return {"pdu": {f"{int(code, 16):02X}" for code in re.findall(r"= 0x([0-9a-f]+)", opcodes)},
            "tmf": set(re.findall(r"= (\d+)", functions)),
            "key": set(re.findall(r'KeyRow\{Key::\w+, "([^"]+)"', keys))}


# ---- judging and writing

def judge(sections):
    problems = []
    tests, (known, not_passing) = existing_tests(), libiscsi_tests()
    wire, sources = advertised(), in_sources()
    for section, (_, lines) in sections.items():
        codes = [line.code for line in lines]
        problems += [f"[{section}] {code} stands twice" for code in sorted({c for c in codes if codes.count(c) > 1})]
        served = {line.code for line in lines if line.served}
        there = wire.get(section, sources.get(section))
        named = served if section in wire else set(codes)
        problems += [f"[{section}] {code} is served and has no proof in proofs.txt" for code in sorted(there - named)]
        problems += [f"[{section}] {code} has a proof and is not served" for code in sorted(served - there)]
        for line in lines:
            for proof in line.proofs:
                if proof.startswith("cu:"):
                    name = proof[3:]
                    if known and name not in known:
                        problems.append(f"proofs.txt:{line.number}: libiscsi has no test {name}")
                    if name in not_passing:
                        problems.append(f"proofs.txt:{line.number}: {name} is not expected to pass")
                elif proof not in tests:
                    problems.append(f"proofs.txt:{line.number}: there is no test {proof}")
    return problems


def spelled(proof):
    return f"libiscsi `{proof[3:]}`" if proof.startswith("cu:") else f"`{proof}`"


def table(sections):
    out = ["# What of the standards is served, and what proves it", "",
           "Made by `tools/conformance_table.py` from `tests/conformance/proofs.txt` and from what a running target answers to REPORT",
           "SUPPORTED OPERATION CODES, INQUIRY, MODE SENSE and LOG SENSE (a removable disk in memory, and a disc); a test fails when the three disagree or a test named here is not",
           "there. [conformance-tests.md](conformance-tests.md) tells how the suites are run and what their outcomes mean.", ""]
    for title, lines in sections.values():
        served = sum(line.served for line in lines)
        out += [f"## {title}", "", f"{served} of {len(lines)} served.", "", "| | | source | |", "|---|---|---|---|"]
        for line in lines:
            what = ", ".join(map(spelled, line.proofs)) if line.served else f"*not served: {line.reason}*"
            out.append(f"| {line.code} | {line.name} | {line.source} | {what} |")
        out.append("")
    return "\n".join(out)


def main():
    sections = read_proofs()
    problems = judge(sections)
    text = table(sections)
    if sys.argv[1:] == ["--check"]:
        if not TABLE.exists() or TABLE.read_text() != text:
            problems.append("docs/CONFORMANCE.md is not what tools/conformance_table.py writes: run it")
    elif sys.argv[1:] != ["--judge"] and not problems:
        TABLE.write_text(text)
    for problem in problems:
        h.say(problem)
    counts = [sum(line.served for line in lines) for _, lines in sections.values()]
    h.say(f"conformance table: {sum(counts)} of {sum(len(lines) for _, lines in sections.values())} served, {len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
