// SPDX-License-Identifier: Apache-2.0
// Commands of a session by Initiator Task Tag: open addressing with linear probing, a power-of-two size at
// least four times the number of entries, so that a look-up is one cache line. Grows; never allocates while
// it does not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace perilune::iscsi {

template <class T>
class ItTable {
 public:
  explicit ItTable(std::size_t expected = 64) { resize(expected * 4); }

  [[nodiscard]] T* find(std::uint32_t itt) const noexcept {
    if (count_ == 0) return nullptr;  // a session whose commands all end at once touches no entry
    for (std::size_t i = slot(itt); table_[i].value != nullptr; i = next(i)) {
      if (table_[i].itt == itt) return table_[i].value;
    }
    return nullptr;
  }
  // Precondition: find(itt) == nullptr.
  void insert(std::uint32_t itt, T& value) {
    if ((count_ + 1) * 4 > table_.size()) resize(table_.size() * 2);
    put(itt, &value);
    ++count_;
  }
  void erase(std::uint32_t itt) noexcept {
    std::size_t i = slot(itt);
    while (table_[i].value != nullptr && table_[i].itt != itt) i = next(i);
    if (table_[i].value == nullptr) return;
    --count_;
    // Close the gap: move back every later entry of the run that may stand here (Knuth 6.4, algorithm R).
    for (std::size_t j = next(i);; j = next(j)) {
      if (table_[j].value == nullptr) break;
      const std::size_t home = slot(table_[j].itt);
      const bool may_move = ((j - home) & mask()) >= ((j - i) & mask());
      if (may_move) {
        table_[i] = table_[j];
        i = j;
      }
    }
    table_[i] = {};
  }
  [[nodiscard]] std::size_t size() const noexcept { return count_; }

 private:
  struct Entry {
    std::uint32_t itt = 0;
    T* value = nullptr;
  };
  [[nodiscard]] std::size_t mask() const noexcept { return table_.size() - 1; }
  [[nodiscard]] std::size_t slot(std::uint32_t itt) const noexcept {
    return static_cast<std::size_t>((std::uint64_t{itt} * 0x9e3779b97f4a7c15ULL) >> 32) & mask();
  }
  [[nodiscard]] std::size_t next(std::size_t i) const noexcept { return (i + 1) & mask(); }
  void put(std::uint32_t itt, T* value) noexcept {
    std::size_t i = slot(itt);
    while (table_[i].value != nullptr) i = next(i);
    table_[i] = {itt, value};
  }
  void resize(std::size_t size) {
    std::size_t power = 16;
    while (power < size) power *= 2;
    std::vector<Entry> old(power);
    old.swap(table_);
    for (const Entry& entry : old) {
      if (entry.value != nullptr) put(entry.itt, entry.value);
    }
  }
  std::vector<Entry> table_;
  std::size_t count_ = 0;
};

}  // namespace perilune::iscsi
