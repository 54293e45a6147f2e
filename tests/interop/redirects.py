#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Login redirection (RFC 7143 11.13.5, status class 1): on the wire, and followed by libiscsi's tools and our own. One server
sends logins on (through one of its portals, or all of them) to another, which has the same target."""
import pathlib
import re
import sys

import harness as h

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "conformance"))
import raw_pdu as p  # noqa: E402

IQN = "iqn.2026-11.io.perilune:moved"


def servers(stack, *options, address=None):
    """The server that has the disk, and one that sends logins to it."""
    there = stack.enter_context(h.serve("ram:32M", options=["--target", IQN]))
    words = ["--target", IQN]
    for option in options:
        words.append(option.replace("THERE", address.replace("PORT", str(there.port)) if address else there.portal))
    return there, stack.enter_context(h.serve("ram:16M", options=words))


def login(stack, server, port=None):
    c = p.Connection((server.host, port or server.port))
    stack.callback(c.close)
    return c, c.login_step(0x87, *c.names(IQN))


def the_answer_names_the_address(stack):
    for option, detail in (("--redirect", 1), ("--redirect-permanently", 2)):
        there, here = servers(stack, option, "THERE")
        c, pdu = login(stack, here)
        assert pdu.bhs[36:38] == bytes([1, detail]), pdu
        assert p.parse_keys(pdu.data) == [("TargetAddress", there.portal)], "no other key, and no portal group tag"
        assert not c.until_closed()


def other_addresses_are_told_as_they_were_given(stack):
    for address in ("san.example.org", "san.example.org:3261", "[2001:db8::1]:3260", "192.0.2.1"):
        server = stack.enter_context(h.serve("ram:16M", options=["--target", IQN, "--redirect", address]))
        _, pdu = login(stack, server)
        assert pdu.keys == {"TargetAddress": address}


def a_rule_may_be_for_one_portal(stack):
    kept = f"127.0.0.1:{h.free_port()}"
    there, here = servers(stack, "--portal", "127.0.0.1:0", "--portal", kept, "--redirect", "127.0.0.1:0=THERE")
    _, pdu = login(stack, here)
    assert pdu.keys["TargetAddress"] == there.portal
    _, pdu = login(stack, here, int(kept.split(":")[1]))
    assert pdu.bhs[36:38] == bytes(2), "the other portal serves"


def discovery_and_unknown_targets_are_not_sent_on(stack):
    _, here = servers(stack, "--redirect", "THERE")
    c = p.Connection((here.host, here.port))
    stack.callback(c.close)
    assert IQN.encode() in c.login(None).text(p.keys("SendTargets=All")).data
    c = p.Connection((here.host, here.port))
    stack.callback(c.close)
    assert c.login_step(0x87, *c.names(IQN + "x")).bhs[36:38] == b"\x02\x03"


def libiscsi_follows(stack):
    h.need("iscsi-inq", "iscsi-readcapacity16")
    _, here = servers(stack, "--redirect", "THERE")
    url = h.libiscsi_url(here.host, here.port, IQN, 0)
    assert re.search("Vendor:PERILUNE", h.run(["iscsi-inq", url]).out)
    assert f"Total size:{32 << 20}" in h.run(["iscsi-readcapacity16", url]).out, "not the disk of the other server"
    listed = h.run(["iscsi-ls", "-s", h.libiscsi_url(here.host, here.port)]).out
    assert re.search(r"Lun:0 +Type:DIRECT_ACCESS \(Size:3[12]M\)", listed), listed
    _, here = servers(stack, "--redirect-permanently", "THERE")      # libiscsi 1.19 does not follow these
    done = h.run(["iscsi-inq", h.libiscsi_url(here.host, here.port, IQN, 0)], check=False)
    assert done.code != 0 and "Target moved permanently" in done.out + done.err, f"{done}"


def our_tools_follow_addresses_and_names(stack):
    for option, address in (("--redirect", None), ("--redirect-permanently", None), ("--redirect", "localhost:PORT")):
        _, here = servers(stack, option, "THERE", address=address)
        done = h.run([h.PERILUNE, "readcap", "-s", here.urls[0]], check=False)
        assert done.code == 0 and done.out.strip() == str(32 << 20), f"{address}: {done}"


h.main(the_answer_names_the_address, other_addresses_are_told_as_they_were_given, a_rule_may_be_for_one_portal,
       discovery_and_unknown_targets_are_not_sent_on, libiscsi_follows, our_tools_follow_addresses_and_names)
