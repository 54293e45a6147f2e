#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the bench makes of figures: medians, ratios, goals, the plot. With figures made up here, so nothing is measured."""
import pathlib
import sys
import unittest
import unittest.mock as mock
import xml.etree.ElementTree

TOOLS = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(TOOLS), str(TOOLS.parent / "tests")]
import bench  # noqa: E402
from benching import machine, plot, report, work  # noqa: E402


def runs(*iops, **more):
    base = {"p50": 10.0, "p99": 20.0, "p999": 30.0, "mib_per_s": 1.0, "ios": 1, "client_busy": 0.5, "client_us": 1.0,
            "server_us": 1.0, "server_busy": 1.0}
    return [{**base, "iops": value, **more} for value in iops]


def workload(name):
    return next(w for w in work.matrix() if w.name == name)


class Figures(unittest.TestCase):
    def test_spread_is_half_the_range_in_percent_of_the_median(self):
        self.assertEqual(report.spread(runs(90, 100, 110)), 10)

    def test_the_best_ceiling_counts(self):
        rows = {"ceiling epoll": runs(90, 95, 100), "ceiling uring": runs(80, 105, 110)}
        self.assertEqual(report.best(rows, work.CEILINGS), 105)

    def test_a_paired_ratio_is_the_median_of_the_rounds_not_the_ratio_of_medians(self):
        # The second round met a machine of half the speed: both sides did.
        rows = {"perilune": runs(90, 45, 80), "ceiling epoll": runs(100, 50, 100), "ceiling uring": runs(60, 30, 60)}
        self.assertAlmostEqual(report.paired(rows, "perilune", work.CEILINGS), 0.9)

    def test_a_paired_ratio_is_against_the_better_one_and_not_the_luckier_one_of_each_round(self):
        rows = {"perilune": runs(100, 100, 100), "ceiling epoll": runs(100, 100, 100), "ceiling uring": runs(90, 130, 80)}
        self.assertAlmostEqual(report.paired(rows, "perilune", work.CEILINGS), 1.0)

    def test_who_did_not_take_part_gives_no_ratio(self):
        self.assertIsNone(report.paired({"perilune": runs(1)}, "perilune", work.CEILINGS))
        self.assertIsNone(report.paired({"ceiling epoll": runs(1)}, "perilune", work.CEILINGS))


class Turns(unittest.TestCase):
    """Whether a turn counts depends on how far apart the cores are before it and behind."""

    def cores(self, *distances, patience=60):
        found = iter(distances)
        with mock.patch.object(machine.Cores, "CALIBRATION_SECONDS", 0.05), \
                mock.patch("os.sched_getaffinity", return_value={0, 1}), mock.patch("time.sleep"):
            cores = machine.Cores(lambda *_: next(found, distances[-1]), patience)
        cores._seen = [100] * 20
        cores._round_trip = iter(distances).__next__
        return cores

    def test_a_turn_counts_while_the_cores_are_as_usual(self):
        cores = self.cores(150, 120)
        self.assertEqual(cores.settled(lambda: "turn"), "turn")
        self.assertEqual((cores.taken_again, cores.odd), (0, 0))

    def test_a_turn_waits_until_they_are_back(self):
        cores = self.cores(500, 520, 50, 105, 110)
        with mock.patch("time.sleep") as slept:
            self.assertEqual(cores.settled(lambda: "turn"), "turn")
        self.assertEqual((slept.call_count, cores.taken_again, cores.odd), (3, 0, 0))

    def test_a_turn_is_taken_again_when_they_were_moved_meanwhile(self):
        turns = iter(range(9))
        cores = self.cores(110, 500, 105, 50, 105, 110)
        self.assertEqual(cores.settled(lambda: next(turns)), 2)
        self.assertEqual((cores.taken_again, cores.odd), (2, 0))

    def test_without_patience_a_turn_counts_and_it_is_said(self):
        cores = self.cores(500, 500, 500, 500, patience=0)
        self.assertEqual(cores.settled(lambda: "turn"), "turn")
        self.assertEqual((cores.taken_again, cores.odd), (0, 1))
        self.assertIn("1 counted although", report.turns_line({"taken_again": 0, "odd": 1, "usual_ns": 100.0}))

    def test_where_there_is_one_core_nothing_is_asked(self):
        with mock.patch("os.sched_getaffinity", return_value={0}):
            self.assertEqual(machine.Cores(lambda *_: self.fail(), 60).settled(lambda: "turn"), "turn")


class Goals(unittest.TestCase):
    def verdicts(self, name, rows):
        return {text.split(": ")[1]: met for text, met in report.goals(workload(name), rows)}

    def test_random_reads_are_held_against_the_ceiling_and_both_tgtds(self):
        rows = {"ceiling epoll": runs(1000), "ceiling uring": runs(900), "perilune": runs(910),
                "tgtd rdwr": runs(70), "tgtd aio": runs(200)}
        self.assertEqual(self.verdicts("4k randread 4x32", rows),
                         {"x ceiling": True, "x tgtd rdwr": True, "x the better tgtd": False})
        rows["perilune"] = runs(890)
        self.assertFalse(self.verdicts("4k randread 4x32", rows)["x ceiling"])

    def test_depth_one_is_judged_by_latency_under_the_same_waiting(self):
        rows = {"ceiling epoll": runs(10, p50=100.0), "ceiling uring": runs(10, p50=110.0),
                "ceiling epoll spin": runs(40, p50=25.0), "ceiling uring spin": runs(50, p50=20.0),
                "perilune": runs(24, p50=40.0), "perilune asleep": runs(9, p50=114.0), "perilune spin": runs(40, p50=24.0),
                "tgtd rdwr": runs(9, p50=120.0), "tgtd aio": runs(9, p50=39.0)}
        self.assertEqual(self.verdicts("4k randread 1x1", rows),
                         {"asleep, p50 x sleeping ceiling's": True, "spinning, p50 x spinning ceiling's": False,
                          "adaptive, IOPS x sleeping ceiling's": True, "p50 x the better tgtd's": False})

    def test_digests_are_held_against_none_and_against_the_responder_with_digests(self):
        rows = {"ceiling epoll": runs(100), "ceiling uring": runs(90), "perilune": runs(140), "perilune plain": runs(160)}
        self.assertEqual(self.verdicts("4k randread 1x32 crc32c", rows),
                         {"x without digests": True, "adaptive, x sleeping responder with digests": True})

    def test_the_disk_is_held_against_the_lower_of_fio_and_the_responder_over_the_file(self):
        rows = {"ceiling disk": runs(190), "fio": runs(200), "perilune disk": runs(172)}
        self.assertEqual(self.verdicts("4k randread 4x32 on disk", rows), {"x ceiling disk": True})
        self.assertIn("0.91 (0.86 of fio)", report.goals(workload("4k randread 4x32 on disk"), rows)[0][0])
        rows["ceiling disk"] = runs(5000)
        self.assertEqual(self.verdicts("4k randread 4x32 on disk", rows), {"x fio": False})
        del rows["fio"]
        self.assertEqual(self.verdicts("4k randread 4x32 on disk", rows), {"x ceiling disk": False})
        self.assertEqual(self.verdicts("4k randread 4x32 on disk", {"perilune disk": runs(1)}), {})

    def test_one_at_a_time_the_disk_is_held_against_fio(self):
        rows = {"ceiling disk": runs(50), "fio": runs(100), "perilune disk": runs(80), "perilune disk both": runs(91)}
        self.assertEqual(self.verdicts("4k randread 1x1 on disk", rows), {"both ends adaptive, x fio": True})

    def test_a_probe_is_judged_by_its_p99(self):
        def probing(p99):
            return runs(100, probe={"p50": 1, "p99": p99, "p999": 1})
        rows = {"ceiling epoll": probing(100), "ceiling uring": probing(120), "perilune": probing(129)}
        self.assertEqual(self.verdicts("4k randread 4x32 beside a probe", rows), {"p99 of the probe x the responder's": True})
        rows["perilune"] = probing(131)
        self.assertEqual(self.verdicts("4k randread 4x32 beside a probe", rows), {"p99 of the probe x the responder's": False})

    def test_memory_and_processor_of_idle_sessions(self):
        found = report.idle_goals({"perilune": {"1024": {"kib_per_session": 17.0, "cpu_percent": 0.1}}})
        self.assertEqual([met for _, met in found], [False, True])

    def test_every_workload_of_the_matrix_names_its_measure(self):
        names = [w.name for w in work.matrix()]
        self.assertEqual(len(names), len(set(names)))
        for w in work.matrix():
            self.assertTrue(set(work.MEASURES) & set(w.contestants()), w.name)
        self.assertTrue(set(work.QUICK) <= set(names))


class Pictures(unittest.TestCase):
    def test_the_table_shows_ratios_and_leaves_out_what_was_not_measured(self):
        rows = {"ceiling epoll": runs(1000), "perilune": runs(900), "fio": runs(10, client_busy=None)}
        lines = report.table("work", rows, {"perilune": 0.125})
        self.assertIn("0.90", lines[2])
        self.assertIn("0.125", lines[2])
        self.assertTrue(lines[3].rstrip().endswith("-%"), lines[3])
        self.assertEqual(len(report.HEADER), len(lines[2]))

    def test_the_table_for_a_document_has_a_line_for_each_of_our_servers(self):
        record = {"workloads": {"one": {"ceiling epoll": runs(100), "perilune": runs(90), "tgtd aio": runs(10)},
                                "two on disk": {"perilune disk": runs(50), "perilune disk both": runs(60)}},
                  "calls": {"one": {"perilune": 0.0216}}}
        self.assertEqual(report.markdown(record)[2:], ["| one | 90 | 0.90 | 9.00 | 10, 20 | 1.00 | 0.022 |",
                                                       "| two on disk | 50 | - | - | 10, 20 | 1.00 | - |",
                                                       "| two on disk (both ends adaptive) | 60 | - | - | 10, 20 | 1.00 | - |"])

    def test_the_plot_is_well_formed_and_names_each_workload_once(self):
        record = {"machine": {"cpu": "A & B <1>", "kernel": "6"}, "rounds": 1,
                  "workloads": {"one": {"ceiling epoll": runs(100), "perilune": runs(90), "tgtd aio": runs(10)},
                                "no ceiling": {"perilune": runs(90)},
                                "two on disk": {"ceiling disk": runs(100), "perilune disk": runs(50)}}}
        tree = xml.etree.ElementTree.fromstring(plot.svg(record))
        words = [node.text for node in tree.iter("{http://www.w3.org/2000/svg}text")]
        self.assertEqual(words.count("one"), 1)
        self.assertEqual(words.count("two on disk"), 1)
        self.assertNotIn("no ceiling", words)
        bars = [node for node in tree.iter("{http://www.w3.org/2000/svg}rect") if node.get("height") == str(plot.BAR - 1)]
        self.assertEqual([round(float(bar.get("width")) / plot.WIDTH * 1.2, 2) for bar in bars], [0.9, 0.1, 0.5])


if __name__ == "__main__":
    unittest.main()
