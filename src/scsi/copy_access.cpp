// SPDX-License-Identifier: Apache-2.0
#include "scsi/copy_access.hpp"

#include "scsi/logical_unit.hpp"
#include "scsi/nexus.hpp"
#include "scsi/task.hpp"

namespace perilune::scsi {

bool copy_may_access(const Task& task, const LogicalUnit& unit, bool writes) noexcept {
  if (!unit.is_reserved()) return true;
  const NexusNames& names = task.nexus->names();
  const ReservationAccess access =
      access_of(unit.reservations(), names.initiator_port, names.relative_target_port);
  return access == ReservationAccess::all || (access == ReservationAccess::write_exclusive && !writes);
}

}  // namespace perilune::scsi
