// SPDX-License-Identifier: Apache-2.0
// What the sessions and connections of one thread share.
#pragma once

#include <cstdint>
#include <memory>

#include "base/buffer_pool.hpp"
#include "base/event_log.hpp"
#include "iscsi/pdu/tx_queue.hpp"
#include "runtime/loop.hpp"
#include "target/command.hpp"

namespace perilune::target {

struct Shard {
  Shard(runtime::Loop& shard_loop, std::unique_ptr<BufferPool> buffer_pool, EventLog& event_log)
      : loop(shard_loop), pool(std::move(buffer_pool)), log(event_log) {}
  runtime::Loop& loop;
  std::unique_ptr<BufferPool> pool;
  EventLog& log;
  iscsi::TxChunkPool chunks;
  CommandSlab commands;
  std::uint32_t window_slots = 0;  // commands that all sessions together may have in progress
};

}  // namespace perilune::target
