// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/bytes.hpp"
#include "iscsi/pdu/pdus.hpp"

namespace perilune::iscsi {

// A Login or Text PDU to send: the header with DataSegmentLength set, and the data segment without its
// padding.
struct LoginPdu {
  std::array<std::uint8_t, bhs_bytes> bhs{};
  std::string text;
  [[nodiscard]] Bytes data() const noexcept { return as_bytes(text); }
};

}  // namespace perilune::iscsi
