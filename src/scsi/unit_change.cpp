// SPDX-License-Identifier: Apache-2.0
// The record of a unit's durable state: "PLUR", version, length of the body, body, CRC32C of everything
// before.
#include "scsi/unit_change.hpp"

#include "base/limits.hpp"
#include "crypto/crc32c.hpp"

namespace perilune::scsi {
namespace {

constexpr std::uint32_t magic = 0x504c5552;  // "PLUR"
constexpr std::uint16_t version = 1;
constexpr std::uint16_t version_with_protection = 2;  // a type of protection information, or ATO: who does
                                                      // not know of it must not begin
constexpr std::uint16_t version_with_thresholds = 3;  // what of format 2 there is, and thresholds of thin
                                                      // provisioning
constexpr std::size_t header_bytes = 12;              // magic, version, zero, length of the body
constexpr std::size_t checksum_bytes = 4;

constexpr std::uint8_t aptpl_bit = 0x01;
constexpr std::uint8_t modes_bit = 0x02;
constexpr std::uint8_t wce_bit = 0x01;
constexpr std::uint8_t swp_bit = 0x02;
constexpr std::uint8_t d_sense_bit = 0x04;
constexpr std::uint8_t tas_bit = 0x08;
constexpr std::uint8_t ato_bit = 0x10;
constexpr std::uint8_t atmpe_bit = 0x20;
constexpr std::uint8_t protection_bit = 0x04;  // of the flags; the type is in the two bits above it
constexpr unsigned protection_shift = 3;
constexpr std::uint8_t reported_bit = 0x01;  // of the thresholds
constexpr std::uint8_t single_initiator_bit = 0x02;

class Writer {
 public:
  void u8(unsigned value) { out_.push_back(static_cast<std::uint8_t>(value)); }
  void u16(std::size_t value) {
    out_.resize(out_.size() + 2);
    store_be16(&out_[out_.size() - 2], static_cast<std::uint16_t>(value));
  }
  void u32(std::uint32_t value) {
    out_.resize(out_.size() + 4);
    store_be32(&out_[out_.size() - 4], value);
  }
  void u64(std::uint64_t value) {
    out_.resize(out_.size() + 8);
    store_be64(&out_[out_.size() - 8], value);
  }
  void bytes(Bytes value) {
    u16(value.size());
    out_.insert(out_.end(), value.begin(), value.end());
  }
  std::vector<std::uint8_t>& out() noexcept { return out_; }

 private:
  std::vector<std::uint8_t> out_;
};

// Reads nothing but zeroes behind the end, and then `good` is false.
class Reader {
 public:
  explicit Reader(Bytes in) noexcept : in_(in) {}
  std::uint8_t u8() { return take(1) ? in_[at_ - 1] : std::uint8_t{0}; }
  std::uint16_t u16() { return take(2) ? load_be16(&in_[at_ - 2]) : std::uint16_t{0}; }
  std::uint32_t u32() { return take(4) ? load_be32(&in_[at_ - 4]) : 0; }
  std::uint64_t u64() { return take(8) ? load_be64(&in_[at_ - 8]) : 0; }
  Bytes bytes(std::size_t most) {
    const std::size_t count = u16();
    if (count > most) good_ = false;
    return take(count) ? in_.subspan(at_ - count, count) : Bytes{};
  }
  void require(bool condition) { good_ = good_ && condition; }
  [[nodiscard]] bool good() const noexcept { return good_; }
  [[nodiscard]] bool at_end() const noexcept { return good_ && at_ == in_.size(); }

 private:
  bool take(std::size_t count) {
    if (!good_ || count > in_.size() - at_)
      good_ = false;
    else
      at_ += count;
    return good_;
  }
  Bytes in_;
  std::size_t at_ = 0;
  bool good_ = true;
};

void write_name(Writer& out, const NexusName& nexus) {
  out.u16(nexus.target_port);
  out.bytes(as_bytes(nexus.initiator_port));
}
NexusName read_name(Reader& in) {
  NexusName nexus;
  nexus.target_port = in.u16();
  nexus.initiator_port = std::string(as_text(in.bytes(limits::max_port_name_bytes)));
  return nexus;
}

void write_reservations(Writer& out, const Reservations& reservations) {
  out.u16(reservations.registrations.size());
  for (const Registration& registration : reservations.registrations) {
    out.u64(registration.key);
    out.u8(registration.all_target_ports ? 1 : 0);
    write_name(out, registration.nexus);
  }
  out.u8(reservations.persistent ? static_cast<unsigned>(reservations.persistent->type) : 0);
  write_name(out, reservations.persistent ? reservations.persistent->holder : NexusName{});
}

Reservations read_reservations(Reader& in) {
  Reservations reservations;
  const std::size_t count = in.u16();
  in.require(count <= limits::max_registrations);
  for (std::size_t i = 0; i < count && in.good(); ++i) {
    Registration registration;
    registration.key = in.u64();
    registration.all_target_ports = in.u8() != 0;
    registration.nexus = read_name(in);
    in.require(registration.key != 0 && reservations.find(registration.nexus) == nullptr);
    reservations.registrations.push_back(std::move(registration));
  }
  const std::uint8_t type = in.u8();
  NexusName holder = read_name(in);
  if (type == 0) return reservations;
  in.require(is_reservation_type(type));
  if (!in.good()) return reservations;
  reservations.persistent = PersistentReservation{static_cast<ReservationType>(type), std::move(holder)};
  const bool all = is_all_registrants(reservations.persistent->type);
  in.require(all ? !reservations.registrations.empty()
                 : reservations.find(reservations.persistent->holder) != nullptr);
  return reservations;
}

void write_tags(Writer& out, const ApplicationTags& tags) {
  for (const ApplicationTagRange& range : tags) {
    out.u8(range.last ? 1 : 0);
    out.u16(range.tag);
    out.u64(range.lba);
    out.u64(range.blocks);
  }
}
ApplicationTags read_tags(Reader& in) {
  ApplicationTags tags;
  for (ApplicationTagRange& range : tags) {
    range.last = in.u8() != 0;
    range.tag = in.u16();
    range.lba = in.u64();
    range.blocks = in.u64();
  }
  return tags;
}

void write_thresholds(Writer& out, const Thresholds& thresholds) {
  out.u8((thresholds.reported ? reported_bit : 0u) |
         (thresholds.single_initiator ? single_initiator_bit : 0u));
  for (const Threshold& threshold : thresholds.list) {
    out.u8(threshold.enabled ? 1 : 0);
    out.u32(threshold.count);
  }
}
Thresholds read_thresholds(Reader& in) {
  Thresholds thresholds;
  const std::uint8_t flags = in.u8();
  thresholds.reported = (flags & reported_bit) != 0;
  thresholds.single_initiator = (flags & single_initiator_bit) != 0;
  for (Threshold& threshold : thresholds.list) {
    threshold.enabled = in.u8() != 0;
    threshold.count = in.u32();
  }
  return thresholds;
}

Error damaged(const char* how) { return {Errc::invalid_argument, std::string("damaged: ") + how, 0}; }

}  // namespace

Reservations surviving(const Reservations& reservations) {
  Reservations kept;
  if (!reservations.aptpl) return kept;
  kept = reservations;
  kept.generation = 0;
  kept.reserved_by.reset();
  return kept;
}

std::vector<std::uint8_t> encode_durable_state(const DurableState& state) {
  const ModeValues modes = state.modes.value_or(ModeValues{});
  Writer out;
  out.u32(magic);
  const bool with_thresholds = modes.thresholds != Thresholds{};
  const bool with_protection = with_thresholds || state.protection_type || modes.ato || modes.atmpe ||
                               modes.application_tags != ApplicationTags{};
  out.u16(with_thresholds ? version_with_thresholds : with_protection ? version_with_protection : version);
  out.u16(0);
  out.u32(0);  // length, below
  const unsigned protection = state.protection_type
                                  ? protection_bit | static_cast<unsigned>(*state.protection_type)
                                                         << protection_shift
                                  : 0;
  out.u8((state.reservations.aptpl ? aptpl_bit : 0u) | (state.modes ? modes_bit : 0u) | protection);
  write_reservations(out, state.reservations);
  out.u8((modes.wce ? wce_bit : 0u) | (modes.swp ? swp_bit : 0u) | (modes.d_sense ? d_sense_bit : 0u) |
         (modes.tas ? tas_bit : 0u) | (modes.ato ? ato_bit : 0u) | (modes.atmpe ? atmpe_bit : 0u));
  out.bytes(state.identifying.information);
  out.bytes(state.identifying.text);
  if (with_protection) write_tags(out, modes.application_tags);
  if (with_thresholds) write_thresholds(out, modes.thresholds);
  std::vector<std::uint8_t> record = std::move(out.out());
  store_be32(&record[8], static_cast<std::uint32_t>(record.size() - header_bytes));
  const std::uint32_t checksum = crypto::crc32c(crypto::crc32c_start, record);
  record.resize(record.size() + checksum_bytes);
  store_be32(&record[record.size() - checksum_bytes], checksum);
  return record;
}

Result<DurableState> decode_durable_state(Bytes record) {
  if (record.size() < header_bytes + checksum_bytes) return tl::unexpected(damaged("too short"));
  if (load_be32(record.data()) != magic) return tl::unexpected(damaged("not the record of a unit"));
  const Bytes checked = record.first(record.size() - checksum_bytes);
  if (load_be32(&record[checked.size()]) != crypto::crc32c(crypto::crc32c_start, checked)) {
    return tl::unexpected(damaged("the checksum is wrong"));
  }
  const std::uint16_t written_as = load_be16(&record[4]);
  if (written_as < version || written_as > version_with_thresholds) {
    return fail(Errc::unsupported, "written by another version, format " + std::to_string(written_as));
  }
  if (load_be32(&record[8]) != checked.size() - header_bytes)
    return tl::unexpected(damaged("the length is wrong"));
  Reader in(checked.subspan(header_bytes));
  DurableState state;
  const std::uint8_t flags = in.u8();
  state.reservations = read_reservations(in);
  state.reservations.aptpl = (flags & aptpl_bit) != 0;
  in.require(state.reservations.aptpl || state.reservations.registrations.empty());
  const std::uint8_t modes = in.u8();
  if ((flags & modes_bit) != 0) {
    state.modes = ModeValues{.wce = (modes & wce_bit) != 0,
                             .swp = (modes & swp_bit) != 0,
                             .d_sense = (modes & d_sense_bit) != 0,
                             .tas = (modes & tas_bit) != 0,
                             .ato = (modes & ato_bit) != 0,
                             .atmpe = (modes & atmpe_bit) != 0};
  }
  if ((flags & protection_bit) != 0)
    state.protection_type = static_cast<ProtectionType>(flags >> protection_shift & 0x03);
  const Bytes information = in.bytes(IdentifyingInformation::max_information_bytes);
  const Bytes text = in.bytes(IdentifyingInformation::max_text_bytes);
  if (written_as >= version_with_protection) {
    const ApplicationTags tags = read_tags(in);
    if (state.modes) state.modes->application_tags = tags;
  }
  if (written_as >= version_with_thresholds) {
    const Thresholds thresholds = read_thresholds(in);
    if (state.modes) state.modes->thresholds = thresholds;
  }
  if (!in.at_end()) return tl::unexpected(damaged("the content makes no sense"));
  state.identifying.information.assign(information.begin(), information.end());
  state.identifying.text.assign(text.begin(), text.end());
  return state;
}

}  // namespace perilune::scsi
