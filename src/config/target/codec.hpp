// SPDX-License-Identifier: Apache-2.0
// The own values of objects as JSON, with the keys of LIO's saveconfig.json. saveconfig.json and the journal
// are made of these. Pure; any thread.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "config/target/change.hpp"
#include "config/target/json_text.hpp"

namespace perilune::config::target {

// What somebody should hear about a file that was read all the same. Bounded; never a secret.
class Warnings {
 public:
  void add(std::string warning);
  [[nodiscard]] std::vector<std::string> take();

 private:
  static constexpr std::size_t max_shown = 100;
  std::vector<std::string> shown_;
  std::size_t more_ = 0;
};

// One JSON object, key by key. Errors stay: the first is given by finish().
class ObjectReader {
 public:
  // `where` begins the messages. `json` outlives this.
  ObjectReader(const Json& json, std::string where);

  // The key's value, or nullptr when it is absent or null. Counts as known from now on.
  const Json* take(const char* key);
  const Json* take_array(const char* key);
  // Leave `out` when the key is absent.
  void text(const char* key, std::string& out);
  void flag(const char* key, bool& out);  // 0 and 1 as well
  void number(const char* key, std::uint64_t& out, std::uint64_t max);
  void number(const char* key, std::uint16_t& out);
  void password(const std::string& key, Password& out);  // and KEY_from, which has a reference
  void chap(const std::string& prefix, Chap& out);
  void settings(const char* key, const FieldTable& table, Settings& out);
  // The rows of `table` as keys of this object itself.
  void settings_here(const FieldTable& table, Settings& out);
  // Fails the reading when the key is absent.
  void require(const char* key);
  void fail_with(std::string message);

  // What is left goes to `unknown` with a warning each.
  [[nodiscard]] Status finish(Unknown& unknown, Warnings& warnings);
  [[nodiscard]] const std::string& where() const noexcept { return where_; }

 private:
  void take_setting(const std::string& pointer, const std::string& name, const Json& value,
                    const FieldTable& table, Settings& out);

  const Json& json_;
  std::string where_;
  std::set<std::string, std::less<>> known_;
  Unknown unknown_;
  Status status_;
};

enum class Form : std::uint8_t {
  whole,    // every attribute: saveconfig.json
  changed,  // only what differs from the default: the journal
};

[[nodiscard]] Json to_json(const ForeignKey&, const Foreign&, Form);
[[nodiscard]] Json to_json(const DiscoveryKey&, const Discovery&, Form);
[[nodiscard]] Json to_json(const StorageKey&, const StorageObject&, Form);
[[nodiscard]] Json to_json(const AluaGroupKey&, const AluaGroup&, Form);
[[nodiscard]] Json to_json(const TargetKey&, const Target&, Form);
[[nodiscard]] Json to_json(const PortalGroupKey&, const PortalGroup&, Form);
[[nodiscard]] Json to_json(const PortalKey&, const Portal&, Form);
[[nodiscard]] Json to_json(const LunKey&, const Lun&, Form);
[[nodiscard]] Json to_json(const NodeAclKey&, const NodeAcl&, Form);
[[nodiscard]] Json to_json(const MappedLunKey&, const MappedLun&, Form);

// Take the keys of the own value from `reader`; the caller finishes it.
void from_json(const ForeignKey&, ObjectReader& reader, Foreign& out);
void from_json(const DiscoveryKey&, ObjectReader& reader, Discovery& out);
void from_json(const StorageKey&, ObjectReader& reader, StorageObject& out);
void from_json(const AluaGroupKey&, ObjectReader& reader, AluaGroup& out);
void from_json(const TargetKey&, ObjectReader& reader, Target& out);
void from_json(const PortalGroupKey&, ObjectReader& reader, PortalGroup& out);
void from_json(const PortalKey&, ObjectReader& reader, Portal& out);
void from_json(const LunKey&, ObjectReader& reader, Lun& out);
void from_json(const NodeAclKey&, ObjectReader& reader, NodeAcl& out);
void from_json(const MappedLunKey&, ObjectReader& reader, MappedLun& out);

// "/backstores/fileio/disk" as saveconfig.json refers to an object. Fails with invalid_argument or
// unsupported (a plugin that we do not have).
[[nodiscard]] Result<StorageKey> parse_storage_path(std::string_view path);

// A change and back: {"do": "add", "kind": "lun", "key": {...}, "value": {...}}. from_json fails with
// invalid_argument.
[[nodiscard]] Json change_to_json(const Change& change);
[[nodiscard]] Result<Change> change_from_json(const Json& json);

}  // namespace perilune::config::target
