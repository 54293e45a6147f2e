// SPDX-License-Identifier: Apache-2.0
// What a SCSI device says of itself before it is served. Control path: each question may take its time.
#pragma once

#include <string>

#include "base/result.hpp"
#include "passthrough/sg_node.hpp"

namespace perilune::passthrough {

struct Probed {
  scsi::PassthroughFacts facts;  // but for what is not the device's to say: max_transfer_bytes, unrestricted
  std::string designators;       // what names it, as text; empty when it has no name of its own
  std::string product;           // "Linux scsi_debug 0191"
};

// INQUIRY, TEST UNIT READY until its unit attentions are told, READ CAPACITY of a disk, VPD pages 83h and
// 80h. Fails with io (no answer), unsupported (no logical unit there, or data that is no INQUIRY data).
[[nodiscard]] Result<Probed> probe(SgNode& node);

}  // namespace perilune::passthrough
