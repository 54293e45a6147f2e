// SPDX-License-Identifier: Apache-2.0
// A SimDisk opened through runtime::BlockFile: random delays, completions in any order, injected errors.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "runtime/block_file.hpp"
#include "runtime/sim/sim_disk.hpp"
#include "runtime/sim/sim_loop.hpp"

namespace perilune::sim {

class SimBlockFile final : public runtime::BlockFile {
 public:
  SimBlockFile(SimLoop& loop, SimDisk& disk, const runtime::OpenOptions& options);
  ~SimBlockFile() override;

  [[nodiscard]] const runtime::FileProperties& properties() const override { return properties_; }
  [[nodiscard]] bool read(runtime::FileOp& op, ByteOffset offset, std::span<const iovec> iov,
                          int& result) override;
  [[nodiscard]] bool write(runtime::FileOp& op, ByteOffset offset, std::span<const iovec> iov, bool durable,
                           int& result) override;
  [[nodiscard]] bool read_at_once(ByteOffset offset, MutableBytes to) override;
  [[nodiscard]] bool write_at_once(ByteOffset offset, Bytes from) override;
  [[nodiscard]] bool sync(runtime::FileOp& op, int& result) override;
  [[nodiscard]] bool punch(runtime::FileOp& op, ByteOffset offset, ByteCount length, int& result) override;
  [[nodiscard]] bool zero(runtime::FileOp& op, ByteOffset offset, ByteCount length, int& result) override;
  [[nodiscard]] bool extent(runtime::FileOp& op, ByteOffset offset, ByteCount length, int& result) override;

  // The process is gone: what was under way may reach the disk whole, in part or not at all. Nothing
  // completes; or, on a loop that winds down, everything fails with -EIO and never touches the disk again.
  void crash();

 private:
  enum class Kind : std::uint8_t { read, write, sync, punch, zero, extent };
  struct Pending {
    Pending(SimBlockFile& f, runtime::FileOp& o, Kind k)
        : file(f), op(o), kind(k), ready(Delegate<void()>::to<&Pending::complete>(*this)) {}
    void complete() { file.complete(*this); }
    SimBlockFile& file;
    runtime::FileOp& op;
    Kind kind;
    std::uint64_t id = 0;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    std::vector<iovec> iov;
    bool durable = false;
    bool applied = false;
    std::uint64_t mark = 0;
    int result = 0;
    Ready ready;
  };

  [[nodiscard]] int check(ByteOffset offset, std::uint64_t length, bool writes) const;
  [[nodiscard]] int check_memory(std::span<const iovec> iov) const;
  [[nodiscard]] bool submit(std::shared_ptr<Pending> pending, int& result);
  [[nodiscard]] bool whole_at_once(Kind kind, ByteOffset offset, iovec memory);
  [[nodiscard]] Duration delay(Kind kind);
  void apply(Pending& p);
  void apply_read(Pending& p);
  void apply_write(Pending& p);
  void apply_sync(Pending& p);
  [[nodiscard]] std::uint64_t maybe_shorten(std::uint64_t length);
  void apply_zero(Pending& p);
  void complete(Pending& p);
  [[nodiscard]] std::vector<std::uint8_t> gather(const Pending& p) const;
  [[nodiscard]] std::uint64_t summary(const Pending& p) const;

  SimLoop& loop_;
  SimDisk& disk_;
  Prng prng_;
  runtime::FileProperties properties_;
  std::map<std::uint64_t, std::shared_ptr<Pending>> pending_;
  std::uint64_t next_id_ = 1;
};

}  // namespace perilune::sim
