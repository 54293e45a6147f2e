// SPDX-License-Identifier: Apache-2.0
// The verbs of the multi-call binary. Each is a function like main(): argv[0] is the name for messages
// ("perilune ls", "iscsiadm"), the arguments follow, and the return value is the exit code. A verb is in the
// table when its file is part of the build (src/cli/CMakeLists.txt), so that a partial build still links.
#pragma once

#include <span>
#include <string_view>

namespace perilune::cli {

int run_serve(int argc, char** argv);     // serve.cpp
int run_iscsid(int argc, char** argv);    // iscsid.cpp
int run_targetd(int argc, char** argv);   // targetd.cpp
int run_iscsiadm(int argc, char** argv);  // iscsiadm.cpp
int run_ls(int argc, char** argv);        // initiator_tools.cpp
int run_inq(int argc, char** argv);       // initiator_tools.cpp
int run_readcap(int argc, char** argv);   // initiator_tools.cpp
int run_bench(int argc, char** argv);     // bench.cpp
int run_attach(int argc, char** argv);    // attach.cpp
int run_detach(int argc, char** argv);    // attach.cpp
int run_targetcli(int argc, char** argv); // targetcli.cpp
int run_targetctl(int argc, char** argv);      // targetcli.cpp
int run_tgtadm(int argc, char** argv);        // tgt.cpp
int run_tgt_admin(int argc, char** argv);     // tgt.cpp
int run_tgt_setup_lun(int argc, char** argv); // tgt.cpp
int run_tgtimg(int argc, char** argv);        // tgt.cpp
int run_help(int argc, char** argv);      // help.cpp
int run_version(int argc, char** argv);   // help.cpp

struct Verb {
  std::string_view name;
  int (*run)(int argc, char** argv);
  std::string_view arguments;  // for the overview: "BACKING..."
  std::string_view summary;    // one line
};

// In the order of the overview.
[[nodiscard]] std::span<const Verb> verbs() noexcept;
[[nodiscard]] const Verb* find_verb(std::string_view name) noexcept;

// What main() does: chooses by the base name of argv[0] (iscsiadm, iscsid), else by argv[1]. Exit code 2 for
// a verb that does not exist.
int dispatch(int argc, char** argv);

}  // namespace perilune::cli
