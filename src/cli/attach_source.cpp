// SPDX-License-Identifier: Apache-2.0
#include "cli/attach_source.hpp"

#include <fmt/format.h>

#include <filesystem>
#include <optional>
#include <utility>

#include "block/open_backstore.hpp"

namespace perilune::cli {

namespace {

using namespace initiator;

constexpr std::string_view url_scheme = "iscsi://";

bool is_url(const std::string& text) { return text.starts_with(url_scheme); }

std::string url_name(const Url& url) {
  const bool ipv6 = url.host.find(':') != std::string::npos;
  const std::string host = ipv6 ? "[" + url.host + "]" : url.host;
  const std::string port = url.port == 3260 ? std::string() : fmt::format(":{}", url.port);
  return fmt::format("{}{}{}/{}/{}", url_scheme, host, port, url.target, url.lun.value_or(0));
}

tl::expected<Url, ToolError> parse_unit_url(const std::string& text) {
  auto url = parse_url(text);
  if (!url) return tl::unexpected<ToolError>(tool_error(url.error()));
  if (url->target.empty()) {
    return tl::unexpected<ToolError>(
        {ToolExit::usage, "the URL names no target; perilune ls shows what there is"});
  }
  if (!url->lun) url->lun = 0;
  return std::move(*url);
}

std::string local_name(const std::string& text) {
  std::error_code error;
  const auto path = std::filesystem::canonical(text, error);
  return error ? text : path.string();
}

class LocalSource final : public AttachSource {
 public:
  LocalSource(runtime::Loop& loop, std::string name, std::unique_ptr<block::Backstore> backstore)
      : loop_(loop), name_(std::move(name)), backstore_(std::move(backstore)) {}

  void open(Opened opened) override {
    loop_.post([this, opened = std::move(opened)] {
      auto channel = backstore_->open_channel(loop_);
      if (!channel) return opened(tl::unexpected<ToolError>(tool_error(channel.error())));
      channel_ = std::move(*channel);
      opened(channel_.get());
    });
  }
  void close(std::function<void()> closed) override {
    loop_.post([this, closed = std::move(closed)] {
      channel_.reset();
      closed();
    });
  }
  const std::string& name() const override { return name_; }

 private:
  runtime::Loop& loop_;
  std::string name_;
  std::unique_ptr<block::Backstore> backstore_;
  std::unique_ptr<block::Channel> channel_;
};

// Login at the first address that answers, a look at the unit, then its channel. Reconnecting is the
// session's affair: what is outstanding meanwhile stays outstanding.
class RemoteSource final : public AttachSource, private SessionObserver {
 public:
  RemoteSource(runtime::Loop& loop, EventLog& log, Url url, std::vector<runtime::Endpoint> portals)
      : loop_(loop), log_(log), url_(std::move(url)), portals_(std::move(portals)), name_(url_name(url_)) {}

  void open(Opened opened) override {
    opened_ = std::move(opened);
    loop_.post([this] { connect(); });
  }
  void close(std::function<void()> closed) override {
    closed_ = std::move(closed);
    unit_.reset();
    if (ended_) {
      loop_.post([this] { end(); });
    } else {
      session_->logout();
    }
  }
  const std::string& name() const override { return name_; }
  std::string target() const override { return url_.target; }
  std::uint64_t lun() const override { return *url_.lun; }

 private:
  void connect() {
    SessionConfig config = session_config(url_, {});
    config.replacement_timeout = SessionConfig().replacement_timeout;  // a disk waits for its target
    config.portal = portals_[portal_];
    // A session of its own for each unit, so that two attachments do not take each other's place at the
    // target.
    config.isid = stable_isid(config.initiator_name, fmt::format("attach-{}", lun()), url_.target);
    session_.emplace(loop_, std::move(config), static_cast<SessionObserver&>(*this));
    session_->start();
  }
  void on_logged_in() override {
    logged_in_ = true;
    scan_.emplace(*session_, [this](Result<std::vector<UnitInfo>> units) {
      loop_.post([this, units = std::move(units)]() mutable { on_scanned(std::move(units)); });
    });
    scan_->start_one(lun_bytes(lun()));
  }
  void on_scanned(Result<std::vector<UnitInfo>> units) {
    scan_.reset();
    if (!units) {
      failure_ = tool_error(units.error());
    } else if (units->empty()) {
      failure_ = {ToolExit::not_found, fmt::format("{} has no unit {}", url_.target, lun())};
    } else if (!units->front().ready) {
      failure_ = {ToolExit::failed,
                  fmt::format("unit {} of {} is no disk that is ready", lun(), url_.target)};
    } else {
      unit_.emplace(*session_, std::move(units->front()));
      return std::exchange(opened_, nullptr)(&*unit_);
    }
    if (ended_) return end();
    session_->logout();
  }
  void on_failed(const LoginFailure& failure) override {
    const runtime::Endpoint& portal = portals_[portal_];
    log_.event(EventLog::Level::error, "session_failed",
               fmt::format("portal={} reason=\"{}\"", portal.to_string(), failure.error.message));
    const bool try_next = !logged_in_ && failure.status_class == 0 && portal_ + 1 < portals_.size();
    if (try_next) {
      ++portal_;
      return loop_.post([this] {
        session_.reset();
        connect();
      });
    }
    ended_ = true;
    if (!failure_) failure_ = tool_error(failure);
    failure_->message = portal.to_string() + ": " + failure_->message;
    // After the login its requests end with an error; whoever waits for one of them goes on from there.
    if (!logged_in_ || closed_) loop_.post([this] { end(); });
  }
  void on_logged_out() override {
    ended_ = true;
    loop_.post([this] { end(); });
  }
  void on_state(SessionState from, SessionState to) override {
    if (from == SessionState::logged_in || to == SessionState::logged_in) {
      log_.event(EventLog::Level::info, "session",
                 fmt::format("target={} connected={}", url_.target, to == SessionState::logged_in));
    }
  }
  void on_units_changed() override {
    log_.event(EventLog::Level::warning, "units_changed",
               fmt::format("target={} (attach again to see a new size)", url_.target));
  }

  void end() {
    session_.reset();
    if (opened_)
      return std::exchange(opened_, nullptr)(tl::unexpected<ToolError>(failure_.value_or(ToolError{})));
    if (closed_) std::exchange(closed_, nullptr)();
  }

  runtime::Loop& loop_;
  EventLog& log_;
  const Url url_;
  const std::vector<runtime::Endpoint> portals_;
  const std::string name_;
  std::size_t portal_ = 0;
  Opened opened_;
  std::function<void()> closed_;
  std::optional<ToolError> failure_;
  bool logged_in_ = false;
  bool ended_ = false;
  std::optional<Session> session_;
  std::optional<Scan> scan_;
  std::optional<LogicalUnit> unit_;
};

}  // namespace

tl::expected<std::string, ToolError> attach_name(const std::string& text) {
  if (!is_url(text)) return local_name(text);
  auto url = parse_unit_url(text);
  if (!url) return tl::unexpected<ToolError>(url.error());
  return url_name(*url);
}

tl::expected<std::unique_ptr<AttachSource>, ToolError> make_attach_source(const std::string& text,
                                                                          bool read_only, runtime::Loop& loop,
                                                                          EventLog& log) {
  if (is_url(text)) {
    auto url = parse_unit_url(text);
    if (!url) return tl::unexpected<ToolError>(url.error());
    auto portals = resolve(url->host, url->port);
    if (!portals) return tl::unexpected<ToolError>(tool_error(portals.error()));
    if (portals->empty()) return tl::unexpected<ToolError>({ToolExit::not_found, url->host + ": no address"});
    return std::make_unique<RemoteSource>(loop, log, std::move(*url), std::move(*portals));
  }
  block::BackstoreOptions options;
  options.read_only = read_only;
  auto backstore = block::open_backstore(text, options);
  if (!backstore) return tl::unexpected<ToolError>(tool_error(backstore.error()));
  return std::make_unique<LocalSource>(loop, local_name(text), std::move(*backstore));
}

}  // namespace perilune::cli
