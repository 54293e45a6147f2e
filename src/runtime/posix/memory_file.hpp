// SPDX-License-Identifier: Apache-2.0
// A file on tmpfs. It is memory, so its reads and writes never wait for a device, and most of them need no
// system call: the file is mapped, and what is known to have a page is copied. The look-up of a page in the
// page cache, which a call makes each time, costs more than the copy (docs/performance/tried.md).
//
// A file that somebody cuts short within a page still has the rest of that page here: it reads as zeroes, and what
// is written there is lost, where a call would tell. From the next page on it is the call again.
//
// Which pages the file has is remembered, because a look at the mapping of a hole would fill the hole. What
// is remembered is a hint: a page wrongly believed to be there costs a page of zeroes when it is read, one
// wrongly believed to be a hole costs a system call.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>

#include "base/bytes.hpp"
#include "base/units.hpp"

namespace perilune::runtime::posix {

struct OpenedBlockFile;
class MappedPages;

// One loop's thread; the mapping, and what is known of its pages, are shared with other loops that have the
// same file open.
class MemoryFile {
 public:
  // `fd` outlives this. `opened` tells about it. A file that cannot be mapped is served by system calls.
  MemoryFile(int fd, const OpenedBlockFile& opened);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  // The number of bytes, less only at the end of the file, or a negative errno. What other loops see of a
  // write is settled by settle_copies() (base/copy.hpp).
  [[nodiscard]] int read(ByteOffset offset, std::span<const iovec> to) noexcept;
  [[nodiscard]] int write(ByteOffset offset, std::span<const iovec> from) noexcept;
  // All of it, or a failure.
  [[nodiscard]] bool read_whole(ByteOffset offset, MutableBytes to) noexcept;
  [[nodiscard]] bool write_whole(ByteOffset offset, Bytes from) noexcept;
  // These pages are about to be given back.
  void forget(ByteOffset offset, ByteCount length) noexcept;

 private:
  int fd_;
  std::shared_ptr<MappedPages> pages_;  // or nullptr
};

}  // namespace perilune::runtime::posix
