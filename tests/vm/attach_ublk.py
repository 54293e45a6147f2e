# SPDX-License-Identifier: Apache-2.0
"""`perilune attach` on the 6.12 kernel of backports, where the best driver is ublk: see attaching.py."""
import attaching
import lab

VM = {"kernel": "6.12", "memory": 640, "disks": ["256M"], "short": True,
      "mutants": {"altered-reads": {"wire": "alter_reads"}, "stale-restart": {"stale_restart": True},
                  "lost-flush": {"guest_preload": "lost_flush"}}}

if __name__ == "__main__":
    attaching.kind = "ublk"
    lab.main(*attaching.STEPS)
