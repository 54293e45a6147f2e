// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_logins.hpp"

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace perilune::cli {
namespace {

using namespace initiator;
using Clock = std::chrono::steady_clock;

class LoginBench {
 public:
  LoginBench(runtime::ThreadLoop& loop, double warm_up, double seconds)
      : loop_(loop),
        timer_(loop.timers(), Delegate<void()>::to<&LoginBench::on_timer>(*this)),
        seconds_(seconds) {
    timer_.arm(loop.now() + duration(warm_up));
  }
  tl::expected<LoginRate, ToolError> run(const SessionConfig& config, unsigned parallel);

 private:
  // One session after the other.
  class Chain final : public SessionObserver {
   public:
    Chain(LoginBench& bench, SessionConfig config) : bench_(bench), config_(std::move(config)) {}
    void next() {
      begun_ = Clock::now();
      session_ = std::make_unique<Session>(bench_.loop_, config_.clone(), *this);
      session_->start();
    }
    void on_logged_in() override {
      bench_.count(Clock::now() - begun_);
      session_->logout();
    }
    void on_state(SessionState, SessionState to) override {
      if (to == SessionState::reconnecting)
        bench_.failed({ToolExit::connection, "a connection was lost during the bench"});
    }
    void on_failed(const LoginFailure& failure) override { bench_.failed(tool_error(failure)); }
    void on_logged_out() override {
      if (bench_.ending_ || bench_.error_) bench_.ended();
      else next();  // which destroys the session that calls
    }
    void on_units_changed() override {}

   private:
    LoginBench& bench_;
    SessionConfig config_;
    std::unique_ptr<Session> session_;
    Clock::time_point begun_{};
  };

  static runtime::Duration duration(double seconds) {
    return std::chrono::duration_cast<runtime::Duration>(std::chrono::duration<double>(seconds));
  }
  void count(Clock::duration latency) {
    ++rate_.logins_all;
    if (!measuring_) return;
    ++rate_.logins;
    rate_.latency.add(static_cast<std::uint64_t>(latency.count()));
  }
  void on_timer() {
    if (!measuring_) {
      measuring_ = true;
      from_ = Clock::now();
      timer_.arm(loop_.now() + duration(seconds_));
    } else {
      measuring_ = false;
      ending_ = true;
      rate_.seconds = std::chrono::duration<double>(Clock::now() - from_).count();
    }
  }
  void ended() {
    if (--running_ == 0) loop_.stop();
  }
  void failed(ToolError error) {
    if (!error_) error_ = std::move(error);
    loop_.stop();
  }

  runtime::ThreadLoop& loop_;
  runtime::Timer timer_;
  double seconds_;
  bool measuring_ = false, ending_ = false;
  Clock::time_point from_{};
  std::size_t running_ = 0;
  LoginRate rate_;
  std::optional<ToolError> error_;
  std::vector<std::unique_ptr<Chain>> chains_;
};

tl::expected<LoginRate, ToolError> LoginBench::run(const SessionConfig& config, unsigned parallel) {
  for (unsigned i = 0; i < parallel; ++i) {
    SessionConfig own = config.clone();
    own.isid = stable_isid(own.initiator_name, "logins" + std::to_string(i), own.target_name);
    chains_.push_back(std::make_unique<Chain>(*this, std::move(own)));
  }
  running_ = chains_.size();
  for (auto& chain : chains_) chain->next();
  loop_.run();
  if (error_) return tl::unexpected(std::move(*error_));
  chains_.clear();
  loop_.post([this] { loop_.stop(); });  // the last connections close themselves
  loop_.run();
  return std::move(rate_);
}

}  // namespace

tl::expected<LoginRate, ToolError> measure_logins(runtime::ThreadLoop& loop, const SessionConfig& config,
                                                  unsigned parallel, double warm_up, double seconds) {
  LoginBench bench(loop, warm_up, seconds);
  return bench.run(config, parallel);
}

}  // namespace perilune::cli
