// SPDX-License-Identifier: Apache-2.0
// One SendTargets discovery with its retries, told line by line. The loop's thread; owned by shared_ptr.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "control/iscsid/managed_session.hpp"
#include "initiator/resolver.hpp"
#include "control/messages.hpp"
#include "control/server.hpp"
#include "initiator/discovery.hpp"

namespace perilune::control {

class DiscoveryJob final : public std::enable_shared_from_this<DiscoveryJob> {
 public:
  // `ended` is called once, after the exchange was answered; the owner drops the job then, in a later turn.
  DiscoveryJob(const SessionContext& context, initiator::Resolver& resolver, config::Record record,
               std::shared_ptr<Exchange> exchange, std::function<void()> ended);
  void start();
  void cancel();  // answers with an error

 private:
  void resolved(const Result<std::vector<runtime::Endpoint>>& endpoints);
  void attempt();
  void answered(Result<std::vector<initiator::DiscoveredTarget>> targets,
                const initiator::LoginFailure& failure);
  void failed(const initiator::LoginFailure& failure);
  void tell(const std::string& line);
  void finish(int code, const std::string& message);

  const SessionContext& context_;
  initiator::Resolver& resolver_;
  config::Record record_;
  std::shared_ptr<Exchange> exchange_;
  std::function<void()> ended_;
  runtime::Endpoint portal_;
  std::int64_t retries_left_ = 0;
  bool over_ = false;
  std::unique_ptr<initiator::Discovery> discovery_;
  runtime::Timer retry_timer_;
};

}  // namespace perilune::control
