#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plants violations in a small tree and expects check-layers and coro-lint to find each, and nothing else."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

TOOLS = pathlib.Path(__file__).resolve().parent


def run_lint(tool, files):
    with tempfile.TemporaryDirectory() as root:
        for name, text in files.items():
            path = pathlib.Path(root) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        done = subprocess.run([sys.executable, TOOLS / tool, "--root", root], capture_output=True, text=True)
        return done.returncode, done.stdout


class CheckLayers(unittest.TestCase):
    def clean(self, name, text):
        code, out = run_lint("check-layers", {name: text})
        self.assertEqual(code, 0, out)

    def caught(self, name, text, phrase):
        code, out = run_lint("check-layers", {name: text})
        self.assertEqual(code, 1, out)
        self.assertIn(phrase, out)
        self.assertIn(f"{name}:{text[:text.index('@')].count(chr(10)) + 1 if '@' in text else 1}:", out)

    def test_lower_levels_and_the_own_folder_are_allowed(self):
        self.clean("src/target/a.cpp", '#include "target/b.hpp"\n#include "iscsi/pdu/c.hpp"\n#include <thread>\n')

    def test_a_higher_level_is_refused(self):
        self.caught("src/base/a.hpp", '#include "runtime/loop.hpp"\n', "base (level 0) includes runtime (level 2)")

    def test_target_and_initiator_do_not_know_each_other(self):
        self.caught("src/target/a.cpp", '#include "initiator/b.hpp"\n', "target (level 4) includes initiator")
        self.caught("src/initiator/a.cpp", '#include "target/b.hpp"\n', "initiator (level 4) includes target")

    def test_scsi_and_iscsi_do_not_know_each_other(self):
        self.caught("src/scsi/a.cpp", '#include "iscsi/pdu/b.hpp"\n', "scsi (level 2) includes iscsi")
        self.caught("src/iscsi/pdu/a.cpp", '#include "scsi/b.hpp"\n', "iscsi (level 2) includes scsi")

    def test_a_runtime_does_not_include_a_sibling(self):
        self.caught("src/block/a.cpp", '#include "runtime/uring/b.hpp"\n', "block (level 3) includes runtime/uring")
        self.clean("src/runtime/uring/a.cpp", '#include "runtime/loop.hpp"\n')

    def test_liburing_has_one_place(self):
        self.caught("src/target/a.cpp", "#include <liburing.h>\n", "liburing.h belongs")
        self.clean("src/runtime/uring/a.cpp", "#include <liburing.h>\n")

    def test_pure_folders_know_no_socket_thread_or_clock(self):
        for header in ("sys/socket.h", "thread", "mutex", "spdlog/spdlog.h", "ctime", "unistd.h"):
            self.caught("src/scsi/a.cpp", f"#include <{header}>\n", f"<{header}> in the pure folder scsi")
        self.caught("src/iscsi/a.cpp", "auto t = std::chrono::steady_clock::now();\n", "steady_clock")

    def test_comments_strings_and_tests_do_not_count(self):
        self.clean("src/scsi/a.cpp", '// steady_clock\nconst char* x = "getenv";  /* #include <thread> */\n')
        code, out = run_lint("check-layers", {"src/scsi/a.cpp": "\n", "src/scsi/a_test.cpp": "#include <thread>\n"})
        self.assertEqual(code, 0, out)

    def test_an_unknown_folder_and_an_empty_tree_are_refused(self):
        self.caught("src/misc/a.cpp", "\n", "no known folder")
        self.assertEqual(run_lint("check-layers", {"README.md": ""})[0], 1)


class CoroLint(unittest.TestCase):
    def verdict(self, body, name="src/target/a.cpp"):
        return run_lint("coro-lint", {name: "Task f() {\n" + body + "\n}\n"})

    def clean(self, body):
        code, out = self.verdict(body)
        self.assertEqual(code, 0, body + "\n" + out)

    def caught(self, body, phrase="co_await"):
        code, out = self.verdict(body)
        self.assertEqual(code, 1, body + "\n" + out)
        self.assertIn(phrase, out)

    def test_statements_and_named_locals_are_allowed(self):
        self.clean("co_await gate.wait();")
        self.clean("auto n = co_await stream->read(buffer, size + 1);")
        self.clean("const Result<std::vector<int>> n = co_await read<int>(a.b()->c);")
        self.clean("if (x) {\n  co_await y;\n}\nco_return;")
        self.clean("switch (x) { case 1: co_await y(); break; }")

    def test_conditions_are_refused(self):
        self.caught("if (co_await x) co_return;")
        self.caught("while (co_await next()) {}")
        self.caught("if (a) co_await x();")

    def test_larger_expressions_are_refused(self):
        self.caught("auto n = co_await x() + 1;")
        self.caught("auto n = 1 + co_await x();")
        self.caught("n = co_await x();")
        self.caught("f(co_await x());")
        self.caught("auto n = (co_await x()).value();")
        self.caught("co_return co_await x();")
        self.caught("auto n = co_await x() ? 1 : 2;")

    def test_braced_temporaries_are_refused(self):
        self.caught("co_await connect(Options{name, 3});", "braced temporary")

    def test_capturing_lambda_coroutines_are_refused(self):
        self.caught("spawn([this, x](int y) -> Task { co_await x; });", "lambda with captures")
        self.caught("spawn([&] { co_return; });", "lambda with captures")
        self.clean("spawn([](int y) -> Task { co_await y; });")
        self.clean("auto g = [this] { return 1; };\nco_await z;")

    def test_pure_folders_have_no_coroutines(self):
        code, out = self.verdict("co_await x;", "src/iscsi/a.cpp")
        self.assertEqual(code, 1)
        self.assertIn("pure folder", out)

    def test_comments_do_not_count(self):
        self.clean("// if (co_await x)\nco_await y;")


if __name__ == "__main__":
    unittest.main()
