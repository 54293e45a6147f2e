// SPDX-License-Identifier: Apache-2.0
#include "cli/tgt/options.hpp"

#include <algorithm>
#include <array>

namespace perilune::cli::tgt {
namespace {

struct Row {
  char letter;
  std::string_view name;
  bool has_value;
};
constexpr std::array rows{
    Row{'L', "lld", true},
    Row{'o', "op", true},
    Row{'m', "mode", true},
    Row{'t', "tid", true},
    Row{'s', "sid", true},
    Row{'c', "cid", true},
    Row{'l', "lun", true},
    Row{'n', "name", true},
    Row{'v', "value", true},
    Row{'b', "backing-store", true},
    Row{'E', "bstype", true},
    Row{'f', "bsoflags", true},
    Row{'S', "bsopts", true},
    Row{'y', "blocksize", true},
    Row{'T', "targetname", true},
    Row{'I', "initiator-address", true},
    Row{'Q', "initiator-name", true},
    Row{'u', "user", true},
    Row{'p', "password", true},
    Row{'H', "host", true},
    Row{'B', "bus", true},
    Row{'P', "params", true},
    Row{'Y', "device-type", true},
    Row{'C', "control-port", true},
    Row{'O', "outgoing", false},
    Row{'F', "force", false},
    Row{'d', "debug", false},
    Row{'h', "help", false},
    Row{'V', "version", false},
};

const Row* by_letter(char letter) {
  const auto at =
      std::find_if(rows.begin(), rows.end(), [&](const Row& row) { return row.letter == letter; });
  return at == rows.end() ? nullptr : &*at;
}

// nullptr when there is none, or several that begin so.
const Row* by_name(std::string_view name) {
  const Row* found = nullptr;
  for (const Row& row : rows) {
    if (row.name == name) return &row;
    if (!row.name.starts_with(name)) continue;
    if (found != nullptr) return nullptr;
    found = &row;
  }
  return found;
}

std::optional<Mode> mode_of(std::string_view word) {
  struct Name {
    std::string_view name;
    Mode mode;
  };
  constexpr std::array names{
      Name{"system", Mode::system},
      Name{"sys", Mode::system},
      Name{"target", Mode::target},
      Name{"tgt", Mode::target},
      Name{"logicalunit", Mode::logical_unit},
      Name{"lu", Mode::logical_unit},
      Name{"portal", Mode::portal},
      Name{"pt", Mode::portal},
      Name{"session", Mode::session},
      Name{"sess", Mode::session},
      Name{"connection", Mode::connection},
      Name{"conn", Mode::connection},
      Name{"account", Mode::account},
      Name{"lld", Mode::lld},
  };
  const auto at = std::find_if(names.begin(), names.end(), [&](const Name& row) { return row.name == word; });
  return at == names.end() ? std::nullopt : std::optional(at->mode);
}

class Parser {
 public:
  explicit Parser(std::span<const std::string> words) : words_(words) {}

  OptionsOrFailure run() {
    while (at_ < words_.size() && !failure_) {
      const std::string& word = words_[at_++];
      if (word.starts_with("--"))
        take_long(std::string_view(word).substr(2));
      else if (word.size() > 1 && word.front() == '-')
        take_short(std::string_view(word).substr(1));
      else
        fail("unrecognized option '" + word + "'", "tgtadm --help lists them");
    }
    if (!failure_ && !options_.has("help") && !options_.has("version")) check();
    return {std::move(options_), std::move(failure_)};
  }

 private:
  void fail(std::string message, std::string hint, int exit_code = 22) {
    failure_ = Failure{std::move(message), std::move(hint), exit_code};
  }

  void take_long(std::string_view word) {
    const auto equals = word.find('=');
    const Row* const row = by_name(word.substr(0, equals));
    if (row == nullptr)
      return fail("unrecognized option '--" + std::string(word.substr(0, equals)) + "'",
                  "tgtadm --help lists them");
    if (!row->has_value) {
      options_.values[std::string(row->name)];
    } else if (equals != std::string_view::npos) {
      options_.values[std::string(row->name)] = word.substr(equals + 1);
    } else {
      take_value(*row);
    }
  }

  void take_short(std::string_view letters) {
    while (!letters.empty()) {
      const Row* const row = by_letter(letters.front());
      if (row == nullptr)
        return fail("unrecognized option '-" + std::string(1, letters.front()) + "'",
                    "tgtadm --help lists them");
      letters.remove_prefix(1);
      if (!row->has_value) {
        options_.values[std::string(row->name)];
        continue;
      }
      if (letters.empty()) return take_value(*row);
      options_.values[std::string(row->name)] = letters;
      return;
    }
  }

  void take_value(const Row& row) {
    if (at_ == words_.size())
      return fail("option '--" + std::string(row.name) + "' requires an argument", "");
    options_.values[std::string(row.name)] = words_[at_++];
  }

  void check() {
    const std::string* const operation = options_.find("op");
    const std::string* const mode = options_.find("mode");
    constexpr std::array operations{"new",    "delete", "bind",  "unbind", "show",
                                    "update", "stat",   "start", "stop"};
    if (operation == nullptr)
      return fail("specify the operation type", "--op new, delete, bind, unbind, show or update");
    if (std::find(operations.begin(), operations.end(), *operation) == operations.end())
      return fail("unknown operation: " + *operation, "", 1);
    if (mode == nullptr)
      return fail("specify the mode", "--mode target, logicalunit, account, portal, connection or system");
    const auto known = mode_of(*mode);
    if (!known) return fail("unknown mode: " + *mode, "", 1);
    options_.mode = *known;
    options_.operation = *operation;
  }

  std::span<const std::string> words_;
  std::size_t at_ = 0;
  Options options_;
  std::optional<Failure> failure_;
};

}  // namespace

OptionsOrFailure parse_options(std::span<const std::string> words) { return Parser(words).run(); }

std::string_view tgtadm_usage() noexcept {
  return "Usage: tgtadm --lld iscsi --mode MODE --op OPERATION [OPTION...]\n\n"
         "Administers the target daemon (perilune targetd), used as tgt's tgtadm.\n\n"
         "  --mode target --op new --tid N --targetname NAME      make a target\n"
         "  --mode target --op delete --tid N [--force]           remove it with its LUNs; --force: with its "
         "sessions\n"
         "  --mode target --op show [--tid N]                     show all targets, or the parameters of "
         "one\n"
         "  --mode target --op update --tid N --name P --value V  set a parameter, or `state` to ready or "
         "offline\n"
         "  --mode target --op bind|unbind --tid N --initiator-address ALL|ADDR[/N] | --initiator-name NAME\n"
         "  --mode logicalunit --op new --tid N --lun L --backing-store PATH [--bstype T] [--bsoflags "
         "sync:direct]\n"
         "                 [--blocksize BYTES] [--device-type disk|pt]\n"
         "  --mode logicalunit --op update --tid N --lun L --params "
         "readonly=1,thin_provisioning=1,scsi_sn=S\n"
         "  --mode logicalunit --op delete --tid N --lun L\n"
         "  --mode account --op new --user NAME --password SECRET, --op delete --user NAME, --op show\n"
         "  --mode account --op bind|unbind --tid N --user NAME [--outgoing]\n"
         "  --mode portal --op new|delete --param portal=ADDRESS[:PORT], --op show\n"
         "  --mode account --op bind|unbind --user NAME [--outgoing]   for discovery, where no target is "
         "named\n"
         "  --mode connection --op show --tid N\n"
         "  --mode connection --op delete --tid N --sid S --cid C drop it; the initiator may come again\n"
         "  --mode system --op show\n\n"
         "What is not there of the original, and why: docs/COMPATIBILITY.md.\n";
}

}  // namespace perilune::cli::tgt
