// SPDX-License-Identifier: Apache-2.0
// A file in memory of which every write is noted, and of which a write may fail: for tests that cut the power
// at every byte.
#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <span>
#include <vector>

#include "runtime/block_file.hpp"

namespace perilune::block {

using Image = std::vector<std::uint8_t>;

struct Write {
  bool of_journal = false;
  std::uint64_t offset = 0;
  Image data;
  bool durable = false;
};

// Everything ends at once; every write is noted.
class RecordingFile final : public runtime::BlockFile {
 public:
  RecordingFile(Image& bytes, std::vector<Write>& writes, bool of_journal, std::uint64_t size_bytes)
      : bytes_(bytes), writes_(writes), of_journal_(of_journal) {
    properties_.size_bytes = size_bytes;
    properties_.discard_granularity_bytes = 4096;
  }
  [[nodiscard]] const runtime::FileProperties& properties() const override { return properties_; }
  [[nodiscard]] bool read(runtime::FileOp&, ByteOffset offset, std::span<const iovec> iov,
                          int& result) override {
    std::uint64_t at = offset.value();
    for (const iovec& part : iov) {
      std::memcpy(part.iov_base, bytes_.data() + at, part.iov_len);
      at += part.iov_len;
    }
    result = static_cast<int>(at - offset.value());
    return true;
  }
  [[nodiscard]] bool write(runtime::FileOp&, ByteOffset offset, std::span<const iovec> iov, bool durable,
                           int& result) override {
    Write made{of_journal_, offset.value(), {}, durable};
    for (const iovec& part : iov) {
      const auto* from = static_cast<const std::uint8_t*>(part.iov_base);
      made.data.insert(made.data.end(), from, from + part.iov_len);
    }
    const int error = fail ? fail(made) : 0;
    // What fails has been written half.
    const std::size_t moved = error == 0 ? made.data.size() : made.data.size() / 2;
    std::copy_n(made.data.begin(), moved, bytes_.begin() + static_cast<std::ptrdiff_t>(offset.value()));
    writes_.push_back(std::move(made));
    result = error == 0 ? static_cast<int>(moved) : -error;
    return true;
  }
  [[nodiscard]] bool sync(runtime::FileOp&, int& result) override { return ended(result); }
  [[nodiscard]] bool punch(runtime::FileOp&, ByteOffset, ByteCount, int& result) override {
    return ended(result);
  }
  [[nodiscard]] bool zero(runtime::FileOp&, ByteOffset, ByteCount, int& result) override {
    return ended(result);
  }
  [[nodiscard]] bool extent(runtime::FileOp& op, ByteOffset, ByteCount length, int& result) override {
    op.extent = {.allocated = !holes, .length_bytes = length.value()};
    return ended(result);
  }

  std::function<int(const Write&)> fail;  // the errno of a write
  bool holes = false;

 private:
  static bool ended(int& result) {
    result = 0;
    return true;
  }
  Image& bytes_;
  std::vector<Write>& writes_;
  bool of_journal_;
  runtime::FileProperties properties_;
};

}  // namespace perilune::block
