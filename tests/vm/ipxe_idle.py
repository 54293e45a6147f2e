# SPDX-License-Identifier: Apache-2.0
"""An iPXE client that has logged in and then sits at its prompt for 90 s, answering no NOP-In, still boots: a peer that never answered
a NOP-In is not dropped for silence while its TCP connection lives."""
import os
import pathlib
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/interop"), str(ROOT / "tools/vm")]
import harness as h  # noqa: E402
import ipxe_sanboot  # noqa: E402
import proxy  # noqa: E402
import served  # noqa: E402

VM = {"boot": "host", "mutants": {"cut-while-idle": {"cut": 60}}}

IDLE_S = 90


def an_idle_client_still_boots(stack):
    fronts = []

    def script(target):
        front = proxy.Proxy("127.0.0.1", ("127.0.0.1", target.port))
        stack.callback(front.close)
        fronts.append(front)
        if "LAB_MUTANT_CUT" in os.environ:
            threading.Timer(float(os.environ["LAB_MUTANT_CUT"]), front.cut).start()
        san = f"iscsi:10.0.2.2::{front.port}:{target.lun:x}:{target.iqn}"
        return "\n".join(["#!ipxe", "set initiator-iqn iqn.2026-11.io.perilune:ipxe",
                          f"sanhook --drive 0x80 {san} || echo sanboot-failed",
                          f"prompt --timeout {IDLE_S * 1000} idle at the prompt || echo the prompt is over",
                          "sanboot --drive 0x80 || echo sanboot-failed", ""])

    began = time.monotonic()
    ipxe_sanboot.boots(stack, served.AUTH[0], script, 400)
    took, connections = time.monotonic() - began, fronts[0].counts["connections"]
    h.say(f"   booted after {took:.0f} s over {connections} connection")
    if took < IDLE_S:
        h.fail(f"it booted after {took:.0f} s: nobody was idle for {IDLE_S} s")
    if connections != 1:
        h.fail(f"the idle client had to connect {connections} times")


if __name__ == "__main__":
    ipxe_sanboot.need_ipxe()
    sys.exit(h.main(an_idle_client_still_boots))
