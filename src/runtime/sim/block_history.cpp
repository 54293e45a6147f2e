// SPDX-License-Identifier: Apache-2.0
#include "runtime/sim/block_history.hpp"

#include <algorithm>

#include "runtime/sim/prng.hpp"

namespace perilune::sim {

namespace {
constexpr std::uint64_t initial_version = 0;
constexpr std::uint64_t no_version = ~std::uint64_t{0};
}  // namespace

BlockHistory::BlockHistory(std::uint64_t seed, std::uint32_t block_bytes, BlockCount blocks)
    : seed_(seed), block_bytes_(block_bytes), blocks_(blocks.value()) {
  PERILUNE_ASSERT(block_bytes >= 512 && block_bytes % 512 == 0);
}

BlockHistory::Block& BlockHistory::block(std::uint64_t lba) {
  const auto [it, fresh] = map_.try_emplace(lba);
  if (fresh) {
    Version first;
    first.id = initial_version;
    first.state = State::closed;
    first.zero = first.durable = first.certain = true;
    it->second.versions.push_back(first);
  }
  return it->second;
}

BlockHistory::Version* BlockHistory::find(Block& block, std::uint64_t id) noexcept {
  for (Version& v : block.versions) {
    if (v.id == id) return &v;
  }
  return nullptr;
}

// The content of a version: its number and place, then bytes that follow from them.
void BlockHistory::fill(std::uint64_t lba, std::uint64_t version, MutableBytes out) const {
  store_be64(out.data(), version);
  store_be64(out.data() + 8, lba);
  Prng(seed_ ^ (version * 0x9e3779b97f4a7c15ULL) ^ (lba << 40)).fill(out.subspan(16));
}

std::uint64_t BlockHistory::identify(std::uint64_t lba, Bytes data, bool& zero) const {
  zero = std::all_of(data.begin(), data.end(), [](std::uint8_t b) { return b == 0; });
  if (zero) return no_version;
  const std::uint64_t version = load_be64(data.data());
  std::vector<std::uint8_t> expected(data.size());
  fill(lba, version, expected);
  return std::equal(data.begin(), data.end(), expected.begin()) ? version : no_version;
}

BlockHistory::Write BlockHistory::begin(Lba first, std::uint64_t count, bool zero) {
  PERILUNE_ASSERT(first.value() <= blocks_ && count <= blocks_ - first.value());
  Version v;
  v.id = next_version_++;
  v.began = tick_++;
  v.zero = zero;
  for (std::uint64_t i = 0; i < count; ++i) block(first.value() + i).versions.push_back(v);
  extents_[v.id] = Extent{first.value(), count, State::open};
  return Write{v.id};
}

BlockHistory::Write BlockHistory::begin_write(Lba first, MutableBytes out) {
  PERILUNE_ASSERT(out.size() % block_bytes_ == 0);
  const std::uint64_t count = out.size() / block_bytes_;
  const Write write = begin(first, count, false);
  for (std::uint64_t i = 0; i < count; ++i) {
    fill(first.value() + i, write.version, out.subspan(i * block_bytes_, block_bytes_));
  }
  return write;
}

BlockHistory::Write BlockHistory::begin_zero(Lba first, BlockCount count) {
  return begin(first, count.value(), true);
}

void BlockHistory::end_write(Write write, Outcome outcome, bool durable) {
  const auto it = extents_.find(write.version);
  PERILUNE_ASSERT(it != extents_.end() && it->second.state == State::open);
  const std::uint64_t ended = tick_++;
  for (std::uint64_t i = 0; i < it->second.count; ++i) {
    Block& b = block(it->second.first + i);
    Version* v = find(b, write.version);
    PERILUNE_ASSERT(v != nullptr);
    if (outcome == Outcome::failed) {
      v->state = State::failed;
      continue;
    }
    v->state = State::closed;
    v->ended = ended;
    v->certain = durable || !v->met_power_loss;
    v->durable = durable;
    if (!v->certain) b.unsettled = true;
    prune(b);
  }
  if (outcome == Outcome::failed)
    it->second.state = State::failed;
  else
    extents_.erase(it);
}

BlockHistory::Flush BlockHistory::begin_flush() noexcept { return Flush{tick_++}; }

void BlockHistory::end_flush(Flush flush, bool succeeded) {
  if (!succeeded) return;
  for (auto& [lba, b] : map_) {
    // After a power loss nobody has read, an old acknowledgement says nothing about what there was to flush.
    bool changed = false;
    for (Version& v : b.versions) {
      const bool covered = v.state == State::closed && v.certain && v.ended < flush.started && !v.distrusted;
      if (covered && !v.durable) v.durable = changed = true;
    }
    if (changed) prune(b);
  }
}

BlockHistory::Read BlockHistory::begin_read(Lba first, BlockCount count) noexcept {
  return Read{first, count.value(), tick_++};
}

bool BlockHistory::precedes(const Version& a, const Version& b) noexcept {
  return a.state == State::closed && a.ended < b.began;
}

// Whether v was replaced, for certain, before a read that began at `read_started`.
bool BlockHistory::replaced(const Block& block, const Version& v, std::uint64_t read_started) noexcept {
  return std::any_of(block.versions.begin(), block.versions.end(), [&](const Version& w) {
    return w.state == State::closed && w.certain && w.ended < read_started && precedes(v, w);
  });
}

// Forgets versions that a durable one replaced: they can never be seen again, but by reads that were under
// way. The newest stay for those.
void BlockHistory::prune(Block& block) {
  constexpr std::size_t keep = 64;
  auto& list = block.versions;
  if (list.size() <= keep) return;
  std::uint64_t newest_durable = 0;
  for (const Version& w : list) {
    if (w.state == State::closed && w.durable) newest_durable = std::max(newest_durable, w.began);
  }
  const auto end = list.end() - static_cast<std::ptrdiff_t>(keep);
  list.erase(
      std::remove_if(list.begin(), end,
                     [&](const Version& v) { return v.state == State::closed && v.ended < newest_durable; }),
      end);
}

std::string BlockHistory::end_read(Read read, Bytes data) {
  PERILUNE_ASSERT(data.size() == read.count * block_bytes_);
  for (std::uint64_t i = 0; i < read.count; ++i) {
    auto problem = judge(read.first.value() + i, data.subspan(i * block_bytes_, block_bytes_), read.started);
    if (!problem.empty()) return problem;
  }
  return {};
}

std::string BlockHistory::judge(std::uint64_t lba, Bytes data, std::uint64_t read_started) {
  ++checked_;
  Block& b = block(lba);
  bool zero = false;
  const std::uint64_t id = identify(lba, data, zero);
  const std::string where = "block " + std::to_string(lba) + ": ";
  if (!zero && id == no_version) {
    return where + "content that was never written (torn, misplaced or corrupt), header version " +
           std::to_string(load_be64(data.data())) + " block " + std::to_string(load_be64(data.data() + 8));
  }
  const Version* illegal = nullptr;
  const Version* seen = nullptr;
  for (const Version& v : b.versions) {
    if (zero ? !v.zero : v.id != id || v.zero) continue;
    if (replaced(b, v, read_started)) {
      illegal = &v;
    } else if (seen == nullptr || !v.durable) {  // zeroes do not say whose they are: the one that may yet be
                                                 // lost
      seen = &v;
    }
  }
  if (seen != nullptr) {
    if (b.unsettled) settle(b, *seen, read_started);
    return {};
  }
  const std::string what = zero ? "zeroes" : "version " + std::to_string(id);
  return where + "read " + what +
         (illegal != nullptr ? ", replaced before the read" : ", which was never legal here") +
         "; newest is version " + std::to_string(b.versions.back().id) +
         (b.versions.back().durable ? " (durable)" : "");
}

void BlockHistory::power_lost() {
  last_power_loss_ = tick_++;
  for (auto& [lba, b] : map_) {
    for (Version& v : b.versions) {
      if (!v.durable && v.state == State::closed) {
        v.certain = false;
        b.unsettled = true;
      } else if (v.state != State::closed) {
        v.met_power_loss = true;
        b.unsettled = true;
      }
    }
  }
}

bool BlockHistory::may_be_torn(Lba lba) {
  const Block& b = block(lba.value());
  const std::uint64_t now = tick_++;
  return b.unsettled && std::any_of(b.versions.begin(), b.versions.end(), [&](const Version& v) {
    return !v.durable && !replaced(b, v, now);
  });
}

void BlockHistory::distrust_cache() {
  for (auto& [lba, b] : map_) {
    for (Version& v : b.versions) v.distrusted = v.distrusted || !v.durable;
  }
}

void BlockHistory::settle_failed() {
  const std::uint64_t now = tick_++;
  for (auto it = extents_.begin(); it != extents_.end();) {
    if (it->second.state != State::failed) {
      ++it;
      continue;
    }
    for (std::uint64_t i = 0; i < it->second.count; ++i) {
      Block& b = block(it->second.first + i);
      Version* v = find(b, it->first);
      v->state = State::closed;  // seen or not, but not certain: it replaces nothing
      v->ended = now;
      b.unsettled = true;
    }
    it = extents_.erase(it);
  }
}

// The first look at a block whose fate was open. When no write overlapped the read, it stays what it was seen
// to be. The answer to a read of before the power loss may have been on its way already: it says nothing.
void BlockHistory::settle(Block& block, Version seen, std::uint64_t read_started) {
  if (read_started < last_power_loss_) return;
  const bool overlapped = std::any_of(block.versions.begin(), block.versions.end(), [&](const Version& v) {
    return v.state != State::closed || v.ended > read_started;
  });
  if (overlapped) return;
  block.unsettled = false;
  // As if it had been written again at this moment; it is no more durable than it was.
  seen.began = tick_++;
  seen.ended = tick_++;
  seen.certain = true;
  // The others stay in the list: reads that began earlier may still have seen them.
  std::erase_if(block.versions, [&](const Version& v) { return v.id == seen.id; });
  block.versions.push_back(seen);
}

}  // namespace perilune::sim
