// SPDX-License-Identifier: Apache-2.0
#include "control/privilege/confine.hpp"

#include <pwd.h>

#include <string>

#include "base/sanitizer.hpp"
#include "control/privilege/system_call_filter.hpp"
#include "crypto/hash.hpp"

namespace perilune::control::privilege {
namespace {

void load_what_loads_lazily() {
  passwd entry{};
  passwd* found = nullptr;
  char buffer[4096];
  // Nobody's number: every service of nsswitch.conf is asked.
  (void)::getpwuid_r(0x7ffffffe, &entry, buffer, sizeof buffer, &found);
  (void)crypto::hash(crypto::HashAlgorithm::md5, {});
}

}  // namespace

void confine_server(bool wanted, EventLog& log) {
  if (!wanted) {
    log.event(EventLog::Level::warning, "seccomp", "off reason=\"--no-seccomp\"");
    return;
  }
  load_what_loads_lazily();
  if (const Status status = filter_system_calls(Confined::server); !status) {
    // Whoever built it with a sanitizer knows; on a kernel that cannot it is news.
    const auto level = PERILUNE_SANITIZED != 0 ? EventLog::Level::info : EventLog::Level::warning;
    log.event(level, "seccomp", "off reason=\"" + status.error().message + "\"");
    return;
  }
  log.event(EventLog::Level::info, "seccomp", "on");
}

}  // namespace perilune::control::privilege
