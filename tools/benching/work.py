# SPDX-License-Identifier: Apache-2.0
"""What is measured, and who takes part in it."""

BYTES = {"4k": 4096, "64k": 65536, "256k": 262144}

CEILINGS = ("ceiling epoll", "ceiling uring")
SPINNING_CEILINGS = ("ceiling epoll spin", "ceiling uring spin")
DISK_CEILING = "ceiling disk"  # over the file of the rows on disk
MEASURES = (*CEILINGS, DISK_CEILING)  # those that take part in a row are its measure
SOCKETS = ("sockets epoll", "sockets uring")  # the same from one warm buffer: the limit of TCP, whatever the disk
PEERS = ("tgtd rdwr", "tgtd aio", "istgt")


class Workload:
    """One row of the matrix. group: ram, tmpfs (a file in memory), disk (a file on the disk, O_DIRECT) or null."""

    def __init__(self, rw, block, sessions, depth, digests=False, group="ram", probe=False):
        self.rw, self.block, self.sessions, self.depth = rw, block, sessions, depth
        self.digests, self.group, self.probe = digests, group, probe
        self.name = (f"{block} {rw} {sessions}x{depth}" + (" crc32c" if digests else "") +
                     (" beside a probe" if probe else "") + ("" if group == "ram" else f" on {group}"))

    @property
    def block_bytes(self):
        return BYTES[self.block]

    @property
    def shape(self):
        return self.sessions, self.depth

    @property
    def lonely(self):
        return self.shape == (1, 1)

    def contestants(self):
        """Names of servers (servers.py), the measure of the row first."""
        ours = {"ram": "perilune", "tmpfs": "perilune tmpfs", "disk": "perilune disk"}[self.group]
        if self.group == "disk":
            return ["fio", DISK_CEILING, ours, *["perilune disk both"] * self.lonely, "tgtd disk rdwr", "tgtd disk aio", "istgt disk"]
        names = [*CEILINGS, *SOCKETS, ours]
        if self.group == "ram" and self.block == "4k" and self.sessions <= 4:
            names.append("perilune asleep")
            if self.lonely:
                names += [*SPINNING_CEILINGS, "perilune spin"]
            elif self.digests:
                names.append("perilune plain")
        if self.group == "ram" and self.shape in ((4, 32), (1, 16), (1, 8)):
            names.append("perilune epoll")
        return [*names, *PEERS]


def matrix():
    rows = []
    for digests in (False, True):
        for rw in ("randread", "randwrite"):
            rows += [Workload(rw, "4k", sessions, depth, digests) for sessions, depth in ((1, 1), (1, 32), (4, 32), (16, 32))]
        for block, depth in (("64k", 16), ("256k", 8)):
            rows += [Workload(rw, block, 1, depth, digests) for rw in ("read", "write")]
    rows.append(Workload("randread", "4k", 4, 32, probe=True))
    for group in ("tmpfs", "disk"):
        rows += [Workload(rw, "4k", 4, 32, group=group) for rw in ("randread", "randwrite")]
        rows += [Workload(rw, "256k", 1, 8, group=group) for rw in ("read", "write")]
    rows.append(Workload("randread", "4k", 1, 1, group="disk"))
    return rows


# What --quick runs.
QUICK = ("4k randread 1x1", "4k randread 1x32", "4k randread 4x32", "4k randwrite 4x32", "256k read 1x8")
QUICK_CONTESTANTS = ("ceiling epoll", "ceiling uring", "sockets epoll", "perilune", "tgtd rdwr")
