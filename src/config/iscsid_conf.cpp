// SPDX-License-Identifier: Apache-2.0
#include "config/iscsid_conf.hpp"

#include <algorithm>
#include <utility>

#include "base/limits.hpp"

namespace perilune::config {
namespace {

constexpr std::size_t max_other_keys = 256;
constexpr std::size_t max_warnings = 64;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

// Calls use(line, line_number) for each line.
template <class Use>
void for_each_line(std::string_view text, Use use) {
  for (std::size_t number = 1; !text.empty(); ++number) {
    const auto end = text.find('\n');
    use(text.substr(0, end), number);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
}

// The key under which our table knows it.
std::string_view table_name(std::string_view name) {
  return name == "discovery.sendtargets.auth.chap_algs" ? "node.session.auth.chap_algs" : name;
}

class ConfReader {
 public:
  explicit ConfReader(IscsidConf& conf) : conf_(conf) {}

  void line(std::string_view text, std::size_t number) {
    const auto pair = parse_key_value(text);
    if (!pair) return warn(number, pair.error().message);
    if (pair->name.empty()) return;
    const auto taken = assign(pair->name, pair->value);
    if (!taken) warn(number, taken.error().message);
  }

 private:
  Status assign(std::string_view name, std::string_view value) {
    if (name == "iscsid.startup") {
      conf_.startup = value;
      return {};
    }
    if (name == "iscsid.safe_logout") {
      if (value != "Yes" && value != "No")
        return fail(Errc::invalid_argument, "iscsid.safe_logout is Yes or No");
      conf_.safe_logout = value == "Yes";
      return {};
    }
    if (name == "discovery.sendtargets.auth.chap_algs")
      return conf_.send_targets.set(table_name(name), value);
    if (find_field(RecordKind::node, name) >= 0) return set_default(conf_.node, name, value);
    if (find_field(RecordKind::send_targets, name) >= 0) return set_default(conf_.send_targets, name, value);
    if (conf_.other.size() < max_other_keys) conf_.other.emplace_back(name, value);
    if (name == "iscsid.ipc_auth_uid" || name.starts_with("isns.") || name.starts_with("discovery.isns."))
      return {};
    return fail(Errc::not_found, "unknown key " + std::string(name) + " (kept)");
  }

  static Status set_default(Record& record, std::string_view name, std::string_view value) {
    const int index = find_field(record.kind(), name);
    if ((fields(record.kind())[static_cast<std::size_t>(index)].flags & key) != 0) {
      return fail(Errc::invalid_argument, std::string(name) + " belongs to a record and has no default");
    }
    return record.set(name, value);
  }

  void warn(std::size_t number, std::string_view message) {
    if (conf_.warnings.size() < max_warnings) {
      conf_.warnings.push_back("line " + std::to_string(number) + ": " + std::string(message));
    }
  }

  IscsidConf& conf_;
};

bool is_iqn(std::string_view name) {
  // iqn.YYYY-MM.domain
  if (name.size() < 13 || !name.starts_with("iqn.") || name[8] != '-' || name[11] != '.') return false;
  for (const std::size_t at : {4U, 5U, 6U, 7U, 9U, 10U}) {
    if (!is_digit(name[at])) return false;
  }
  return true;
}

}  // namespace

Result<IscsidConf> parse_iscsid_conf(std::string_view text) {
  if (text.size() > max_conf_bytes) return fail(Errc::limit, "iscsid.conf is longer than 1 MiB");
  if (text.find('\0') != std::string_view::npos)
    return fail(Errc::invalid_argument, "iscsid.conf is not text");
  IscsidConf conf;
  ConfReader reader(conf);
  for_each_line(text, [&](std::string_view line, std::size_t number) { reader.line(line, number); });
  return conf;
}

Result<InitiatorName> parse_initiator_name(std::string_view text) {
  if (text.size() > max_conf_bytes) return fail(Errc::limit, "the file is too long");
  InitiatorName found;
  for_each_line(text, [&](std::string_view line, std::size_t) {
    const auto pair = parse_key_value(line);
    if (!pair) return;
    if (pair->name == "InitiatorName") found.name = pair->value;
    if (pair->name == "InitiatorAlias") found.alias = pair->value;
  });
  if (found.name.empty()) return fail(Errc::not_found, "there is no InitiatorName= line");
  if (!is_iscsi_name(found.name)) {
    return fail(Errc::invalid_argument, "InitiatorName is not an iSCSI name (iqn., eui. or naa.)");
  }
  if (found.alias.size() > 255)
    return fail(Errc::invalid_argument, "InitiatorAlias is longer than 255 bytes");
  return found;
}

std::string format_initiator_name(const InitiatorName& name) {
  std::string out = "InitiatorName=" + name.name + "\n";
  if (!name.alias.empty()) out += "InitiatorAlias=" + name.alias + "\n";
  return out;
}

bool is_safe_target_name(std::string_view name) noexcept {
  if (name.empty() || name.size() > limits::max_iscsi_name_bytes || name.front() == '.') return false;
  return std::none_of(name.begin(), name.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte <= 0x20 || byte == 0x7f || c == '/' || c == ',';
  });
}

bool is_iscsi_name(std::string_view name) noexcept {
  if (!is_safe_target_name(name)) return false;
  if (is_iqn(name)) return true;
  const bool hex = name.size() > 4 && std::all_of(name.begin() + 4, name.end(), is_hex);
  if (name.starts_with("eui.")) return hex && name.size() == 20;
  return name.starts_with("naa.") && hex && (name.size() == 20 || name.size() == 36);
}

bool is_safe_iface_name(std::string_view name) noexcept {
  if (name.empty() || name.size() > 64 || name.front() == '.') return false;
  return std::none_of(name.begin(), name.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7f || c == '/' || c == ',';
  });
}

}  // namespace perilune::config
