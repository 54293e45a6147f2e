// SPDX-License-Identifier: Apache-2.0
#include "scsi/rod_tokens.hpp"

#include <algorithm>

#include "crypto/hmac.hpp"
#include "crypto/secret.hpp"
#include "scsi/handlers.hpp"
#include "scsi/logical_unit.hpp"

namespace perilune::scsi {
namespace {

// Places in a token (SPC-4 table 155, SBC-3 table 20).
constexpr std::size_t length_at = 6;
constexpr std::size_t identifier_at = 8;
constexpr std::size_t creator_at = 16;      // CREATOR LOGICAL UNIT DESCRIPTOR
constexpr std::size_t represented_at = 48;  // NUMBER OF BYTES REPRESENTED
constexpr std::size_t device_type_data_at = 96;
constexpr std::size_t target_at = 128;  // TARGET DEVICE DESCRIPTOR
constexpr std::size_t mac_at = rod_token_bytes - std::tuple_size_v<crypto::MacValue>;
constexpr std::size_t max_target_bytes = 224;
static_assert(target_at + 4 + max_target_bytes <= mac_at);

constexpr std::uint16_t token_length = rod_token_bytes - 8;

void store_creator(const LogicalUnit& unit, std::uint8_t* out) noexcept {
  out[0] = 0xe4;  // identification descriptor CSCD descriptor, of a direct access device
  out[4] = 0x01;  // binary
  out[5] = 0x03;  // NAA, of the logical unit
  out[7] = 8;
  store_be64(out + 8, naa_designator(unit));
  store_be24(out + 29, unit.geometry().block_size_bytes);
}

// As bytes 8 to 15 of READ CAPACITY(16).
void store_block_format(const LogicalUnit& unit, std::uint8_t* out) noexcept {
  const block::Geometry& geometry = unit.geometry();
  store_be32(out, geometry.block_size_bytes);
  out[5] = physical_exponent(geometry);
  if (unit.thin()) out[6] = unit.unmapped_reads_zeroes() ? 0xc0 : 0x80;
}

void store_target(std::string_view name, std::uint8_t* out) noexcept {
  const std::size_t kept = std::min(name.size(), max_target_bytes - 1);
  const std::size_t padded = (kept + 4) / 4 * 4;  // ends in at least one NUL
  out[0] = 0x53;                                  // iSCSI, UTF-8
  out[1] = 0xa8;                                  // PIV, target device, SCSI name string
  out[3] = static_cast<std::uint8_t>(padded);
  std::copy_n(name.begin(), kept, out + 4);
}

}  // namespace

bool RodTokens::expired(const RodToken& token, std::uint64_t now_ms) noexcept {
  return now_ms - token.used_ms >= std::uint64_t{token.inactivity_s} * 1000 ||
         now_ms - token.made_ms >= std::uint64_t{rod_limits::max_lifetime_s} * 1000;
}

// A free one; else one whose token is over; else that of the oldest, of this owner when it has its share.
RodToken& RodTokens::place(const void* owner, std::uint64_t now_ms) noexcept {
  RodToken* oldest = nullptr;
  RodToken* oldest_own = nullptr;
  RodToken* vacant = nullptr;
  std::size_t own = 0;
  const auto older = [](const RodToken& a, const RodToken* b) {
    return b == nullptr || a.identifier < b->identifier;
  };
  for (RodToken& token : tokens_) {
    if (token.identifier == 0 || token.deleted || expired(token, now_ms)) {
      if (older(token, vacant)) vacant = &token;
      continue;
    }
    if (older(token, oldest)) oldest = &token;
    if (token.owner != owner) continue;
    ++own;
    if (older(token, oldest_own)) oldest_own = &token;
  }
  if (own >= rod_limits::max_tokens_of_a_nexus) return *oldest_own;
  return vacant != nullptr ? *vacant : *oldest;
}

RodTokens::Made RodTokens::make(const void* owner, const LogicalUnit& unit, const RodRanges& ranges,
                                std::uint32_t inactivity_s, std::uint64_t now_ms) {
  RodToken& token = place(owner, now_ms);
  const std::uint64_t in_place_of = token.identifier;
  token = {.identifier = ++last_identifier_,
           .owner = owner,
           .unit_number = unit.number(),
           .unit_id = unit.identity().naa_id,
           .ranges = ranges,
           .inactivity_s = inactivity_s,
           .made_ms = now_ms,
           .used_ms = now_ms};
  return {token, in_place_of};
}

RodTokenBytes RodTokens::bytes_of(const RodToken& token, const LogicalUnit& unit,
                                  std::string_view device_name) const {
  RodTokenBytes out{};
  const block::Geometry& geometry = unit.geometry();
  store_be32(out.data(), rod_type_access_upon_reference);
  store_be16(out.data() + length_at, token_length);
  store_be64(out.data() + identifier_at, token.identifier);
  store_creator(unit, out.data() + creator_at);
  store_be64(out.data() + represented_at + 8, token.ranges.blocks * geometry.block_size_bytes);
  store_block_format(unit, out.data() + device_type_data_at);
  store_target(device_name, out.data() + target_at);
  const crypto::MacValue mac = crypto::hmac_sha256(key_, {out.data(), mac_at});
  std::copy(mac.begin(), mac.end(), out.begin() + mac_at);
  return out;
}

RodToken* RodTokens::known(std::uint64_t identifier) noexcept {
  if (identifier == 0) return nullptr;
  const auto token = std::find_if(tokens_.begin(), tokens_.end(),
                                  [&](const RodToken& t) { return t.identifier == identifier; });
  if (token != tokens_.end()) return &*token;
  const auto other = others_.find(identifier);
  return other == others_.end() ? nullptr : &other->second;
}

const RodToken* RodTokens::find(std::uint64_t identifier, std::uint64_t now_ms) const noexcept {
  const RodToken* token = const_cast<RodTokens*>(this)->known(identifier);
  return token == nullptr || token->deleted || expired(*token, now_ms) ? nullptr : token;
}

RodTokens::Found RodTokens::use(Bytes brought, std::uint64_t now_ms) {
  if (load_be32(brought.data()) != rod_type_access_upon_reference)
    return {nullptr, asc::unsupported_token_type};
  if (load_be16(brought.data() + length_at) != token_length) return {nullptr, asc::invalid_token_length};
  if (!crypto::constant_time_equal(crypto::hmac_sha256(key_, brought.first(mac_at)),
                                   brought.subspan(mac_at))) {
    return {nullptr, asc::token_corrupt};
  }
  const std::uint64_t identifier = load_be64(brought.data() + identifier_at);
  RodToken* const token = known(identifier);
  if (token == nullptr) return {nullptr, asc::token_unknown};
  if (token->deleted) return {nullptr, asc::token_deleted};
  if (expired(*token, now_ms)) return {nullptr, asc::token_expired};
  token->used_ms = now_ms;
  return {token, {}};
}

void RodTokens::remove(std::uint64_t identifier) noexcept {
  if (RodToken* token = known(identifier)) token->deleted = true;
}

void RodTokens::forget(const LogicalUnit& unit) noexcept {
  for (RodToken& token : tokens_) {
    if (is_of(token, unit)) token.identifier = 0;
  }
  std::erase_if(others_, [&](const auto& entry) { return is_of(entry.second, unit); });
}

bool RodTokens::is_of(const RodToken& token, const LogicalUnit& unit) noexcept {
  return token.unit_number == unit.number() && token.unit_id == unit.identity().naa_id;
}

void RodTokens::learn(const RodToken& token, std::uint64_t in_place_of) {
  others_.erase(in_place_of);
  RodToken& copy = others_[token.identifier];
  copy = token;
  copy.owner = nullptr;  // a nexus of another shard
}

void RodTokens::used(std::uint64_t identifier, std::uint64_t now_ms) noexcept {
  if (RodToken* token = known(identifier)) token->used_ms = std::max(token->used_ms, now_ms);
}

bool RodTokens::stands_for_zeroes(Bytes brought) noexcept {
  return load_be32(brought.data()) == rod_type_zero && load_be16(brought.data() + length_at) == token_length;
}

}  // namespace perilune::scsi
