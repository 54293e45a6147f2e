// SPDX-License-Identifier: Apache-2.0
// How far apart two processors are: what a word costs that goes to the other and back. A guest's host may
// move its processors apart (to cores that share no cache) and together again, for seconds each; then
// whatever passes between a client and a server costs a multiple, while each alone is as fast as before.
#pragma once

namespace ceiling {

// Nanoseconds of a round trip, the median of some dozens of batches; negative when the process may not run
// there.
[[nodiscard]] double round_trip_ns(int one, int other);

}  // namespace ceiling
