#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Logical units beyond 255, where LUNs are in flat space addressing (SAM-5 4.6.7): 300 units of one target are listed,
and those on either side of the border are told apart. (libiscsi itself writes LUNs above 255 as peripheral device addresses
of other buses.)"""
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness as h  # noqa: E402

UNITS = 300


SIZES = {255: 2, 256: 3, 257: 4, 299: 5}   # MiB; the others have 1


def every_unit_is_listed_and_its_own(stack):
    server = stack.enter_context(h.serve(*[f"ram:{SIZES.get(lun, 1)}M" for lun in range(UNITS)]))
    if [int(url.rsplit("/", 1)[1]) for url in server.urls] != list(range(UNITS)):
        h.fail(f"serve printed {server.urls}")
    listing = h.run([h.PERILUNE, "ls", "-s", f"iscsi://{server.portal}"]).out
    luns = [int(lun) for lun in re.findall(r"(?m)^Lun:(\d+)\b", listing)]
    if luns != list(range(UNITS)):
        h.fail(f"perilune ls found {luns}")
    for lun in (0, *SIZES):
        text = h.run([h.PERILUNE, "readcap", server.urls[lun]]).out
        if str((SIZES.get(lun, 1) << 20) // 512 - 1) not in text:
            h.fail(f"unit {lun}:\n{text}")
    h.run(["iscsi-readcapacity16", server.urls[255]])


h.need("iscsi-readcapacity16")
h.main(every_unit_is_listed_and_its_own)
