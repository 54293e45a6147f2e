// SPDX-License-Identifier: Apache-2.0
#include "control/privilege/capabilities.hpp"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>

namespace perilune::control::privilege {

Status keep_capabilities(std::span<const int> kept) {
  const auto is_kept = [&](int capability) {
    return std::find(kept.begin(), kept.end(), capability) != kept.end();
  };
  static_cast<void>(::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
  // Needs CAP_SETPCAP, so first; PR_CAPBSET_READ fails behind the last that the kernel knows. It only bounds
  // what an execve() could gain, so that it may fail.
  for (int capability = 0; ::prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability) {
    if (!is_kept(capability)) static_cast<void>(::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0));
  }
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
  if (::syscall(__NR_capget, &header, sets.data()) != 0) return fail_errno(errno, "capabilities");
  std::array<std::uint32_t, _LINUX_CAPABILITY_U32S_3> wanted{};
  for (const int capability : kept) {
    wanted[static_cast<std::size_t>(CAP_TO_INDEX(capability))] |=
        CAP_TO_MASK(static_cast<unsigned>(capability));
  }
  for (std::size_t i = 0; i < sets.size(); ++i) {
    sets[i].permitted &= wanted[i];
    sets[i].effective = sets[i].permitted;
    sets[i].inheritable = 0;
  }
  if (::syscall(__NR_capset, &header, sets.data()) != 0) return fail_errno(errno, "capabilities");
  return {};
}

}  // namespace perilune::control::privilege
