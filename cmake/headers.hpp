// SPDX-License-Identifier: Apache-2.0
// What most files include of other people's, compiled once a tree with PERILUNE_PRECOMPILE
// (cmake/perilune.cmake). Nothing of ours: a file includes what it uses, which the builds without it show.
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>
