// SPDX-License-Identifier: Apache-2.0
// Private to this folder: one control command with data-in, retried over unit attentions, BUSY and "becoming
// ready".
#pragma once

#include <functional>
#include <initializer_list>
#include <vector>

#include "initiator/sense.hpp"
#include "initiator/session.hpp"

namespace perilune::initiator {

class ControlCommand {
 public:
  explicit ControlCommand(Session& session)
      : session_(session),
        again_(session.loop().timers(), Delegate<void()>::to<&ControlCommand::send>(*this)) {}

  // One at a time. `then` is called from the loop.
  void run(std::uint64_t lun, std::initializer_list<std::uint8_t> cdb, std::uint32_t allocation_bytes,
           std::function<void()> then);

  [[nodiscard]] bool good() const noexcept { return !request_.error_code && request_.status == 0; }
  [[nodiscard]] bool no_answer() const noexcept { return request_.error_code.has_value(); }
  [[nodiscard]] Bytes data() const noexcept {
    return Bytes(data_).first(good() ? request_.transferred_bytes : 0);
  }
  [[nodiscard]] const ScsiRequest& request() const noexcept { return request_; }
  [[nodiscard]] SenseCode sense() const noexcept {
    return decode_sense(Bytes(request_.sense.data(), request_.sense_length));
  }

 private:
  void send();
  void done(ScsiRequest& request);

  Session& session_;
  runtime::Timer again_;
  ScsiRequest request_;
  std::vector<std::uint8_t> data_;
  iovec iov_{};
  std::function<void()> then_;
  int tries_ = 0;
};

}  // namespace perilune::initiator
