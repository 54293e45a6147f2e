// SPDX-License-Identifier: Apache-2.0
// A target and an initiator in one process, each on its loop (io_uring, or what PERILUNE_RUNTIME says), over
// loopback TCP: once warm, a million operations of a kind (of encrypted files fewer) allocate nothing on
// either side. Every malloc, calloc and realloc of the process is counted.
#include <execinfo.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <future>
#include <thread>

#include "base/temporary_folder_test.hpp"
#include "block/open_backstore.hpp"
#include "initiator/sync.hpp"
#include "runtime/native/native_loop.hpp"
#include "target/server.hpp"

namespace {
std::atomic<bool> counting{false};
std::atomic<std::uint64_t> allocations{0};
void* volatile benchmark_sink = nullptr;  // so that no compiler removes an allocation
// Counts, and says where the first few came from (addr2line -e allocations_test).
void count() {
  if (!counting.load(std::memory_order_relaxed)) return;
  if (allocations.fetch_add(1, std::memory_order_relaxed) >= 5) return;
  counting = false;  // backtrace() may allocate itself
  void* frames[24];
  backtrace_symbols_fd(frames, backtrace(frames, 24), STDERR_FILENO);
  counting = true;
}
}  // namespace

extern "C" {
void* __libc_malloc(std::size_t bytes);
void* __libc_calloc(std::size_t count, std::size_t bytes);
void* __libc_realloc(void* old, std::size_t bytes);
void* malloc(std::size_t bytes) { count(); return __libc_malloc(bytes); }
void* calloc(std::size_t number, std::size_t bytes) { count(); return __libc_calloc(number, bytes); }
void* realloc(void* old, std::size_t bytes) { count(); return __libc_realloc(old, bytes); }
}

namespace perilune {
namespace {

class Silence : public EventLog {
 public:
  void event(Level level, std::string_view name, std::string_view fields) override {
    if (level >= Level::warning)
      std::printf("%.*s %.*s\n", int(name.size()), name.data(), int(fields.size()), fields.data());
  }
};

// A target on a thread of its own.
class TargetThread {
 public:
  TargetThread(const std::string& backing, const block::BackstoreOptions& options) {
    auto created = runtime::make_native_loop(runtime::Runtime::automatic, {});
    if (!created) throw std::runtime_error(created.error().message);
    loop_ = std::move(*created);
    target::ServerConfig config;
    config.portals.push_back(*runtime::Endpoint::parse("127.0.0.1:0", 0));
    config.params.first_burst_length = 262144;
    target::TargetSpec spec;
    spec.name = "iqn.2026-11.io.perilune:allocations";
    target::UnitSpec unit;
    unit.backstore = std::move(*block::open_backstore(backing, options));
    unit.config.identity = scsi::UnitIdentity::from_id(1);
    spec.units.push_back(std::move(unit));
    config.targets.push_back(std::move(spec));
    server_ = std::move(*target::Server::create(*loop_, std::move(config), log_));
    if (Status status = server_->start(); !status) throw std::runtime_error(status.error().message);
    portal_ = server_->bound_portals().front();
    thread_ = std::thread([this] {
      loop_->run();
      server_.reset();
    });
  }
  ~TargetThread() {
    loop_->post([this] { server_->stop([this](Status) { loop_->stop(); }); });
    thread_.join();
  }
  [[nodiscard]] const runtime::Endpoint& portal() const { return portal_; }

 private:
  Silence log_;
  std::unique_ptr<runtime::ThreadLoop> loop_;
  std::unique_ptr<target::Server> server_;
  runtime::Endpoint portal_;
  std::thread thread_;
};

// Keeps `depth` operations of one kind under way until `total` have ended. Lives on the initiator's loop.
class Pump {
 public:
  Pump(block::Channel& channel, block::OpKind kind, std::uint32_t blocks, std::uint32_t depth, bool fua)
      : channel_(channel), kind_(kind), blocks_(blocks), fua_(fua), slots_(depth) {
    for (Slot& slot : slots_) {
      slot.memory.resize(std::size_t{blocks} * 512, 0x5a);
      slot.iov = {slot.memory.data(), slot.memory.size()};
      slot.op.done = Delegate<void(block::BlockOp&)>::to<&Pump::on_done>(*this);
    }
  }
  void start(std::uint64_t total, std::promise<void>* finished) {
    left_to_start_ = left_to_end_ = total;
    finished_ = finished;
    for (Slot& slot : slots_) submit(slot.op);
  }
  [[nodiscard]] bool failed() const { return failed_; }

 private:
  struct Slot {
    block::BlockOp op;
    std::vector<std::uint8_t> memory;
    iovec iov{};
  };
  void submit(block::BlockOp& op) {
    while (left_to_start_ != 0) {
      --left_to_start_;
      Slot& slot = *std::find_if(slots_.begin(), slots_.end(), [&](const Slot& s) { return &s.op == &op; });
      op.kind = kind_;
      op.fua = fua_;
      op.may_unmap = true;
      op.lba = Lba((position_ += blocks_) % 1000000 / 8 * 8);
      op.blocks = BlockCount(blocks_);
      op.data = {&slot.iov, 1};
      if (!channel_.submit(op)) return;
      ended(op);
    }
  }
  void on_done(block::BlockOp& op) {
    ended(op);
    submit(op);
  }
  void ended(block::BlockOp& op) {
    if (op.status != block::OpStatus::ok) failed_ = true;
    if (--left_to_end_ == 0) finished_->set_value();
  }
  block::Channel& channel_;
  block::OpKind kind_;
  std::uint32_t blocks_;
  bool fua_;
  std::vector<Slot> slots_;
  std::uint64_t left_to_start_ = 0, left_to_end_ = 0, position_ = 0;
  std::promise<void>* finished_ = nullptr;
  bool failed_ = false;
};

struct Kind {
  const char* name;
  const char* backing;  // or "encrypted": a file
  block::OpKind kind;
  std::uint32_t blocks;
  bool fua;
  bool digests;
  std::uint64_t operations;
};

constexpr std::uint32_t depth = 48;

class Allocations : public testing::TestWithParam<Kind> {};

TEST_P(Allocations, AreNoneOnceWarm) {
  const Kind& param = GetParam();
  const TemporaryFolder folder;
  block::BackstoreOptions options;
  std::string backing = param.backing;
  if (backing == "encrypted") {
    options.encrypted = true;
    options.key_folder = folder.path();
    backing = folder.file("disk", 1 << 30);
  }
  TargetThread target(backing, options);
  auto loop = runtime::make_native_loop(runtime::Runtime::automatic, {});
  ASSERT_TRUE(loop) << loop.error().message;
  auto thread = initiator::LoopThread::start(std::move(*loop));
  initiator::SessionConfig config;
  config.initiator_name = "iqn.2026-11.io.perilune:counter";
  config.target_name = "iqn.2026-11.io.perilune:allocations";
  config.portal = target.portal();
  if (param.digests) config.header_digest = config.data_digest = initiator::DigestPreference::crc32c;
  auto session = initiator::SyncSession::open(*thread, std::move(config));
  ASSERT_TRUE(session) << session.error().message;
  auto unit_info = (*session)->scan_one(0);
  ASSERT_TRUE(unit_info) << unit_info.error().message;
  std::unique_ptr<initiator::LogicalUnit> unit;
  std::unique_ptr<Pump> pump;
  // Warm: more at once than the target's largest window, so that it opens whole and slabs and queues reach
  // their size.
  std::promise<void> warm;
  auto warmed = warm.get_future();
  thread->run([&] {
    unit = std::make_unique<initiator::LogicalUnit>((*session)->session(), *unit_info);
    pump = std::make_unique<Pump>(*unit, param.kind, param.blocks, 4 * depth, param.fua);
    pump->start(50000, &warm);
  });
  warmed.wait();
  thread->run([&] {
    EXPECT_FALSE(pump->failed());
    pump = std::make_unique<Pump>(*unit, param.kind, param.blocks, depth, param.fua);
  });
  // run() itself allocates (a posted function, a promise): count from inside the loop, from the first
  // operation to the last.
  std::promise<void> finished;
  auto future = finished.get_future();
  thread->run([&] {
    allocations = 0;
    counting = true;
    pump->start(param.operations, &finished);
  });
  future.wait();
  counting = false;
  EXPECT_EQ(allocations.load(), 0u);
  EXPECT_FALSE(pump->failed());
  thread->run([&] {
    pump.reset();
    unit.reset();
  });
}

TEST(AllocationCounter, SeesOneByte) {
  counting = true;
  allocations = 0;
  std::unique_ptr<char> byte(new char);
  benchmark_sink = byte.get();
  counting = false;
  EXPECT_EQ(allocations.load(), 1u);
}

constexpr std::uint64_t million = 1000000;
INSTANTIATE_TEST_SUITE_P(
    Kinds, Allocations,
    testing::Values(Kind{"Read4K", "ram:1G", block::OpKind::read, 8, false, false, million},
                    Kind{"Write4K", "ram:1G", block::OpKind::write, 8, false, false, million},
                    Kind{"WriteFua4K", "ram:1G", block::OpKind::write, 8, true, false, million},
                    Kind{"Flush", "ram:1G", block::OpKind::flush, 0, false, false, million},
                    Kind{"Unmap4K", "ram:1G", block::OpKind::unmap, 8, false, false, million},
                    Kind{"WriteZeroes4K", "ram:1G", block::OpKind::write_zeroes, 8, false, false, million},
                    Kind{"ReadDigests4K", "ram:1G", block::OpKind::read, 8, false, true, million},
                    Kind{"WriteDigests4K", "ram:1G", block::OpKind::write, 8, false, true, million},
                    Kind{"Read64K", "ram:1G", block::OpKind::read, 128, false, false, million},
                    Kind{"Write64K", "ram:1G", block::OpKind::write, 128, false, false, million},
                    Kind{"ReadEncrypted4K", "encrypted", block::OpKind::read, 8, false, false, 50000},
                    Kind{"WriteEncrypted4K", "encrypted", block::OpKind::write, 8, false, false, 50000}),
    [](const auto& kind_info) { return kind_info.param.name; });

}  // namespace
}  // namespace perilune
