#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""CHAP on the wire (RFC 7143 9.2.1 and 12.1.3, RFC 1994): what it must do, and what gets nobody in."""
import base64
import contextlib

import harness as h
import raw_pdu as p
from rules import main, rule

AUTHENTICATION_FAILURE = "0201"


def options(folder):
    return ["--chap-user", h.USER, "--chap-secret-file", h.secret_file(folder, "in", h.SECRET),
            "--mutual-chap-user", h.MUTUAL_USER, "--mutual-chap-secret-file", h.secret_file(folder, "out", h.MUTUAL_SECRET)]


def status(pdu):
    return pdu.bhs[36:38].hex()


def challenged(t, algorithm="7", **fields):
    """A connection that has been given its challenge; (connection, algorithm, identifier, challenge)."""
    c = t.connect(**fields)
    first = c.login_step(0x00, *c.names(t.iqn), "AuthMethod=CHAP")
    assert first.keys.get("AuthMethod") == "CHAP" and "CHAP_C" not in first.keys, f"{first.keys}"
    keys = c.login_step(0x00, f"CHAP_A={algorithm}").keys
    return c, int(keys["CHAP_A"]), int(keys["CHAP_I"], 0), p.binary(keys["CHAP_C"])


def answer(algorithm, identifier, challenge, secret=h.SECRET):
    return "CHAP_R=0x" + p.chap_response(algorithm, identifier, secret, challenge).hex()


def log_in(t, algorithm="7", mutual=(), **fields):
    """Authenticated, at the end of the security stage; (connection, last answer)."""
    c, chosen, identifier, challenge = challenged(t, algorithm, **fields)
    pdu = c.login_step(0x81, f"CHAP_N={h.USER}", answer(chosen, identifier, challenge), *mutual)
    return c, pdu


def refused(connection, *pairs, flags=0x81, wanted=AUTHENTICATION_FAILURE):
    """These keys end the login with this status, and the connection."""
    connection.login_pdu(flags, p.keys(*pairs))
    said = connection.until_closed()
    assert len(said) == 1 and said[0].opcode == p.LOGIN_RESPONSE, f"{said} instead of one Login Response"
    assert status(said[0]).startswith(wanted), f"status {status(said[0])} instead of {wanted} for {pairs}"
    return said[0]


# ---- what must work

@rule(10, "RFC 7143 12.1.3; IANA: MD5 5, SHA1 6, SHA-256 7, SHA3-256 8")
def every_algorithm_has_its_number(t):
    for number in (5, 6, 7, 8):
        c, pdu = log_in(t, str(number))
        assert status(pdu) == "0000" and pdu.flags == 0x81, f"algorithm {number}: {pdu}"
        assert status(c.login_step(0x87)) == "0000" and c.tsih != 0
        c.clear_attentions()


@rule(10, "RFC 7143 6.2.1, 12.1.3")
def first_algorithm_of_the_initiator_wins(t):
    for offered, chosen in (("7,5", 7), ("5,7", 5), ("99,6,5", 6), ("1,2,3,8", 8), ("0x7", 7)):
        assert challenged(t, offered)[1] == chosen, offered
    c = t.connect()
    c.login_step(0x00, *c.names(t.iqn), "AuthMethod=CHAP")
    refused(c, "CHAP_A=1,99", wanted="02", flags=0x00)


@rule(10, "RFC 7143 12.1.3, 9.2.1; RFC 1994 4.1")
def challenges_are_fresh_and_long_enough(t):
    seen = [challenged(t, str(5 + n % 4)) for n in range(16)]
    challenges = [challenge for _, _, _, challenge in seen]
    assert all(16 <= len(challenge) <= 1024 for challenge in challenges), [len(c) for c in challenges]
    assert len(set(challenges)) == 16 and len({i for _, _, i, _ in seen}) > 4, "challenges or identifiers repeat"
    assert len({challenge[:4] for challenge in challenges}) == 16, "challenges share a beginning"


@rule(10, "RFC 7143 12.1.3")
def mutual_authentication_proves_the_target(t):
    for size in (16, 32, 1024):
        challenge = bytes(i * 7 % 256 for i in range(size))
        c, pdu = log_in(t, "7", ("CHAP_I=17", "CHAP_C=0x" + challenge.hex()))
        assert status(pdu) == "0000" and pdu.keys["CHAP_N"] == h.MUTUAL_USER, pdu.keys
        assert p.binary(pdu.keys["CHAP_R"]) == p.chap_response(7, 17, h.MUTUAL_SECRET, challenge), f"{size} bytes"
        assert status(c.login_step(0x87)) == "0000"


@rule(10, "RFC 7143 6.1")
def binary_values_may_be_base64_or_capital_hex(t):
    c, algorithm, identifier, challenge = challenged(t)
    response = p.chap_response(algorithm, identifier, h.SECRET, challenge)
    assert status(c.login_step(0x81, f"CHAP_N={h.USER}", "CHAP_R=0b" + base64.b64encode(response).decode())) == "0000"
    c, algorithm, identifier, challenge = challenged(t)
    response = p.chap_response(algorithm, identifier, h.SECRET, challenge)
    assert status(c.login_step(0x81, f"CHAP_N={h.USER}", "CHAP_R=0X" + response.hex().upper())) == "0000"


@rule(10, "RFC 7143 6.3.2")
def authentication_ends_before_the_stage_does(t):
    c = t.connect()
    pdu = c.login_step(0x81, *c.names(t.iqn), "AuthMethod=CHAP")
    assert pdu.flags & 0x80 == 0, "the T bit before a challenge"
    pdu = c.login_step(0x83, "CHAP_A=7")
    assert pdu.flags & 0x80 == 0, "the T bit before a response"
    keys = pdu.keys
    pdu = c.login_step(0x83, f"CHAP_N={h.USER}", answer(7, int(keys["CHAP_I"]), p.binary(keys["CHAP_C"])))
    assert pdu.flags == 0x83 and c.full_feature, "now it may go on, even to full-feature phase"


# ---- what must not

@rule(10, "RFC 7143 9.2, 11.13.5")
def nobody_gets_in_without_authentication(t):
    for flags, more in ((0x87, []), (0x04, []), (0x83, ["AuthMethod=None"]), (0x81, ["AuthMethod=None"]), (0x83, []), (0x81, []),
                        (0x00, ["AuthMethod=SRP,KRB5"]), (0x00, ["AuthMethod=None"])):
        c = t.connect()
        refused(c, *c.names(t.iqn), *more, flags=flags)


@rule("chap", "RFC 7143 9.2.1")
def wrong_secret_and_unknown_user_look_the_same(t):
    c, algorithm, identifier, challenge = challenged(t)
    wrong = refused(c, f"CHAP_N={h.USER}", answer(algorithm, identifier, challenge, "not-the-secret"))
    c, algorithm, identifier, challenge = challenged(t)
    unknown = refused(c, "CHAP_N=nobody", answer(algorithm, identifier, challenge))
    for at in (slice(0, 8), slice(14, 48)):
        assert wrong.bhs[at] == unknown.bhs[at] and wrong.data == unknown.data


@rule("chap", "RFC 7143 12.1.3")
def malformed_chap_is_refused(t):
    right = "CHAP_R=0x" + "00" * 32
    for pairs in ((right,), (f"CHAP_N={h.USER}",), (f"CHAP_N={h.USER}", "CHAP_R="), (f"CHAP_N={h.USER}", "CHAP_R=0x"),
                  (f"CHAP_N={h.USER}", "CHAP_R=0x123"), (f"CHAP_N={h.USER}", "CHAP_R=0b!!!!"), (f"CHAP_N={h.USER}", "CHAP_R=0bAAA"),
                  (f"CHAP_N={h.USER}", "CHAP_R=0x" + "ab" * 16), (f"CHAP_N={h.USER}", "CHAP_R=0x" + "ab" * 4000),
                  (f"CHAP_N={h.USER}", "CHAP_R=12345"), ("CHAP_N=", right), (), ("CHAP_A=7",), ("AuthMethod=CHAP",),
                  (f"CHAP_N={h.USER}", right, right), ("CHAP_N=" + "x" * 5000, right)):
        refused(challenged(t)[0], *pairs, wanted="02")
    c = t.connect()
    c.login_step(0x00, *c.names(t.iqn), "AuthMethod=CHAP")
    refused(c, f"CHAP_N={h.USER}", right, wanted="02")      # no CHAP_A
    c = t.connect()
    refused(c, *c.names(t.iqn), "CHAP_A=7", wanted="02")    # no AuthMethod


@rule("chap", "RFC 7143 12.1.3")
def malformed_challenges_are_refused(t):
    for more in (("CHAP_I=1",), ("CHAP_C=0x" + "11" * 16,), ("CHAP_I=256", "CHAP_C=0x" + "11" * 16), ("CHAP_I=1", "CHAP_C="),
                 ("CHAP_I=1", "CHAP_C=0x"), ("CHAP_I=1", "CHAP_C=0x111"), ("CHAP_I=x", "CHAP_C=0x" + "11" * 16),
                 ("CHAP_I=1", "CHAP_C=0x" + "11" * 1025), ("CHAP_I=-1", "CHAP_C=0x" + "11" * 16)):
        c, algorithm, identifier, challenge = challenged(t)
        refused(c, f"CHAP_N={h.USER}", answer(algorithm, identifier, challenge), *more, wanted="02")


@rule("chap", "RFC 7143 9.2.1")
def reflected_challenge_is_refused(t):
    c, algorithm, identifier, challenge = challenged(t)
    refused(c, f"CHAP_N={h.USER}", answer(algorithm, identifier, challenge), f"CHAP_I={identifier}", "CHAP_C=0x" + challenge.hex())


@rule("chap", "RFC 7143 9.2.1")
def challenge_of_a_parallel_login_gives_no_answer_that_helps(t):
    victim, algorithm, identifier, challenge = challenged(t)
    # Without knowing the secret: the target proves nothing to somebody who has not proved himself first.
    prober, _, _, _ = challenged(t)
    pdu = refused(prober, f"CHAP_N={h.USER}", "CHAP_R=0x" + "00" * 32, f"CHAP_I={identifier}", "CHAP_C=0x" + challenge.hex())
    assert "CHAP_R" not in pdu.keys
    # Even its own answer to that challenge, had by another way in, is made with the other secret.
    _, pdu = log_in(t, "7", (f"CHAP_I={identifier}", "CHAP_C=0x" + challenge.hex()))
    refused(victim, f"CHAP_N={h.USER}", "CHAP_R=" + pdu.keys["CHAP_R"])
    assert algorithm == 7


@rule("chap", "RFC 7143 9.2.1")
def replayed_response_is_refused(t):
    _, algorithm, identifier, challenge = challenged(t)
    old = answer(algorithm, identifier, challenge)
    refused(challenged(t)[0], f"CHAP_N={h.USER}", old)


@rule("chap", "RFC 7143 9.2.1")
def guessing_locks_nobody_out(t):
    for _ in range(20):
        refused(challenged(t)[0], f"CHAP_N={h.USER}", "CHAP_R=0x" + "11" * 32)
    assert status(log_in(t)[1]) == "0000"


@rule(7, "RFC 7143 6.3.5, 9.2.1")
def stranger_cannot_reinstate_a_session(t):
    owner, _ = log_in(t)
    owner.login_step(0x87)
    owner.clear_attentions()
    c, _, _, _ = challenged(t, isid=owner.isid)
    refused(c, f"CHAP_N={h.USER}", "CHAP_R=0x" + "22" * 32)
    c = t.connect(isid=owner.isid)
    refused(c, *c.names(t.iqn), flags=0x87)
    c, _, _, _ = challenged(t, isid=owner.isid)     # and one who stops half-way
    owner.good(p.TEST_UNIT_READY)
    again, pdu = log_in(t, isid=owner.isid)
    owner.good(p.TEST_UNIT_READY)                   # authenticated, but not logged in yet
    again.login_step(0x87)
    assert again.full_feature and not owner.until_closed(), "the owner himself may"
    assert status(pdu) == "0000"


@rule("chap", "RFC 7143 6.3")
def security_keys_have_their_stage(t):
    for pair in ("AuthMethod=None", "AuthMethod=CHAP", "CHAP_A=5", "CHAP_R=0x00"):
        c, _ = log_in(t)
        refused(c, pair, flags=0x87, wanted="02")


@rule("chap", "RFC 7143 9.2.1")
def short_or_equal_secrets_are_not_served(t):
    with contextlib.ExitStack() as stack:
        folder = h.temp_dir(stack)
        command = [h.PERILUNE, "serve", "--portal", "127.0.0.1:0", "ram:1M", "--chap-user", h.USER, "--chap-secret-file"]
        short = h.run([*command, h.secret_file(folder, "short", "eleven-byte")], check=False)
        assert short.code == 2 and "12" in short.err, str(short)
        equal = h.run([*command, h.secret_file(folder, "a", h.SECRET), "--mutual-chap-user", "m", "--mutual-chap-secret-file",
                       h.secret_file(folder, "b", h.SECRET)], check=False)
        assert equal.code == 2 and "differ" in equal.err, str(equal)


@rule("chap", "RFC 7143 9.2.1")
def secrets_stay_out_of_the_log(t):
    c, algorithm, identifier, challenge = challenged(t)
    refused(c, f"CHAP_N={h.USER}", answer(algorithm, identifier, challenge, "not-the-secret"))
    log = t.server.errors()
    assert "wrong CHAP" in log and h.SECRET not in log and h.MUTUAL_SECRET not in log and "CHAP_R" not in log.replace(
        "CHAP_R is", "").replace("CHAP_N or CHAP_R", "")


if __name__ == "__main__":
    main("CHAP", "ram:16M", options=options)
