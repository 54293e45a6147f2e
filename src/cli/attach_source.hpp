// SPDX-License-Identifier: Apache-2.0
// Where the blocks of `perilune attach` come from: a local backing or a logical unit of a target. One loop's
// thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/block_op.hpp"
#include "base/event_log.hpp"
#include "cli/initiator_common.hpp"
#include "runtime/loop.hpp"

namespace perilune::cli {

class AttachSource {
 public:
  using Opened = std::function<void(tl::expected<block::Channel*, ToolError>)>;

  virtual ~AttachSource() = default;  // precondition: open() failed, or close() has ended
  // `opened` is called once, from a later turn.
  virtual void open(Opened opened) = 0;
  // Nothing of the channel is outstanding; it is not used again. `closed` is called once, from a later turn.
  virtual void close(std::function<void()> closed) = 0;

  // Without secrets.
  [[nodiscard]] virtual const std::string& name() const = 0;
  [[nodiscard]] virtual std::string target() const { return {}; }
  [[nodiscard]] virtual std::uint64_t lun() const { return 0; }
};

// `text`: iscsi://..., ram:SIZE, null:SIZE, or a path. Resolves host names: blocks. The secrets of a URL stay
// inside.
[[nodiscard]] tl::expected<std::unique_ptr<AttachSource>, ToolError> make_attach_source(
    const std::string& text, bool read_only, runtime::Loop& loop, EventLog& log);

// What make_attach_source() would call it, without opening anything.
[[nodiscard]] tl::expected<std::string, ToolError> attach_name(const std::string& text);

}  // namespace perilune::cli
