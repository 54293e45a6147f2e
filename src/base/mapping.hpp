// SPDX-License-Identifier: Apache-2.0
// Memory from mmap, given back at the end. Move-only; any thread, one at a time.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "base/bytes.hpp"

namespace perilune {

inline constexpr std::size_t huge_page_bytes = std::size_t{2} << 20;

class Mapping {
 public:
  Mapping() = default;
  // Zeroes of this process alone, at the begin of a page; the system gives a page when it is touched, and
  // with MAP_NORESERVE promises none before. Not good(): errno tells why; so below.
  [[nodiscard]] static Mapping of_zeroes(std::size_t bytes, int flags = MAP_NORESERVE) noexcept {
    return Mapping(bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1);
  }
  // The same in huge pages where the system gives them, from the begin of one if it is as long: fewer misses
  // of the TLB, and few segments where a disk or the kernel takes the memory apart by pages. They come whole
  // when they are touched, so for what is used, not for what might be.
  [[nodiscard]] static Mapping of_huge_pages(std::size_t bytes, int flags = MAP_NORESERVE) noexcept;
  // The first bytes of a file or a device, shared with whoever else has it.
  [[nodiscard]] static Mapping of_file(int fd, std::size_t bytes, int protection, int flags = 0) noexcept {
    return Mapping(bytes, protection, MAP_SHARED | flags, fd);
  }
  ~Mapping() { reset(); }
  Mapping(Mapping&& other) noexcept
      : begin_(std::exchange(other.begin_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    reset();
    begin_ = std::exchange(other.begin_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
    return *this;
  }

  [[nodiscard]] bool good() const noexcept { return begin_ != nullptr; }
  [[nodiscard]] std::uint8_t* begin() const noexcept { return begin_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] MutableBytes all() const noexcept { return {begin_, bytes_}; }
  void reset() noexcept {
    if (begin_ != nullptr) ::munmap(begin_, bytes_);
    begin_ = nullptr;
    bytes_ = 0;
  }

 private:
  Mapping(std::size_t bytes, int protection, int flags, int fd) noexcept {
    void* const p = ::mmap(nullptr, bytes, protection, flags, fd, 0);
    if (p == MAP_FAILED) return;
    begin_ = static_cast<std::uint8_t*>(p);
    bytes_ = bytes;
  }

  std::uint8_t* begin_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace perilune
