// SPDX-License-Identifier: Apache-2.0
#include "attach/ublk_disk.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "base/assert.hpp"

namespace perilune::attach {

using runtime::posix::UniqueFd;

namespace {

constexpr std::uint32_t sector_bytes = 512;

std::optional<DiskRequest::Kind> kind_of(std::uint32_t operation) noexcept {
  switch (operation) {
    case UBLK_IO_OP_READ:
      return DiskRequest::Kind::read;
    case UBLK_IO_OP_WRITE:
      return DiskRequest::Kind::write;
    case UBLK_IO_OP_FLUSH:
      return DiskRequest::Kind::flush;
    case UBLK_IO_OP_DISCARD:
      return DiskRequest::Kind::discard;
    case UBLK_IO_OP_WRITE_ZEROES:
      return DiskRequest::Kind::zero;
    default:
      return std::nullopt;
  }
}

}  // namespace

Result<std::unique_ptr<UblkDisk>> UblkDisk::create(runtime::Loop& loop, Disk& disk) {
  constexpr std::size_t bytes = std::size_t{ublk::queue_depth} * ublk::max_request_bytes;
  Mapping memory = Mapping::of_zeroes(bytes);
  if (!memory.good()) return fail_errno(errno, "memory for a ublk queue");
  static_cast<void>(::madvise(memory.begin(), bytes, MADV_DONTFORK));  // as in FuseDisk::create
  return std::unique_ptr<UblkDisk>(new UblkDisk(loop, disk, std::move(memory)));
}

UblkDisk::UblkDisk(runtime::Loop& loop, Disk& disk, Mapping buffers)
    : loop_(loop),
      disk_(disk),
      buffers_(std::move(buffers)),
      tags_(ublk::queue_depth),
      drained_hook_(Delegate<void()>::to<&UblkDisk::end_if_drained>(*this)) {
  for (std::size_t i = 0; i < tags_.size(); ++i) {
    Tag& tag = tags_[i];
    tag.server = this;
    tag.number = static_cast<std::uint16_t>(i);
    tag.buffer[0] = buffers_.begin() + i * ublk::max_request_bytes;
    tag.pages = tag.buffer;
    tag.page_bytes = ublk::max_request_bytes;
    tag.done = Delegate<void(int)>::to<&Tag::on_done>(tag);
    tag.command.done = Delegate<void(int)>::to<&Tag::on_command>(tag);
  }
}

UblkDisk::~UblkDisk() { PERILUNE_ASSERT(outstanding_ == 0 && in_flight_ == 0); }

Status UblkDisk::serve(std::vector<UniqueFd> descriptors) {
  PERILUNE_ASSERT(descriptors.size() == 1);
  fd_ = std::move(descriptors.front());
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t bytes = (ublk::queue_depth * sizeof(ublksrv_io_desc) + page - 1) / page * page;
  descriptor_memory_ = Mapping::of_file(fd_.get(), bytes, PROT_READ, MAP_POPULATE);
  if (!descriptor_memory_.good()) return fail_errno(errno, "ublk: descriptors of the queue");
  // A helper process with this mapping would keep the device from ending.
  static_cast<void>(::madvise(descriptor_memory_.begin(), bytes, MADV_DONTFORK));
  return serve_queue(fd_.get(), reinterpret_cast<const ublksrv_io_desc*>(descriptor_memory_.begin()));
}

Status UblkDisk::serve_queue(int fd, const ublksrv_io_desc* descriptors) {
  queue_fd_ = fd;
  descriptors_ = descriptors;
  for (Tag& tag : tags_) {
    if (!hand_over(tag, ublk::fetch, 0)) {
      return fail(Errc::unsupported, "this event loop cannot hand over commands of ublk");
    }
  }
  return {};
}

bool UblkDisk::hand_over(Tag& tag, std::uint32_t operation, std::int32_t result) {
  ublksrv_io_cmd argument{};
  argument.tag = tag.number;
  argument.result = result;
  argument.addr = reinterpret_cast<std::uint64_t>(tag.buffer[0]);
  tag.command.fd = queue_fd_;
  tag.command.operation = operation;
  std::memcpy(tag.command.argument.data(), &argument, sizeof argument);
  if (!loop_.submit(tag.command)) return false;
  tag.outstanding = true;
  ++outstanding_;
  return true;
}

void UblkDisk::Tag::on_command(int result) {
  outstanding = false;
  --server->outstanding_;
  if (result == UBLK_IO_RES_OK) return server->begin(*this);
  // The device is ending (UBLK_IO_RES_ABORT), or the kernel refused the command: the tag is not used any
  // more.
  server->check_drained();
}

void UblkDisk::begin(Tag& tag) {
  const ublksrv_io_desc descriptor = descriptors_[tag.number];
  ++in_flight_;
  const auto kind = kind_of(descriptor.op_flags & 0xFF);
  if (!kind) return tag.on_done(EOPNOTSUPP);
  tag.kind = *kind;
  tag.offset = descriptor.start_sector * sector_bytes;
  tag.length = std::uint64_t{descriptor.nr_sectors} * sector_bytes;
  tag.fua = (descriptor.op_flags & UBLK_IO_F_FUA) != 0;
  tag.may_unmap = (descriptor.op_flags & UBLK_IO_F_NOUNMAP) == 0;
  const bool transfer = *kind == DiskRequest::Kind::read || *kind == DiskRequest::Kind::write;
  if (transfer && tag.length > ublk::max_request_bytes) return tag.on_done(EINVAL);
  if (const int error = disk_.check(tag); error != 0) return tag.on_done(error);
  disk_.begin(tag);
}

void UblkDisk::Tag::on_done(int error) {
  --server->in_flight_;
  const bool transfer = kind == DiskRequest::Kind::read || kind == DiskRequest::Kind::write;
  const std::int32_t result = error != 0 ? -error : transfer ? static_cast<std::int32_t>(length) : 0;
  // After stop() there is nobody to tell: what has not come back by then fails with the device.
  if (!server->stopping_)
    static_cast<void>(server->hand_over(*this, ublk::commit_and_fetch, result));
  else
    server->check_drained();
}

void UblkDisk::stop(Delegate<void()> drained) {
  drained_ = drained;
  stopping_ = true;
  // Most have ended with the device; what the kernel still holds ends now.
  for (Tag& tag : tags_) {
    if (tag.outstanding) loop_.cancel(tag.command);
  }
  check_drained();
}

void UblkDisk::check_drained() {
  if (stopping_ && outstanding_ == 0 && in_flight_ == 0) loop_.schedule(drained_hook_);
}

// Out of every callback.
void UblkDisk::end_if_drained() {
  if (!stopping_ || outstanding_ != 0 || in_flight_ != 0) return;
  stopping_ = false;
  descriptor_memory_.reset();
  descriptors_ = nullptr;
  fd_.reset();
  drained_();
}

}  // namespace perilune::attach
