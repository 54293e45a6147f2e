#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Attributes that an administrator sets are what initiators find, at once and without a restart."""
import json
import pathlib
import struct
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "conformance"))

import harness as h
import raw_pdu as p
import targetd as d
from port_groups import attentions, report

A = "iqn.2026-11.io.perilune:a"
HOST, OTHER = "iqn.2026-11.io.perilune:host", "iqn.2026-11.io.perilune:other"
MIB = 1 << 20
MODES_CHANGED, INQUIRY_CHANGED = (6, 0x2a, 0x01), (6, 0x3f, 0x03)
INVALID_OPCODE = (5, 0x20, 0x00)
_isid = iter(range(1, 1 << 16))


def login(stack, port, name=HOST):
    connection = p.Connection(("127.0.0.1", port), name=name, isid=struct.pack(">HI", 0x8000, next(_isid)))
    stack.callback(connection.close)
    return connection.login(A)


def serve_one(stack, threads=1, **attributes):
    daemon = d.Targetd(stack, threads)
    c = daemon.client()
    path = daemon.folder / "one"
    with open(path, "wb") as f:
        f.truncate(4 * MIB)
    port = h.free_port()
    c("commit", changes=[*d.add_file("one", path, "one", 4 * MIB, write_back=True, attributes={"emulate_write_cache": 1}),
                         *d.add_target(A, port, **attributes), d.add_lun(A, 0, "one")])

    return daemon, c, port, attributes_of(daemon)


def attributes_of(daemon):
    c = daemon.client()
    value = {"dev": str(daemon.folder / "one"), "wwn": "one", "size": 4 * MIB, "write_back": True}

    def set_attributes(**wanted):
        c("commit", changes=[d.change("storage_object", d.storage("one"), {**value, "attributes": {"emulate_write_cache": 1, **wanted}})])
    return set_attributes


def page(session, code):
    return session.good(struct.pack(">BBBHx", 0x12, 1, code, 255), 255).data


def told(session, cdb=bytes(6), edtl=0):
    return session.run(cdb, edtl).asc


def of_a_disk(stack, threads):
    daemon, _, port, set_attributes = serve_one(stack, threads)
    one, two = (login(stack, port, name).clear_attentions((0,)) for name in (HOST, OTHER))
    unmap = struct.pack(">BBxxxxxHx", 0x42, 0, 24)
    list_of_8 = struct.pack(">HHxxxxQIxxxx", 22, 16, 0, 8)
    # As in LIO a disk deallocates nothing before it is told so.
    assert one.run(unmap, write=list_of_8).asc == INVALID_OPCODE
    assert page(one, 0xb2)[5] == 0
    set_attributes(emulate_tpu=1, max_unmap_lba_count=16, is_nonrot=1)
    for session in (one, two):
        assert told(session) == INQUIRY_CHANGED
    one.good(unmap, write=list_of_8)
    assert struct.unpack(">I", page(one, 0xb0)[20:24])[0] == 16
    assert page(one, 0xb1)[4:6] == b"\0\1"
    assert one.run(unmap, write=struct.pack(">HHxxxxQIxxxx", 22, 16, 0, 17)).status == p.CHECK_CONDITION
    set_attributes(emulate_caw=0, emulate_3pc=0, emulate_pr=0)
    one.clear_attentions((0,))
    assert one.run(struct.pack(">BxQxxxBxx", 0x89, 0, 1), write=bytes(1024)).asc == INVALID_OPCODE
    assert one.run(struct.pack(">BBxxxxxHx", 0x5e, 0, 64), 64).asc == INVALID_OPCODE
    assert one.run(struct.pack(">BB8xIxx", 0x84, 3, 255), 255).asc == INVALID_OPCODE
    # The cache is taken away: what initiators are told is so from then on, and they are told that it has changed.
    set_attributes()
    two.clear_attentions((0,))
    caching = bytes([0x1a, 8, 8, 0, 255, 0])
    assert two.good(caching, 255).data[6] == 4
    two.good(p.write10(5, 1), write=b"\x77" * 512)
    set_attributes(emulate_write_cache=0, emulate_tas=0)
    assert two.run(bytes(6)).asc in (INQUIRY_CHANGED, MODES_CHANGED)
    two.clear_attentions((0,))
    assert two.good(caching, 255).data[6] == 0
    # UA_INTLCK_CTRL 10b: only REQUEST SENSE ends a unit attention.
    set_attributes(emulate_ua_intlck_ctrl=1)
    two.run(bytes([3, 0, 0, 0, 252, 0]), 252)
    while two.good(bytes([3, 0, 0, 0, 252, 0]), 252).data[2] & 15:
        pass
    set_attributes(emulate_ua_intlck_ctrl=1, emulate_caw=0)
    assert told(two) == INQUIRY_CHANGED and told(two) == INQUIRY_CHANGED
    assert two.good(bytes([3, 0, 0, 0, 252, 0]), 252).data[12:14] == b"\x3f\x03"
    assert told(two) is None
    # What was set is there after a restart too.
    daemon.stop()
    daemon.start()
    session = login(stack, port, OTHER)
    while session.good(bytes([3, 0, 0, 0, 252, 0]), 252).data[2] & 15:
        pass
    assert page(session, 0xb0)[5] == 0
    # What LIO refuses is refused.
    for attribute, value in (("emulate_rest_reord", 1), ("alua_support", 0), ("pgr_support", 0)):
        try:
            d.Client(daemon.socket)("commit", changes=[d.change("storage_object", d.storage("one"), {
                "dev": str(daemon.folder / "one"), "wwn": "one", "size": 4 * MIB, "attributes": {attribute: value}})])
        except d.Refused as e:
            assert attribute in str(e), e
        else:
            raise AssertionError(f"{attribute}={value} was not refused")
    daemon.stop()


def of_a_disk_on_one_thread(stack):
    of_a_disk(stack, 1)


def of_a_disk_on_two_threads(stack):
    of_a_disk(stack, 2)


def of_access_states(stack):
    """States that an initiator sets by SET TARGET PORT GROUPS outlive the daemon, and an operator's word comes after them."""
    daemon, c, port, _ = serve_one(stack, 2)
    non_optimized, standby = 1, 2

    def log_in():
        session = login(stack, port)
        attentions(session)
        return session

    session = log_in()
    state_of = lambda of: report(of)[0][1]

    def set_state(of, state):
        of.good(struct.pack(">BB4xIxx", 0xa4, 0x0a, 8), write=struct.pack(">4xBxH", state, 0))

    def kept():
        objects = json.loads(c("configuration")["saveconfig"])["storage_objects"]
        return objects[0]["alua_tpgs"][0]["alua_access_state"]

    def operator(state):
        c("commit", changes=[d.change("alua_group", d.alua_group("one"), {"tg_pt_gp_id": 0, "alua_access_state": state})])

    def restart(by):
        by()
        daemon.start()
        return daemon.client(), log_in()

    # As soon as it is answered it is kept, whatever happens to the daemon then.
    for state in (non_optimized, standby):
        set_state(session, state)
        c, session = restart(daemon.kill)
        assert state_of(session) == state, (state, state_of(session))
        assert kept() == state
    set_state(session, non_optimized)
    h.wait_for(lambda: kept() == non_optimized, "the configuration to have what the initiator has set")
    c, session = restart(daemon.stop)
    assert state_of(session) == non_optimized
    # The operator sets what it was before, after the initiator: that counts, at once and after the next starts.
    operator(standby)
    assert told(session) == (6, 0x2a, 0x06)     # on whichever thread it is
    assert state_of(session) == standby
    c, session = restart(daemon.kill)
    assert state_of(session) == standby == kept()
    daemon.stop()
    # A record that is damaged is told of, and the unit does not come up without what it promised.
    record, = daemon.folder.rglob("alua-*")
    record.write_text("00000000 {}\n")
    daemon.start()
    assert "of the states of ALUA groups is not usable: its checksum is wrong" in daemon.errors(), daemon.errors()
    assert login(stack, port).run(bytes(6)).asc == (5, 0x25, 0x00)
    daemon.stop()


def of_writes(stack):
    """emulate_fua_write, unmap_zeroes_data and force_pr_aptpl, as initiators find them."""
    daemon, _, port, set_attributes = serve_one(stack)
    one = login(stack, port).clear_attentions((0,))
    dpofua = lambda: one.good(bytes([0x1a, 8, 8, 0, 255, 0]), 255).data[2] & 0x10
    fua, invalid_field = 0x08, (5, 0x24, 0x00)
    one.good(p.write10(0, 1, fua), write=b"\x11" * 512)
    assert dpofua()
    set_attributes(emulate_fua_write=0)
    assert told(one) in (INQUIRY_CHANGED, MODES_CHANGED)
    one.clear_attentions((0,))
    assert not dpofua()
    assert one.run(p.write10(0, 1, fua), write=b"\x22" * 512).asc == invalid_field
    assert one.run(p.read10(0, 1, fua), 512).asc == invalid_field
    assert one.good(p.read10(0, 1), 512).data == b"\x11" * 512      # what was refused has written nothing
    one.good(p.write10(0, 1), write=b"\x33" * 512)
    set_attributes()
    one.clear_attentions((0,))
    assert dpofua()
    one.good(p.write10(0, 1, fua), write=b"\x44" * 512)
    # LBPRZ: of READ CAPACITY (16), and of the page Logical Block Provisioning.
    capacity16 = struct.pack(">BB8xIxx", 0x9e, 0x10, 32)
    for zeroes in (0, 1):
        set_attributes(emulate_tpu=1, unmap_zeroes_data=zeroes)
        one.clear_attentions((0,))
        assert one.good(capacity16, 32).data[14] & 0xc0 == 0x80 | zeroes << 6
        assert page(one, 0xb2)[5] & 0x9c == 0x80 | zeroes << 2
    one.good(p.write10(64, 8), write=b"\x55" * 4096)
    one.good(struct.pack(">BBxxxxxHx", 0x42, 0, 24), write=struct.pack(">HHxxxxQIxxxx", 22, 16, 64, 8))
    assert one.good(p.read10(64, 8), 4096).data == bytes(4096)
    # A key that is registered without APTPL is over with the server, unless the administrator has said otherwise.
    register = struct.pack(">BBBxxIB", 0x5f, 0x06, 0, 24, 0)           # REGISTER AND IGNORE EXISTING KEY
    read_keys = struct.pack(">BBxxxxxHx", 0x5e, 0x00, 64)
    for forced in (0, 1):
        set_attributes(force_pr_aptpl=forced)
        one.clear_attentions((0,)).good(register, write=struct.pack(">8xQ8x", 0x1234))
        daemon.kill()
        daemon.start()
        one = login(stack, port).clear_attentions((0,))
        length, = struct.unpack_from(">I", one.good(read_keys, 64).data, 4)
        assert length == 8 * forced, (forced, length)
        set_attributes = attributes_of(daemon)
    daemon.stop()


def discovered(stack, port, name):
    connection = p.Connection(("127.0.0.1", port), name=name, isid=struct.pack(">HI", 0x8000, next(_isid)))
    stack.callback(connection.close)
    connection.login(None)
    return ("TargetName", A) in p.parse_keys(connection.text(p.keys("SendTargets=All")).data)


def login_status(stack, port, name):
    connection = p.Connection(("127.0.0.1", port), name=name, isid=struct.pack(">HI", 0x8000, next(_isid)))
    stack.callback(connection.close)
    pdu = connection.login_step(0x87, *connection.names(A))
    return pdu.bhs[36] << 8 | pdu.bhs[37]


def of_a_portal_group(stack):
    daemon, c, port, _ = serve_one(stack, 2)

    def set_group(enable=True, parameters=None, **attributes):
        c("commit", changes=[d.change("portal_group", d.group(A), {"enable": enable, "attributes": {**d.OPEN, **attributes},
                                                                   "parameters": parameters or {}})])

    # default_cmdsn_depth is what the window of commands grows to, of sessions to come.
    set_group(default_cmdsn_depth=4)
    narrow = login(stack, port).clear_attentions((0,))
    narrow.open_window(4)
    for lba in range(64):
        narrow.good(p.read10(lba, 1), 512)
    assert narrow.window[1] - narrow.window[0] + 1 == 4, narrow.window
    set_group()
    wide = login(stack, port, OTHER).clear_attentions((0,))
    wide.open_window(32)
    # default_erl, and parameters: what the group says counts, whatever the initiator wants.
    offered = ["ErrorRecoveryLevel=2", "InitialR2T=No", "ImmediateData=Yes", "MaxBurstLength=1048576", "MaxOutstandingR2T=8"]

    def negotiated(name=HOST):
        connection = p.Connection(("127.0.0.1", port), name=name, isid=struct.pack(">HI", 0x8000, next(_isid)))
        stack.callback(connection.close)
        return connection.login(A, *offered).params

    assert negotiated()["ErrorRecoveryLevel"] == "0" and negotiated()["InitialR2T"] == "Yes"
    set_group(default_erl=2, parameters={"InitialR2T": "No", "ImmediateData": "No", "MaxBurstLength": "65536", "MaxOutstandingR2T": "2"})
    agreed = negotiated()
    assert [agreed[key] for key in ("ErrorRecoveryLevel", "InitialR2T", "ImmediateData", "MaxBurstLength", "MaxOutstandingR2T")] == [
        "2", "No", "No", "65536", "2"], agreed
    told_of = [s["parameters"] for s in c("sessions")["sessions"] if s["parameters"]["ErrorRecoveryLevel"] == "2"]
    assert told_of and told_of[0]["MaxBurstLength"] == "65536" and told_of[0]["ImmediateData"] == "No", told_of
    # Who is told of the target, and of a group that is closed.
    shut = {"generate_node_acls": 0}
    set_group(**shut)
    c("commit", changes=[d.add("node_acl", d.acl(A, HOST), {}),
                         d.add("mapped_lun", {**d.acl(A, HOST), "mapped_lun": 0}, {"tpg_lun": 0, "write_protect": False})])
    assert discovered(stack, port, OTHER) and login_status(stack, port, OTHER) == 0x0202
    set_group(**shut, demo_mode_discovery=0)
    assert not discovered(stack, port, OTHER) and discovered(stack, port, HOST)
    set_group(enable=False, **shut)
    assert not discovered(stack, port, HOST)
    set_group(enable=False, **shut, tpg_enabled_sendtargets=0)
    assert discovered(stack, port, HOST) and login_status(stack, port, HOST) == 0x0301
    # tgt's initiator-address: from elsewhere nobody is let in, told of the target, or left there.
    set_group(**shut)
    session = login(stack, port).clear_attentions((0,))

    def admit_from(*addresses):
        c("commit", changes=[d.change("portal_group", d.group(A), {"enable": True, "attributes": {**d.OPEN, **shut},
                                                                   "tgt_initiator_addresses": list(addresses)})])

    admit_from("127.0.0.0/8", "2001:db8::/32")
    session.good(p.read10(0, 1), 512)
    assert login_status(stack, port, HOST) == 0 and discovered(stack, port, HOST)
    admit_from("192.0.2.0/24")
    h.wait_for(lambda: not c("sessions")["sessions"], "the sessions to end")
    assert login_status(stack, port, HOST) == 0x0202 and not discovered(stack, port, HOST)
    # Everything that ACLs map is read-only, at once, and writable again.
    set_group(**shut)
    session = login(stack, port).clear_attentions((0,))
    session.good(p.write10(0, 1), write=bytes(512))
    set_group(**shut, prod_mode_write_protect=1)
    session.clear_attentions((0,))
    assert session.run(p.write10(0, 1), write=bytes(512)).asc == (7, 0x27, 0)
    set_group(**shut)
    session.clear_attentions((0,)).good(p.write10(0, 1), write=bytes(512))
    # Of an ACL, on a session that is there: after so much silence it is asked whether it is.
    began = time.monotonic()
    c("commit", changes=[d.change("node_acl", d.acl(A, HOST), {"attributes": {"nopin_timeout": 3, "default_erl": 1}})])
    assert session.expect(p.NOP_IN).ttt != p.RESERVED_TAG
    assert 2 < time.monotonic() - began < 12
    assert negotiated()["ErrorRecoveryLevel"] == "1"
    # A login that takes longer than login_timeout is over.
    set_group(**shut, login_timeout=5)
    slow = p.Connection(("127.0.0.1", port), name=HOST, isid=struct.pack(">HI", 0x8000, next(_isid)))
    stack.callback(slow.close)
    slow.login_step(0x04, *slow.names(A))
    slow.until_closed()
    assert time.monotonic() - began < 25
    daemon.stop()


if __name__ == "__main__":
    h.main(of_a_disk_on_one_thread, of_a_disk_on_two_threads, of_writes, of_access_states, of_a_portal_group)
