// SPDX-License-Identifier: Apache-2.0
// Encrypts what is stored: AES-256-XTS, each block (with its protection information) a data unit whose number
// is its LBA.
//
//  - A stored block of nothing but zeroes is not decrypted: it reads as zeroes. So what has been deallocated,
//  or zeroed by
//    write_zeroes, reads as zeroes as it does without encryption, and a thin disk stays thin. (What a write
//    stores is all zeroes once in 2^4096.) Which blocks hold nothing is no secret.
//  - change_key makes what is stored unreadable: see block/disk_key.hpp. What is stored stays as it is, and
//  reads as anything.
//  - Reads are decrypted in the memory they went to; writes are copied, at most memory_limit_bytes at once,
//  the others wait in
//    turn. The memory of a write serves the next ones.
#pragma once

#include <memory>
#include <vector>

#include "base/intrusive_list.hpp"
#include "block/disk_key.hpp"
#include "block/filters/filter.hpp"
#include "crypto/xts.hpp"
#include "runtime/block_file.hpp"
#include "runtime/random.hpp"

namespace perilune::block {

class EncryptionFilter final : public Filter {
 public:
  static constexpr std::size_t memory_limit_bytes = 16 << 20;
  static constexpr std::size_t spare_limit_bytes = 2 << 20;  // what is kept of it for the writes to come

  // `file`: that of the key, as the loop of this channel opens it. Fails with unsupported.
  [[nodiscard]] static Result<std::unique_ptr<EncryptionFilter>> create(
      std::unique_ptr<Channel> inner, std::shared_ptr<DiskKey> key, std::unique_ptr<runtime::BlockFile> file,
      runtime::Random& random);
  ~EncryptionFilter() override;

  using Filter::inner;
  void set_blocks(BlockCount blocks) noexcept {
    own_geometry().blocks = blocks;
  }  // the inner channel has so many now

 private:
  struct Sealed;  // a write under way
  enum class Step : std::uint8_t { make, destroy, take_back };

  EncryptionFilter(std::unique_ptr<Channel> inner, std::shared_ptr<DiskKey> key,
                   std::unique_ptr<Channel> file, runtime::Random& random);
  [[nodiscard]] bool begin(BlockOp& op) override;
  void ended(BlockOp& op) override;
  [[nodiscard]] Status renew();
  [[nodiscard]] bool write(BlockOp& op);
  void seal(BlockOp& op);
  [[nodiscard]] std::unique_ptr<Sealed> take_memory(std::size_t bytes);
  void give_back(std::unique_ptr<Sealed> sealed);
  void start_waiting();
  void open_blocks(const BlockOp& op) noexcept;

  [[nodiscard]] bool change_key(BlockOp& op);
  [[nodiscard]] bool go_on();  // true: the change is over
  void prepare(Step step);
  [[nodiscard]] bool step_ended();
  void change_ended(OpStatus status, int os_errno);
  static void key_written(void* context, BlockOp&);

  std::shared_ptr<DiskKey> key_;
  std::unique_ptr<Channel> file_;  // of the key, in slots
  runtime::Random& random_;
  std::unique_ptr<crypto::Xts> xts_;
  std::uint64_t number_ = 0;  // of the key that xts_ has
  std::size_t memory_bytes_ = 0;  // of the writes under way
  std::vector<std::unique_ptr<Sealed>> spare_;
  std::size_t spare_bytes_ = 0;
  IntrusiveList<BlockOp> waiting_;

  // A change of the key.
  BlockOp* change_ = nullptr;  // whose op it is; nullptr: none is under way
  Step step_ = Step::make;
  OpStatus outcome_ = OpStatus::ok;
  int outcome_errno_ = 0;
  KeySlot next_;
  std::uint32_t old_slot_ = 0;
  std::unique_ptr<std::uint8_t[]> image_;  // of a slot
  iovec piece_{};
  BlockOp op_;
};

}  // namespace perilune::block
