// SPDX-License-Identifier: Apache-2.0
// For the tests of this folder: a loop, temporary files on the real disk, and operations that are waited for.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/temporary_folder_test.hpp"
#include "block/open_backstore.hpp"
#include "runtime/native/native_loop.hpp"

namespace perilune::block {

// Memory as O_DIRECT wants it, plus a shift that spoils it.
class Buffer {
 public:
  explicit Buffer(std::size_t bytes, std::uint8_t fill = 0, std::size_t shift = 0)
      : memory_(static_cast<std::uint8_t*>(std::aligned_alloc(4096, (bytes + shift + 4095) / 4096 * 4096))),
        bytes_(bytes),
        shift_(shift) {
    std::fill_n(data(), bytes_, fill);
  }
  ~Buffer() { std::free(memory_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  [[nodiscard]] std::uint8_t* data() { return memory_ + shift_; }
  [[nodiscard]] std::size_t size() const { return bytes_; }
  [[nodiscard]] bool all(std::uint8_t value) {
    return std::all_of(data(), data() + bytes_, [value](std::uint8_t b) { return b == value; });
  }

 private:
  std::uint8_t* memory_;
  std::size_t bytes_;
  std::size_t shift_;
};

class BlockTest : public ::testing::Test {
 protected:
  void SetUp() override {
    runtime::LoopOptions options;
    options.trace = [this](const runtime::TraceEvent& event) {
      if (event.what == runtime::TraceEvent::What::prepared)
        trace.emplace_back(event.operation, event.durable);
    };
    auto made = runtime::make_native_loop(runtime::Runtime::automatic, options);
    ASSERT_TRUE(made) << made.error().message;
    loop = std::move(*made);
  }
  void TearDown() override {
    channel.reset();
    store.reset();
    loop.reset();
  }

  void open(const std::string& spec, const BackstoreOptions& options = {}) {
    channel.reset();
    store.reset();
    auto made = open_backstore(spec, options);
    ASSERT_TRUE(made) << made.error().message;
    store = std::move(*made);
    auto opened = store->open_channel(*loop);
    ASSERT_TRUE(opened) << opened.error().message;
    channel = std::move(*opened);
  }

  // Submits and waits for the end.
  OpStatus run(BlockOp& op) {
    struct End {
      runtime::Loop& loop;
      int calls = 0;
      void on_done(BlockOp&) {
        ++calls;
        loop.stop();
      }
    } end{*loop};
    op.done = Delegate<void(BlockOp&)>::to<&End::on_done>(end);
    ended_at_once = channel->submit(op);
    if (!ended_at_once) {
      EXPECT_EQ(end.calls, 0);
      while (end.calls == 0) loop->run();
    }
    EXPECT_EQ(end.calls, ended_at_once ? 0 : 1);
    return op.status;
  }
  OpStatus transfer(OpKind kind, std::uint64_t lba, Buffer& buffer, bool fua = false) {
    BlockOp op;
    op.kind = kind;
    op.lba = Lba(lba);
    op.blocks = BlockCount(buffer.size() / channel->geometry().block_size_bytes);
    const iovec iov{buffer.data(), buffer.size()};
    op.data = {&iov, 1};
    op.fua = fua;
    const OpStatus status = run(op);
    last_errno = op.os_errno;
    return status;
  }
  OpStatus write(std::uint64_t lba, Buffer& b, bool fua = false) {
    return transfer(OpKind::write, lba, b, fua);
  }
  OpStatus read(std::uint64_t lba, Buffer& b) { return transfer(OpKind::read, lba, b); }
  OpStatus range(OpKind kind, std::uint64_t lba, std::uint64_t blocks, bool fua = false,
                 bool may_unmap = false) {
    BlockOp op;
    op.kind = kind;
    op.lba = Lba(lba);
    op.blocks = BlockCount(blocks);
    op.fua = fua;
    op.may_unmap = may_unmap;
    const OpStatus status = run(op);
    last_errno = op.os_errno;
    return status;
  }
  OpStatus flush() { return range(OpKind::flush, 0, 0); }

  TemporaryFolder folder;
  std::unique_ptr<runtime::ThreadLoop> loop;
  std::unique_ptr<Backstore> store;
  std::unique_ptr<Channel> channel;
  std::vector<std::pair<std::string, bool>> trace;  // operation, durable
  bool ended_at_once = false;
  int last_errno = 0;
};

}  // namespace perilune::block
