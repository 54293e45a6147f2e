// SPDX-License-Identifier: Apache-2.0
#include "ceiling/ask.hpp"

#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "base/latency_histogram.hpp"
#include "base/mapping.hpp"
#include "base/processor_time.hpp"
#include "ceiling/tcp.hpp"
#include "ceiling/wire.hpp"
#include "crypto/crc32c.hpp"

namespace ceiling {
namespace {

using perilune::Bytes;
using perilune::LatencyHistogram;
using namespace perilune::crypto;

std::int64_t now_ns() {
  timespec ts{};
  ::clock_gettime(CLOCK_MONOTONIC, &ts);
  return std::int64_t{ts.tv_sec} * 1'000'000'000 + ts.tv_nsec;
}

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// What all connections share.
struct Run {
  explicit Run(const AskOptions& o) : options(o) {
    if (!memory.good()) die("mmap");
    std::memset(memory.begin(), 0xa5, memory.bytes());
  }
  const AskOptions& options;
  static constexpr std::size_t staging_bytes = 256 * 1024;
  perilune::Mapping memory = perilune::Mapping::of_huge_pages(max_payload_bytes + staging_bytes);
  std::uint8_t* payload = memory.begin();               // of every write
  std::uint8_t* staging = payload + max_payload_bytes;  // what every receive lands in
  LatencyHistogram latency, probe_latency;
  std::uint64_t ios = 0, ios_all = 0, probe_ios = 0;
  bool measuring = false, draining = false;
  std::uint64_t random = 0x9e3779b97f4a7c15;
  std::int64_t now = 0;
};

class Connection {
 public:
  Connection(Run& run, int poll, unsigned depth, bool probe, std::uint64_t first_block)
      : run_(run),
        poll_(poll),
        depth_(depth),
        probe_(probe),
        block_(first_block),
        requests_(std::min(depth, max_requests)),
        begun_(depth, not_asked),
        iov_(3 * requests_.size()) {
    for (unsigned tag = 0; tag < depth; ++tag) free_tags_.push_back(tag);
    open();
  }
  ~Connection() { ::close(fd_); }

  [[nodiscard]] bool quiet() const noexcept { return free_tags_.size() == depth_ && !sending(); }
  // False: the other end is not what it should be.
  bool on_ready(std::uint32_t events) {
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && !receive()) return false;
    return send_requests();
  }
  bool begin() {
    wanted_ = depth_;
    return send_requests();
  }

 private:
  static constexpr unsigned max_requests = 256;  // in one send
  static constexpr std::int64_t not_asked = -1;
  struct Request {
    Header header;
    std::uint8_t header_digest[digest_bytes];
    std::uint8_t payload_digest[digest_bytes];
  };
  enum class Stage { header, payload, digest };

  void open() {
    fd_ = connect_to_loopback(run_.options.port);
    epoll_event event{EPOLLIN, {.ptr = this}};
    if (::epoll_ctl(poll_, EPOLL_CTL_ADD, fd_, &event) != 0) die("epoll_ctl");
    blocked_ = false;
  }
  [[nodiscard]] bool sending() const noexcept { return gone_ < iovs_; }

  // Of the answer to any request that is asked now.
  [[nodiscard]] std::uint32_t due_bytes() const noexcept {
    if (run_.options.logins) return exchanges_ == 0 ? login_answer_bytes : 0;
    return run_.options.writes ? 0 : run_.options.block_bytes;
  }
  std::uint64_t choose_offset() noexcept {
    const AskOptions& options = run_.options;
    const std::uint64_t blocks = options.disk_bytes / options.block_bytes;
    if (!options.random) return (block_++ % blocks) * options.block_bytes;
    run_.random ^= run_.random << 13;
    run_.random ^= run_.random >> 7;
    run_.random ^= run_.random << 17;
    return static_cast<std::uint64_t>((static_cast<unsigned __int128>(run_.random) * blocks) >> 64) *
           options.block_bytes;
  }

  void prepare(Request& request) {
    const AskOptions& options = run_.options;
    Header& header = request.header;
    header.magic = options.digests ? header_magic_with_digests : header_magic;
    header.tag = free_tags_.back();
    free_tags_.pop_back();
    begun_[header.tag] = run_.now;
    if (options.logins) {
      const bool login = exchanges_ == 0;  // the first of a connection; the second is the logout
      if (login) login_begun_ = run_.now;
      header.in_bytes = login ? login_request_bytes : 0;
      header.out_bytes = login ? login_answer_bytes : 0;
    } else {
      header.offset = choose_offset();
      (options.writes ? header.in_bytes : header.out_bytes) = options.block_bytes;
    }
    const auto* const head = reinterpret_cast<const std::uint8_t*>(&header);
    iov_[iovs_++] = {&header, sizeof header + (options.digests ? digest_bytes : 0)};
    if (options.digests) store_digest(request.header_digest, crc32c_bhs(head));
    if (header.in_bytes == 0) return;
    iov_[iovs_++] = {run_.payload, header.in_bytes};
    if (!options.digests) return;
    store_digest(request.payload_digest, crc32c(crc32c_start, Bytes(run_.payload, header.in_bytes)));
    iov_[iovs_++] = {request.payload_digest, digest_bytes};
  }

  bool send_requests() {
    for (;;) {
      if (!sending()) {
        gone_ = iovs_ = 0;
        const auto count =
            static_cast<unsigned>(std::min<std::size_t>(run_.draining ? 0 : wanted_, requests_.size()));
        if (count == 0) break;
        wanted_ -= count;
        for (unsigned i = 0; i < count; ++i) {
          requests_[i] = {};
          prepare(requests_[i]);
        }
      }
      msghdr message{};
      message.msg_iov = iov_.data() + gone_;
      message.msg_iovlen = iovs_ - gone_;
      const ssize_t n = ::sendmsg(fd_, &message, MSG_NOSIGNAL);
      if (n < 0 && errno != EAGAIN) return false;
      if (n < 0) {
        wait_for_room(true);
        return true;
      }
      advance(static_cast<std::size_t>(n));
    }
    wait_for_room(false);
    return true;
  }
  void advance(std::size_t n) noexcept {
    while (n > 0) {
      iovec& first = iov_[gone_];
      if (n < first.iov_len) {
        first.iov_base = static_cast<std::uint8_t*>(first.iov_base) + n;
        first.iov_len -= n;
        return;
      }
      n -= first.iov_len;
      ++gone_;
    }
  }
  void wait_for_room(bool wanted) {
    if (blocked_ == wanted) return;
    blocked_ = wanted;
    epoll_event event{EPOLLIN | (wanted ? std::uint32_t{EPOLLOUT} : 0u), {.ptr = this}};
    (void)::epoll_ctl(poll_, EPOLL_CTL_MOD, fd_, &event);
  }

  bool receive() {
    const ssize_t n = ::recv(fd_, run_.staging, Run::staging_bytes, 0);
    if (n < 0) return errno == EAGAIN;
    if (n == 0) return false;
    run_.now = now_ns();
    return take({run_.staging, static_cast<std::size_t>(n)});
  }
  bool take(std::span<const std::uint8_t> bytes) {
    const bool digests = run_.options.digests;
    while (!bytes.empty()) {
      if (stage_ == Stage::payload) {
        const std::size_t n = std::min<std::size_t>(left_, bytes.size());
        if (digests) crc_ = crc32c(crc_, Bytes(bytes.data(), n));
        bytes = bytes.subspan(n);
        left_ -= static_cast<std::uint32_t>(n);
        if (left_ != 0) return true;
        stage_ = Stage::digest;
        if (!digests && !answered()) return false;
        continue;
      }
      const std::size_t size =
          stage_ == Stage::digest ? digest_bytes : sizeof(Header) + (digests ? digest_bytes : 0);
      const std::size_t n = std::min(size - have_, bytes.size());
      std::memcpy(taken_.data() + have_, bytes.data(), n);
      bytes = bytes.subspan(n);
      have_ += n;
      if (have_ < size) return true;
      have_ = 0;
      if (stage_ == Stage::digest) {
        if (load_digest(taken_.data()) != crc_ || !answered()) return false;
      } else if (!take_header()) {
        return false;
      }
    }
    return true;
  }
  bool take_header() {
    Header header;
    std::memcpy(&header, taken_.data(), sizeof header);
    if (header.magic != (run_.options.digests ? header_magic_with_digests : header_magic) ||
        header.tag >= depth_ || begun_[header.tag] == not_asked || header.out_bytes != due_bytes())
      return false;
    if (run_.options.digests && load_digest(taken_.data() + sizeof header) != crc32c_bhs(taken_.data()))
      return false;
    tag_ = header.tag;
    left_ = header.out_bytes;
    crc_ = crc32c_start;
    stage_ = Stage::payload;
    return left_ != 0 || answered();
  }
  bool answered() {
    stage_ = Stage::header;
    const std::int64_t begun = run_.options.logins ? login_begun_ : begun_[tag_];
    begun_[tag_] = not_asked;
    free_tags_.push_back(tag_);
    ++wanted_;
    if (run_.options.logins) {
      if (++exchanges_ != 2) return true;
      again();
    }
    if (!probe_) ++run_.ios_all;
    if (run_.measuring) {
      ++(probe_ ? run_.probe_ios : run_.ios);
      (probe_ ? run_.probe_latency : run_.latency).add(static_cast<std::uint64_t>(run_.now - begun));
    }
    return true;
  }
  // The logout was answered: a new connection.
  void again() {
    ::close(fd_);
    open();
    exchanges_ = 0;
    gone_ = iovs_ = 0;
  }

  Run& run_;
  int poll_;
  int fd_ = -1;
  unsigned depth_;
  bool probe_;
  std::uint64_t block_;
  std::vector<Request> requests_;
  std::vector<std::int64_t> begun_;  // by tag: when it was asked
  std::vector<std::uint32_t> free_tags_;
  std::vector<iovec> iov_;
  std::size_t iovs_ = 0, gone_ = 0;
  std::size_t wanted_ = 0;
  std::int64_t login_begun_ = 0;
  bool blocked_ = false;
  unsigned exchanges_ = 0;  // of a login
  std::uint32_t tag_ = 0;   // of the answer that is being taken
  Stage stage_ = Stage::header;
  std::uint32_t left_ = 0, crc_ = 0;
  std::size_t have_ = 0;
  std::array<std::uint8_t, sizeof(Header) + digest_bytes> taken_{};
};

// Warm-up, measurement, then until nothing is outstanding.
class Clockwork {
 public:
  explicit Clockwork(Run& run) : run_(run), begin_(now_ns()) {
    if (run_.options.ios != 0) start();
  }
  void tick() {
    const double seconds = static_cast<double>(run_.now - begin_) * 1e-9;
    if (run_.draining) return;
    if (!run_.measuring) {
      if (seconds >= run_.options.warm_up) start();
    } else if (run_.options.ios != 0 ? run_.ios >= run_.options.ios : seconds >= run_.options.seconds) {
      run_.measuring = false;
      run_.draining = true;
      seconds_ = seconds;
      cpu_ = cpu_seconds() - cpu_;
      server_cpu_ = server_cpu_seconds() - server_cpu_;
    }
  }
  void print() const {
    const AskOptions& o = run_.options;
    const double iops = static_cast<double>(run_.ios) / seconds_;
    std::printf(
        "{\"iops\":%.1f,\"mib_per_s\":%.2f,\"lat_us\":{\"p50\":%.2f,\"p99\":%.2f,\"p999\":%.2f},\"ios\":%llu,"
        "\"ios_all\":%llu,\"cpu_s\":%.4f",
        iops, iops * o.block_bytes / (1024.0 * 1024.0), run_.latency.quantile_us(0.5),
        run_.latency.quantile_us(0.99), run_.latency.quantile_us(0.999),
        static_cast<unsigned long long>(run_.ios), static_cast<unsigned long long>(run_.ios_all), cpu_);
    if (o.server != 0) std::printf(",\"server_cpu_s\":%.6f", server_cpu_);
    if (o.probe) {
      std::printf(",\"probe\":{\"ios\":%llu,\"p50\":%.2f,\"p99\":%.2f,\"p999\":%.2f}",
                  static_cast<unsigned long long>(run_.probe_ios), run_.probe_latency.quantile_us(0.5),
                  run_.probe_latency.quantile_us(0.99), run_.probe_latency.quantile_us(0.999));
    }
    std::printf("}\n");
  }

 private:
  void start() {
    run_.measuring = true;
    server_cpu_ = server_cpu_seconds();
    begin_ = now_ns();
    cpu_ = cpu_seconds();
  }
  [[nodiscard]] double server_cpu_seconds() const {
    return run_.options.server == 0 ? 0 : perilune::processor_seconds(run_.options.server).value_or(0);
  }
  Run& run_;
  std::int64_t begin_;
  double seconds_ = 0, cpu_ = 0, server_cpu_ = 0;
};

}  // namespace

int ask(const AskOptions& options) {
  Run run(options);
  const int poll = ::epoll_create1(EPOLL_CLOEXEC);
  if (poll < 0) die("epoll_create1");
  std::vector<std::unique_ptr<Connection>> connections;
  const std::uint64_t part = options.disk_bytes / options.block_bytes / options.sessions;
  for (unsigned i = 0; i < options.sessions; ++i) {
    connections.push_back(
        std::make_unique<Connection>(run, poll, options.logins ? 1 : options.depth, false, part * i));
  }
  if (options.probe) connections.push_back(std::make_unique<Connection>(run, poll, 1, true, 0));
  run.now = now_ns();
  Clockwork clockwork(run);
  for (auto& connection : connections) {
    if (!connection->begin()) die("send");
  }
  std::array<epoll_event, 256> ready;
  for (;;) {
    const int n = ::epoll_wait(poll, ready.data(), static_cast<int>(ready.size()),
                               options.waiting == Waiting::spin ? 0 : 100);
    run.now = now_ns();
    for (int i = 0; i < n; ++i) {
      const epoll_event& one = ready[static_cast<std::size_t>(i)];
      if (static_cast<Connection*>(one.data.ptr)->on_ready(one.events)) continue;
      std::fprintf(stderr, "ceiling: the responder closed, or answered what was not asked\n");
      return 1;
    }
    clockwork.tick();
    if (run.draining &&
        std::all_of(connections.begin(), connections.end(), [](const auto& c) { return c->quiet(); }))
      break;
  }
  clockwork.print();
  return 0;
}

}  // namespace ceiling
