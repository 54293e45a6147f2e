# SPDX-License-Identifier: Apache-2.0
"""The target that the interop tests talk to: `perilune serve`, or tgtd when PERILUNE_INTEROP_TARGET=tgtd (which checks
the tests themselves), with no authentication, CHAP, or mutual CHAP; with discovery=True discovery sessions ask for the same."""
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness as h  # noqa: E402

AUTH = ("none", "chap", "mutual")


class Served:
    """host, port, iqn, lun and the credentials; url() is the libiscsi URL through the recording relay."""

    def __init__(self, stack, path, auth, discovery=False):
        self.auth, self.host, self.lun = auth, "127.0.0.1", 0
        self.credentials = {}
        if auth != "none":
            self.credentials = {"user": h.USER, "secret": h.SECRET}
        if auth == "mutual":
            self.credentials |= {"mutual": h.MUTUAL_USER, "mutual_secret": h.MUTUAL_SECRET}
        if os.environ.get("PERILUNE_INTEROP_TARGET") == "tgtd":
            self._start_tgtd(stack, path)
        else:
            self._start_perilune(stack, path, discovery)
        self.relay = h.Relay(stack, self.port)

    def _start_tgtd(self, stack, path):
        server = h.Tgtd(stack)
        self.port, self.iqn, self.lun, self.pid = server.port, "iqn.2026-11.io.perilune:interop", 1, server.pid
        server.target(1, self.iqn, path, chap=(h.USER, h.SECRET) if self.auth != "none" else None,
                      mutual=(h.MUTUAL_USER, h.MUTUAL_SECRET) if self.auth == "mutual" else None)
        for key in ("HeaderDigest", "DataDigest"):
            server.admin("--op", "update", "--mode", "target", "--tid", 1, "-n", key, "-v", "CRC32C,None")

    def _start_perilune(self, stack, path, discovery):
        folder = h.temp_dir(stack)
        options = []
        for scope in ("", "discovery-") if discovery else ("",):
            if self.auth != "none":
                options += [f"--{scope}chap-user", h.USER,
                            f"--{scope}chap-secret-file", h.secret_file(folder, "secret", h.SECRET)]
            if self.auth == "mutual":
                options += [f"--mutual-{scope}chap-user", h.MUTUAL_USER,
                            f"--mutual-{scope}chap-secret-file", h.secret_file(folder, "mutual", h.MUTUAL_SECRET)]
        server = stack.enter_context(h.serve(path, options=options, folder=folder))
        self.port, self.iqn, self.pid = server.port, server.iqn, server.pid

    def url(self, lun=True, **arguments):
        arguments = {**self.credentials, **arguments}
        return h.libiscsi_url(self.host, self.relay.port, self.iqn if lun else None, self.lun, **arguments)

    def check_wire(self, digest=False):
        """That what the client was asked to negotiate really was on the wire."""
        client, server = bytes(self.relay.from_client), bytes(self.relay.from_server)
        if self.auth != "none" and b"CHAP_N=" + h.USER.encode() not in client:
            h.fail("no CHAP response from the client on the wire")
        if self.auth == "mutual" and b"CHAP_N=" + h.MUTUAL_USER.encode() not in server:
            h.fail("no CHAP response from the target on the wire")
        if digest and b"HeaderDigest=CRC32C" not in server:
            h.fail("the header digest was not negotiated")
