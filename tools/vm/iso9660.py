# SPDX-License-Identifier: Apache-2.0
"""A disc image (ECMA-119, interchange level 1) of some files in its root directory: what any system mounts, made without a tool."""
import math
import struct

SECTOR = 2048
DATE = bytes([126, 11, 28, 0, 0, 0, 0])    # ECMA-119 9.1.5: years since 1900, month, day, time, zone


def _both(value, size=4):
    """Little-endian and big-endian, one behind the other (7.2.3, 7.3.3)."""
    return value.to_bytes(size, "little") + value.to_bytes(size, "big")


def _record(name, sector, size, folder):
    """A directory record (9.1)."""
    pad = b"" if len(name) % 2 else b"\0"
    body = (b"\0" + _both(sector) + _both(size) + DATE + bytes([2 if folder else 0, 0, 0]) + _both(1, 2) +
            bytes([len(name)]) + name + pad)
    return bytes([len(body) + 1]) + body


def _directory(own, files):
    """Records do not cross sectors (6.8.1.1)."""
    out = b""
    for record in [_record(b"\0", *own, True), _record(b"\1", *own, True), *files]:
        if len(out) // SECTOR != (len(out) + len(record) - 1) // SECTOR:
            out += bytes(-len(out) % SECTOR)
        out += record
    return out + bytes(-len(out) % SECTOR)


def _volume(label, sectors, table_bytes, tables, root):
    """The primary volume descriptor (8.4)."""
    text = lambda value, size: value.encode().ljust(size)
    out = b"\1CD001\1\0" + text("LINUX", 32) + text(label, 32) + bytes(8) + _both(sectors) + bytes(32)
    out += _both(1, 2) + _both(1, 2) + _both(SECTOR, 2) + _both(table_bytes)
    out += struct.pack("<II", tables[0], 0) + struct.pack(">II", tables[1], 0) + root
    out += text("", 128 * 4) + text("", 37 * 3) + (b"2026112800000000\0") * 2 + (b"0" * 16 + b"\0") * 2 + b"\1\0"
    return out.ljust(SECTOR, b"\0")


def image(label, files):
    """files: {"NAME.EXT": bytes}, names of at most 8.3 capital letters, digits and underscores."""
    first_table, root_at = 18, 20      # 16 and 17: the descriptors; then a path table of each byte order
    names = sorted(files)
    size = lambda places: len(_directory((root_at, 0), [_record(f"{n};1".encode(), 0, 0, False) for n in places]))
    root_bytes, at, records, data = size(names), root_at + math.ceil(size(names) / SECTOR), [], b""
    for name in names:
        records.append(_record(f"{name};1".encode(), at if files[name] else 0, len(files[name]), False))
        data += files[name] + bytes(-len(files[name]) % SECTOR)
        at += math.ceil(len(files[name]) / SECTOR)
    tables = [struct.pack(order, 1, 0, root_at, 1) + b"\0\0" for order in ("<BBIH", ">BBIH")]   # 9.4
    end = b"\xffCD001\1".ljust(SECTOR, b"\0")
    tail = 150      # drives read ahead
    out = bytes(16 * SECTOR) + _volume(label, at + tail, len(tables[0]), (first_table, first_table + 1),
                                       _record(b"\0", root_at, root_bytes, True)) + end
    out += b"".join(table.ljust(SECTOR, b"\0") for table in tables)
    return out + _directory((root_at, root_bytes), records) + data + bytes(tail * SECTOR)
