#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The target's own pings (RFC 7143 11.19): after 15 s of silence it asks whether the initiator is there."""
import struct

import raw_pdu as p
from rules import main, rule


@rule(2, "RFC 7143 4.2.2.2, 11.19.2, 11.19.3")
def ping_of_the_target_takes_no_stat_sn(t):
    silent, digests = t.session(), t.session("HeaderDigest=CRC32C", "DataDigest=CRC32C")
    for c in (silent, digests):
        sn = c.exp_stat_sn
        c.socket.settimeout(60)
        ping = c.expect(p.NOP_IN)
        assert ping.itt == p.RESERVED_TAG and ping.ttt != p.RESERVED_TAG and ping.flags == 0x80, f"{ping}"
        assert ping.stat_sn == sn, "the next StatSN, and it takes none"
        c.send(p.nop_out(p.RESERVED_TAG, c.cmd_sn, c.exp_stat_sn, ttt=ping.ttt, lun=struct.unpack_from(">8s", ping.bhs, 8)[0]))
        c.silent("the answer to a ping")
        c.good(p.TEST_UNIT_READY)
        assert c.exp_stat_sn == sn + 2, "the barrier's ping and the command took one each"


if __name__ == "__main__":
    main("pings", "ram:4M")
