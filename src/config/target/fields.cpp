// SPDX-License-Identifier: Apache-2.0
#include "config/target/fields.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "base/assert.hpp"

namespace perilune::config::target {
namespace {

constexpr std::int64_t max_u32 = 4294967295;

constexpr Field flag(std::string_view name, std::string_view initial) {
  return {name, FieldKind::number, 0, 1, {}, initial};
}
constexpr Field number(std::string_view name, std::int64_t min, std::int64_t max, std::string_view initial) {
  return {name, FieldKind::number, min, max, {}, initial};
}
constexpr Field choice(std::string_view name, std::string_view choices, std::string_view initial) {
  return {name, FieldKind::choice, 0, 0, choices, initial};
}

// The defaults that a plugin decides. Empty: the device's.
struct StorageDefaults {
  std::string_view block_size, write_cache, is_nonrot, unmap_descriptors, unmap_blocks, write_same_blocks;
  std::string_view optimal_sectors, queue_depth, unmap_granularity, unmap_alignment, unmap_zeroes;
};
constexpr StorageDefaults of_fileio{"512", "0", "0", "1", "8192", "4096", "16384", "128", "1", "0", "0"};
constexpr StorageDefaults of_ramdisk{"512", "0", "1", "0", "0", "0", "4294967288", "128", "0", "0", "0"};
constexpr StorageDefaults of_block{"", "0", "", "", "", "", "", "", "", "", ""};

constexpr auto storage_rows(const StorageDefaults& d) {
  return std::array{
      choice("alua_support", "1", "1"),  // it cannot be taken away, as in LIO; nor can pgr_support
      choice("block_size", "512 1024 2048 4096", d.block_size),
      flag("emulate_3pc", "1"),
      flag("emulate_caw", "1"),
      flag("emulate_dpo", "1"),
      flag("emulate_fua_read", "1"),
      flag("emulate_fua_write", "1"),
      flag("emulate_model_alias", "1"),
      flag("emulate_pr", "1"),
      choice("emulate_rest_reord", "0", "0"),  // LIO has no other reordering either
      flag("emulate_tas", "1"),
      flag("emulate_tpu", "0"),
      flag("emulate_tpws", "0"),
      number("emulate_ua_intlck_ctrl", 0, 2, "0"),
      flag("emulate_write_cache", d.write_cache),
      flag("enforce_pr_isids", "1"),
      flag("force_pr_aptpl", "0"),
      flag("is_nonrot", d.is_nonrot),
      number("max_unmap_block_desc_count", 0, max_u32, d.unmap_descriptors),
      number("max_unmap_lba_count", 0, max_u32, d.unmap_blocks),
      number("max_write_same_len", 0, max_u32, d.write_same_blocks),
      number("optimal_sectors", 0, max_u32, d.optimal_sectors),
      choice("pgr_support", "1", "1"),
      flag("pi_prot_format", "0"),
      choice("pi_prot_type", "0 1 3", "0"),
      flag("pi_prot_verify", "0"),
      number("queue_depth", 1, max_u32, d.queue_depth),
      number("unmap_granularity", 0, max_u32, d.unmap_granularity),
      number("unmap_granularity_alignment", 0, max_u32, d.unmap_alignment),
      flag("unmap_zeroes_data", d.unmap_zeroes),
  };
}

constexpr auto fileio_rows = storage_rows(of_fileio);
constexpr auto ramdisk_rows = storage_rows(of_ramdisk);
constexpr auto block_rows = storage_rows(of_block);
constexpr std::array pscsi_rows{choice("alua_support", "0", "0"), flag("emulate_pr", "1"),
                                choice("pgr_support", "0", "0")};

constexpr std::array target_rows{number("cmd_completion_affinity", -2, 65535, "-1")};

// The defaults of the kernel. targetcli sets authentication to 0 when it makes a group.
constexpr std::array group_attribute_rows{
    flag("authentication", "1"),
    flag("cache_dynamic_acls", "0"),
    number("default_cmdsn_depth", 1, 512, "64"),
    number("default_erl", 0, 2, "0"),
    flag("demo_mode_discovery", "1"),
    flag("demo_mode_write_protect", "1"),
    choice("fabric_prot_type", "0 1 3", "0"),
    flag("generate_node_acls", "0"),
    flag("login_keys_workaround", "1"),
    number("login_timeout", 5, 30, "15"),
    number("netif_timeout", 2, 15, "2"),
    flag("prod_mode_write_protect", "0"),
    flag("t10_pi", "0"),
    flag("tpg_enabled_sendtargets", "1"),
};

constexpr std::string_view digests = "None CRC32C CRC32C,None None,CRC32C";
constexpr std::string_view yes_no = "Yes No";
constexpr std::int64_t max_burst = 16777215;

constexpr std::array group_parameter_rows{
    choice("AuthMethod", "None CHAP CHAP,None None,CHAP", "CHAP,None"),
    choice("DataDigest", digests, "CRC32C,None"),
    choice("DataPDUInOrder", yes_no, "Yes"),
    choice("DataSequenceInOrder", yes_no, "Yes"),
    number("DefaultTime2Retain", 0, 3600, "20"),
    number("DefaultTime2Wait", 0, 3600, "2"),
    number("ErrorRecoveryLevel", 0, 2, "0"),
    number("FirstBurstLength", 512, max_burst, "65536"),
    choice("HeaderDigest", digests, "CRC32C,None"),
    Field{"IFMarkInt", FieldKind::marker, 1, 65535, {}, "Reject"},
    choice("IFMarker", yes_no, "No"),
    choice("ImmediateData", yes_no, "Yes"),
    choice("InitialR2T", yes_no, "Yes"),
    number("MaxBurstLength", 512, max_burst, "262144"),
    number("MaxConnections", 1, 65535, "1"),
    number("MaxOutstandingR2T", 1, 65535, "1"),
    number("MaxRecvDataSegmentLength", 512, max_burst, "8192"),
    number("MaxXmitDataSegmentLength", 512, max_burst, "262144"),
    Field{"OFMarkInt", FieldKind::marker, 1, 65535, {}, "Reject"},
    choice("OFMarker", yes_no, "No"),
    Field{"TargetAlias", FieldKind::text, 0, 255, {}, "LIO Target"},
};

constexpr std::array acl_attribute_rows{
    number("authentication", -1, 1, "-1"),  // -1: what the portal group says
    number("dataout_timeout", 2, 60, "3"),
    number("dataout_timeout_retries", 1, 15, "5"),
    number("default_erl", 0, 2, "0"),
    number("nopin_response_timeout", 3, 60, "30"),
    Field{"nopin_timeout", FieldKind::number, 3, 60, {}, "15", true},  // 0: never
    flag("random_datain_pdu_offsets", "0"),
    flag("random_datain_seq_offsets", "0"),
    flag("random_r2t_offsets", "0"),
};

constexpr std::array alua_rows{
    choice("alua_access_state", "0 1 2 3 4 14 15", "0"),
    number("alua_access_status", 0, 2, "0"),
    number("alua_access_type", 0, 3, "3"),
    flag("alua_support_active_nonoptimized", "1"),
    flag("alua_support_active_optimized", "1"),
    flag("alua_support_offline", "1"),
    flag("alua_support_standby", "1"),
    flag("alua_support_transitioning", "1"),
    flag("alua_support_unavailable", "1"),
    flag("alua_write_metadata", "0"),
    number("implicit_trans_secs", 0, 255, "0"),
    number("nonop_delay_msecs", 0, 10000, "100"),
    flag("preferred", "0"),
    number("trans_delay_msecs", 0, 30000, "0"),
};

constexpr bool sorted(std::span<const Field> rows) {
  for (std::size_t i = 1; i < rows.size(); ++i) {
    if (!(rows[i - 1].name < rows[i].name)) return false;
  }
  return true;
}
static_assert(sorted(fileio_rows) && sorted(pscsi_rows) && sorted(group_attribute_rows) &&
              sorted(group_parameter_rows) && sorted(acl_attribute_rows) && sorted(alua_rows));

constexpr FieldTable fileio_table{fileio_rows, "attribute", false};
constexpr FieldTable ramdisk_table{ramdisk_rows, "attribute", false};
constexpr FieldTable block_table{block_rows, "attribute", false};
constexpr FieldTable pscsi_table{pscsi_rows, "attribute", false};
constexpr FieldTable target_table{target_rows, "parameter", true};
constexpr FieldTable group_attribute_table{group_attribute_rows, "attribute", false};
constexpr FieldTable group_parameter_table{group_parameter_rows, "parameter", true};
constexpr FieldTable acl_attribute_table{acl_attribute_rows, "attribute", false};
constexpr FieldTable alua_table{alua_rows, "alua parameter", false};

std::optional<std::int64_t> parse_number(std::string_view text) {
  std::int64_t value = 0;
  const auto end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || at != end) return std::nullopt;
  return value;
}

bool is_choice(std::string_view choices, std::string_view value) {
  while (!choices.empty()) {
    const auto end = std::min(choices.find(' '), choices.size());
    if (choices.substr(0, end) == value) return true;
    choices.remove_prefix(std::min(end + 1, choices.size()));
  }
  return false;
}

bool is_marker(const Field& field, std::string_view value) {
  if (value == "Reject") return true;
  const auto tilde = value.find('~');
  const auto low = parse_number(value.substr(0, tilde));
  const auto high = tilde == std::string_view::npos ? low : parse_number(value.substr(tilde + 1));
  return low && high && *low >= field.min && *low <= *high && *high <= field.max;
}

bool is_text(const Field& field, std::string_view value) {
  return value.size() <= static_cast<std::size_t>(field.max) &&
         std::none_of(value.begin(), value.end(),
                      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

auto bad_value(const Field& field, const std::string& legal) {
  return fail(Errc::invalid_argument, std::string(field.name) + " must be " + legal);
}

}  // namespace

std::string_view to_string(Plugin plugin) noexcept {
  switch (plugin) {
    case Plugin::block:
      return "block";
    case Plugin::fileio:
      return "fileio";
    case Plugin::pscsi:
      return "pscsi";
    case Plugin::ramdisk:
      return "ramdisk";
  }
  return "";
}

std::optional<Plugin> parse_plugin(std::string_view text) noexcept {
  for (const Plugin plugin : {Plugin::block, Plugin::fileio, Plugin::pscsi, Plugin::ramdisk}) {
    if (to_string(plugin) == text) return plugin;
  }
  return std::nullopt;
}

const Field* FieldTable::find(std::string_view name) const noexcept {
  const auto at =
      std::lower_bound(rows.begin(), rows.end(), name,
                       [](const Field& row, std::string_view wanted) { return row.name < wanted; });
  return at != rows.end() && at->name == name ? &*at : nullptr;
}

const FieldTable& storage_attributes(Plugin plugin) noexcept {
  switch (plugin) {
    case Plugin::block:
      return block_table;
    case Plugin::fileio:
      return fileio_table;
    case Plugin::pscsi:
      return pscsi_table;
    case Plugin::ramdisk:
      break;
  }
  return ramdisk_table;
}
const FieldTable& target_parameters() noexcept { return target_table; }
const FieldTable& group_attributes() noexcept { return group_attribute_table; }
const FieldTable& group_parameters() noexcept { return group_parameter_table; }
const FieldTable& acl_attributes() noexcept { return acl_attribute_table; }
const FieldTable& alua_parameters() noexcept { return alua_table; }

Result<std::string> canonical_value(const Field& field, std::string_view value) {
  switch (field.kind) {
    case FieldKind::number: {
      const auto parsed = parse_number(value);
      if (parsed && *parsed >= field.min && *parsed <= field.max) return std::to_string(*parsed);
      if (parsed && *parsed == 0 && field.or_zero) return std::string("0");
      if (field.min == 0 && field.max == 1) return bad_value(field, "0 or 1");
      return bad_value(field, (field.or_zero ? "0, or a number from " : "a number from ") +
                                  std::to_string(field.min) + " to " + std::to_string(field.max));
    }
    case FieldKind::choice:
      if (!value.empty() && is_choice(field.choices, value)) return std::string(value);
      return bad_value(field, "one of: " + std::string(field.choices));
    case FieldKind::text:
      if (is_text(field, value)) return std::string(value);
      return bad_value(field, "printable and of at most " + std::to_string(field.max) + " bytes");
    case FieldKind::marker:
      if (is_marker(field, value)) return std::string(value);
      return bad_value(field, "Reject, or LOW~HIGH from 1 to 65535");
  }
  return bad_value(field, "of a known kind");
}

Status Settings::set(const FieldTable& table, std::string_view name, std::string_view value) {
  const Field* const field = table.find(name);
  if (field == nullptr) {
    return fail(Errc::not_found,
                "there is no " + std::string(table.word) + " " + std::string(name.substr(0, 64)));
  }
  auto canonical = canonical_value(*field, value);
  if (!canonical) return tl::unexpected<Error>(std::move(canonical.error()));
  const auto at =
      std::lower_bound(entries_.begin(), entries_.end(), name,
                       [](const Entry& entry, std::string_view wanted) { return entry.name < wanted; });
  const bool there = at != entries_.end() && at->name == name;
  const bool is_default =
      *canonical == field->initial && !(field->initial.empty() && field->kind != FieldKind::text);
  if (is_default) {
    if (there) entries_.erase(at);
  } else if (there) {
    at->value = std::move(*canonical);
  } else {
    entries_.insert(at, Entry{field->name, std::move(*canonical)});
  }
  return {};
}

std::optional<std::string_view> Settings::get(const FieldTable& table, std::string_view name) const noexcept {
  const auto at =
      std::lower_bound(entries_.begin(), entries_.end(), name,
                       [](const Entry& entry, std::string_view wanted) { return entry.name < wanted; });
  if (at != entries_.end() && at->name == name) return at->value;
  const Field* const field = table.find(name);
  if (field == nullptr || (field->initial.empty() && field->kind != FieldKind::text)) return std::nullopt;
  return field->initial;
}

std::int64_t Settings::number(const FieldTable& table, std::string_view name) const {
  const auto value = get(table, name);
  PERILUNE_ASSERT(value.has_value());
  const auto parsed = parse_number(*value);
  PERILUNE_ASSERT(parsed.has_value());
  return *parsed;
}

}  // namespace perilune::config::target
