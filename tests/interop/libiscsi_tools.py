#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""libiscsi's command line tools against our target: iscsi-ls -s, iscsi-inq (all pages), iscsi-readcapacity16 and a
bounded iscsi-perf, each without authentication, with CHAP and with mutual CHAP. (These tools of Debian's version offer
HeaderDigest=None,CRC32C and have no option to insist; QEMU has, see qemu_tools.py.)"""
import os
import re

from served import AUTH, Served, h

SIZE = 64 << 20
LOGIN_ENVIRONMENT = {"LIBISCSI_CHAP_TARGET_USERNAME": h.MUTUAL_USER, "LIBISCSI_CHAP_TARGET_PASSWORD": h.MUTUAL_SECRET}
ours = os.environ.get("PERILUNE_INTEROP_TARGET") != "tgtd"


def disk(stack):
    path = h.temp_dir(stack) / "disk"
    with open(path, "wb") as f:
        f.truncate(SIZE)
    return path


def every_login(stack, check):
    for auth in AUTH:
        served = Served(stack, disk(stack), auth)
        check(served, served.url())
        served.check_wire()


def expect(text, *patterns):
    for pattern in patterns:
        if not re.search(pattern, text, re.M):
            h.fail(f"no /{pattern}/ in:\n{text}")


def ls_shows_target_and_lun(stack):
    for auth in AUTH if ours else AUTH[:2]:
        served = Served(stack, disk(stack), auth, discovery=auth == "mutual")
        credentials = {"user": h.USER, "secret": h.SECRET} if auth != "none" else {}
        url = h.libiscsi_url(served.host, served.port, **credentials)
        done = h.run(["iscsi-ls", "-s", url], env=LOGIN_ENVIRONMENT if auth == "mutual" else None)
        expect(done.out, rf"^Target:{re.escape(served.iqn)} Portal:{served.host}:{served.port},1$",
               rf"^Lun:{served.lun} +Type:DIRECT_ACCESS \(Size:6[34]M\)")


def inq_reads_every_page(stack):
    def check(served, url):
        standard = h.run(["iscsi-inq", url]).out
        expect(standard, r"^Peripheral Qualifier:CONNECTED", r"^Peripheral Device Type:DIRECT_ACCESS")
        if ours:
            expect(standard, r"^Vendor:PERILUNE", r"^CmdQue:1")
        listing = h.run(["iscsi-inq", "-e", "1", "-c", "0", url]).out
        pages = re.findall(r"^Page:0x([0-9a-f]+)", listing, re.M)
        wanted = {"00", "80", "83", "b0", "b1", "b2"} | ({"86"} if ours else set())
        if not wanted <= set(pages) | {"00"}:
            h.fail(f"supported VPD pages are {pages}")
        for page in pages:
            done = h.run(["iscsi-inq", "-e", "1", "-c", str(int(page, 16)), url], check=False)
            if re.search(rf"^Page:0x{page} unknown", listing, re.M):
                expect(done.err, "failed to unmarshall")     # the page came, the tool cannot read it (86h)
                continue
            text = done.out
            if done.code != 0 or not text.strip():
                h.fail(f"page {page}: {done}")
            if page == "83" and ours:
                expect(text, r"DESIGNATOR", r"NAA|SCSI_NAME_STRING|T10")

    every_login(stack, check)


def readcapacity16_tells_the_size(stack):
    def check(served, url):
        expect(h.run(["iscsi-readcapacity16", url]).out, rf"RETURNED LOGICAL BLOCK ADDRESS:{SIZE // 512 - 1}$",
               r"LOGICAL BLOCK LENGTH IN BYTES:512$", rf"Total size:{SIZE}$")

    every_login(stack, check)


def perf_runs_without_an_error(stack):
    def check(served, url):
        for options in ([], ["-r"], ["-b", "128"]):
            text = h.run(["iscsi-perf", "-t", "1", *options, url]).out
            expect(text, r"^finished\.$", r"iops average [1-9]\d*")
            if re.search(r"failed|error", text, re.I):
                h.fail(text)

    every_login(stack, check)


def a_wrong_password_is_refused(stack):
    served = Served(stack, disk(stack), "chap")
    done = h.run(["iscsi-inq", served.url(secret="not-the-password")], check=False)
    if done.code == 0 or "Authentication failure" not in done.out + done.err:
        h.fail(str(done))


def the_target_proves_itself_to_a_careful_client(stack):
    served = Served(stack, disk(stack), "mutual")
    done = h.run(["iscsi-inq", served.url(mutual_secret="not-its-secret-1")], check=False)
    if done.code == 0:
        h.fail(f"the client believed a target with the wrong secret: {done}")


h.need("iscsi-ls", "iscsi-inq", "iscsi-readcapacity16", "iscsi-perf")
h.main(ls_shows_target_and_lun, inq_reads_every_page, readcapacity16_tells_the_size, perf_runs_without_an_error,
       a_wrong_password_is_refused, the_target_proves_itself_to_a_careful_client)
