// SPDX-License-Identifier: Apache-2.0
// The blocking face, for tools and tests. A LoopThread owns (or borrows) a loop that runs on another thread;
// every call here blocks the caller until the loop has answered, and must not be made on the loop's thread.
//
//   auto loop = runtime::make_native_loop(runtime::Runtime::automatic, {});
//   auto thread = LoopThread::start(std::move(*loop));
//   auto session = SyncSession::open(*thread, config);
//   auto units = (*session)->scan();
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "initiator/discovery.hpp"
#include "initiator/logical_unit.hpp"
#include "initiator/session.hpp"
#include "runtime/thread_loop.hpp"

namespace perilune::initiator {

class LoopThread {
 public:
  [[nodiscard]] static std::unique_ptr<LoopThread> start(
      std::unique_ptr<runtime::ThreadLoop> loop);  // on a
                                                   // thread
                                                   // of
                                                   // its
                                                   // own
  explicit LoopThread(runtime::Loop& running_elsewhere);
  ~LoopThread();  // stops and joins what it owns
  LoopThread(const LoopThread&) = delete;
  LoopThread& operator=(const LoopThread&) = delete;

  [[nodiscard]] runtime::Loop& loop() noexcept;
  // Runs `work` on the loop's thread and waits for it to return.
  void run(const std::function<void()>& work);
  // Host names in redirects can be followed: by threads of this object, so only on a loop of its own.
  void provide_resolver(SessionConfig& config);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// Discovery to the end. `failure`, when given, tells why a login was refused.
[[nodiscard]] Result<std::vector<DiscoveredTarget>> discover(LoopThread& thread, const SessionConfig& config,
                                                             LoginFailure* failure = nullptr);

// The outcome of one command.
struct SyncOutcome {
  std::uint8_t status = 0;
  std::vector<std::uint8_t> data;   // data-in, as many bytes as came
  std::vector<std::uint8_t> sense;
};

class SyncSession {
 public:
  [[nodiscard]] static Result<std::unique_ptr<SyncSession>> open(LoopThread& thread, SessionConfig config,
                                                                 LoginFailure* failure = nullptr);
  ~SyncSession();  // logs out when that has not been done

  [[nodiscard]] Result<std::vector<UnitInfo>> scan();
  [[nodiscard]] Result<UnitInfo> scan_one(std::uint64_t lun);
  // One command with data-in or none; unit attentions are retried a few times.
  [[nodiscard]] Result<SyncOutcome> command_in(std::uint64_t lun, std::span<const std::uint8_t> cdb,
                                               std::uint32_t allocation_bytes);
  [[nodiscard]] Result<SyncOutcome> command_out(std::uint64_t lun, std::span<const std::uint8_t> cdb,
                                                Bytes data);
  void logout();

  [[nodiscard]] Session& session() noexcept;  // to be used on the loop's thread
  [[nodiscard]] SessionInfo info();
  [[nodiscard]] SessionStatistics statistics();

 private:
  class Impl;
  explicit SyncSession(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// A logical unit, blocking. Created and destroyed on the calling thread.
class SyncUnit {
 public:
  SyncUnit(LoopThread& thread, SyncSession& session, UnitInfo info);
  ~SyncUnit();
  [[nodiscard]] const block::Geometry& geometry() const noexcept;
  [[nodiscard]] Status read(Lba lba, MutableBytes out);
  [[nodiscard]] Status write(Lba lba, Bytes data, bool fua = false);
  [[nodiscard]] Status flush();
  [[nodiscard]] Status unmap(Lba lba, BlockCount blocks);
  [[nodiscard]] Status write_zeroes(Lba lba, BlockCount blocks, bool may_unmap);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace perilune::initiator
