#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A target behind two portal groups: what a portal's group decides (RFC 7143 4.1, 6.3, appendix C), and what SCSI says of the
two target ports that they are (SPC-4 5.15, 6.37, 7.8.5; SAM-5 4.7)."""
import struct

import raw_pdu as p
from port_groups import address, connect, designators, report, session
from rules import main, rule

READ_KEYS = struct.pack(">BB5xHx", 0x5e, 0x00, 256)
READ_FULL_STATUS = struct.pack(">BB5xHx", 0x5e, 0x03, 1024)
RELATIVE_PORT, PORT_GROUP = 0x94, 0x95     # PIV, association target port, types 4 and 5 (SPC-4 7.8.5)
ISID = b"\x80\x12\x34\x56\x00\x01"


def register(c, key, old=0, all_ports=False):
    parameters = struct.pack(">QQ4xBxxx", old, key, 4 if all_ports else 0)
    c.good(struct.pack(">BB3xIx", 0x5f, 0x00, 24), write=parameters)


# ---- login and discovery

@rule("bonus", "RFC 7143 13.9")
def the_login_names_the_group_of_its_portal(t):
    for tag in (1, 2):
        pdu = connect(t, tag).login_step(0x87, "InitiatorName=iqn.2026-11.io.perilune:raw", f"TargetName={t.iqn}")
        assert pdu.keys["TargetPortalGroupTag"] == str(tag), pdu.keys


@rule("bonus", "RFC 7143 appendix C")
def send_targets_lists_every_portal_with_its_tag(t):
    for asked, other in ((1, 2), (2, 1)):
        pairs = p.parse_keys(connect(t, asked).login(None).text(p.keys("SendTargets=All")).data)
        wanted = [f"{host}:{port},{tag}" for tag in (asked, other) for host, port in [address(t, tag)]]
        assert pairs == [("TargetName", t.iqn)] + [("TargetAddress", text) for text in wanted], pairs


@rule("bonus", "RFC 7143 6.3.4, 6.3.5")
def a_session_is_joined_through_its_own_group_alone(t):
    first = session(t, 1, "MaxConnections=2", isid=ISID)
    stranger = connect(t, 2, isid=ISID, cid=1, cmd_sn=first.cmd_sn)
    pdu = stranger.login_step(0x87, *stranger.names(t.iqn), tsih=first.tsih)
    assert pdu.bhs[36:38] == b"\x02\x0a", "there is no such session in this portal group"
    assert not stranger.until_closed()
    first.good(p.TEST_UNIT_READY)
    second = connect(t, 1, isid=ISID, cid=1, cmd_sn=first.cmd_sn)
    pdu = second.login_step(0x87, *second.names(t.iqn), tsih=first.tsih)
    assert pdu.bhs[36:38] == bytes(2) and second.full_feature, pdu


@rule("bonus", "SPC-4 7.8.13")
def either_port_tells_of_both(t):
    for tag in (1, 2):
        page, found = session(t, tag).good(p.inquiry(1024, 0x88), 1024).data, {}
        rest = page[4:]
        while rest:
            number, initiators, length = struct.unpack_from(">2xH2xH2xH", rest)
            assert initiators == 0 and rest[12:15] == b"\x53\x98\0", rest.hex()     # a name, of the port
            found[number] = rest[16:12 + length].rstrip(b"\0").decode()
            rest = rest[12 + length:]
        assert found == {n: f"{t.iqn},t,0x{n:04x}" for n in (1, 2)}, found


@rule("bonus", "RFC 7143 6.3.5, 4.2.7")
def the_same_name_and_isid_in_another_group_is_another_nexus(t):
    one = session(t, 1, isid=ISID)
    two = session(t, 2, isid=ISID)
    assert one.tsih != two.tsih
    one.good(p.TEST_UNIT_READY)               # not reinstated by the second
    two.good(p.TEST_UNIT_READY)
    again = connect(t, 2, isid=ISID).login(t.iqn)
    assert not [pdu for pdu in two.until_closed() if pdu.opcode == p.SCSI_RESPONSE], "the second is reinstated"
    again.refused(p.TEST_UNIT_READY, (6, 0x29, 0x07))
    one.good(p.TEST_UNIT_READY)


# ---- what SCSI says of the ports

@rule("bonus", "SPC-4 7.8.5.2.6, 7.8.5.2.7")
def device_identification_names_the_port_asked_through(t):
    for tag in (1, 2):
        found = designators(session(t, tag))
        assert (RELATIVE_PORT, struct.pack(">HH", 0, tag)) in found, found
        assert (PORT_GROUP, struct.pack(">HH", 0, tag)) in found, found
        name = f"{t.iqn},t,0x{tag:04x}".encode()
        assert any(kind == 0x98 and text.rstrip(b"\0") == name for kind, text in found), found
    units = [[pair for pair in designators(session(t, tag)) if pair[0] & 0x30 == 0] for tag in (1, 2)]
    assert units[0] == units[1], "one logical unit"


@rule("bonus", "SPC-4 6.37")
def both_groups_are_reported_through_each_in_both_formats(t):
    for tag in (1, 2):
        c = session(t, tag)
        assert c.good(struct.pack(">BBBHB", 0x12, 0, 0, 96, 0), 96).data[5] & 0x30 == 0x10, "TPGS"
        for extended in (False, True):
            assert report(c, extended) == {1: (False, 0, 0xcf, 0, [1]), 2: (False, 0, 0xcf, 0, [2])}


@rule("bonus", "SPC-4 5.13, 6.15.5")
def registrations_are_of_the_port_they_came_through(t):
    one, two = session(t, 1, isid=ISID), session(t, 2, isid=ISID)
    register(one, 0x11)
    assert two.run(struct.pack(">BBBxxxxHx", 0x5f, 0x01, 0x01, 24), write=struct.pack(">QQ8x", 0x11, 0)).status == \
        p.RESERVATION_CONFLICT, "the other nexus is not registered"
    register(two, 0x22)
    data = bytes(one.good(READ_FULL_STATUS, 1024).data)
    ports = {}
    at = 8
    while at < len(data):
        ports[int.from_bytes(data[at:at + 8], "big")] = int.from_bytes(data[at + 18:at + 20], "big")
        at += 24 + int.from_bytes(data[at + 20:at + 24], "big")
    assert ports == {0x11: 1, 0x22: 2}, data.hex()
    register(one, 0, 0x11)
    register(two, 0, 0x22)
    one.clear_attentions()
    register(one, 0x33, all_ports=True)       # ALL_TG_PT
    data = bytes(two.clear_attentions().good(READ_KEYS, 256).data)
    assert data[8:] == struct.pack(">QQ", 0x33, 0x33), "one registration for each target port"
    register(two, 0, 0x33)
    register(one.clear_attentions(), 0, 0x33)


@rule("bonus", "SPC-4 5.13")
def what_one_port_has_reserved_the_other_may_not_write(t):
    one, two = session(t, 1, isid=ISID), session(t, 2, isid=ISID)
    register(one, 0x11)
    one.good(struct.pack(">BBBxxxxHx", 0x5f, 0x01, 0x01, 24), write=struct.pack(">QQ8x", 0x11, 0))   # RESERVE, Write Exclusive
    assert two.run(p.write10(0, 1), write=bytes(512)).status == p.RESERVATION_CONFLICT
    one.good(p.write10(0, 1), write=bytes(512))
    register(one, 0, 0x11)
    two.clear_attentions().good(p.write10(0, 1), write=bytes(512))


if __name__ == "__main__":
    main("portals", "ram:32M", options=["--portal", "127.0.0.1:0,1", "--portal", "127.0.0.1:0,2"])
