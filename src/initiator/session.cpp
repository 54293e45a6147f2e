// SPDX-License-Identifier: Apache-2.0
#include "initiator/session.hpp"

#include <utility>

#include "initiator/session_impl.hpp"

namespace perilune::initiator {

Session::Session(runtime::Loop& loop, SessionConfig config, SessionObserver& observer)
    : impl_(std::make_unique<SessionImpl>(loop, std::move(config), observer)) {}
Session::~Session() = default;

void Session::start() { impl_->start(); }
void Session::submit(ScsiRequest& request) { impl_->submit(request); }
void Session::abort(ScsiRequest& request) { impl_->abort(request); }
void Session::manage(TaskManagement& function) { impl_->manage(function); }
void Session::logout() { impl_->logout(); }
void Session::drop_connection() { impl_->drop_connection(); }
void Session::set_connections(std::uint16_t count) { impl_->set_connections(count); }
void Session::abandon() { impl_->abandon(); }
SessionInfo Session::info() const { return impl_->info(); }
const SessionConfig& Session::config() const noexcept { return impl_->config(); }
SessionStatistics Session::statistics() const { return impl_->statistics(); }
runtime::Loop& Session::loop() const noexcept { return impl_->loop(); }
std::uint32_t Session::queue_depth() const noexcept { return impl_->config().commands_max; }
void Session::send_targets(const std::string& value, TextAnswer answer) {
  impl_->send_targets(value, std::move(answer));
}
void Session::watch_identity(std::uint64_t lun, std::vector<std::uint8_t> page) {
  impl_->watch_identity(lun, std::move(page));
}

std::array<std::uint8_t, 6> stable_isid(std::string_view initiator_name, std::string_view interface_name,
                                        std::string_view target_name) noexcept {
  std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a: spreading is all that is asked of it
  for (std::string_view part : {initiator_name, interface_name, target_name}) {
    for (char c : part) hash = (hash ^ static_cast<std::uint8_t>(c)) * 0x100000001b3;
    hash = (hash ^ 0xff) * 0x100000001b3;
  }
  hash ^= hash >> 33;
  std::array<std::uint8_t, 6> isid{};
  isid[0] = 0x80;  // T = 10b: random (RFC 7143 11.12.5)
  for (std::size_t i = 1; i < isid.size(); ++i) isid[i] = static_cast<std::uint8_t>(hash >> (8 * (i - 1)));
  return isid;
}

}  // namespace perilune::initiator
