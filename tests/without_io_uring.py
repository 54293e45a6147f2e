#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""without_io_uring.py COMMAND...: runs COMMAND where io_uring_setup() fails with EPERM, as under the seccomp profile of a
container runtime; everything that COMMAND starts inherits it. Exits 77 when this kernel has no seccomp filters."""
import ctypes
import errno
import os
import struct
import sys

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
IO_URING_SETUP = 425                                  # the same on every architecture
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06        # BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K
ALLOW, FAIL_WITH = 0x7FFF0000, 0x00050000             # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO


def forbid():
    program = [(LOAD, 0, 0, 0), (JUMP_IF_EQUAL, 0, 1, IO_URING_SETUP), (RETURN, 0, 0, FAIL_WITH | errno.EPERM), (RETURN, 0, 0, ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *word) for word in program))
    filter_program = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 and libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_program, 0, 0) == 0


if __name__ == "__main__":
    if not forbid():
        sys.exit(77)
    os.execvp(sys.argv[1], sys.argv[1:])
