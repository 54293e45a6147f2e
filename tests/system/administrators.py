#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Several administrators at once against one daemon, which is killed in the middle: all of them see one order, which is the journal's; what was
answered is in it, what was refused is not; and what the daemon serves in the end is what the journal's changes make, one after the other."""
import contextlib
import json
import random
import sys
import threading

import harness as h
import targetd as d

CLIENTS, NAMES, EACH = 4, 6, 60
MIB = 1 << 20


def made(name, attributes):
    return d.add("storage_object", d.storage(name, "ramdisk"), {"size": MIB, "wwn": f"serial-{name}", "attributes": attributes})


class Administrator(threading.Thread):
    """Makes, changes and removes disks of a few names that all share; some of it must be refused. Hears of everybody's transactions."""

    def __init__(self, daemon, number, seed):
        super().__init__()
        self.random = random.Random(f"{seed} {number}")
        self.client, self.number, self.seed = d.Client(daemon.socket), number, seed
        self.answered, self.refused, self.in_flight, self.failure = {}, set(), None, None
        self.events = []
        self.ears = d.Client(daemon.socket)
        self.ears.send("subscribe")
        self.begin = self.ears.read()["progress"]["sequence"]
        self.listener = threading.Thread(target=self.listen)
        self.listener.start()

    def listen(self):
        with contextlib.suppress(EOFError, OSError):
            while "progress" in (message := self.ears.read()):  # at its end the daemon says that it drops the request
                event = message["progress"]
                if event["event"] == "transaction":
                    self.events.append((event["sequence"], event["who"].split(": ", 1)[1], event["changes"]))

    def change(self):
        name = f"disk{self.random.randrange(NAMES)}"
        value = {"size": MIB, "wwn": f"serial-{name}", "attributes": {"emulate_tpu": self.random.randrange(2)}}
        return self.random.choice([
            [made(name, {}), d.add("alua_group", d.alua_group(name, "ramdisk"), {"tg_pt_gp_id": 0})],
            [d.change("storage_object", d.storage(name, "ramdisk"), value)],
            [d.remove("alua_group", d.alua_group(name, "ramdisk")), d.remove("storage_object", d.storage(name, "ramdisk"))]])

    def run(self):
        try:
            for turn in range(EACH):
                tag = f"{self.seed}.{self.number}.{turn}"
                self.in_flight = tag
                try:
                    self.answered[tag] = self.client("commit", changes=self.change(), why=tag)["sequence"]
                except d.Refused:
                    self.refused.add(tag)
                self.in_flight = None
        except (EOFError, OSError):
            pass  # the daemon has been killed
        except Exception as error:  # shown by the main thread
            self.failure = error


def journal(daemon):
    """[(number, tag, changes)] of the whole journal."""
    path, = daemon.folder.rglob("journal")
    records = [json.loads(line.split(b" ", 1)[1]) for line in path.read_bytes().splitlines()[1:]]
    return [(record["sequence"], record["who"].split(": ", 1)[1], record["changes"]) for record in records]


def replay(records):
    """The objects and their attributes that the changes make."""
    objects = {}
    for _, _, changes in records:
        for change in changes:
            key = (change["kind"], json.dumps(change["key"], sort_keys=True))
            if change["do"] == "add":
                assert key not in objects, f"{key} is added twice"
            else:
                assert key in objects, f"{key} is not there"
            if change["do"] == "remove":
                del objects[key]
            else:
                objects[key] = change["value"]
    return {json.loads(key)["name"]: value.get("attributes", {}).get("emulate_tpu", 0) for (kind, key), value in objects.items()
            if kind == "storage_object"}


def served(client):
    saved = json.loads(client("configuration")["saveconfig"])
    return {each["name"]: each["attributes"]["emulate_tpu"] for each in saved["storage_objects"]}


def work(daemon, seed, killed_after=None):
    people = [Administrator(daemon, number, seed) for number in range(CLIENTS)]
    for one in people:
        one.start()
    if killed_after is not None:
        h.wait_for(lambda: sum(len(one.answered) for one in people) >= killed_after, f"{killed_after} transactions")
        daemon.kill()
    for one in people:
        one.join()
        assert one.failure is None, one.failure
    if killed_after is None:
        last = max(max(one.answered.values(), default=one.begin) for one in people)
        for one in people:
            h.wait_for(lambda one=one: one.events and one.events[-1][0] >= last, f"the events up to {last}")
        first, second = people[0].client("history"), people[1].client("history")
        assert first == second, "two administrators are told another history"
        daemon.stop()
    for one in people:
        one.listener.join()
        one.client.close()
        one.ears.close()
    return people


def one_order(threads):
    with contextlib.ExitStack() as stack:
        daemon = d.Targetd(stack, threads=threads)
        people = work(daemon, "first", killed_after=CLIENTS * EACH // 4)
        daemon.start()
        client = daemon.client()
        assert served(client) == replay(journal(daemon)), "a restart does not serve what the journal says"
        client.close()
        people += work(daemon, "second")
        records = journal(daemon)
        assert [number for number, _, _ in records] == list(range(1, len(records) + 1)), "the journal's numbers are not consecutive"
        order = {tag: number for number, tag, _ in records}
        unanswered = set(order)
        for one in people:
            assert one.answered, "an administrator has done nothing"
            for tag, number in one.answered.items():
                assert order.get(tag) == number, f"{tag} was answered as {number}, the journal has {order.get(tag)}"
            assert not one.refused & set(order), "something that was refused is in the journal"
            unanswered -= set(one.answered)
            heard = [(number, tag) for number, tag, _ in one.events]
            written = [(number, tag) for number, tag, _ in records[one.begin:one.begin + len(heard)]]
            assert heard == written, f"somebody heard another order: {heard} {written}"
        assert unanswered <= {one.in_flight for one in people}, f"nobody asked for {unanswered}"
        assert any(one.refused for one in people), "nothing was refused: they did not meet"
        daemon.start()
        assert served(daemon.client()) == replay(records), "the daemon does not serve what the journal says"
        daemon.stop()
        return len(records)


def main():
    for threads in (1, 2):
        print(f"ok {one_order(threads)} transactions of {CLIENTS} administrators, {threads} server threads", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
