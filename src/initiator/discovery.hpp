// SPDX-License-Identifier: Apache-2.0
// SendTargets (RFC 7143 appendix C) over a discovery session of its own: connect, login, ask, log out.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "initiator/initiator.hpp"

namespace perilune::initiator {

inline constexpr std::size_t max_discovered_targets = 16384;
inline constexpr std::size_t max_portals_per_target = 256;

// The keys of a SendTargets answer. A target without a TargetAddress gets `asked` as its portal. Fails with
// protocol on text that is not TargetName/TargetAddress pairs, limit on too many.
[[nodiscard]] Result<std::vector<DiscoveredTarget>> parse_send_targets(Bytes text,
                                                                       const runtime::Endpoint& asked);

// "host[:port][,tag]", IPv6 in brackets (RFC 7143 13.8): the TargetAddress of SendTargets and of a redirect.
[[nodiscard]] std::optional<TargetPortal> parse_target_address(std::string_view text);

// One discovery. On the loop's thread; done is called once, from the loop; destroying the object gives it up.
class Discovery {
 public:
  using Done = std::function<void(Result<std::vector<DiscoveredTarget>>, const LoginFailure&)>;
  // config.target_name is ignored. A zero ISID gets the stable default.
  Discovery(runtime::Loop& loop, SessionConfig config, Done done);
  ~Discovery();
  void start();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace perilune::initiator
