// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <cstring>
#include <string>

#include <fmt/format.h>

#include "cli/verbs.hpp"

namespace perilune::cli {
namespace {

constexpr Verb table[] = {
#ifdef PERILUNE_VERB_SERVE
    {"serve", run_serve, "BACKING...", "serve files, block devices or memory as iSCSI disks"},
#endif
#ifdef PERILUNE_VERB_TARGETCLI
    {"targetcli", run_targetcli, "[PATH] [COMMAND]", "configure the target daemon, as LIO's targetcli does"},
    {"targetctl", run_targetctl, "save|restore|clear",
     "write the daemon's configuration file, or take it back"},
#endif
#ifdef PERILUNE_VERB_TARGETD
    {"targetd", run_targetd, "[OPTIONS]", "the target daemon behind targetcli and tgtadm"},
#endif
#ifdef PERILUNE_VERB_TGT
    {"tgtadm", run_tgtadm, "--mode MODE --op OP ...", "configure the target daemon, as tgt's tgtadm does"},
    {"tgt-admin", run_tgt_admin, "-e | --update WHICH",
     "make the target daemon serve what a targets.conf says"},
    {"tgt-setup-lun", run_tgt_setup_lun, "-n NAME -d DEVICE", "a target with one disk, in one step"},
    {"tgtimg", run_tgtimg, "--op new ...", "make an image file"},
#endif
#ifdef PERILUNE_VERB_ISCSIADM
    {"iscsiadm", run_iscsiadm, "-m MODE ...", "discover targets, log in and out, manage records"},
#endif
#ifdef PERILUNE_VERB_ISCSID
    {"iscsid", run_iscsid, "[OPTIONS]", "the initiator daemon behind iscsiadm"},
#endif
#ifdef PERILUNE_VERB_ATTACH
    {"attach", run_attach, "URL", "make a remote disk a local block device, without records"},
    {"detach", run_detach, "DEVICE", "take such a block device away again"},
#endif
#ifdef PERILUNE_VERB_INITIATOR_TOOLS
    {"ls", run_ls, "URL", "list the targets of a portal, with -s their disks"},
    {"inq", run_inq, "URL", "show INQUIRY data and VPD pages"},
    {"readcap", run_readcap, "URL", "show the size and the block sizes of a disk"},
#endif
#ifdef PERILUNE_VERB_BENCH
    {"bench", run_bench, "URL", "measure reads and writes of a remote disk"},
#endif
    {"help", run_help, "[VERB]", "show this page, or the help of a verb"},
    {"version", run_version, "", "show the version"},
};

std::string_view base_name(const char* path) {
  std::string_view text(path == nullptr ? "" : path);
  const auto slash = text.rfind('/');
  return slash == std::string_view::npos ? text : text.substr(slash + 1);
}

void print_overview(std::FILE* out) {
  fmt::print(out,
             "Perilune: iSCSI disks, served and used, in user space.\n\nUsage: perilune VERB "
             "[ARGUMENTS]\n\nVerbs:\n");
  for (const Verb& verb : table) {
    fmt::print(out, "  {:<24}{}\n", fmt::format("{} {}", verb.name, verb.arguments), verb.summary);
  }
  fmt::print(out,
             "\nTry it on one machine:\n"
             "  truncate -s 1G disk.img\n"
             "  perilune serve disk.img\n"
             "and in a second terminal, as root:\n"
             "  perilune iscsiadm -m discovery -t sendtargets -p 127.0.0.1\n"
             "  perilune iscsiadm -m node --login\n"
             "  perilune iscsiadm -m session -P 3\n"
             "  perilune iscsiadm -m node --logout\n"
             "\n`perilune VERB --help` explains a verb. URLs look like iscsi://ADDRESS[:PORT]/TARGET/LUN.\n");
}

// The verb with argv[0] replaced by a name for messages.
int run_verb(const Verb& verb, const std::string& display_name, int argc, char** argv) {
  std::string name = display_name;
  argv[0] = name.data();
  return verb.run(argc, argv);
}

}  // namespace

std::span<const Verb> verbs() noexcept { return table; }

const Verb* find_verb(std::string_view name) noexcept {
  for (const Verb& verb : table) {
    if (verb.name == name) return &verb;
  }
  return nullptr;
}

int run_version(int, char**) {
  fmt::print("perilune {}\n", PERILUNE_VERSION);
  return 0;
}

int run_help(int argc, char** argv) {
  if (argc < 2) {
    print_overview(stdout);
    return 0;
  }
  const Verb* verb = find_verb(argv[1]);
  if (verb == nullptr) {
    fmt::print(stderr, "perilune: there is no verb '{}'; `perilune help` lists them\n", argv[1]);
    return 2;
  }
  if (verb->run == run_help || verb->run == run_version) {
    fmt::print("perilune {} {}\n  {}\n", verb->name, verb->arguments, verb->summary);
    return 0;
  }
  std::string option = "--help";
  char* arguments[] = {argv[1], option.data(), nullptr};
  return run_verb(*verb, fmt::format("perilune {}", verb->name), 2, arguments);
}

namespace {

// Those that speak under their own names, as the scripts that read them expect, and may be called by them.
bool is_known_elsewhere(std::string_view name) {
  for (const std::string_view own :
       {"iscsiadm", "iscsid", "targetcli", "targetctl", "tgtadm", "tgt-admin", "tgt-setup-lun", "tgtimg"}) {
    if (name == own) return true;
  }
  return false;
}

}  // namespace

int dispatch(int argc, char** argv) {
  const std::string_view called_as = argc > 0 ? base_name(argv[0]) : std::string_view();
  if (is_known_elsewhere(called_as)) {
    if (const Verb* verb = find_verb(called_as)) return run_verb(*verb, std::string(called_as), argc, argv);
  }
  if (argc < 2) {
    print_overview(stderr);
    return 2;
  }
  const std::string_view word = argv[1];
  if (word == "--help" || word == "-h") return run_help(argc - 1, argv + 1);
  if (word == "--version" || word == "-V") return run_version(argc - 1, argv + 1);
  const Verb* verb = find_verb(word);
  if (verb == nullptr) {
    fmt::print(stderr, "perilune: there is no verb '{}'; `perilune help` lists them\n", word);
    return 2;
  }
  const bool plain = is_known_elsewhere(word);
  return run_verb(*verb, plain ? std::string(word) : fmt::format("perilune {}", word), argc - 1, argv + 1);
}

}  // namespace perilune::cli
