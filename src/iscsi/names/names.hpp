// SPDX-License-Identifier: Apache-2.0
// iSCSI names (RFC 7143 4.2.7): validation, normal form, and the names we give by default. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.hpp"
#include "base/result.hpp"

namespace perilune::iscsi {

enum class NameType : std::uint8_t { iqn, eui, naa };

// The normal form of a valid name: lower case. Two names are the same node when their normal forms are equal.
// Errc::invalid_argument, with a reason for people, for anything else: wrong type prefix, a bad date, no
// naming authority, wrong digits, over 223 bytes, or a character outside a-z A-Z 0-9 - . : and _ (which the
// RFC forbids but initiators in the field use). Characters beyond ASCII are refused: without the whole of
// stringprep (RFC 3722) one node could have two normal forms.
[[nodiscard]] Result<std::string> normalize_name(std::string_view name);

// Of a name in normal form.
[[nodiscard]] NameType name_type(std::string_view normalized) noexcept;

// iqn.2026-11.io.perilune:<host>.<hash>: stable for one machine and one backing object (or, for an initiator,
// one role word). `host` is reduced to the characters that names allow; the hash is 64 bits of SHA-256 over
// both arguments.
[[nodiscard]] Result<std::string> default_name(std::string_view host, Bytes machine_id,
                                               std::string_view backing_path);

}  // namespace perilune::iscsi
