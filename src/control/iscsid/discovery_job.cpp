// SPDX-License-Identifier: Apache-2.0
#include "control/iscsid/discovery_job.hpp"

#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "control/iscsi_error.hpp"
#include "control/iscsid/session_config.hpp"

namespace perilune::control {
namespace {
constexpr std::chrono::seconds retry_interval{1};
}

DiscoveryJob::DiscoveryJob(const SessionContext& context, initiator::Resolver& resolver,
                           config::Record record, std::shared_ptr<Exchange> exchange,
                           std::function<void()> ended)
    : context_(context),
      resolver_(resolver),
      record_(std::move(record)),
      exchange_(std::move(exchange)),
      ended_(std::move(ended)),
      retry_timer_(context.loop.timers(), Delegate<void()>::to<&DiscoveryJob::attempt>(*this)) {}

void DiscoveryJob::tell(const std::string& line) { exchange_->progress({{"text", line}}); }

void DiscoveryJob::start() {
  retries_left_ = record_.get_int("discovery.sendtargets.reopen_max");
  const auto port = static_cast<std::uint16_t>(record_.get_int("discovery.sendtargets.port"));
  resolver_.resolve(record_.get("discovery.sendtargets.address"), port,
                    [weak = weak_from_this()](const Result<std::vector<runtime::Endpoint>>& endpoints) {
    if (const auto self = weak.lock()) self->resolved(endpoints);
  });
}

void DiscoveryJob::cancel() { finish(iscsi_err_again, "the daemon is ending"); }

void DiscoveryJob::resolved(const Result<std::vector<runtime::Endpoint>>& endpoints) {
  if (over_) return;
  if (!endpoints || endpoints->empty()) {
    const std::string& host = record_.get("discovery.sendtargets.address");
    std::string why = endpoints ? "no address" : endpoints.error().message;
    if (why.starts_with(host + ": ")) why.erase(0, host.size() + 2);
    tell(fmt::format("Cannot resolve host {}. getaddrinfo error: [{}]", host, why));
    tell(fmt::format("cannot resolve host name {}", host));
    return finish(iscsi_err_trans, "the name does not resolve");
  }
  portal_ = endpoints->front();
  attempt();
}

void DiscoveryJob::attempt() {
  if (over_) return;
  auto config = discovery_config_of(record_, context_.initiator_name, context_.initiator_alias, portal_);
  if (!config) {
    tell(config.error().message);
    return finish(iscsi_err_inval, config.error().message);
  }
  discovery_ = std::make_unique<initiator::Discovery>(
      context_.loop, std::move(*config),
      [this](Result<std::vector<initiator::DiscoveredTarget>> targets,
             const initiator::LoginFailure& failure) {
        // Not from inside the discovery's own call.
        context_.loop.post([weak = weak_from_this(), targets = std::move(targets), failure]() mutable {
          if (const auto self = weak.lock()) self->answered(std::move(targets), failure);
        });
      });
  discovery_->start();
}

void DiscoveryJob::answered(Result<std::vector<initiator::DiscoveredTarget>> targets,
                            const initiator::LoginFailure& failure) {
  if (over_) return;
  discovery_.reset();
  if (!targets) {
    initiator::LoginFailure known = failure;
    // A failure after the login stands in the result alone.
    if (known.error.message.empty()) known.error = targets.error();
    return failed(known);
  }
  std::vector<FoundTarget> found;
  for (initiator::DiscoveredTarget& target : *targets) {
    FoundTarget entry{std::move(target.name), {}};
    for (initiator::TargetPortal& portal : target.portals) {
      entry.portals.push_back({std::move(portal.address), portal.port, portal.portal_group_tag});
    }
    found.push_back(std::move(entry));
  }
  context_.log(fmt::format("discovery at {}: {} targets", portal_.to_string(), found.size()));
  over_ = true;
  exchange_->finish(targets_to_json(found));
  ended_();
}

void DiscoveryJob::failed(const initiator::LoginFailure& failure) {
  const std::string address = portal_.address_string();
  if (!is_retryable(failure)) {
    const int code = login_exit_code(failure);
    if (code == iscsi_err_login_auth_failed) {
      tell("Login failed to authenticate with target");
      tell(fmt::format("discovery login to {} rejected: initiator failed authorization", address));
    } else {
      tell(fmt::format("discovery login to {} failed: {}", address, failure.error.message));
    }
    return finish(code, failure.error.message);
  }
  if (failure.error.code == Errc::timed_out) tell(fmt::format("connect to {} timed out", address));
  else tell(fmt::format("cannot make connection to {}: {}", address, connection_words(failure.error)));
  if (retries_left_ > 0) {
    --retries_left_;
    retry_timer_.arm(context_.loop.now() + retry_interval);
    return;
  }
  tell(fmt::format("connection login retries (reopen_max) {} exceeded",
                   record_.get("discovery.sendtargets.reopen_max")));
  finish(iscsi_err_pdu_timeout, failure.error.message);
}

void DiscoveryJob::finish(int code, const std::string& message) {
  if (std::exchange(over_, true)) return;
  retry_timer_.cancel();
  context_.log(
      fmt::format("discovery at {} failed: {}", record_.get("discovery.sendtargets.address"), message));
  exchange_->fail(code, message);
  ended_();
}

}  // namespace perilune::control
