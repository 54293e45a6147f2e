// SPDX-License-Identifier: Apache-2.0
#include "block/backends/null.hpp"

#include <fmt/format.h>

#include <cstring>

#include "block/admission.hpp"
#include "block/backends/random_identity.hpp"

namespace perilune::block {
namespace {

class NullChannel final : public Channel {
 public:
  explicit NullChannel(const Geometry& geometry) noexcept : geometry_(geometry) {}
  [[nodiscard]] const Geometry& geometry() const override { return geometry_; }
  [[nodiscard]] bool submit(BlockOp& op) override {
    const auto ended = refuse_or_skip(geometry_, op);
    if (ended) {
      op.status = *ended;
      return true;
    }
    if (op.kind == OpKind::read) {
      for (const iovec& part : op.data) std::memset(part.iov_base, 0, part.iov_len);
    } else if (op.kind == OpKind::query) {
      op.mapped = !geometry_.thin;
      op.alike = op.blocks;
    }
    return true;
  }

 private:
  const Geometry& geometry_;
};

}  // namespace

Result<std::unique_ptr<Backstore>> NullBackstore::create(std::uint64_t size_bytes,
                                                         const BackstoreOptions& options) {
  std::unique_ptr<NullBackstore> self(new NullBackstore);
  self->identity_ = random_identity("null");
  Geometry& g = self->geometry_;
  g.block_size_bytes = options.stored_block_bytes();
  g.protection_bytes = options.protection_bytes;
  g.physical_block_size_bytes = options.physical_block_over(g.physical_block_size_bytes);
  g.in_memory = true;
  g.blocks = BlockCount(size_bytes / options.block_size_bytes);
  g.write_cache = false;
  g.thin = g.unmap_zeroes = !options.thick;
  g.max_atomic_blocks = UINT32_MAX;  // nothing of a write is ever there
  g.read_only = options.read_only;
  return self;
}

std::string NullBackstore::describe() const {
  return fmt::format("null, {}{}: keeps nothing",
                     format_size(geometry_.blocks.value() * geometry_.block_size_bytes),
                     geometry_.read_only ? ", read-only" : "");
}

Result<std::unique_ptr<Channel>> NullBackstore::open_channel(runtime::Loop&) {
  return std::make_unique<NullChannel>(geometry_);
}

}  // namespace perilune::block
