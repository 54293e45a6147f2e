// SPDX-License-Identifier: Apache-2.0
// sim_maybe("name"): a named place where code may do the legal but nasty thing (a short read, a full queue, a
// delay), asked for by the simulator only. Answers false in production, always.
//
// The hook is a per-thread pointer that only a simulated world sets, so that the same libraries serve the
// release binary and the simulator: the cost is one load of a thread-local and a branch never taken. A build
// with PERILUNE_NO_SIM_HOOKS has not even that. The pure folders (iscsi, scsi) cannot include this header:
// what varies in them enters by argument.
#pragma once

namespace perilune::runtime {

class BuggifyHook {
 public:
  virtual ~BuggifyHook() = default;
  // `place` identifies the call site by its text.
  [[nodiscard]] virtual bool fires(const char* place) = 0;
};

#if defined(PERILUNE_NO_SIM_HOOKS)

[[nodiscard]] constexpr bool sim_maybe(const char*) noexcept { return false; }

#else

inline constinit thread_local BuggifyHook* buggify_hook = nullptr;

[[nodiscard]] inline bool sim_maybe(const char* place) {
  if (buggify_hook == nullptr) [[likely]]
    return false;
  return buggify_hook->fires(place);
}

#endif

}  // namespace perilune::runtime
