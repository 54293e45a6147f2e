// SPDX-License-Identifier: Apache-2.0
#include "initiator/control_command.hpp"

#include <algorithm>
#include <utility>

namespace perilune::initiator {

namespace {
constexpr int max_tries = 16;
constexpr std::uint8_t status_check_condition = 0x02, status_busy = 0x08, status_task_set_full = 0x28;
}  // namespace

void ControlCommand::run(std::uint64_t lun, std::initializer_list<std::uint8_t> cdb,
                         std::uint32_t allocation_bytes, std::function<void()> then) {
  request_.lun = lun;
  request_.cdb = {};
  std::copy(cdb.begin(), cdb.end(), request_.cdb.begin());
  data_.assign(allocation_bytes, 0);
  iov_ = {data_.data(), data_.size()};
  request_.direction = allocation_bytes != 0 ? ScsiRequest::Direction::in : ScsiRequest::Direction::none;
  request_.data = allocation_bytes != 0 ? std::span<const iovec>(&iov_, 1) : std::span<const iovec>();
  request_.replay_safe = true;
  request_.done = Delegate<void(ScsiRequest&)>::to<&ControlCommand::done>(*this);
  then_ = std::move(then);
  tries_ = 0;
  send();
}

void ControlCommand::send() { session_.submit(request_); }

void ControlCommand::done(ScsiRequest&) {
  if (!request_.error_code && ++tries_ < max_tries) {
    const SenseCode code = request_.status == status_check_condition ? sense() : SenseCode{};
    if (code.key == sense_key::unit_attention) {
      send();
      return;
    }
    if (request_.status == status_busy || request_.status == status_task_set_full ||
        (code.key == sense_key::not_ready && code.code() == 0x0401)) {
      again_.arm(session_.loop().now() + std::chrono::milliseconds(50 * tries_));
      return;
    }
  }
  auto then = std::exchange(then_, {});
  then();
}

}  // namespace perilune::initiator
