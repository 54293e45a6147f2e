# SPDX-License-Identifier: Apache-2.0
"""A running `perilune targetd` with folders and a socket of its own, and a client of its socket (docs/control-protocol.md)."""
import contextlib
import json
import os
import pathlib
import signal
import socket
import struct

import harness as h


class Refused(Exception):
    def __init__(self, error):
        super().__init__(error["message"])
        self.code = error["code"]


class Client:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(str(path))

    def send(self, op, **args):
        body = json.dumps({"version": 1, "op": op, "args": args}).encode()
        self.socket.sendall(struct.pack(">I", len(body)) + body)

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise EOFError("the daemon has closed the socket")
            data += more
        return data

    def read(self):
        return json.loads(self._exactly(struct.unpack(">I", self._exactly(4))[0]))

    def __call__(self, op, **args):
        self.send(op, **args)
        message = self.read()
        if "error" in message:
            raise Refused(message["error"])
        return message["result"]

    def close(self):
        self.socket.close()


def add(kind, key, value):
    return {"do": "add", "kind": kind, "key": key, "value": value}


def change(kind, key, value):
    return {"do": "set", "kind": kind, "key": key, "value": value}


def remove(kind, key):
    return {"do": "remove", "kind": kind, "key": key}


def storage(name, plugin="fileio"):
    return {"plugin": plugin, "name": name}


def alua_group(name, plugin="fileio"):
    return {**storage(name, plugin), "group": "default_tg_pt_gp"}


def group(target, tag=1):
    return {"target": target, "tag": tag}


def lun(target, index, tag=1):
    return {**group(target, tag), "lun": index}


def acl(target, initiator, tag=1):
    return {**group(target, tag), "initiator": initiator}


def add_file(name, path, wwn, size, **more):
    return [add("storage_object", storage(name), {"dev": str(path), "wwn": wwn, "size": size, **more}),
            add("alua_group", alua_group(name), {"tg_pt_gp_id": 0})]


def add_lun(target, index, name, plugin="fileio", tag=1):
    return add("lun", lun(target, index, tag), {"storage_object": f"/backstores/{plugin}/{name}",
                                                "alua_tg_pt_gp_name": "default_tg_pt_gp"})


OPEN = {"authentication": 0, "generate_node_acls": 1, "demo_mode_write_protect": 0}


def add_target(target, port, **attributes):
    return [add("target", {"target": target}, {}),
            add("portal_group", group(target), {"enable": True, "attributes": {**OPEN, **attributes}}),
            add("portal", {**group(target), "address": "127.0.0.1", "port": port}, {})]


class Targetd:
    def __init__(self, stack, threads=1, prefix=(), options=()):
        self.folder = pathlib.Path(h.temp_dir(stack))
        self.socket, self.threads, self.prefix, self.options = self.folder / "socket", threads, prefix, options
        self.log = self.folder / "log"
        self.process = None
        self.stack = stack
        stack.callback(self.end)
        self.start()

    def start(self):
        h.need_perilune()
        command = [*self.prefix, h.PERILUNE, "targetd", "--foreground", "--config", self.folder / "etc", "--socket", self.socket, "--threads",
                   self.threads, *self.options]
        mark = self.errors().count("info ready")
        with open(self.log, "ab") as log:
            self.process = h.start([str(word) for word in command], stdout=log, stderr=log)
        h.wait_for(lambda: self.errors().count("info ready") > mark, f"the daemon to be ready:\n{self.errors()}", process=self.process)

    def client(self):
        client = Client(self.socket)
        self.stack.callback(client.close)
        return client

    def errors(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self):
        h.stop(self.process, "perilune targetd")

    def end(self):
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(AssertionError):
                self.stop()
            if self.process.poll() is None:
                self.kill()
