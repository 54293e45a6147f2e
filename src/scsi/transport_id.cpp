// SPDX-License-Identifier: Apache-2.0
#include "scsi/transport_id.hpp"

#include <algorithm>

#include "base/limits.hpp"

namespace perilune::scsi {
namespace {

constexpr std::uint8_t iscsi_protocol = 0x5;
constexpr std::size_t header_bytes = 4;
constexpr std::size_t min_additional_bytes = min_transport_id_bytes - header_bytes;
constexpr std::string_view separator = ",i,0x";
constexpr std::size_t session_identifier_digits = 12;

char lower(std::uint8_t c) noexcept { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c); }

bool is_hex(char c) noexcept { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

bool is_device_name(std::string_view name) noexcept {
  return !name.empty() && name.size() <= limits::max_iscsi_name_bytes &&
         std::none_of(name.begin(), name.end(), [](char c) {
           const auto byte = static_cast<std::uint8_t>(c);
           return byte <= 0x20 || byte == 0x7f || c == ',';
         });
}

bool is_port_name(std::string_view name) noexcept {
  if (name.size() < separator.size() + session_identifier_digits) return false;
  const std::string_view digits = name.substr(name.size() - session_identifier_digits);
  const std::string_view rest = name.substr(0, name.size() - session_identifier_digits);
  return rest.ends_with(separator) && is_device_name(rest.substr(0, rest.size() - separator.size())) &&
         std::all_of(digits.begin(), digits.end(), is_hex);
}

}  // namespace

tl::expected<TransportId, std::size_t> parse_transport_id(Bytes list, std::uint8_t protocol_identifier) {
  if (list.size() < min_transport_id_bytes) return tl::make_unexpected(std::size_t{0});
  const std::uint8_t format = list[0] >> 6;
  const bool known = format <= 1 && (list[0] & 0x30) == 0 && (list[0] & 0x0f) == protocol_identifier;
  if (!known || protocol_identifier != iscsi_protocol) return tl::make_unexpected(std::size_t{0});
  if (list[1] != 0) return tl::make_unexpected(std::size_t{1});
  const std::size_t additional = load_be16(&list[2]);
  if (additional < min_additional_bytes || additional % 4 != 0 || additional > list.size() - header_bytes) {
    return tl::make_unexpected(std::size_t{2});
  }
  const Bytes field = list.subspan(header_bytes, additional);
  const auto end = std::find(field.begin(), field.end(), std::uint8_t{0});
  TransportId id;
  id.is_device = format == 0;
  id.bytes = header_bytes + additional;
  std::transform(field.begin(), end, std::back_inserter(id.name), lower);
  const bool good = end != field.end() && (id.is_device ? is_device_name(id.name) : is_port_name(id.name));
  if (!good) return tl::make_unexpected(header_bytes);
  return id;
}

void append_transport_id(std::vector<std::uint8_t>& out, std::uint8_t protocol_identifier,
                         std::string_view initiator_port) {
  const std::size_t padded = (initiator_port.size() + 1 + 3) / 4 * 4;
  const std::size_t additional = std::max(padded, min_additional_bytes);
  const std::size_t at = out.size();
  out.resize(at + header_bytes + additional);
  out[at] = static_cast<std::uint8_t>(0x40 | (protocol_identifier & 0x0f));
  store_be16(&out[at + 2], static_cast<std::uint16_t>(additional));
  std::copy(initiator_port.begin(), initiator_port.end(),
            out.begin() + static_cast<std::ptrdiff_t>(at + header_bytes));
}

bool is_port_of_device(std::string_view initiator_port, std::string_view device) noexcept {
  return initiator_port.starts_with(device) && initiator_port.substr(device.size()).starts_with(separator);
}

}  // namespace perilune::scsi
