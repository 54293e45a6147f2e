// SPDX-License-Identifier: Apache-2.0
// The data of answered reads that initiators may still ask for (recovery levels above 0), as the shard's
// payload pool sees it.
//
// Kept data is a courtesy: nobody waits for ever because of it. A session keeps at most its share of the
// pool, all sessions together keep theirs, and what would be more lets go of the oldest of the session that
// keeps the most. When a command waits for pages, whoever keeps data is asked to acknowledge (a ping); what
// is not acknowledged after limits::retention_grace is let go of until nobody waits. One thread (the
// shard's).
#pragma once

#include <cstdint>
#include <optional>

#include "base/buffer_pool.hpp"
#include "base/intrusive_list.hpp"
#include "base/recovery_limits.hpp"
#include "runtime/loop.hpp"
#include "target/command.hpp"

namespace perilune::target {

class Retention {
 public:
  // What one session keeps; a member of it.
  struct Keeper : ListNode<Keeper> {
    explicit Keeper(iscsi::TargetSession& session) : engine(session) {}
    iscsi::TargetSession& engine;
    IntrusiveList<Command, RetainedData> commands;  // the oldest first
    std::uint32_t pages = 0;
  };

  // A session with suspended tasks (recovery level 2); a member of it, which leaves by itself.
  struct Suspended : ListNode<Suspended> {
    explicit Suspended(iscsi::TargetSession& session) : engine(session) {}
    iscsi::TargetSession& engine;
  };

  // The references outlive it.
  Retention(runtime::Loop& loop, BufferPool& pool);

  // From TargetHost::on_data_retained() and on_data_forgotten(). keep() may let go of this command's data or
  // others'.
  void keep(Keeper& keeper, Command& command);
  void forget(Keeper& keeper, Command& command) noexcept;
  // Its tasks may hold pages until their connection comes back: when others wait for
  // limits::suspension_grace, they end.
  void suspended(Suspended& session);
  // A command waits in the pool's queue, or another has been granted its pages and more may wait.
  void pages_wanted();

  [[nodiscard]] std::uint32_t pages() const noexcept { return pages_; }
  // The most that one session may keep: also of the smallest pool the data of the largest command.
  [[nodiscard]] std::uint32_t session_limit() const noexcept;

 private:
  // Nobody is given shared pages then.
  [[nodiscard]] bool others_wait() noexcept { return !pool_.take_shared({}); }
  [[nodiscard]] Keeper* largest() noexcept;
  static void let_go_of_oldest(Keeper& keeper);
  void grace_over();
  [[nodiscard]] Suspended* holding_pages() noexcept;

  runtime::Loop& loop_;
  BufferPool& pool_;
  runtime::Timer grace_;
  IntrusiveList<Keeper> keepers_;
  IntrusiveList<Suspended> suspended_;
  std::optional<runtime::Instant> short_since_;  // somebody has waited at every look
  std::uint32_t pages_ = 0;
};

}  // namespace perilune::target
