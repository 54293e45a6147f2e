// SPDX-License-Identifier: Apache-2.0
// A change of what a logical unit is and remembers, as data: what is to be durable first, whose commands end
// first, what counts afterwards and who learns of it. Handlers of SerialClass::whole describe it and
// Device::change carries it out.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "scsi/port_groups.hpp"
#include "scsi/protection.hpp"
#include "scsi/reservations.hpp"
#include "scsi/thresholds.hpp"
#include "scsi/unit_attention.hpp"

namespace perilune::scsi {

// The changeable values of the mode pages.
struct ModeValues {
  bool wce = false;
  bool swp = false;
  bool d_sense = false;
  bool tas = false;
  bool ato = false;
  bool atmpe = false;
  ApplicationTags application_tags{};
  Thresholds thresholds{};
  friend bool operator==(const ModeValues&, const ModeValues&) = default;
};

// REPORT and SET IDENTIFYING INFORMATION (SPC-4 6.32, 6.43).
struct IdentifyingInformation {
  static constexpr std::size_t max_information_bytes = 512;
  static constexpr std::size_t max_text_bytes = 256;
  std::vector<std::uint8_t> information;
  std::vector<std::uint8_t> text;  // UTF-8, ends with a NUL where it is not empty
  friend bool operator==(const IdentifyingInformation&, const IdentifyingInformation&) = default;
};

// What of a unit outlives the process and a loss of power.
struct DurableState {
  Reservations reservations;  // all of it only while aptpl; else registrations and reservation are empty
  std::optional<ModeValues> modes;  // saved by MODE SELECT with SP = 1
  IdentifyingInformation identifying;
  std::optional<ProtectionType> protection_type;  // that FORMAT UNIT gave the medium
  friend bool operator==(const DurableState&, const DurableState&) = default;
};

// The part of `reservations` that outlives a loss of power. PRGENERATION begins at 0 again, RESERVE is
// forgotten.
[[nodiscard]] Reservations surviving(const Reservations& reservations);

// A record of bytes: versioned, with a checksum, of bounded size. Decoding fails with invalid_argument where
// it is damaged, and with unsupported where a later version of the format wrote it.
[[nodiscard]] std::vector<std::uint8_t> encode_durable_state(const DurableState& state);
[[nodiscard]] Result<DurableState> decode_durable_state(Bytes record);

// Where a unit keeps its record. Implemented by the transport, which can do I/O. One thread (the shard's).
class UnitStore {
 public:
  virtual ~UnitStore() = default;
  // Makes this the unit's record. Later, from a turn of the loop and never from inside this call, `done` is
  // called once: true when the record is durable, false when that is not known. One at a time.
  virtual void save(std::vector<std::uint8_t> record, std::function<void(bool)> done) = 0;
};

// Who remembers the states of port groups that initiators set. Implemented as UnitStore is, and called as it
// is.
class AccessStateStore {
 public:
  virtual ~AccessStateStore() = default;
  // `groups` are to have these states, says `initiator` (its port). Later, from a turn of the loop, `done` is
  // called once: true when this outlives a loss of power, false when that is not known.
  virtual void keep(std::vector<PortGroup> groups, const std::string& initiator,
                    std::function<void(bool)> done) = 0;
};

struct UnitChange {
  std::vector<NexusName> aborted;  // first: these nexuses' commands on the unit end, the changing one aside
  std::optional<DurableState> durable;   // then: this is durable, or that: one of both
  std::vector<PortGroup> access_states;  // what of port_groups has another state; where somebody remembers it
  std::optional<PortGroups> port_groups;
  std::optional<Reservations> reservations;  // then these count
  std::optional<ModeValues> modes;
  std::optional<ProtectionType> protection_type;
  std::vector<NexusNotice> notices;          // and this is told
  std::optional<UnitAttention> for_others;   // to every nexus but the one whose command it is
};

}  // namespace perilune::scsi
