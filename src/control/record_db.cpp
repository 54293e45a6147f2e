// SPDX-License-Identifier: Apache-2.0
#include "control/record_db.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>

namespace perilune::control {
namespace {

using config::DiscoveryKey;
using config::NodeKey;
using config::Record;
using config::RecordKind;

constexpr std::string_view discovery_file = "st_config";

// Splits at commas from the right: "a,b,c" with two parts gives {"a", "b", "c"}; empty when there are not
// enough.
std::vector<std::string> split_from_right(std::string_view text, std::size_t parts) {
  std::vector<std::string> out;
  for (std::size_t i = 0; i < parts; ++i) {
    const auto comma = text.rfind(',');
    if (comma == std::string_view::npos) return {};
    out.emplace_back(text.substr(comma + 1));
    text = text.substr(0, comma);
  }
  out.emplace_back(text);
  std::reverse(out.begin(), out.end());
  return out;
}

template <class T>
bool to_number(std::string_view text, T& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size();
}

std::string portal_folder(const NodeKey& key) {
  return key.address + "," + std::to_string(key.port) + "," + std::to_string(key.tpgt);
}
std::string discovery_folder(const DiscoveryKey& key) { return key.address + "," + std::to_string(key.port); }

// A record without a known tag and for the default interface is one file, not a folder.
bool is_single_file(const NodeKey& key) { return key.tpgt == config::tpgt_unknown && key.iface == "default"; }
std::string single_file_name(const NodeKey& key) { return key.address + "," + std::to_string(key.port); }

std::string link_name(const NodeKey& key) {
  return key.target + "," + key.address + "," + std::to_string(key.port) + "," + std::to_string(key.tpgt) +
         "," + key.iface;
}

std::optional<NodeKey> parse_link_name(std::string_view name) {
  const auto parts = split_from_right(name, 4);
  if (parts.size() != 5) return std::nullopt;
  NodeKey key{parts[0], parts[1], 0, 0, parts[4]};
  if (!to_number(parts[2], key.port) || !to_number(parts[3], key.tpgt) || !key.validate())
    return std::nullopt;
  return key;
}

std::optional<NodeKey> parse_portal_folder(const std::string& target, std::string_view name) {
  const auto parts = split_from_right(name, 2);
  if (parts.size() != 3) return std::nullopt;
  NodeKey key{target, parts[0], 0, 0, "default"};
  if (!to_number(parts[1], key.port) || !to_number(parts[2], key.tpgt) || !key.validate())
    return std::nullopt;
  return key;
}

std::optional<NodeKey> parse_single_file(const std::string& target, std::string_view name) {
  const auto parts = split_from_right(name, 1);
  if (parts.size() != 2) return std::nullopt;
  NodeKey key{target, parts[0], 0, config::tpgt_unknown, "default"};
  if (!to_number(parts[1], key.port) || !key.validate()) return std::nullopt;
  return key;
}

std::optional<DiscoveryKey> parse_discovery_folder(std::string_view name) {
  const auto parts = split_from_right(name, 1);
  if (parts.size() != 2) return std::nullopt;
  DiscoveryKey key{parts[0], 0};
  if (!to_number(parts[1], key.port) || !key.validate()) return std::nullopt;
  return key;
}

Result<Record> read_record(int folder, const std::string& name, RecordKind kind) {
  const auto text = read_file(folder, name, config::max_record_bytes);
  if (!text) return tl::unexpected(text.error());
  auto parsed = config::parse_record(kind, *text);
  if (!parsed) return tl::unexpected(parsed.error());
  return std::move(parsed->record);
}

// FNV-1a: a name from an id, not a secret.
std::uint64_t fnv1a(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return hash;
}

std::string make_initiator_name(const std::string& root) {
  std::string seed;
  const Fd etc(::open("/etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (const auto id = read_file(etc.get(), "machine-id", 256); id && id->size() >= 32) seed = *id + root;
  std::uint64_t value = fnv1a(seed);
  if (seed.empty()) {
    if (::getrandom(&value, sizeof value, 0) != sizeof value) value = fnv1a(std::to_string(::getpid()));
  }
  char hex[17];
  std::snprintf(hex, sizeof hex, "%016llx", static_cast<unsigned long long>(value));
  return "iqn.2026-11.io.perilune:" + std::string(hex + 4);
}

bool is_missing(const Error& error) { return error.code == Errc::not_found; }

}  // namespace

bool is_builtin_iface(std::string_view name) noexcept { return name == "default" || name == "iser"; }

Record builtin_iface(std::string_view name) {
  Record record(RecordKind::iface);
  const bool good = record.set("iface.iscsi_ifacename", name) &&
                    record.set("iface.transport_name", name == "iser" ? "iser" : "tcp");
  (void)good;
  return record;
}

std::string RecordDb::default_root() {
  const char* given = std::getenv("PERILUNE_CONFIG");
  return given != nullptr && *given != '\0' ? given : "/etc/iscsi";
}

RecordDb::RecordDb(std::string root) : root_(std::move(root)), record_root_(root_) {
  const auto is_folder = [](const char* path) {
    struct stat status {};
    return ::stat(path, &status) == 0 && S_ISDIR(status.st_mode);
  };
  if (root_ == "/etc/iscsi" && !is_folder("/etc/iscsi/nodes") && is_folder("/var/lib/iscsi/nodes")) {
    record_root_ = "/var/lib/iscsi";
  }
}

Result<Fd> RecordDb::open_path(const std::vector<std::string>& names, bool create) const {
  if (create && ::mkdir(record_root_.c_str(), 0755) != 0 && errno != EEXIST) {
    return fail_errno(errno, "cannot make folder " + record_root_);
  }
  Fd folder(::open(record_root_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid()) return fail_errno(errno, "cannot open folder " + record_root_);
  for (const std::string& name : names) {
    auto next = open_folder(folder.get(), name, create);
    if (!next) return next;
    folder = std::move(*next);
  }
  return folder;
}

Result<Fd> RecordDb::lock() const {
  auto folder = open_path({}, true);
  if (!folder) return folder;
  Fd file(::openat(folder->get(), ".lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file.valid()) return fail_errno(errno, "cannot lock " + record_root_);
  while (::flock(file.get(), LOCK_EX) != 0) {
    if (errno != EINTR) return fail_errno(errno, "cannot lock " + record_root_);
  }
  return file;
}

Result<config::IscsidConf> RecordDb::load_conf() const {
  const Fd folder(::open(root_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid()) return config::IscsidConf{};
  const auto text = read_file(folder.get(), "iscsid.conf", config::max_conf_bytes);
  if (!text && is_missing(text.error())) return config::IscsidConf{};
  if (!text) return tl::unexpected(text.error());
  return config::parse_iscsid_conf(*text);
}

Result<config::InitiatorName> RecordDb::load_initiator_name() const {
  const Fd folder(::open(root_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid()) return fail_errno(errno, "cannot open folder " + root_);
  const auto text = read_file(folder.get(), "initiatorname.iscsi", config::max_conf_bytes);
  if (!text) return tl::unexpected(text.error());
  auto name = config::parse_initiator_name(*text);
  if (!name) name.error().message = root_ + "/initiatorname.iscsi: " + name.error().message;
  return name;
}

Result<config::InitiatorName> RecordDb::load_or_create_initiator_name() const {
  auto name = load_initiator_name();
  if (name || !is_missing(name.error()) || name.error().os_errno == 0) return name;
  const auto held = lock();
  if (!held) return tl::unexpected(held.error());
  name = load_initiator_name();  // another may have been first
  if (name || !is_missing(name.error())) return name;
  ::mkdir(root_.c_str(), 0755);
  const Fd folder(::open(root_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid()) return fail_errno(errno, "cannot open folder " + root_);
  const config::InitiatorName made{make_initiator_name(root_), {}};
  const auto done = write_file(folder.get(), "initiatorname.iscsi", config::format_initiator_name(made));
  if (!done) return tl::unexpected(done.error());
  return made;
}

Result<std::vector<NodeKey>> RecordDb::list_nodes() const {
  std::vector<NodeKey> keys;
  const auto nodes = open_path({"nodes"}, false);
  if (!nodes && is_missing(nodes.error())) return keys;
  if (!nodes) return tl::unexpected(nodes.error());
  const auto targets = list_folder(nodes->get());
  if (!targets) return tl::unexpected(targets.error());
  for (const Entry& target : *targets) {
    if (!target.is_folder) continue;
    const auto folder = open_folder(nodes->get(), target.name, false);
    if (!folder) continue;
    const auto portals = list_folder(folder->get());
    if (!portals) continue;
    for (const Entry& portal : *portals) {
      if (portal.is_link) continue;
      if (!portal.is_folder) {
        if (const auto key = parse_single_file(target.name, portal.name)) keys.push_back(*key);
        continue;
      }
      const auto key = parse_portal_folder(target.name, portal.name);
      const auto inner = open_folder(folder->get(), portal.name, false);
      if (!key || !inner) continue;
      const auto ifaces = list_folder(inner->get());
      if (!ifaces) continue;
      for (const Entry& iface : *ifaces) {
        NodeKey full = *key;
        full.iface = iface.name;
        if (!iface.is_folder && !iface.is_link && full.validate()) keys.push_back(std::move(full));
      }
    }
  }
  return keys;
}

Result<Record> RecordDb::read_node(const NodeKey& key) const {
  if (const auto good = key.validate(); !good) return tl::unexpected(good.error());
  const bool single = is_single_file(key);
  const auto folder = single ? open_path({"nodes", key.target}, false)
                             : open_path({"nodes", key.target, portal_folder(key)}, false);
  if (!folder) return tl::unexpected(folder.error());
  auto record = read_record(folder->get(), single ? single_file_name(key) : key.iface, RecordKind::node);
  // The place of the file is the truth about what it is the record of.
  if (record) key.put_into(*record);
  return record;
}

Status RecordDb::write_node(const Record& node) const {
  const NodeKey key = NodeKey::of(node);
  if (auto good = key.validate(); !good) return good;
  const auto target = open_path({"nodes", key.target}, true);
  if (!target) return tl::unexpected(target.error());
  if (is_single_file(key)) return write_file(target->get(), single_file_name(key), node.store());
  const auto folder = open_folder(target->get(), portal_folder(key), true);
  if (!folder) return tl::unexpected(folder.error());
  if (auto done = write_file(folder->get(), key.iface, node.store()); !done) return done;
  // Now that the tag is known, the file for the unknown one is out of date.
  if (key.iface == "default") return remove_file(target->get(), single_file_name(key));
  return {};
}

Status RecordDb::remove_links_to(const NodeKey& key) const {
  const auto discoveries = list_discoveries();
  if (!discoveries) return tl::unexpected(discoveries.error());
  for (const DiscoveryKey& discovery : *discoveries) {
    const auto folder = open_path({"send_targets", discovery_folder(discovery)}, false);
    if (!folder) continue;  // a single file has no links
    if (auto done = remove_file(folder->get(), link_name(key)); !done) return done;
  }
  return {};
}

Status RecordDb::remove_node(const NodeKey& key) const {
  if (auto good = key.validate(); !good) return good;
  const auto nodes = open_path({"nodes"}, false);
  const auto target = open_path({"nodes", key.target}, false);
  if (!nodes || !target) return fail(Errc::not_found, "no such record");
  if (is_single_file(key)) {
    if (auto done = remove_file(target->get(), single_file_name(key)); !done) return done;
  } else {
    const auto folder = open_folder(target->get(), portal_folder(key), false);
    if (!folder) return fail(Errc::not_found, "no such record");
    if (auto done = remove_file(folder->get(), key.iface); !done) return done;
    if (auto done = remove_folder_if_empty(target->get(), portal_folder(key)); !done) return done;
  }
  if (auto done = remove_folder_if_empty(nodes->get(), key.target); !done) return done;
  return remove_links_to(key);
}

Result<std::vector<DiscoveryKey>> RecordDb::list_discoveries() const {
  std::vector<DiscoveryKey> keys;
  const auto folder = open_path({"send_targets"}, false);
  if (!folder && is_missing(folder.error())) return keys;
  if (!folder) return tl::unexpected(folder.error());
  const auto entries = list_folder(folder->get());
  if (!entries) return tl::unexpected(entries.error());
  for (const Entry& entry : *entries) {
    if (entry.is_link) continue;
    if (auto key = parse_discovery_folder(entry.name)) keys.push_back(std::move(*key));
  }
  return keys;
}

Result<Record> RecordDb::read_discovery(const DiscoveryKey& key) const {
  if (const auto good = key.validate(); !good) return tl::unexpected(good.error());
  const auto folder = open_path({"send_targets", discovery_folder(key)}, false);
  auto record = [&]() -> Result<Record> {
    if (folder) return read_record(folder->get(), std::string(discovery_file), RecordKind::send_targets);
    // Older versions keep it as one file.
    const auto parent = open_path({"send_targets"}, false);
    if (!parent) return tl::unexpected(parent.error());
    return read_record(parent->get(), discovery_folder(key), RecordKind::send_targets);
  }();
  if (record) {
    const bool good = record->set("discovery.sendtargets.address", key.address) &&
                      record->set("discovery.sendtargets.port", std::to_string(key.port));
    if (!good) return fail(Errc::invalid_argument, "the discovery address is not valid");
  }
  return record;
}

Status RecordDb::write_discovery(const Record& send_targets) const {
  const DiscoveryKey key = DiscoveryKey::of(send_targets);
  if (auto good = key.validate(); !good) return good;
  const auto parent = open_path({"send_targets"}, true);
  if (!parent) return tl::unexpected(parent.error());
  struct stat status {};
  const std::string name = discovery_folder(key);
  if (::fstatat(parent->get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(status.st_mode)) {
    if (auto done = remove_file(parent->get(), name); !done) return done;
  }
  const auto folder = open_folder(parent->get(), name, true);
  if (!folder) return tl::unexpected(folder.error());
  return write_file(folder->get(), std::string(discovery_file), send_targets.store());
}

Status RecordDb::remove_discovery(const DiscoveryKey& key) const {
  if (auto good = key.validate(); !good) return good;
  const auto parent = open_path({"send_targets"}, false);
  if (!parent) return fail(Errc::not_found, "no such record");
  const std::string name = discovery_folder(key);
  const auto folder = open_folder(parent->get(), name, false);
  if (!folder) return remove_file(parent->get(), name);
  const auto entries = list_folder(folder->get());
  if (!entries) return tl::unexpected(entries.error());
  for (const Entry& entry : *entries) {
    if (entry.is_folder) continue;
    if (auto done = remove_file(folder->get(), entry.name); !done) return done;
  }
  return remove_folder_if_empty(parent->get(), name);
}

Result<std::vector<NodeKey>> RecordDb::linked_nodes(const DiscoveryKey& key) const {
  std::vector<NodeKey> keys;
  const auto folder = open_path({"send_targets", discovery_folder(key)}, false);
  if (!folder) return keys;
  const auto entries = list_folder(folder->get());
  if (!entries) return tl::unexpected(entries.error());
  for (const Entry& entry : *entries) {
    if (!entry.is_link) continue;
    if (auto node = parse_link_name(entry.name)) keys.push_back(std::move(*node));
  }
  return keys;
}

Status RecordDb::link_node(const DiscoveryKey& discovery, const NodeKey& node) const {
  if (auto good = discovery.validate(); !good) return good;
  if (auto good = node.validate(); !good) return good;
  const auto folder = open_path({"send_targets", discovery_folder(discovery)}, true);
  if (!folder) return tl::unexpected(folder.error());
  const std::string goal = record_root_ + "/nodes/" + node.target + "/" + portal_folder(node);
  if (auto done = remove_file(folder->get(), link_name(node)); !done) return done;
  if (::symlinkat(goal.c_str(), folder->get(), link_name(node).c_str()) != 0) {
    return fail_errno(errno, "cannot link the record");
  }
  return {};
}

Result<std::vector<Record>> RecordDb::list_ifaces() const {
  std::vector<Record> records;
  const auto folder = open_path({"ifaces"}, false);
  if (!folder && is_missing(folder.error())) return records;
  if (!folder) return tl::unexpected(folder.error());
  const auto entries = list_folder(folder->get());
  if (!entries) return tl::unexpected(entries.error());
  for (const Entry& entry : *entries) {
    if (entry.is_folder || entry.is_link || is_builtin_iface(entry.name)) continue;
    if (auto record = read_iface(entry.name)) records.push_back(std::move(*record));
  }
  return records;
}

Result<Record> RecordDb::read_iface(const std::string& name) const {
  if (is_builtin_iface(name)) return builtin_iface(name);
  if (!config::is_safe_iface_name(name))
    return fail(Errc::invalid_argument, "the interface name is not valid");
  const auto folder = open_path({"ifaces"}, false);
  if (!folder) return tl::unexpected(folder.error());
  auto record = read_record(folder->get(), name, RecordKind::iface);
  if (record && !record->set("iface.iscsi_ifacename", name)) {
    return fail(Errc::invalid_argument, "the interface name is not valid");
  }
  return record;
}

Status RecordDb::write_iface(const Record& iface) const {
  const std::string& name = iface.get("iface.iscsi_ifacename");
  if (!config::is_safe_iface_name(name) || is_builtin_iface(name)) {
    return fail(Errc::invalid_argument, "the interface name is not valid");
  }
  const auto folder = open_path({"ifaces"}, true);
  if (!folder) return tl::unexpected(folder.error());
  return write_file(folder->get(), name, iface.store());
}

Status RecordDb::remove_iface(const std::string& name) const {
  if (!config::is_safe_iface_name(name))
    return fail(Errc::invalid_argument, "the interface name is not valid");
  const auto folder = open_path({"ifaces"}, false);
  if (!folder) return fail(Errc::not_found, "no such interface");
  return remove_file(folder->get(), name);
}

}  // namespace perilune::control
