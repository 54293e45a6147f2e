#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Login, negotiation, discovery, and session reinstatement on the wire (RFC 7143 clauses 6, 11.12, 11.13, 13)."""
import socket

import raw_pdu as p
from rules import main, rule

T, C = 0x80, 0x40
TO_OPERATIONAL, TO_FULL, SECURITY_TO_FULL = 0x81, 0x87, 0x83


def status(pdu):
    """Status-Class and Status-Detail as RFC 7143 11.13.5 prints them."""
    return pdu.bhs[36:38].hex()


def refused(connection, wanted, flags, text, **fields):
    """The Login Request must be answered with this status (a class alone will do), and the connection closed."""
    connection.login_pdu(flags, text, **fields)
    said = connection.until_closed()
    assert len(said) == 1 and said[0].opcode == p.LOGIN_RESPONSE, f"{said} instead of one Login Response"
    assert status(said[0]).startswith(wanted), f"status {status(said[0])} instead of {wanted}"
    assert said[0].flags & T == 0, "T bit in a refusal"


def answers(t, *pairs, discovery=False):
    """What the target answers to these keys in the operational stage."""
    connection = t.connect()
    pdu = connection.login_step(0x04, *connection.names(None if discovery else t.iqn), *pairs)
    assert status(pdu) == "0000", f"{pairs} ended the login with {status(pdu)}"
    connection.close()
    return pdu.keys


# ---- the header and the stages

@rule(8, "RFC 7143 11.13")
def login_response_repeats_the_request(t):
    c = t.connect(cid=7, cmd_sn=0x1234)
    pdu = c.login_step(0x04, *c.names(t.iqn), itt=0xabcd0001)
    assert pdu.bhs[0] == 0x23 and pdu.bhs[2] == 0 and pdu.bhs[3] == 0, "opcode, Version-max, Version-active"
    assert pdu.bhs[8:14] == c.isid and pdu.itt == 0xabcd0001 and pdu.u16(14) == 0, "ISID, task tag, TSIH before the end"
    assert pdu.flags == 0x04, f"CSG is repeated, NSG is 0 without T: {pdu.flags:02x}"
    assert pdu.exp_cmd_sn == 0x1234, "ExpCmdSN"
    assert not any(pdu.bhs[20:24]) and not any(pdu.bhs[38:48]), "reserved bytes"
    last = c.login_step(TO_FULL)
    assert last.flags == 0x87 and last.u16(14) != 0, "the last response has T, CSG 1, NSG 3 and a TSIH"
    assert last.exp_cmd_sn == 0x1234, "a Login Request does not consume its CmdSN"


@rule(8, "RFC 7143 6.3, 11.12.1")
def transit_needs_the_t_bit_of_both(t):
    c = t.connect()
    assert c.login_step(0x00, *c.names(t.iqn), "AuthMethod=None").flags == 0x00, "nobody asked for a transition"
    assert c.login_step(TO_OPERATIONAL).flags == 0x81, "to the operational stage"
    assert c.login_step(0x04).flags == 0x04, "nobody asked for a transition"
    assert c.login_step(TO_FULL).flags == 0x87
    c.clear_attentions()


@rule(8, "RFC 7143 6.3")
def security_stage_may_jump_to_full_feature(t):
    c = t.connect()
    pdu = c.login_step(SECURITY_TO_FULL, *c.names(t.iqn), "AuthMethod=None")
    assert status(pdu) == "0000" and pdu.flags == 0x83 and pdu.keys["AuthMethod"] == "None"
    c.clear_attentions()


@rule(8, "RFC 7143 13.9")
def portal_group_tag_comes_with_the_first_response(t):
    for flags, more in ((0x00, ["AuthMethod=None"]), (0x04, [])):
        c = t.connect()
        pdu = c.login_step(flags, *c.names(t.iqn), *more)
        tag = pdu.keys.get("TargetPortalGroupTag")
        assert tag is not None and 0 <= int(tag) <= 65535, f"no TargetPortalGroupTag in {pdu.keys}"


@rule(8, "RFC 7143 6.3, 13.4")
def initiator_name_is_required(t):
    refused(t.connect(), "0207", TO_FULL, p.keys(f"TargetName={t.iqn}", "SessionType=Normal"))


@rule(8, "RFC 7143 6.3, 13.5")
def target_name_is_required_in_a_normal_session(t):
    refused(t.connect(), "0207", TO_FULL, p.keys("InitiatorName=iqn.2026-11.io.perilune:raw", "SessionType=Normal"))
    refused(t.connect(), "0207", TO_FULL, p.keys("InitiatorName=iqn.2026-11.io.perilune:raw"))  # Normal is the default


@rule(8, "RFC 7143 11.13.5")
def status_details_of_class_2(t):
    c = t.connect()
    names = p.keys(*c.names(t.iqn))
    refused(c, "0205", TO_FULL, names, version_max=2, version_min=1)
    refused(t.connect(), "0209", TO_FULL, p.keys(*c.names(t.iqn)[:2], "SessionType=Bogus"))
    refused(t.connect(), "020a", TO_FULL, names, tsih=0x7777)
    refused(t.connect(), "0203", TO_FULL, p.keys(*c.names("iqn.2026-11.io.perilune:nobody")))
    refused(t.connect(), "0203", TO_FULL, p.keys(*c.names("iqn.2026-11.io.perilune:no body")))  # no other answer: no oracle


@rule(8, "RFC 7143 6.3, 11.12.1 to 11.12.3")
def stages_go_forward(t):
    names = p.keys(*t.connect().names(t.iqn))
    for flags, what in ((0x88, "CSG 2"), (0x8b, "CSG 2, NSG 3"), (0x8c, "CSG 3"), (0x85, "NSG = CSG"), (0x84, "NSG < CSG"),
                        (0x80, "NSG = CSG"), (0x86, "NSG 2"), (0x82, "NSG 2"), (0xc7, "T and C")):
        try:
            refused(t.connect(), "02", flags, names)
        except AssertionError as e:
            raise AssertionError(f"{what}: {e}") from None
    c = t.connect()
    c.login_step(0x00, *c.names(t.iqn))
    refused(c, "02", TO_FULL, b"")          # the stage changes without agreement


@rule(8, "RFC 7143 11.12")
def isid_and_cid_stay_during_login(t):
    for change in ({"isid": b"\x80\1\2\3\4\5"}, {"cid": 9}, {"tsih": 3}):
        c = t.connect()
        c.login_step(0x04, *c.names(t.iqn))
        refused(c, "02", TO_FULL, b"", **change)


@rule(8, "RFC 7143 6.1, 11.12.2")
def text_continues_over_c_bit_pdus(t):
    c = t.connect()
    text = p.keys(*c.names(t.iqn), "MaxBurstLength=131072", "X-org.example.unknown=1")
    for cut in (1, len(text) - 10):           # in the midst of a key, and of the last one
        c = t.connect()
        c.login_pdu(0x44, text[:cut])
        pdu = c.receive()
        assert status(pdu) == "0000" and not pdu.data and pdu.flags == 0x04, f"an empty answer to a C bit, not {pdu}"
        c.login_pdu(TO_FULL, text[cut:])
        pdu = c.learn(c.receive())
        assert pdu.keys["MaxBurstLength"] == "131072" and pdu.keys["X-org.example.unknown"] == "NotUnderstood", pdu.keys


@rule(8, "RFC 7143 6.2")
def unknown_keys_are_not_understood(t):
    got = answers(t, "Wallpaper=green", "X-org.example.key=1", "maxburstlength=512", "Zzz=" + "v" * 300)
    assert got["Wallpaper"] == got["X-org.example.key"] == got["maxburstlength"] == got["Zzz"] == "NotUnderstood", got


@rule(8, "RFC 7143 6.3")
def keys_cannot_be_negotiated_twice(t):
    c = t.connect()
    c.login_step(0x04, *c.names(t.iqn), "MaxBurstLength=65536")
    refused(c, "02", TO_FULL, p.keys("MaxBurstLength=131072"))
    c = t.connect()
    c.login_step(0x04, *c.names(t.iqn))
    refused(c, "02", TO_FULL, p.keys("InitiatorName=iqn.2026-11.io.perilune:other"))
    c = t.connect()
    refused(c, "02", 0x04, p.keys(*c.names(t.iqn), "FirstBurstLength=512", "FirstBurstLength=1024"))


@rule(8, "RFC 7143 6.3")
def names_may_be_said_again(t):
    c = t.connect()   # initiators in the field do so in each stage; RFC 7143 forbids only a change
    c.login_step(TO_OPERATIONAL, *c.names(t.iqn), "AuthMethod=None")
    assert status(c.login_step(TO_FULL, *c.names(t.iqn))) == "0000"


@rule(8, "RFC 7143 6.3, 7.12")
def first_pdu_is_a_login_request(t):
    for bhs in (p.nop_out(1, 1, 0), p.scsi_command(1, 1, 0, p.read10(0, 1).ljust(16, b"\0"), 0xc1, 512), p.logout_request(1, 1, 0),
                p.text_request(1, 1, 0), p.task_management(1, 1, 0, 5)):
        c = t.connect()
        c.send(bhs)
        said = c.until_closed()
        assert not said or len(said) == 1 and status(said[0]) == "020b", f"{said} for {bhs[:1].hex()}"
    c = t.connect()
    c.login_step(0x04, *c.names(t.iqn))
    c.send(p.nop_out(1, 1, 0))
    said = c.until_closed()
    assert len(said) == 1 and status(said[0]) == "020b", f"{said} for a NOP-Out during login"


@rule(8, "RFC 7143 6.3")
def login_has_no_place_in_full_feature_phase(t):
    c = t.session()
    c.login_pdu(TO_FULL, p.keys(*c.names(t.iqn)))
    said = c.until_closed()
    assert all(pdu.opcode == p.REJECT for pdu in said), f"{said}"


@rule(8, "RFC 7143 4.3, 6.3")
def discovery_session_needs_no_target_name(t):
    c = t.connect()
    assert status(c.login_step(TO_FULL, *c.names(None))) == "0000"


@rule(8, "RFC 7143 4.3")
def discovery_session_serves_only_send_targets_and_logout(t):
    c = t.discovery()
    for bhs in (p.scsi_command(1, c.take_cmd_sn(), c.exp_stat_sn, p.inquiry().ljust(16, b"\0"), 0xc1, 255),
                p.task_management(2, c.cmd_sn, c.exp_stat_sn, 7)):
        c.send(bhs)
        pdu = c.receive()
        assert pdu.opcode == p.REJECT and pdu.data[:48] == bhs, f"{pdu} is no Reject"
    pdu = c.text(p.keys("SendTargets=All"))
    assert ("TargetName", t.iqn) in p.parse_keys(pdu.data)
    assert c.logout().bhs[2] == 0
    assert not c.until_closed()


# ---- negotiation

@rule(9, "RFC 7143 6.2.2, 13.10, 13.18, 13.19")
def booleans_are_or_and_and(t):
    for key, offered, result in (("InitialR2T", "Yes", "Yes"), ("ImmediateData", "No", "No"), ("DataPDUInOrder", "Yes", "Yes"),
                                 ("DataSequenceInOrder", "Yes", "Yes"), ("ImmediateData", "Yes", "Yes"), ("InitialR2T", "No", "No")):
        assert answers(t, f"{key}={offered}")[key] == result, f"{key}={offered}"
    for key in ("DataPDUInOrder", "DataSequenceInOrder"):      # OR: Yes or No, but never something else
        assert answers(t, f"{key}=No")[key] in ("Yes", "No")


@rule(9, "RFC 7143 6.2.2, 13.2, 13.13, 13.14, 13.16, 13.17, 13.20")
def minimum_keys(t):
    for key, low, high in (("MaxConnections", 1, 65535), ("MaxBurstLength", 512, 16777215), ("FirstBurstLength", 512, 16777215),
                           ("MaxOutstandingR2T", 1, 65535), ("ErrorRecoveryLevel", 0, 2), ("DefaultTime2Retain", 0, 3600)):
        assert answers(t, f"{key}={low}")[key] == str(low), f"the minimum of {key}={low} is {low}"
        ours = int(answers(t, f"{key}={high}")[key])
        assert low <= ours <= high
        if ours < high:
            assert answers(t, f"{key}={ours + 1}")[key] == str(ours), f"{key} does not depend on a higher offer"


@rule(9, "RFC 7143 6.2.2, 13.15")
def time2wait_is_the_maximum(t):
    ours = int(answers(t, "DefaultTime2Wait=0")["DefaultTime2Wait"])
    assert answers(t, f"DefaultTime2Wait={ours + 7}")["DefaultTime2Wait"] == str(ours + 7)
    assert answers(t, "DefaultTime2Wait=3600")["DefaultTime2Wait"] == "3600"


@rule(9, "RFC 7143 6.2.1, 13.1")
def lists_choose_the_first_that_both_have(t):
    for offered, result in (("CRC32C,None", "CRC32C"), ("None,CRC32C", "None"), ("CRC32C", "CRC32C"), ("None", "None"),
                            ("X-org.example.crc64,None", "None"), ("X-org.example.crc64,CRC32C,None", "CRC32C")):
        got = answers(t, f"HeaderDigest={offered}", f"DataDigest={offered}")
        assert got["HeaderDigest"] == got["DataDigest"] == result, f"{offered}: {got}"
    assert answers(t, "DataDigest=X-org.example.crc64")["DataDigest"] == "Reject", "nothing in common"


@rule(9, "RFC 7143 6.1")
def numbers_may_be_hexadecimal(t):
    got = answers(t, "MaxBurstLength=0x10000", "FirstBurstLength=0X8000", "MaxOutstandingR2T=0x1")
    assert (int(got["MaxBurstLength"], 0), int(got["FirstBurstLength"], 0), int(got["MaxOutstandingR2T"], 0)) == (65536, 32768, 1), got


@rule(9, "RFC 7143 6.2")
def values_out_of_range_are_rejected(t):
    for pair in ("MaxConnections=0", "MaxConnections=65536", "MaxBurstLength=511", "MaxBurstLength=16777216", "FirstBurstLength=511",
                 "MaxOutstandingR2T=0", "ErrorRecoveryLevel=3", "DefaultTime2Wait=3601", "DefaultTime2Retain=-1",
                 "InitialR2T=yes", "ImmediateData=1", "MaxBurstLength=1e9", "MaxBurstLength=12ab", "MaxBurstLength=",
                 "MaxBurstLength= 8192", "MaxBurstLength=0x", "MaxBurstLength=18446744073709551617", "HeaderDigest=",
                 "MaxRecvDataSegmentLength=511", "MaxRecvDataSegmentLength=0x1000000", "MaxRecvDataSegmentLength=-512",
                 "MaxRecvDataSegmentLength=8192k"):
        key = pair.split("=")[0]
        got = [value for name, value in _all_answers(t, pair) if name == key]
        assert "Reject" in got, f"{pair} was answered with {got}"


def _all_answers(t, *pairs):
    connection = t.connect()
    pdu = connection.login_step(0x04, *connection.names(t.iqn), *pairs)
    assert status(pdu) == "0000", f"{pairs} ended the login with {status(pdu)}"
    connection.close()
    return p.parse_keys(pdu.data)


@rule(9, "RFC 7143 13.14")
def first_burst_is_not_longer_than_max_burst(t):
    got = answers(t, "FirstBurstLength=262144", "MaxBurstLength=4096")
    assert int(got["FirstBurstLength"]) <= int(got["MaxBurstLength"]) == 4096, got
    got = answers(t, "MaxBurstLength=4096", "FirstBurstLength=16777215")
    assert int(got["FirstBurstLength"]) <= 4096, got


@rule(6, "RFC 7143 13.14")
def first_burst_is_what_every_session_can_be_promised(t):
    bursts = [int(t.session("FirstBurstLength=262144").params["FirstBurstLength"]) for _ in range(40)]
    assert bursts[0] == 262144 and bursts[-1] == 131072, bursts
    assert bursts == sorted(bursts, reverse=True), bursts


@rule(9, "RFC 7143 13.12")
def max_recv_data_segment_length_is_declared_by_each(t):
    got = answers(t, "MaxRecvDataSegmentLength=512")
    assert int(got["MaxRecvDataSegmentLength"]) >= 8192, f"the target's own, not an echo: {got}"
    session = t.session("MaxRecvDataSegmentLength=512")
    pdus = session.good(p.read10(0, 8), 4096).pdus
    assert [len(pdu.data) for pdu in pdus] == [512] * 8, "Data-In PDUs keep to what the initiator declared"


@rule(9, "RFC 7143 13.25")
def markers_are_refused(t):
    got = answers(t, "IFMarker=Yes", "OFMarker=Yes", "IFMarkInt=1~1000", "OFMarkInt=1~1000")
    assert got["IFMarker"] in ("No", "Reject") and got["OFMarker"] in ("No", "Reject"), got
    assert got["IFMarkInt"] == got["OFMarkInt"] == "Reject", got


@rule(9, "RFC 7143 13")
def normal_session_keys_are_irrelevant_to_discovery(t):
    got = answers(t, "MaxConnections=1", "InitialR2T=Yes", "ImmediateData=Yes", "MaxBurstLength=512", "FirstBurstLength=512",
                  "MaxOutstandingR2T=1", "DataPDUInOrder=Yes", "DataSequenceInOrder=Yes", discovery=True)
    wrong = {key: value for key, value in got.items() if value != "Irrelevant" and key != "MaxRecvDataSegmentLength"
             and not key.startswith("Target")}
    assert not wrong and got["MaxBurstLength"] == "Irrelevant", got


@rule(9, "RFC 7143 13.23, 13.24")
def younger_keys_are_known(t):
    got = answers(t, "TaskReporting=X-org.example.other,RFC3720", "iSCSIProtocolLevel=31")
    assert got["TaskReporting"] == "RFC3720" and 1 <= int(got["iSCSIProtocolLevel"]) <= 2, got


# ---- text that nobody should send

@rule("text", "RFC 7143 6.1")
def malformed_text_ends_the_login(t):
    names = p.keys(*t.connect().names(t.iqn))
    for text, what in ((b"MaxBurstLength\0", "no ="), (b"=512\0", "no key"), (b"K" * 64 + b"=1\0", "a key of 64 bytes"),
                       (b"K" * 300 + b"=1\0", "a key of 300 bytes"), (b"MaxBurstLength=512", "no NUL at the end"),
                       (b"Max Burst=512\0", "a space in a key"), (b"\xff\xfe=1\0", "a key of no characters")):
        try:
            refused(t.connect(), "02", TO_FULL, names + text)
        except AssertionError as e:
            raise AssertionError(f"{what}: {e}") from None


@rule("text", "RFC 7143 6.1")
def empty_pairs_are_nothing(t):
    c = t.connect()
    assert status(c.login_step(TO_FULL, "", "", *c.names(t.iqn), "", "")) == "0000"
    refused(t.connect(), "0207", TO_FULL, b"\0" * 8192)


@rule("text", "RFC 7143 6.2")
def constant_answers_to_nothing_are_no_offers(t):
    for value in ("Reject", "Irrelevant", "NotUnderstood"):
        c = t.connect()
        c.login_pdu(TO_FULL, p.keys(*c.names(t.iqn), f"MaxBurstLength={value}", f"X-unknown={value}"))
        said = c.receive()
        assert status(said)[:2] in ("00", "02"), f"{said}"
        assert said.keys.get("X-unknown") is None, f"{value} was answered: a loop"


@rule("text", "RFC 7143 6.1")
def long_values_and_lists_are_bounded(t):
    c = t.connect()
    refused(c, "02", TO_FULL, p.keys(*c.names(t.iqn)[1:], "InitiatorName=iqn.2026-11." + "x" * 250))
    c = t.connect()
    refused(c, "02", TO_FULL, p.keys(*c.names(t.iqn), "InitiatorAlias=" + "x" * 256))
    got = answers(t, "HeaderDigest=" + ",".join(["X-a"] * 63 + ["None"]))
    assert got["HeaderDigest"] == "None", "64 items are a list"
    got = answers(t, "HeaderDigest=" + ",".join(["X-a"] * 1000 + ["None"]))
    assert got["HeaderDigest"] in ("None", "Reject")
    got = answers(t, "MaxBurstLength=" + "0" * 300 + "512")
    assert got["MaxBurstLength"] in ("512", "Reject")
    t.still_serves()


@rule("text", "RFC 7143 6.1")
def continued_text_has_an_end(t):
    for piece in (b"", b"X-a=" + b"y" * 8000):      # nothing, and 8 KiB a time: neither goes on for ever
        c = t.connect()
        for count in range(200):
            c.login_pdu(0x44, piece)
            try:
                pdu = c.receive()
            except p.Closed:
                break
            if status(pdu) != "0000":
                assert status(pdu)[:2] in ("02", "03")
                break
        else:
            raise AssertionError("200 continued PDUs were taken")
        assert count >= 8, "64 KiB of text may be said"
    t.still_serves()


@rule("text", "RFC 7143 6.3")
def negotiation_without_end_has_an_end(t):
    c = t.connect()
    c.login_step(0x04, *c.names(t.iqn))
    for _ in range(200):
        c.login_pdu(0x04, b"")
        try:
            if status(c.receive()) != "0000":
                return
        except p.Closed:
            return
    raise AssertionError("200 empty Login Requests were answered")


@rule("text", "RFC 7143 4.2.7")
def malformed_initiator_names_are_refused(t):
    for name in ("", "iqn", "iqn.2026-11.io.perilune:a b", "x" * 224, "eui.12", "naa.xyz", "%s%n", "iqn.2026-11.io\x01:y"):
        refused(t.connect(), "02", TO_FULL, p.keys(f"InitiatorName={name}", f"TargetName={t.iqn}"))
    refused(t.connect(), "02", TO_FULL, p.keys(b"InitiatorName=iqn.2026-11.io:x\nperilune: info forged", f"TargetName={t.iqn}"))
    assert "\nperilune: info forged" not in t.server.errors(), "a name writes lines of its own into the log"


# ---- reinstatement

@rule(7, "RFC 7143 6.3.5")
def same_name_and_isid_reinstate_the_session(t):
    old = t.session("InitialR2T=Yes", "ImmediateData=No")
    old_tsih = old.tsih
    old.command(p.write10(0, 1), 512, p.FINAL | p.WRITE)
    assert old.next().opcode == p.R2T, "a task is outstanding"
    new = t.connect(isid=old.isid).login(t.iqn)
    assert not old.until_closed(), "the old session ends without a word"
    assert new.tsih != 0
    seen = new.run(p.TEST_UNIT_READY)
    assert seen.asc in ((6, 0x29, 0x00), (6, 0x29, 0x07)), f"power on or I_T nexus loss for the new session, not {seen}"
    late = t.connect(isid=old.isid)
    if old_tsih != new.tsih:
        refused(late, "020a", TO_FULL, p.keys(*late.names(t.iqn)), tsih=old_tsih)
    new.good(p.TEST_UNIT_READY)


@rule(7, "RFC 7143 4.4.3.1, 6.3.5")
def another_name_or_isid_is_another_session(t):
    first = t.session()
    others = [t.session(isid=first.isid, name="iqn.2026-11.io.perilune:other"), t.session()]
    for session in (first, *others):
        session.good(p.TEST_UNIT_READY)   # all live, and nobody got a unit attention
    assert len({s.tsih for s in (first, *others)}) == 3, "TSIHs are unique"


@rule(7, "RFC 7143 6.3.5")
def login_that_does_not_finish_reinstates_nothing(t):
    first = t.session()
    half = t.connect(isid=first.isid)
    half.login_step(0x04, *half.names(t.iqn))
    refused(half, "02", 0x84, b"")
    first.good(p.TEST_UNIT_READY)


@rule(7, "RFC 7143 6.3.5")
def tsih_of_another_initiator_lets_nobody_in(t):
    first = t.session()
    stranger = t.connect(name="iqn.2026-11.io.perilune:stranger", cid=1)
    refused(stranger, "02", TO_FULL, p.keys(*stranger.names(t.iqn)), tsih=first.tsih)
    first.good(p.TEST_UNIT_READY)


@rule("races", "RFC 7143 6.3.5")
def many_reinstatements_at_once_leave_one_session(t):
    isid = t.connect().isid
    racing = [t.connect(isid=isid) for _ in range(8)]
    for c in racing:
        c.login_pdu(TO_FULL, p.keys(*c.names(t.iqn)))
    alive = []
    for c in racing:
        try:
            pdu = c.learn(c.receive())
            while not c.full_feature and status(pdu) == "0000":
                pdu = c.login_step(TO_FULL, *[f"{k}={v}" for k, v in pdu.keys.items() if k in ("FirstBurstLength", "MaxBurstLength",
                                                                                              "InitialR2T", "ImmediateData")])
            c.clear_attentions()
            alive.append(c)
        except p.Closed:
            pass
    living = 0
    for c in alive:
        try:
            c.good(p.TEST_UNIT_READY)
            living += 1
        except (p.Closed, OSError):
            pass
    assert living == 1, f"{living} sessions of one I_T nexus"


# ---- discovery and text in full-feature phase

@rule("bonus", "RFC 7143 appendix C")
def send_targets_names_the_portal_asked(t):
    c = t.discovery()
    pairs = p.parse_keys(c.text(p.keys("SendTargets=All")).data)
    assert pairs[0] == ("TargetName", t.iqn)
    assert pairs[1] == ("TargetAddress", f"127.0.0.1:{t.address[1]},1"), pairs
    assert p.parse_keys(c.text(p.keys(f"SendTargets={t.iqn}")).data) == pairs
    assert not c.text(p.keys("SendTargets=iqn.2026-11.io.perilune:nobody")).data
    s = t.session()
    assert p.parse_keys(s.text(p.keys("SendTargets=")).data) == pairs, "a normal session asks for its own target"
    assert s.text(p.keys("SendTargets=All")).keys == {"SendTargets": "Reject"}, "All belongs to discovery"


@rule("bonus", "RFC 7143 6.2, 11.10, 11.11")
def text_negotiation_continues_until_f(t):
    c = t.discovery()
    first = c.text(p.keys("SendTargets=All"), flags=0, itt=0x77)
    assert first.flags == 0 and first.ttt != p.RESERVED_TAG, "not final: a tag to go on with"
    last = c.text(b"", ttt=first.ttt, itt=0x77)
    assert last.flags == p.FINAL and last.ttt == p.RESERVED_TAG
    assert "TargetName" in (first.data + last.data).decode()


@rule("bonus", "RFC 7143 6.1, 11.10.2")
def text_request_may_be_continued(t):
    c = t.discovery()
    first = c.text(b"SendTar", flags=C, itt=0x78)
    assert first.opcode == p.TEXT_RESPONSE and not first.data and first.ttt != p.RESERVED_TAG
    assert c.text(b"gets=All\0", ttt=first.ttt, itt=0x78).keys["TargetName"] == t.iqn


@rule("text", "RFC 7143 11.10, 11.17")
def text_requests_that_make_no_sense_are_rejected(t):
    for text, fields in ((b"SendTargets", {}), (b"=x\0", {}), (b"SendTargets=All\0", {"flags": p.FINAL | C}),
                         (b"", {"ttt": 0x1234}), (b"SendTargets=All\0SendTargets=All\0", {})):
        c = t.discovery()
        pdu = c.text(text, **fields)
        assert pdu.opcode == p.REJECT and pdu.bhs[2] == 4, f"{text} {fields}: {pdu}"
        assert len(pdu.data) == 48 and pdu.data[0] == 0x44
        assert "TargetName" in c.text(p.keys("SendTargets=All")).keys, "the session goes on"


@rule("text", "RFC 7143 6.1, CVE class: TEXT with C bit and no data")
def endless_text_requests_are_cut_off(t):
    c = t.discovery()
    pdu = c.text(b"", flags=C, itt=0x79)
    for _ in range(200):
        if pdu.opcode == p.REJECT:
            break
        pdu = c.text(b"", flags=C, ttt=pdu.ttt, itt=0x79)
    else:
        raise AssertionError("200 empty continued Text Requests were taken")
    assert "TargetName" in c.text(p.keys("SendTargets=All")).keys


@rule("bonus", "RFC 7143 6.3")
def pdus_may_follow_the_last_login_request_at_once(t):
    c = t.connect()
    keys = p.keys(*c.names(t.iqn), "InitialR2T=Yes", "ImmediateData=Yes", "MaxBurstLength=65536", "FirstBurstLength=65536")
    login = c.frame(p.login_request(TO_FULL, c.isid, cmd_sn=1), keys)
    c.raw(login + c.frame(p.nop_out(0x55, 1, 0), b"early") + c.frame(p.scsi_command(0x56, 1, 0, bytes(16))))
    c.learn(c.receive())
    assert c.full_feature
    ping = c.expect(p.NOP_IN, 0x55)
    assert ping.data == b"early"
    assert c.expect(p.SCSI_RESPONSE, 0x56).bhs[3] == p.CHECK_CONDITION   # power on
    c.cmd_sn = 2
    c.clear_attentions()


@rule("bonus", "RFC 793 3.5")
def half_closed_connection_still_gets_its_answers(t):
    c = t.session()
    c.command(p.read10(0, 16), 8192, p.FINAL | p.READ)
    c.socket.shutdown(socket.SHUT_WR)
    said = c.until_closed()     # the answer was under way or the connection ends; no hang, and nothing else breaks
    assert all(pdu.opcode == p.DATA_IN for pdu in said)
    t.still_serves()


if __name__ == "__main__":
    main("login and negotiation", "ram:16M")
