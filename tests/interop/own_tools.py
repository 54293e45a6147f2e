#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Our own tools against our target, or tgtd with PERILUNE_INTEROP_TARGET=tgtd: ls -s, inq (standard data and every VPD page
that the target lists), readcap, and bench --verify, with every login kind and with header and data digests."""
import json
import re

from served import AUTH, Served, h

SIZE = 64 << 20
DIGESTS = ({}, {"header_digest": "crc32c"}, {"header_digest": "crc32c", "data_digest": "crc32c"})


def disk(stack):
    path = h.temp_dir(stack) / "disk"
    with open(path, "wb") as f:
        f.truncate(SIZE)
    return path


def perilune(*words, **options):
    return h.run([h.PERILUNE, *words], **options)


def ls_shows_targets_and_units(stack):
    for auth in AUTH[:2]:
        served = Served(stack, disk(stack), auth)
        text = perilune("ls", "-s", served.url(lun=False)).out
        if served.iqn not in text or not re.search(rf"(?m)^Lun:{served.lun}\b", text):
            h.fail(text)


def every_page_and_the_size(stack):
    for auth in AUTH:
        for digest in DIGESTS:
            served = Served(stack, disk(stack), auth)
            url = served.url(**digest)
            perilune("inq", url)
            pages = re.findall(r"(?i)0x([0-9a-f]{2})\b", perilune("inq", "-c", "0", url).out)
            if not {"80", "83", "b0"} <= {page.lower() for page in pages}:
                h.fail(f"pages {pages}")
            for page in set(pages):
                if not perilune("inq", "-c", f"0x{page}", url).out.strip():
                    h.fail(f"page {page} is empty")
            if perilune("readcap", "-s", url).out.strip() != str(SIZE):
                h.fail("readcap tells another size")
            served.check_wire(bool(digest))


def bench_verifies_what_it_reads(stack):
    for auth in AUTH:
        for digest in DIGESTS:
            served = Served(stack, disk(stack), auth)
            for rw, size in (("randwrite", "4k"), ("write", "256k"), ("randread", "64k")):
                done = perilune("bench", served.url(**digest), "--verify", "--json", "--rw", rw, "--bs", size, "--depth", "16",
                                "--seconds", "0.3", "--warm-up", "0")
                if json.loads(done.out)["ios"] <= 0:
                    h.fail(str(done))
            served.check_wire(bool(digest))


h.main(ls_shows_targets_and_units, every_page_and_the_size, bench_verifies_what_it_reads)
