#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Mistakes people make on the command line: each gives one clear line on standard error, nothing on standard output,
and an exit code that scripts can use; open-iscsi's codes where iscsiadm has one."""
import os
import socket

import harness as h

IQN = "iqn.2026-11.io.perilune:errors"
# open-iscsi's exit codes
NOT_FOUND, CHAP_REFUSED, NO_RECORDS = 19, 24, 21


def one_line(done, *words, code=None):
    lines = [line for line in done.err.splitlines() if line.strip() and not line.startswith("perilune: info ")]
    if done.code == 0 or done.code < 0 or (code is not None and done.code != code):
        h.fail(f"exit code, expected {code or 'a failure'}: {done}")
    if len(lines) != 1 or done.out.strip():
        h.fail(f"expected one line on standard error and nothing else: {done}")
    for word in words:
        if word not in lines[0]:
            h.fail(f"{word!r} is not in the message: {done}")


def wrong_usage(done, word):
    """Usage errors exit with 2, and their one line names the verb and the word, and points to --help."""
    line = done.err.removesuffix("\n")
    if done.code != 2 or done.out or "\n" in line or not line.startswith("perilune ") or word not in line or "--help" not in line:
        h.fail(f"expected a usage error: {done}")


def perilune(*words, timeout=30, **options):
    return h.run([h.PERILUNE, *words], check=False, timeout=timeout, **options)


def disk(stack):
    path = h.temp_dir(stack) / "disk"
    with open(path, "wb") as f:
        f.truncate(16 << 20)
    return path


def serve_refuses_what_it_cannot_serve(stack):
    folder = h.temp_dir(stack)
    portal = ("--portal", "127.0.0.1:0")
    one_line(perilune("serve", *portal, folder / "nothing-here.img"), "nothing-here.img", "no such file")
    one_line(perilune("serve", *portal, folder), str(folder))
    (folder / "empty").write_bytes(b"")
    one_line(perilune("serve", *portal, folder / "empty"), "empty")
    one_line(perilune("serve", *portal, "ram:plenty"), "ram:plenty")
    one_line(perilune("serve", *portal, "pscsi:/dev/nothing-here"), "/dev/nothing-here", "no such device")
    one_line(perilune("serve", *portal, "pscsi:/dev/null"), "/dev/null", "takes no SCSI commands")
    one_line(perilune("serve", *portal, f"pscsi:{folder / 'empty'}"), "empty", "is no device")
    wrong_usage(perilune("serve", *portal), "BACKING")


def serve_refuses_redirects_that_lead_nowhere(stack):
    portal = ("--portal", f"127.0.0.1:{h.free_port()}")
    for option in ("--redirect", "--redirect-permanently"):
        for address in ("192.0.2.1,1", "2001:db8::1", "192.0.2.1:0", "0.0.0.0:3260", "a b"):
            one_line(perilune("serve", *portal, option, address, "ram:16M"), "redirect", address, code=2)
        one_line(perilune("serve", *portal, option, "192.0.2.7=192.0.2.1", "ram:16M"), option, "192.0.2.7:3260", code=2)
        one_line(perilune("serve", *portal, option, portal[1], "ram:16M"), portal[1], "come back", code=2)


def serve_names_a_busy_port(stack):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        one_line(perilune("serve", "--portal", f"127.0.0.1:{port}", "ram:16M"), str(port), "in use")


def serve_checks_its_options(stack):
    folder = h.temp_dir(stack)
    short = h.secret_file(folder, "short", "tooshort")
    one_line(perilune("serve", "--portal", "127.0.0.1:0", "--target", "not an iqn", "ram:16M"), "--target", "iSCSI name")
    one_line(perilune("serve", "--portal", "nonsense:port:x", "ram:16M"), "nonsense:port:x")
    one_line(perilune("serve", "--portal", "127.0.0.1:0", "--chap-user", "u", "--chap-secret-file", short, "ram:16M"), "12")
    one_line(perilune("serve", "--portal", "127.0.0.1:0", "--chap-user", "u", "--chap-secret-file", folder / "none",
                      "ram:16M"), "none")
    wrong_usage(perilune("serve", "--portal", "127.0.0.1:0", "--no-such-option", "ram:16M"), "no-such-option")


def tools_name_an_absent_target(stack):
    port = h.free_port()
    for verb in ("ls", "inq", "readcap", "attach"):
        url = f"iscsi://127.0.0.1:{port}" + ("" if verb == "ls" else f"/{IQN}/0")
        one_line(perilune(verb, url), "127.0.0.1", str(port), "refused")
    one_line(perilune("inq", "iscsi://"), "host")
    server = stack.enter_context(h.serve(disk(stack)))
    one_line(perilune("inq", f"iscsi://{server.portal}/{IQN}/0"), server.portal, "not found")
    one_line(perilune("inq", f"iscsi://{server.portal}/{server.iqn}/7"), "no LUN 7")


def tools_name_a_wrong_password(stack):
    folder = h.temp_dir(stack)
    server = stack.enter_context(h.serve(disk(stack), options=[
        "--chap-user", h.USER, "--chap-secret-file", h.secret_file(folder, "secret", h.SECRET)]))
    wrong = f"iscsi://{h.USER}%not-the-password@{server.portal}/{server.iqn}/0"
    done = perilune("inq", wrong)
    one_line(done, "uthentication")
    if "not-the-password" in done.err:
        h.fail(f"the message shows the password: {done}")
    one_line(perilune("inq", f"iscsi://{server.portal}/{server.iqn}/0"), "uthentication")
    if "not-the-password" in server.errors() or h.SECRET in server.errors():
        h.fail("the server's log shows a password")
    right = perilune("inq", f"iscsi://{h.USER}%{h.SECRET}@{server.portal}/{server.iqn}/0")
    if right.code != 0:
        h.fail(str(right))


def iscsiadm_uses_the_codes_people_know(stack):
    folder = h.temp_dir(stack)
    server = stack.enter_context(h.serve(disk(stack), options=[
        "--chap-user", h.USER, "--chap-secret-file", h.secret_file(folder, "secret", h.SECRET)]))
    initiator = h.Initiator(stack)

    def expect(code, *words):
        done = initiator.iscsiadm(*words, check=False, timeout=120)
        if done.code != code or not done.err.strip() or "not-the-password" in done.err + done.out:
            h.fail(f"expected exit code {code}: {done}")

    expect(NO_RECORDS, "-m", "session")
    expect(NO_RECORDS, "-m", "node")
    initiator.iscsiadm("-m", "discovery", "-t", "sendtargets", "-p", server.portal)
    node = ("-m", "node", "-T", server.iqn, "-p", server.portal)
    expect(CHAP_REFUSED, *node, "--login")
    initiator.set_chap(server.iqn, server.portal, h.USER, "not-the-password")
    expect(CHAP_REFUSED, *node, "--login")
    initiator.iscsiadm("-m", "node", "-T", IQN, "-p", server.portal, "-o", "new")
    initiator.set_chap(IQN, server.portal, h.USER, h.SECRET)
    expect(NOT_FOUND, "-m", "node", "-T", IQN, "-p", server.portal, "--login")
    initiator.close()


def a_verb_that_does_not_exist(stack):
    one_line(perilune("frobnicate"), "frobnicate", code=2)


h.need_perilune()
os.environ.pop("PERILUNE_NO_AUTOSTART", None)
h.main(a_verb_that_does_not_exist, serve_refuses_what_it_cannot_serve, serve_refuses_redirects_that_lead_nowhere, serve_names_a_busy_port, serve_checks_its_options,
       tools_name_an_absent_target, tools_name_a_wrong_password, iscsiadm_uses_the_codes_people_know)
