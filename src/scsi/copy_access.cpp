// SPDX-License-Identifier: Apache-2.0
#include "scsi/copy_access.hpp"

namespace perilune::scsi {

// No unit has reservations yet.
bool copy_may_access(const Task&, const LogicalUnit&, bool) noexcept { return true; }

}  // namespace perilune::scsi
