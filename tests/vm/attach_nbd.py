# SPDX-License-Identifier: Apache-2.0
"""`perilune attach --driver nbd` on the kernel of Debian 12: see attaching.py."""
import attaching
import lab

VM = {"kernel": "6.1", "memory": 640, "disks": ["256M"],
      "mutants": {"altered-reads": {"wire": "alter_reads"}, "stale-restart": {"stale_restart": True},
                  "lost-flush": {"guest_preload": "lost_flush"}}}

if __name__ == "__main__":
    attaching.driver = attaching.kind = "nbd"
    lab.main(*attaching.STEPS)
