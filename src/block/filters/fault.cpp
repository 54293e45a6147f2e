// SPDX-License-Identifier: Apache-2.0
#include "block/filters/fault.hpp"

namespace perilune::block {
namespace {

bool touches(const Fault& fault, const BlockOp& op) {
  if (fault.kind != op.kind) return false;
  if (op.kind == OpKind::flush) return true;
  const std::uint64_t first = fault.first_lba.value();
  if (op.lba.value() < first) return op.blocks.value() > first - op.lba.value();
  return op.lba.value() - first < fault.blocks.value();
}

// What is to be reported in ended(), in one word: 0 nothing, else the status and the errno.
std::uint64_t pack(OpStatus status, int os_errno) {
  return (std::uint64_t{1} << 63) | (static_cast<std::uint64_t>(status) << 32) |
         static_cast<std::uint32_t>(os_errno);
}

}  // namespace

Fault* FaultFilter::choose(const BlockOp& op) {
  for (Fault& fault : faults_) {
    if (!touches(fault, op) || fault.times == 0) continue;
    if (fault.skip > 0) {
      --fault.skip;
      continue;
    }
    if (fault.times != UINT64_MAX) --fault.times;
    return &fault;
  }
  return nullptr;
}

bool FaultFilter::begin(BlockOp& op) {
  const Fault* fault = choose(op);
  word(op) = 0;
  if (fault == nullptr) return forward(op);
  ++struck_;
  if (fault->what == Fault::What::fail_after) {
    word(op) = pack(fault->status, fault->os_errno);
    return forward(op);
  }
  const bool lie = fault->what == Fault::What::swallow;
  op.status = lie ? OpStatus::ok : fault->status;
  op.os_errno = lie ? 0 : fault->os_errno;
  return true;
}

void FaultFilter::ended(BlockOp& op) {
  if (word(op) == 0) return;
  op.status = static_cast<OpStatus>((word(op) >> 32) & 0xff);
  op.os_errno = static_cast<int>(word(op) & 0xffffffff);
}

}  // namespace perilune::block
