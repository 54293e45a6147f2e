// SPDX-License-Identifier: Apache-2.0
#include "target/retention.hpp"

#include <algorithm>

#include "iscsi/session/target_session.hpp"

namespace perilune::target {

Retention::Retention(runtime::Loop& loop, BufferPool& pool)
    : loop_(loop), pool_(pool), grace_(loop.timers(), Delegate<void()>::to<&Retention::grace_over>(*this)) {}

std::uint32_t Retention::session_limit() const noexcept {
  return std::max(pool_.total_pages() / limits::retained_share_of_session,
                  BufferPool::pages_for(limits::max_transfer_bytes));
}

void Retention::keep(Keeper& keeper, Command& command) {
  // One without pages of its own (INQUIRY …) still keeps a command object.
  command.retained_pages = std::max<std::uint16_t>(command.pages, 1);
  keeper.commands.push_back(command);
  keeper.pages += command.retained_pages;
  pages_ += command.retained_pages;
  if (!keeper.linked()) keepers_.push_back(keeper);
  while (keeper.pages > session_limit()) let_go_of_oldest(keeper);
  while (pages_ > std::max(pool_.total_pages() / limits::retained_share_of_all, session_limit()))
    let_go_of_oldest(*largest());
  if (others_wait()) pages_wanted();
}

void Retention::forget(Keeper& keeper, Command& command) noexcept {
  IntrusiveList<Command, RetainedData>::remove(command);
  keeper.pages -= command.retained_pages;
  pages_ -= command.retained_pages;
  if (keeper.commands.empty()) keeper.unlink();
}

void Retention::suspended(Suspended& session) {
  if (!session.linked()) suspended_.push_back(session);
  if (others_wait()) pages_wanted();
}

void Retention::pages_wanted() {
  if ((keepers_.empty() && suspended_.empty()) || grace_.armed()) return;
  if (!short_since_) short_since_ = loop_.now();
  keepers_.for_each([](Keeper& keeper) { keeper.engine.request_acknowledgements(); });
  grace_.arm(loop_.now() + limits::retention_grace);
}

void Retention::grace_over() {
  while (others_wait() && !keepers_.empty()) let_go_of_oldest(*largest());
  if (!others_wait() || suspended_.empty()) {
    short_since_.reset();
    return;
  }
  if (loop_.now() < *short_since_ + limits::suspension_grace) {
    grace_.arm(loop_.now() + limits::retention_grace);
    return;
  }
  short_since_.reset();
  while (others_wait()) {
    Suspended* session = holding_pages();
    if (session == nullptr) return;
    session->engine.expire_all();
  }
}

Retention::Suspended* Retention::holding_pages() noexcept {
  return suspended_.find([](Suspended& session) {
    bool holds = false;
    session.engine.for_each_command([&](iscsi::TargetCommand& command) {
      // Answers of other connections may stand behind one that waits for its reassignment.
      const bool waits = command.suspended() || command.answer_held();
      holds = holds || (waits && static_cast<Command&>(command).pages != 0);
    });
    return holds;
  });
}

Retention::Keeper* Retention::largest() noexcept {
  Keeper* most = nullptr;
  keepers_.for_each([&](Keeper& keeper) {
    if (most == nullptr || keeper.pages > most->pages) most = &keeper;
  });
  return most;
}

void Retention::let_go_of_oldest(Keeper& keeper) { keeper.engine.forget_data(keeper.commands.front()); }

}  // namespace perilune::target
