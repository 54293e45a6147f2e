// SPDX-License-Identifier: Apache-2.0
// The responder over a file: what was received in a turn goes to the disk together, and what the disk
// answered in a turn goes to each connection in one gather send, both by the turn's one call. Registered file
// and memory; payloads are sent from and received to where the disk reads and writes them.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "ceiling/responder.hpp"
#include "ceiling/ring.hpp"
#include "ceiling/serve.hpp"
#include "ceiling/tcp.hpp"
#include "ceiling/wire.hpp"

namespace ceiling {
namespace {

class FileConnection;

// A request between its header and the last byte of its answer.
struct Slot {
  Header header;
  std::uint8_t* payload = nullptr;
  FileConnection* connection = nullptr;
};

enum : unsigned { receive_kind, send_kind, disk_kind };

class FileEngine {
 public:
  FileEngine(int listener, const char* path, Waiting waiting);
  [[noreturn]] void run();

  [[nodiscard]] Ring& ring() noexcept { return ring_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
  // Null: the peers ask for more at a time than there is room for.
  [[nodiscard]] Slot* take_slot() noexcept {
    if (free_.empty()) return nullptr;
    Slot* const slot = free_.back();
    free_.pop_back();
    return slot;
  }
  void give_back(Slot* slot) noexcept { free_.push_back(slot); }
  void start(Slot& slot) noexcept;

 private:
  // Not a power of two, so that small payloads do not all fall into the same sets of the caches.
  static constexpr std::size_t stride = file_block_bytes + 4096;

  void accept();
  void touch(FileConnection& connection);

  int listener_;
  Waiting waiting_;
  std::uint64_t bytes_ = 0;
  Ring ring_;
  perilune::Mapping memory_ = perilune::Mapping::of_huge_pages(file_depth * stride);
  std::unique_ptr<Slot[]> slots_ = std::make_unique<Slot[]>(file_depth);
  std::vector<Slot*> free_;
  std::vector<FileConnection*> touched_;
};

class FileConnection {
 public:
  FileConnection(FileEngine& engine, int fd) : engine_(engine), fd_(fd) {}
  ~FileConnection() { ::close(fd_); }

  void on_received(int result);
  void on_sent(int result);
  void on_disk(Slot& slot, int result);
  // Starts what can be started; at the end of a turn.
  void go_on();
  [[nodiscard]] bool over() const noexcept { return broken_ && !receiving_ && !sending_ && on_disk_ == 0; }

  bool touched = false;

 private:
  void break_off() {
    if (!broken_) ::shutdown(fd_, SHUT_RDWR);
    broken_ = true;
  }
  [[nodiscard]] bool take(std::span<const std::uint8_t> bytes);
  [[nodiscard]] bool begin_request();
  void ask_disk();
  void send_answers();
  void receive();

  FileEngine& engine_;
  int fd_;
  Staging staging_ = take_staging();
  std::array<std::uint8_t, sizeof(Header)> taken_{};
  std::size_t have_ = 0;     // of the header that is being taken
  Slot* filling_ = nullptr;  // a write whose payload is coming
  std::size_t filled_ = 0, direct_ = 0;
  std::vector<Slot*> answered_, sent_;
  std::vector<iovec> iov_;
  std::array<iovec, 2> in_{};
  msghdr receive_message_{}, send_message_{};
  std::size_t on_disk_ = 0;
  bool receiving_ = false, sending_ = false, broken_ = false;
};

FileEngine::FileEngine(int listener, const char* path, Waiting waiting)
    : listener_(listener), waiting_(waiting) {
  const int fd = ::open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
  struct stat status {};
  if (fd < 0 || ::fstat(fd, &status) != 0) die(path);
  bytes_ = static_cast<std::uint64_t>(status.st_size);
  if (!memory_.good()) die("mmap");
  const iovec memory{memory_.begin(), memory_.bytes()};
  for (unsigned i = 0; i < file_depth; ++i) {
    slots_[i].payload = memory_.begin() + i * stride;
    free_.push_back(&slots_[i]);
  }
  const int file = io_uring_register_files(&ring_.raw(), &fd, 1);
  const int buffers = io_uring_register_buffers(&ring_.raw(), &memory, 1);
  errno = -std::min(file, buffers);
  if (file < 0 || buffers < 0) die("io_uring_register");
  accept();
}

void FileEngine::accept() {
  io_uring_sqe& sqe = ring_.entry();
  io_uring_prep_multishot_accept(&sqe, listener_, nullptr, nullptr, SOCK_CLOEXEC);
  aim(sqe, nullptr, receive_kind);
}

void FileEngine::touch(FileConnection& connection) {
  if (!connection.touched) touched_.push_back(&connection);
  connection.touched = true;
}

void FileEngine::start(Slot& slot) noexcept {
  const Header& header = slot.header;
  io_uring_sqe& sqe = ring_.entry();
  if (header.in_bytes != 0) {
    io_uring_prep_write_fixed(&sqe, 0, slot.payload, header.in_bytes, header.offset, 0);
  } else {
    io_uring_prep_read_fixed(&sqe, 0, slot.payload, header.out_bytes, header.offset, 0);
  }
  sqe.flags |= IOSQE_FIXED_FILE;
  aim(sqe, &slot, disk_kind);
}

void FileEngine::run() {
  for (;;) {
    ring_.wait(waiting_);
    ring_.take_completions([this](const io_uring_cqe& cqe) {
      if (cqe.user_data == 0) {
        if (cqe.res >= 0) touch(*new FileConnection(*this, cqe.res));
        if ((cqe.flags & IORING_CQE_F_MORE) == 0) accept();
        return;
      }
      if (kind_of(cqe) == disk_kind) {
        Slot& slot = *aimed_at<Slot>(cqe);
        slot.connection->on_disk(slot, cqe.res);
        touch(*slot.connection);
        return;
      }
      auto& connection = *aimed_at<FileConnection>(cqe);
      if (kind_of(cqe) == send_kind)
        connection.on_sent(cqe.res);
      else
        connection.on_received(cqe.res);
      touch(connection);
    });
    for (FileConnection* connection : touched_) {
      connection->touched = false;
      connection->go_on();
      if (connection->over()) delete connection;
    }
    touched_.clear();
  }
}

void FileConnection::on_received(int result) {
  receiving_ = false;
  if (broken_) return;
  if (result <= 0) return break_off();
  const auto n = static_cast<std::size_t>(result);
  const std::size_t direct = std::min(n, direct_);
  filled_ += direct;
  if (direct != 0 && filled_ == filling_->header.in_bytes) ask_disk();
  if (!take({staging_.get(), n - direct})) break_off();
}

bool FileConnection::take(std::span<const std::uint8_t> bytes) {
  while (!bytes.empty()) {
    std::uint8_t* const to = filling_ != nullptr ? filling_->payload + filled_ : taken_.data() + have_;
    const std::size_t missing =
        filling_ != nullptr ? filling_->header.in_bytes - filled_ : sizeof(Header) - have_;
    const std::size_t n = std::min(bytes.size(), missing);
    std::memcpy(to, bytes.data(), n);
    bytes = bytes.subspan(n);
    (filling_ != nullptr ? filled_ : have_) += n;
    if (n < missing) return true;
    if (filling_ != nullptr)
      ask_disk();
    else if (!begin_request())
      return false;
  }
  return true;
}

bool FileConnection::begin_request() {
  Header header;
  std::memcpy(&header, taken_.data(), sizeof header);
  have_ = 0;
  const std::uint64_t longest = std::max(header.in_bytes, header.out_bytes);
  if (header.magic != header_magic || longest == 0 || longest > file_block_bytes ||
      header.offset > engine_.bytes() || longest > engine_.bytes() - header.offset)
    return false;
  filling_ = engine_.take_slot();
  if (filling_ == nullptr) return false;
  filling_->header = header;
  filling_->connection = this;
  filled_ = 0;
  if (header.in_bytes == 0) ask_disk();
  return true;
}

void FileConnection::ask_disk() {
  engine_.start(*filling_);
  ++on_disk_;
  filling_ = nullptr;
}

void FileConnection::on_disk(Slot& slot, int result) {
  --on_disk_;
  answered_.push_back(&slot);
  if (result < 0 ||
      static_cast<std::uint32_t>(result) != std::max(slot.header.in_bytes, slot.header.out_bytes))
    break_off();
}

void FileConnection::on_sent(int result) {
  sending_ = false;
  std::size_t due = 0;
  for (const iovec& part : iov_) due += part.iov_len;
  if (result < 0 || static_cast<std::size_t>(result) != due) break_off();
  for (Slot* slot : sent_) engine_.give_back(slot);
  sent_.clear();
}

void FileConnection::go_on() {
  if (broken_) {
    for (Slot* slot : answered_) engine_.give_back(slot);
    answered_.clear();
    if (filling_ != nullptr && !receiving_) engine_.give_back(std::exchange(filling_, nullptr));
    return;
  }
  if (!sending_ && !answered_.empty()) send_answers();
  if (!receiving_) receive();
}

void FileConnection::send_answers() {
  std::swap(sent_, answered_);
  iov_.clear();
  for (Slot* slot : sent_) {
    iov_.push_back({&slot->header, sizeof(Header)});
    if (slot->header.out_bytes != 0) iov_.push_back({slot->payload, slot->header.out_bytes});
  }
  send_message_ = msghdr{};
  send_message_.msg_iov = iov_.data();
  send_message_.msg_iovlen = iov_.size();
  io_uring_sqe& sqe = engine_.ring().entry();
  io_uring_prep_sendmsg(&sqe, fd_, &send_message_, MSG_NOSIGNAL | MSG_WAITALL);
  aim(sqe, this, send_kind);
  sending_ = true;
}

void FileConnection::receive() {
  std::size_t count = 0;
  direct_ = 0;
  const std::size_t missing = filling_ != nullptr ? filling_->header.in_bytes - filled_ : 0;
  if (missing >= direct_threshold_bytes) {
    in_[count++] = {filling_->payload + filled_, missing};
    direct_ = missing;
  }
  in_[count++] = {staging_.get(), direct_ != 0 ? staging_beside_direct_bytes : staging_bytes};
  receive_message_ = msghdr{};
  receive_message_.msg_iov = in_.data();
  receive_message_.msg_iovlen = count;
  io_uring_sqe& sqe = engine_.ring().entry();
  io_uring_prep_recvmsg(&sqe, fd_, &receive_message_, 0);
  aim(sqe, this, receive_kind);
  receiving_ = true;
}

}  // namespace

void serve_file(int listener, const char* path, Waiting waiting) {
  FileEngine engine(listener, path, waiting);
  engine.run();
}

}  // namespace ceiling
