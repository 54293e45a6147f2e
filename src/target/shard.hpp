// SPDX-License-Identifier: Apache-2.0
// What the sessions and connections of one thread share.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/buffer_pool.hpp"
#include "base/event_log.hpp"
#include "iscsi/pdu/tx_queue.hpp"
#include "runtime/loop.hpp"
#include "target/command.hpp"

namespace perilune::target {

// The scatter lists of sends in progress: an idle connection holds none. Makes a list only when more sends than ever before
// are in progress at once.
class GatherPool {
 public:
  using List = std::array<iovec, 128>;
  [[nodiscard]] std::unique_ptr<List> take() {
    if (free_.empty()) {
      free_.reserve(++made_);
      return std::make_unique<List>();
    }
    auto list = std::move(free_.back());
    free_.pop_back();
    return list;
  }
  void give_back(std::unique_ptr<List> list) noexcept { free_.push_back(std::move(list)); }  // into room that is reserved

 private:
  std::vector<std::unique_ptr<List>> free_;
  std::size_t made_ = 0;
};

struct Shard {
  Shard(runtime::Loop& shard_loop, std::unique_ptr<BufferPool> buffer_pool, EventLog& event_log)
      : loop(shard_loop), pool(std::move(buffer_pool)), log(event_log) {}
  runtime::Loop& loop;
  std::unique_ptr<BufferPool> pool;
  EventLog& log;
  iscsi::TxChunkPool chunks;
  CommandSlab commands;
  GatherPool gathers;
  std::uint32_t window_slots = 0;  // commands that all sessions together may have in progress
};

}  // namespace perilune::target
