// SPDX-License-Identifier: Apache-2.0
#include "attach/nbd_disk.hpp"

#include <linux/nbd.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/assert.hpp"

namespace perilune::attach {

using runtime::posix::UniqueFd;

namespace {

// The NBD protocol, where <linux/nbd.h> of older systems does not say it.
constexpr std::uint16_t flag_send_write_zeroes = 1 << 6, flag_rotational = 1 << 4;
constexpr std::uint16_t command_write_zeroes = 6;
constexpr std::uint16_t command_flag_fua = 1 << 0, command_flag_no_hole = 1 << 1;
constexpr std::size_t request_bytes = sizeof(nbd_request);
constexpr std::size_t reply_bytes = sizeof(nbd_reply);
static_assert(request_bytes == 28 && reply_bytes == 16);

constexpr std::size_t receive_buffer_bytes = 65536;
constexpr std::size_t direct_receive_bytes =
    16384;                               // payloads that miss so much are received where they belong
constexpr std::size_t max_gather = 512;  // iovecs of one send
// One request's worth more than a full queue: the kernel may move requests of a connection that died here.
constexpr std::uint32_t requests_per_connection = nbd_queue_depth * 2;

// The protocol's error values are those of Linux; what it does not name becomes EIO or EINVAL.
std::uint32_t nbd_error(int error) noexcept {
  switch (error) {
    case 0:
      return 0;
    case EROFS:
    case EPERM:
      return 1;
    case ENOMEM:
      return 12;
    case EINVAL:
      return 22;
    case ENOSPC:
      return 28;
    case EOPNOTSUPP:
      return 95;
    default:
      return 5;
  }
}

}  // namespace

std::uint16_t nbd_transmission_flags(const Disk& disk) noexcept {
  const block::Geometry& geometry = disk.geometry();
  unsigned flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_CAN_MULTI_CONN;
  if (geometry.write_cache) flags |= NBD_FLAG_SEND_FLUSH;
  if (geometry.write_cache && geometry.fua) flags |= NBD_FLAG_SEND_FUA;
  if (geometry.rotational) flags |= flag_rotational;
  if (disk.read_only()) return static_cast<std::uint16_t>(flags | NBD_FLAG_READ_ONLY);
  if (geometry.thin) flags |= NBD_FLAG_SEND_TRIM;
  return static_cast<std::uint16_t>(flags | flag_send_write_zeroes);
}

// --- one connection: requests in, replies out

class NbdDisk::Connection final : public runtime::StreamHandler {
 public:
  Connection(NbdDisk& server, std::unique_ptr<runtime::Stream> stream)
      : server_(server),
        stream_(std::move(stream)),
        requests_(requests_per_connection),
        input_(receive_buffer_bytes),
        send_hook_(Delegate<void()>::to<&Connection::send_replies>(*this)) {
    for (Request& request : requests_) {
      request.connection = this;
      request.done = Delegate<void(int)>::to<&Request::on_done>(request);
      request.pages_waiter.ready = Delegate<void()>::to<&Request::on_pages_ready>(request);
      free_.push_back(request);
    }
    stream_->set_handler(*this);
    receive_more();
  }

  void close() {
    closing_ = true;
    if (stream_ != nullptr) stream_->close();
  }
  [[nodiscard]] NbdDisk& server() noexcept { return server_; }

  void granted(Request& request) {
    if (request.kind == DiskRequest::Kind::read) return server_.disk_.begin(request);
    if (closing_) {  // its data will not come any more
      writing_ = nullptr;
      return drop(request);
    }
    waiting_for_pages_ = false;
    consume();
  }

  void finished(Request& request, int error) {
    if (closing_) return drop(request);
    fill_reply(request, error);
    answer(request);
  }

 private:
  // --- receiving

  void on_received(int result, Bytes) override {
    receiving_ = false;
    if (result <= 0) {
      abandon_input();
      if (!closing_) close();
      return;
    }
    const auto bytes = static_cast<std::size_t>(result);
    if (direct_)
      payload_done_ += bytes;
    else
      input_end_ += bytes;
    consume();
  }

  // Takes apart what is there, then receives more, unless something has to come first.
  void consume() {
    while (!closing_ && step()) {
    }
    if (closing_ || waiting_for_pages_ || receiving_) return;
    receive_more();
  }

  // One thing; false when that needs more input, or memory.
  bool step() {
    if (waiting_for_pages_) return false;
    if (skip_bytes_ != 0) return skip();
    if (writing_ != nullptr) return fill_payload();
    if (input_end_ - input_begin_ < request_bytes) return false;
    return begin_request();
  }

  bool skip() {
    const std::size_t piece = std::min<std::uint64_t>(skip_bytes_, input_end_ - input_begin_);
    input_begin_ += piece;
    skip_bytes_ -= piece;
    return skip_bytes_ == 0;
  }

  bool fill_payload() {
    Request& request = *writing_;
    const std::size_t piece =
        std::min<std::uint64_t>(request.length - payload_done_, input_end_ - input_begin_);
    const std::size_t count = request.map_pages(payload_done_, piece, 0);
    for (std::size_t i = 0; i < count; ++i) {
      std::memcpy(request.iov[i].iov_base, input_.data() + input_begin_, request.iov[i].iov_len);
      input_begin_ += request.iov[i].iov_len;
    }
    payload_done_ += piece;
    if (payload_done_ != request.length) return false;
    writing_ = nullptr;
    server_.disk_.begin(request);
    return true;
  }

  void receive_more() {
    receiving_ = true;
    const std::uint64_t missing = writing_ != nullptr ? writing_->length - payload_done_ : 0;
    direct_ = missing >= direct_receive_bytes;
    if (direct_) {  // the input is empty: fill_payload() took all of it
      const std::uint64_t piece = std::min<std::uint64_t>(missing, max_direct_bytes);
      const std::size_t count = writing_->map_pages(payload_done_, piece, 0);
      stream_->receive_into({writing_->iov.data(), count}, true);
    } else {
      std::memmove(input_.data(), input_.data() + input_begin_, input_end_ - input_begin_);
      input_end_ -= input_begin_;
      input_begin_ = 0;
      const iovec room{input_.data() + input_end_, input_.size() - input_end_};
      stream_->receive_into({&room, 1}, false);
    }
  }

  bool begin_request() {
    const Bytes header(input_.data() + input_begin_, request_bytes);
    input_begin_ += request_bytes;
    const std::uint16_t flags = load_be16(header.data() + 4);
    const std::uint16_t command = load_be16(header.data() + 6);
    if (load_be32(header.data()) != NBD_REQUEST_MAGIC || command == NBD_CMD_DISC || free_.empty())
      return give_up();
    Request& request = free_.pop_front();
    ++server_.in_flight_;
    std::memcpy(request.reply.data() + 8, header.data() + 8, 8);
    request.offset = load_be64(header.data() + 16);
    request.length = load_be32(header.data() + 24);
    request.fua = (flags & command_flag_fua) != 0;
    request.may_unmap = (flags & command_flag_no_hole) == 0;
    request.page_count = 0;
    request.pages = {};
    switch (command) {
      case NBD_CMD_READ:
        return begin_transfer(request, DiskRequest::Kind::read);
      case NBD_CMD_WRITE:
        return begin_transfer(request, DiskRequest::Kind::write);
      case NBD_CMD_FLUSH:
        return begin_other(request, DiskRequest::Kind::flush);
      case NBD_CMD_TRIM:
        return begin_other(request, DiskRequest::Kind::discard);
      case command_write_zeroes:
        return begin_other(request, DiskRequest::Kind::zero);
      default:
        drop(request);
        return give_up();  // who knows whether data follows
    }
  }

  bool begin_transfer(Request& request, DiskRequest::Kind kind) {
    request.kind = kind;
    if (const int error = server_.disk_.check(request); error != 0) {
      if (kind == DiskRequest::Kind::write) skip_bytes_ = request.length;
      return refuse(request, error);
    }
    const std::uint32_t count = BufferPool::pages_for(request.length);
    if (kind == DiskRequest::Kind::write) {
      writing_ = &request;
      payload_done_ = 0;
    }
    if (!server_.pool_->take_shared({request.page.data(), count})) {
      waiting_for_pages_ = kind == DiskRequest::Kind::write;
      server_.pool_->wait(request.pages_waiter, count);
      return true;
    }
    has_pages(request, count);
    if (kind == DiskRequest::Kind::read) server_.disk_.begin(request);
    return true;
  }

  bool begin_other(Request& request, DiskRequest::Kind kind) {
    request.kind = kind;
    if (const int error = server_.disk_.check(request); error != 0) return refuse(request, error);
    server_.disk_.begin(request);
    return true;
  }

  bool refuse(Request& request, int error) {
    fill_reply(request, error);
    answer(request);
    return true;
  }

  bool give_up() {
    close();
    return false;
  }

  // The payload of a write that will not arrive any more.
  void abandon_input() {
    if (writing_ == nullptr || waiting_for_pages_) return;
    drop(*std::exchange(writing_, nullptr));
  }

  // --- answering

  static void fill_reply(Request& request, int error) {
    request.failed = error != 0;
    store_be32(request.reply.data(), NBD_REPLY_MAGIC);
    store_be32(request.reply.data() + 4, nbd_error(error));
  }

  void answer(Request& request) {
    ready_.push_back(request);
    if (!sending_) server_.loop_.schedule(send_hook_);
  }

  // Everything that is ready, as far as it fits, in one send.
  void send_replies() {
    if (sending_ || closing_) return;
    std::size_t count = 0;
    while (!ready_.empty()) {
      Request& request = ready_.front();
      const bool data = request.kind == DiskRequest::Kind::read && !request.failed;
      const std::size_t needed = 1 + (data ? request.page_count : 0);
      if (count + needed > output_.size()) break;
      output_[count++] = {request.reply.data(), request.reply.size()};
      if (data) {
        const std::size_t pieces = request.map_pages(0, request.length, 0);
        std::copy_n(request.iov.begin(), pieces, output_.begin() + static_cast<std::ptrdiff_t>(count));
        count += pieces;
      }
      IntrusiveList<Request>::remove(request);
      sent_.push_back(request);
    }
    if (count == 0) return;
    sending_ = true;
    unsent_ = {output_.data(), count};
    stream_->send(unsent_);
  }

  void on_sent(int result) override {
    sending_ = false;
    if (result < 0) {
      if (!closing_) close();
      return;
    }
    auto left = static_cast<std::size_t>(result);
    while (!unsent_.empty() && left >= unsent_.front().iov_len) {
      left -= unsent_.front().iov_len;
      unsent_ = unsent_.subspan(1);
    }
    if (!unsent_.empty() && !closing_) {
      unsent_.front().iov_base = static_cast<std::uint8_t*>(unsent_.front().iov_base) + left;
      unsent_.front().iov_len -= left;
      sending_ = true;
      return stream_->send(unsent_);
    }
    while (!sent_.empty()) drop(sent_.front());
    send_replies();
  }

  void on_closed() override {
    while (!sent_.empty()) drop(sent_.front());
    while (!ready_.empty()) drop(ready_.front());
    stream_.reset();
    server_.connection_closed();
  }

  void drop(Request& request) {
    IntrusiveList<Request>::remove(request);
    const std::span<std::uint8_t* const> pages(request.page.data(), request.page_count);
    request.page_count = 0;
    request.pages = {};
    free_.push_front(request);
    if (!pages.empty()) server_.pool_->release_shared(pages);  // may start those that waited
    server_.released();
  }

 public:
  static void has_pages(Request& request, std::uint32_t count) {
    request.page_count = count;
    request.pages = {request.page.data(), count};
  }

 private:
  static constexpr std::uint64_t max_direct_bytes =
      48 * BufferPool::page_size_bytes;  // iovecs of one receive

  NbdDisk& server_;
  std::unique_ptr<runtime::Stream> stream_;
  std::vector<Request> requests_;
  IntrusiveList<Request> free_;
  IntrusiveList<Request> ready_;  // answered, not yet handed to the socket
  IntrusiveList<Request> sent_;   // of the send that is outstanding
  bool closing_ = false;

  std::vector<std::uint8_t> input_;
  std::size_t input_begin_ = 0, input_end_ = 0;
  bool receiving_ = false;
  bool direct_ = false;  // the receive at hand goes into the pages of writing_
  bool waiting_for_pages_ = false;
  Request* writing_ = nullptr;  // whose payload comes next
  std::uint64_t payload_done_ = 0;
  std::uint64_t skip_bytes_ = 0;  // payload of a write that was refused

  std::array<iovec, max_gather> output_;
  std::span<iovec> unsent_;
  bool sending_ = false;
  runtime::TurnHook send_hook_;
};

// --- the device

void NbdDisk::Request::on_pages_ready() {
  const std::uint32_t count = BufferPool::pages_for(length);
  const bool granted = connection->server().pool_->take_shared({page.data(), count});
  PERILUNE_ASSERT(granted);
  Connection::has_pages(*this, count);
  connection->granted(*this);
}

void NbdDisk::Request::on_done(int error) { connection->finished(*this, error); }

Result<std::unique_ptr<NbdDisk>> NbdDisk::create(runtime::Loop& loop, Disk& disk, std::uint32_t pool_pages) {
  auto pool = BufferPool::create(std::max(pool_pages, 2 * DiskRequest::max_pages));
  if (!pool) return tl::unexpected(pool.error());
  const MutableBytes region = (*pool)->region();
  static_cast<void>(madvise(region.data(), region.size(), MADV_DONTFORK));  // as in FuseDisk::create
  return std::unique_ptr<NbdDisk>(new NbdDisk(loop, disk, std::move(*pool)));
}

NbdDisk::NbdDisk(runtime::Loop& loop, Disk& disk, std::unique_ptr<BufferPool> pool)
    : loop_(loop),
      disk_(disk),
      pool_(std::move(pool)),
      drained_hook_(Delegate<void()>::to<&NbdDisk::end_if_drained>(*this)) {}

NbdDisk::~NbdDisk() { PERILUNE_ASSERT(in_flight_ == 0 && open_ == 0); }

Status NbdDisk::serve(std::vector<UniqueFd> descriptors) {
  PERILUNE_ASSERT(!descriptors.empty() && descriptors.size() <= max_nbd_connections);
  for (UniqueFd& fd : descriptors) {
    auto stream = loop_.adopt_socket(fd.get());
    if (stream == nullptr) return fail(Errc::unsupported, "this event loop cannot take sockets over");
    static_cast<void>(fd.release());
    ++open_;
    connections_.push_back(std::make_unique<Connection>(*this, std::move(stream)));
  }
  return {};
}

void NbdDisk::stop(Delegate<void()> drained) {
  drained_ = drained;
  stopping_ = true;
  for (const auto& connection : connections_) connection->close();
  check_drained();
}

void NbdDisk::released() {
  --in_flight_;
  check_drained();
}

void NbdDisk::connection_closed() {
  --open_;
  check_drained();
}

void NbdDisk::check_drained() {
  if (stopping_ && open_ == 0 && in_flight_ == 0) loop_.schedule(drained_hook_);
}

// Out of every callback.
void NbdDisk::end_if_drained() {
  if (!stopping_ || open_ != 0 || in_flight_ != 0) return;
  stopping_ = false;
  drained_();
}

}  // namespace perilune::attach
