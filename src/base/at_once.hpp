// SPDX-License-Identifier: Apache-2.0
// A READ or WRITE that wants to be over this moment, without an object of its own, and what became of it:
// between the layers that pass it down (decision 0014).
#pragma once

#include <cstdint>

namespace perilune {

// Untagged or simple, in its turn; all of its data is here, or has room, in one piece. What it points to is
// valid during the call.
struct WholeTransfer {
  std::uint64_t lun = 0;               // the eight LUN bytes, big-endian
  const std::uint8_t* cdb = nullptr;   // 16 bytes
  const std::uint8_t* data = nullptr;  // of a write
  std::uint32_t bytes = 0;             // what the initiator sends, or has room for
  bool writes = false;
};

struct AtOnce {
  enum class Outcome : std::uint8_t {
    declined,  // nothing has happened, and it goes the long way; but part of a write may be stored
    lent,      // over and counted; the asker copies between `memory` and where its bytes are
    written,   // over and counted; the bytes of a write have been taken
    copies,    // nothing has happened; a read that may be over when it is told where its bytes go
  };
  std::uint8_t* memory = nullptr;  // lent: of exactly `bytes`
  Outcome outcome = Outcome::declined;
};

}  // namespace perilune
