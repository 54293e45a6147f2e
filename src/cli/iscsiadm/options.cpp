// SPDX-License-Identifier: Apache-2.0
#include "cli/iscsiadm/options.hpp"

#include <getopt.h>

#include <array>
#include <charconv>
#include <string_view>

#include <fmt/format.h>

#include "config/record_fields.hpp"
#include "control/iscsi_error.hpp"

namespace perilune::cli::iscsiadm {
namespace {

constexpr std::size_t max_repeated_options = 256;

const option long_options[] = {
    {"portal", required_argument, nullptr, 'p'},     {"targetname", required_argument, nullptr, 'T'},
    {"interface", required_argument, nullptr, 'I'},  {"op", required_argument, nullptr, 'o'},
    {"type", required_argument, nullptr, 't'},       {"name", required_argument, nullptr, 'n'},
    {"value", required_argument, nullptr, 'v'},      {"host", required_argument, nullptr, 'H'},
    {"sid", required_argument, nullptr, 'r'},        {"rescan", no_argument, nullptr, 'R'},
    {"print", required_argument, nullptr, 'P'},      {"discover", no_argument, nullptr, 'D'},
    {"login", no_argument, nullptr, 'l'},            {"loginall", required_argument, nullptr, 'L'},
    {"logout", no_argument, nullptr, 'u'},           {"logoutall", required_argument, nullptr, 'U'},
    {"stats", no_argument, nullptr, 's'},            {"killiscsid", required_argument, nullptr, 'k'},
    {"debug", required_argument, nullptr, 'd'},      {"mode", required_argument, nullptr, 'm'},
    {"no_wait", no_argument, nullptr, 'W'},          {"show", no_argument, nullptr, 'S'},
    {"version", no_argument, nullptr, 'V'},          {"help", no_argument, nullptr, 'h'},
    {"submode", required_argument, nullptr, 'C'},    {"ip", required_argument, nullptr, 'a'},
    {"packetsize", required_argument, nullptr, 'b'}, {"count", required_argument, nullptr, 'c'},
    {"interval", required_argument, nullptr, 'i'},   {"index", required_argument, nullptr, 'x'},
    {"portal_type", required_argument, nullptr, 'A'}, {nullptr, 0, nullptr, 0},
};
constexpr const char* short_options = "RlDVhm:a:b:c:C:p:P:T:H:i:I:U:k:L:d:r:n:v:o:sSt:ux:A:W";

struct ModeRow {
  std::string_view name;
  Mode mode;
  std::string_view allowed;
};
constexpr ModeRow mode_rows[] = {
    {"discovery", Mode::discovery, "DSIPdmntplovW"}, {"discoverydb", Mode::discoverydb, "DSIPdmntplovW"},
    {"node", Mode::node, "RsPIdmlSonvupTULW"},       {"session", Mode::session, "PiRdrmusonvS"},
    {"iface", Mode::iface, "HIdnvmPoCabci"},         {"fw", Mode::fw, "dmlWnv"},
    {"host", Mode::host, "CHdmPotnvxA"},
};

struct OpRow {
  std::string_view name;
  unsigned op;
};
constexpr OpRow op_rows[] = {
    {"new", op_new},         {"delete", op_delete},     {"update", op_update},
    {"show", op_show},       {"apply", op_apply},       {"applyall", op_applyall},
    {"login", op_login},     {"logout", op_logout},     {"nonpersistent", op_nonpersistent},
};

std::string_view mode_name(Mode mode) {
  for (const ModeRow& row : mode_rows) {
    if (row.mode == mode) return row.name;
  }
  return "";
}

Mode mode_of(std::string_view name) {
  for (const ModeRow& row : mode_rows) {
    if (row.name == name) return row.mode;
  }
  return Mode::unknown;
}

DiscoveryType type_of(std::string_view name) {
  if (name == "st" || name == "sendtargets" || name == "send_targets") return DiscoveryType::send_targets;
  if (name == "isns") return DiscoveryType::isns;
  if (name == "slp") return DiscoveryType::slp;
  if (name == "fw") return DiscoveryType::fw;
  return DiscoveryType::unknown;
}

template <class T>
bool to_number(std::string_view text, T& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && !text.empty() && end == text.data() + text.size();
}

// A session number, or a path of the old kind that ends in "session<N>".
std::optional<std::uint32_t> parse_sid(std::string_view text) {
  while (text.ends_with('/')) text.remove_suffix(1);
  if (const auto slash = text.rfind('/'); slash != std::string_view::npos) text = text.substr(slash + 1);
  if (text.starts_with("session")) text.remove_prefix(7);
  std::uint32_t sid = 0;
  if (!to_number(text, sid)) return std::nullopt;
  return sid;
}

class Parser {
 public:
  Parser(Options& options, Console& console) : options_(options), console_(console) {}

  // False: a mistake that was told.
  bool take(int c, const char* argument) {
    seen_ += static_cast<char>(c);
    const std::string_view text = argument == nullptr ? "" : argument;
    switch (c) {
      case 'm': options_.mode = mode_of(text); return true;
      case 'o': return take_op(text);
      case 't': options_.type = type_of(text); return true;
      case 'p': return take_portal(text);
      case 'T': options_.target = text; return true;
      case 'I': return append(options_.ifaces, text);
      case 'n': return append(options_.names, text);
      case 'v': return append(options_.values, text);
      case 'r': return take_sid(text);
      case 'P': return take_number(text, options_.print_level, "print level");
      case 'd': return take_number(text, options_.debug_level, "debug level");
      case 'k': return take_kill(text);
      case 'L': options_.login_all = text; return true;
      case 'U': options_.logout_all = text; return true;
      case 'H': options_.host = text; return true;
      case 'C': options_.submode = text; return true;
      default: take_flag(c); return true;
    }
  }

  // The options of a mode are checked in the order in which they stood.
  bool verify() {
    for (const ModeRow& row : mode_rows) {
      if (row.mode != options_.mode) continue;
      for (const char c : seen_) {
        if (row.allowed.find(c) != std::string_view::npos) continue;
        console_.err(fmt::format("{} mode: option '-{}' is not allowed/supported", mode_name(row.mode), c));
        return false;
      }
    }
    return true;
  }

 private:
  void take_flag(int c) {
    switch (c) {
      case 'D': options_.discover = true; break;
      case 'l': options_.login = true; break;
      case 'u': options_.logout = true; break;
      case 'R': options_.rescan = true; break;
      case 's': options_.stats = true; break;
      case 'S': options_.show_secrets = true; break;
      case 'W': options_.no_wait = true; break;
      case 'h': options_.help = true; break;
      case 'V': options_.version = true; break;
      default: break;  // '?' is refused by verify(); the rest is for modes we do not have
    }
  }

  bool take_op(std::string_view text) {
    for (const OpRow& row : op_rows) {
      if (row.name == text) {
        options_.op |= row.op;
        return true;
      }
    }
    console_.err(fmt::format("can not recognize operation: '{}'", text));
    return false;
  }

  bool take_portal(std::string_view text) {
    auto portal = config::Portal::parse(text);
    if (!portal) {
      console_.err(portal.error().message);
      return false;
    }
    options_.portal = std::move(*portal);
    return true;
  }

  bool take_sid(std::string_view text) {
    options_.sid = parse_sid(text);
    if (!options_.sid) console_.err(fmt::format("invalid sid '{}'", text));
    return options_.sid.has_value();
  }

  bool take_kill(std::string_view text) {
    int priority = 0;
    if (!take_number(text, priority, "priority")) return false;
    options_.kill_priority = priority;
    return true;
  }

  bool take_number(std::string_view text, int& out, std::string_view what) {
    if (to_number(text, out) && out >= 0) return true;
    console_.err(fmt::format("invalid {} '{}'", what, text));
    return false;
  }

  bool append(std::vector<std::string>& list, std::string_view text) {
    if (list.size() == max_repeated_options) {
      console_.err("an option was given too often");
      return false;
    }
    list.emplace_back(text);
    return true;
  }

  Options& options_;
  Console& console_;
  std::string seen_;
};

}  // namespace

std::optional<Options> parse_options(int argc, char** argv, Console& console, int& exit_code) {
  Options options;
  Parser parser(options, console);
  exit_code = control::iscsi_err_inval;
  optind = 0;  // GNU: a fresh start, with permutation
  int c = 0;
  while ((c = getopt_long(argc, argv, short_options, long_options, nullptr)) != -1) {
    if (!parser.take(c, optarg)) return std::nullopt;
  }
  if (options.help) {
    console.out(usage_text());
    exit_code = 0;
    return std::nullopt;
  }
  if (options.version) {
    console.out(fmt::format("iscsiadm version {}\n", config::record_format_version));
    exit_code = 0;
    return std::nullopt;
  }
  if (optind < argc) {
    console.err(fmt::format("unrecognized character '{}'", argv[optind][0]));
    return std::nullopt;
  }
  if (options.kill_priority) return options;
  if (options.mode == Mode::none) {
    console.raw_err("Try `iscsiadm --help' for more information.");
    return std::nullopt;
  }
  if (options.mode == Mode::unknown) {
    console.err("mode -1 is not yet supported");
    return std::nullopt;
  }
  if (!parser.verify()) return std::nullopt;
  exit_code = 0;
  return options;
}

const char* usage_text() noexcept {
  return "iscsiadm -m discoverydb [-hV] [-P printlevel] [-t type -p ip:port -I ifaceN ... [-Dl]] | "
         "[[-p ip:port -t type] [-o operation] [-n name] [-v value] [-lD]]\n"
         "iscsiadm -m discovery [-hV] [-P printlevel] [-t type -p ip:port -I ifaceN ... [-l]] | [[-p "
         "ip:port] [-l | -D]] [-W]\n"
         "iscsiadm -m node [-hV] [-P printlevel] [-L all,manual,automatic,onboot] [-W] [-U "
         "all,manual,automatic,onboot] [-S] "
         "[[-T targetname -p ip:port -I ifaceN] [-l | -u | -R | -s]] [[-o operation] [-n name] [-v value]]\n"
         "iscsiadm -m session [-hV] [-P printlevel] [-r sessionid [-R | -u | -s] [-o operation] [-n name] "
         "[-v value]]\n"
         "iscsiadm -m iface [-hV] [-P printlevel] [-I ifacename] [[-o operation] [-n name] [-v value]]\n"
         "iscsiadm -m host [-P printlevel]\n"
         "iscsiadm -k priority\n"
         "\n"
         "  iscsiadm -m discovery -t sendtargets -p 192.0.2.10       find targets, keep their records\n"
         "  iscsiadm -m node -T IQN -p 192.0.2.10 --login            log in; its disks become /dev/loopN\n"
         "  iscsiadm -m session -P 3                                 sessions with their disks\n"
         "  iscsiadm -m node -T IQN -o update -n node.startup -v automatic\n"
         "  iscsiadm -m node -T IQN -p 192.0.2.10 --logout\n"
         "\n"
         "operations: new delete update show nonpersistent; types: sendtargets (st)\n"
         "environment: PERILUNE_CONFIG (/etc/iscsi), PERILUNE_SOCKET (/run/perilune/iscsid.sock), "
         "PERILUNE_NO_AUTOSTART\n";
}

}  // namespace perilune::cli::iscsiadm
