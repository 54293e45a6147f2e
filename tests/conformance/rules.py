# SPDX-License-Identifier: Apache-2.0
"""Runs the tests of one theme on the wire: a target of its own, one function per rule, a line for each and a summary.

docs/conformance-tests.md numbers the rules and names the kinds of hostile input; a test says which of them it proves. All tests of
a script run even when one fails; each gets connections of its own, closed behind it. `script.py NAME…` runs some, `--list`
tells what there is.
"""
import contextlib
import itertools
import socket
import struct
import sys
import time
import traceback

import harness as h
import raw_pdu

_tests = []
_isids = itertools.count(1)


def rule(number, clause):
    """`number`: of the rule in docs/conformance-tests.md, or the name of a kind of hostile input; `clause`: where it is written."""
    def note(test):
        _tests.append((number, clause, test))
        return test
    return note


class Target:
    """What a test is given: the running target and connections to it."""

    def __init__(self, server, stack):
        self.server, self.stack = server, stack
        self.iqn, self.address = server.iqn, (server.host, server.port)

    def connect(self, address=None, **fields):
        """A connection that has said nothing yet, of an initiator port nobody else uses. `address`: of another portal."""
        fields.setdefault("isid", struct.pack(">HI", 0x8000, next(_isids)))
        connection = raw_pdu.Connection(address or self.address, **fields)
        self.stack.callback(connection.close)
        return connection

    def session(self, *pairs, luns=(0,), **fields):
        """A normal session in full-feature phase whose unit attentions have been told."""
        connection = self.connect(**fields).login(self.iqn, *pairs)
        return connection.clear_attentions(luns)

    def discovery(self, *pairs, **fields):
        return self.connect(**fields).login(None, *pairs)

    def still_serves(self):
        """Somebody new can log in, write and read."""
        assert self.server.alive(), "the target has ended"
        with contextlib.closing(self.session()) as session:
            session.good(raw_pdu.write10(8, 1), write=b"\x5a" * 512)
            assert session.good(raw_pdu.read10(8, 1), 512).data == b"\x5a" * 512


def _run_one(server, test):
    with contextlib.ExitStack() as stack:
        try:
            target = Target(server, stack)
            test(target)
            if not server.alive():
                return "the target has ended"
        except (AssertionError, OSError, socket.timeout, struct.error, KeyError, IndexError) as e:
            lines = [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(e.__traceback__)[1:]]
            return f"{type(e).__name__} {e} ({' > '.join(lines)})"
    return None


def main(theme, *backings, options=()):
    """`backings` and `options`: words for perilune serve, or functions that make them, given a folder that lives as long."""
    wanted = sys.argv[1:]
    if wanted == ["--list"]:
        for number, clause, test in _tests:
            h.say(f"{number!s:12} {test.__name__}  [{clause}]")
        return
    begin, failed, proved = time.monotonic(), [], set()
    chosen = [t for t in _tests if not wanted or t[2].__name__ in wanted]
    with contextlib.ExitStack() as files:
        folder = h.temp_dir(files)
        words = options(folder) if callable(options) else options
        served = [backing(folder) if callable(backing) else backing for backing in backings]
        server = files.enter_context(h.serve(*served, options=words))
        for number, clause, test in chosen:
            started = time.monotonic()
            error = _run_one(server, test)
            if error:
                failed.append(test.__name__)
                h.say(f"FAILED [{number}] {test.__name__}: {error} [{clause}]")
                if not server.alive():
                    break
            else:
                proved.add(str(number))
                h.say(f"ok [{number}] {test.__name__} ({time.monotonic() - started:.2f} s)")
        if failed:
            h.say(f"--- standard error of perilune serve:\n{server.errors()[-3000:]}---")
    h.say(f"{theme}: {len(chosen)} tests of {len(proved)} rules and kinds of input "
          f"({', '.join(sorted(proved, key=lambda n: (not n.isdigit(), n.zfill(3))))}), {len(failed)} failed, "
          f"{time.monotonic() - begin:.1f} s")
    sys.exit(1 if failed else 0)
