// SPDX-License-Identifier: Apache-2.0
#include "initiator/sync.hpp"

#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "base/assert.hpp"
#include "initiator/resolver.hpp"
#include "initiator/sense.hpp"

namespace perilune::initiator {

namespace {

// A value that one thread waits for.
template <class T>
class Promise {
 public:
  void set(T value) {
    const std::lock_guard lock(mutex_);
    value_.emplace(std::move(value));
    changed_.notify_all();
  }
  T wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return value_.has_value(); });
    return std::move(*value_);
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<T> value_;
};

}  // namespace

class LoopThread::Impl {
 public:
  std::unique_ptr<runtime::ThreadLoop> own;
  runtime::Loop* loop = nullptr;
  std::optional<Resolver> resolver;
  std::thread thread;
};

std::unique_ptr<LoopThread> LoopThread::start(std::unique_ptr<runtime::ThreadLoop> loop) {
  auto thread = std::make_unique<LoopThread>(*loop);
  thread->impl_->own = std::move(loop);
  thread->impl_->resolver.emplace(*thread->impl_->own);
  thread->impl_->thread = std::thread([running = thread->impl_->own.get()] { running->run(); });
  return thread;
}

LoopThread::LoopThread(runtime::Loop& running_elsewhere) : impl_(std::make_unique<Impl>()) {
  impl_->loop = &running_elsewhere;
}

LoopThread::~LoopThread() {
  if (!impl_->own) return;
  // Connections that are closing need a few more turns: what was posted in turn n runs before what is posted
  // after it.
  for (int i = 0; i < 3; ++i) run([] {});
  impl_->resolver.reset();
  impl_->own->stop();
  impl_->thread.join();
}

runtime::Loop& LoopThread::loop() noexcept { return *impl_->loop; }

void LoopThread::provide_resolver(SessionConfig& config) {
  if (config.resolve || !impl_->resolver) return;
  config.resolve = [resolver = &*impl_->resolver](const std::string& host, std::uint16_t port,
                                                  Resolver::Done done) {
    resolver->resolve(host, port, std::move(done));
  };
}

void LoopThread::run(const std::function<void()>& work) {
  Promise<bool> done;
  impl_->loop->post([&] {
    work();
    done.set(true);
  });
  done.wait();
}

Result<std::vector<DiscoveredTarget>> discover(LoopThread& thread, const SessionConfig& config,
                                               LoginFailure* failure) {
  using Found = Result<std::vector<DiscoveredTarget>>;
  Promise<std::pair<Found, LoginFailure>> done;
  std::unique_ptr<Discovery> discovery;
  thread.run([&] {
    SessionConfig own = config.clone();
    thread.provide_resolver(own);
    discovery =
        std::make_unique<Discovery>(thread.loop(), std::move(own), [&](Found found, const LoginFailure& why) {
          done.set({std::move(found), why});
        });
    discovery->start();
  });
  auto [found, why] = done.wait();
  thread.run([&] { discovery.reset(); });
  if (failure != nullptr) *failure = why;
  return std::move(found);
}

class SyncSession::Impl final : public SessionObserver {
 public:
  Impl(LoopThread& t, SessionConfig config) : thread(t) {
    thread.provide_resolver(config);
    thread.run([&] {
      session.emplace(thread.loop(), std::move(config), *this);
      session->start();
    });
  }
  ~Impl() override {
    logout();
    thread.run([&] { session.reset(); });
  }

  void logout() {
    thread.run([&] { session->logout(); });
    ended.wait_keep();
  }

  void on_logged_in() override { logged_in.set(std::nullopt); }
  void on_state(SessionState, SessionState) override {}
  void on_failed(const LoginFailure& failure) override {
    logged_in.set(failure);
    ended.set();
  }
  void on_logged_out() override { ended.set(); }
  void on_units_changed() override {}

  Result<SyncOutcome> command(std::uint64_t lun, std::span<const std::uint8_t> cdb,
                              ScsiRequest::Direction direction, std::vector<std::uint8_t>& data);

  // A flag that stays set.
  class Latch {
   public:
    void set() {
      const std::lock_guard lock(mutex_);
      set_ = true;
      changed_.notify_all();
    }
    void wait_keep() {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return set_; });
    }

   private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool set_ = false;
  };

  LoopThread& thread;
  std::optional<Session> session;
  Promise<std::optional<LoginFailure>> logged_in;
  Latch ended;
};

SyncSession::SyncSession(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SyncSession::~SyncSession() = default;

Result<std::unique_ptr<SyncSession>> SyncSession::open(LoopThread& thread, SessionConfig config,
                                                       LoginFailure* failure) {
  auto impl = std::make_unique<Impl>(thread, std::move(config));
  if (auto why = impl->logged_in.wait()) {
    if (failure != nullptr) *failure = *why;
    return tl::unexpected<Error>(why->error);
  }
  return std::unique_ptr<SyncSession>(new SyncSession(std::move(impl)));
}

void SyncSession::logout() { impl_->logout(); }
Session& SyncSession::session() noexcept { return *impl_->session; }

SessionInfo SyncSession::info() {
  SessionInfo out;
  impl_->thread.run([&] { out = impl_->session->info(); });
  return out;
}

SessionStatistics SyncSession::statistics() {
  SessionStatistics out;
  impl_->thread.run([&] { out = impl_->session->statistics(); });
  return out;
}

namespace {
Result<std::vector<UnitInfo>> run_scan(LoopThread& thread, Session& session,
                                       std::optional<std::uint64_t> lun) {
  using Units = Result<std::vector<UnitInfo>>;
  Promise<Units> done;
  std::unique_ptr<Scan> scan;
  thread.run([&] {
    scan = std::make_unique<Scan>(session, [&](Units units) { done.set(std::move(units)); });
    if (lun) {
      scan->start_one(*lun);
    } else {
      scan->start();
    }
  });
  auto units = done.wait();
  thread.run([&] { scan.reset(); });
  return units;
}
}  // namespace

Result<std::vector<UnitInfo>> SyncSession::scan() {
  return run_scan(impl_->thread, *impl_->session, std::nullopt);
}

Result<UnitInfo> SyncSession::scan_one(std::uint64_t lun) {
  auto units = run_scan(impl_->thread, *impl_->session, lun);
  if (!units) return tl::unexpected<Error>(units.error());
  return std::move(units->front());
}

Result<SyncOutcome> SyncSession::Impl::command(std::uint64_t lun, std::span<const std::uint8_t> cdb,
                                               ScsiRequest::Direction direction,
                                               std::vector<std::uint8_t>& data) {
  if (cdb.size() > 16) return fail(Errc::invalid_argument, "a CDB of more than 16 bytes");
  constexpr int max_attentions = 8;
  for (int i = 0;; ++i) {
    ScsiRequest request;
    iovec iov{data.data(), data.size()};
    request.lun = lun;
    std::copy(cdb.begin(), cdb.end(), request.cdb.begin());
    request.direction = data.empty() ? ScsiRequest::Direction::none : direction;
    if (!data.empty()) request.data = {&iov, 1};
    Promise<bool> done;
    request.done = Delegate<void(ScsiRequest&)>::raw(&done, [](void* context, ScsiRequest&) {
      static_cast<Promise<bool>*>(context)->set(true);
    });
    thread.run([&] { session->submit(request); });
    done.wait();
    // The loop's thread may still be inside done(); one more round trip, and it is not.
    thread.run([] {});
    if (request.error_code) return fail(*request.error_code, "the command got no status");
    SyncOutcome out;
    out.status = request.status;
    out.sense.assign(request.sense.begin(), request.sense.begin() + request.sense_length);
    if (request.status == 2 && decode_sense(out.sense).key == sense_key::unit_attention && i < max_attentions)
      continue;
    if (direction == ScsiRequest::Direction::in) {
      out.data.assign(data.begin(), data.begin() + static_cast<std::ptrdiff_t>(request.transferred_bytes));
    }
    return out;
  }
}

Result<SyncOutcome> SyncSession::command_in(std::uint64_t lun, std::span<const std::uint8_t> cdb,
                                            std::uint32_t allocation_bytes) {
  std::vector<std::uint8_t> data(allocation_bytes);
  return impl_->command(lun, cdb, ScsiRequest::Direction::in, data);
}

Result<SyncOutcome> SyncSession::command_out(std::uint64_t lun, std::span<const std::uint8_t> cdb,
                                             Bytes bytes) {
  std::vector<std::uint8_t> data(bytes.begin(), bytes.end());
  return impl_->command(lun, cdb, ScsiRequest::Direction::out, data);
}

class SyncUnit::Impl {
 public:
  Impl(LoopThread& t, Session& session, UnitInfo info) : thread(t) {
    thread.run([&] { unit.emplace(session, std::move(info)); });
    geometry = unit->geometry();
  }
  ~Impl() {
    thread.run([&] { unit.reset(); });
  }
  Status run(block::BlockOp& op) {
    Promise<bool> done;
    op.done = Delegate<void(block::BlockOp&)>::raw(&done, [](void* context, block::BlockOp&) {
      static_cast<Promise<bool>*>(context)->set(true);
    });
    thread.run([&] {
      if (unit->submit(op)) done.set(true);
    });
    done.wait();
    thread.run([] {});
    using block::OpStatus;
    switch (op.status) {
      case OpStatus::ok: return {};
      case OpStatus::out_of_range: return fail(Errc::invalid_argument, "beyond the end of the unit");
      case OpStatus::unsupported: return fail(Errc::unsupported, "the unit does not do that");
      case OpStatus::no_space: return fail(Errc::no_space, "the unit has no space left");
      case OpStatus::write_protected: return fail(Errc::permission, "the unit is write protected");
      case OpStatus::not_ready: return fail(Errc::connection, "the unit is not there", op.os_errno);
      case OpStatus::aborted: return fail(Errc::cancelled, "aborted");
      case OpStatus::read_error: return fail(Errc::io, "read error", op.os_errno);
      case OpStatus::write_error: return fail(Errc::io, "write error", op.os_errno);
      case OpStatus::guard_failed:
      case OpStatus::application_tag_failed:
      case OpStatus::reference_tag_failed: return fail(Errc::io, "protection information is wrong");
    }
    return fail(Errc::internal, "unknown outcome");
  }

  LoopThread& thread;
  std::optional<LogicalUnit> unit;
  block::Geometry geometry;
};

SyncUnit::SyncUnit(LoopThread& thread, SyncSession& session, UnitInfo info)
    : impl_(std::make_unique<Impl>(thread, session.session(), std::move(info))) {}
SyncUnit::~SyncUnit() = default;
const block::Geometry& SyncUnit::geometry() const noexcept { return impl_->geometry; }

Status SyncUnit::read(Lba lba, MutableBytes out) {
  iovec iov{out.data(), out.size()};
  block::BlockOp op;
  op.kind = block::OpKind::read;
  op.lba = lba;
  op.blocks = BlockCount(out.size() / impl_->geometry.block_size_bytes);
  op.data = {&iov, 1};
  if (out.size() % impl_->geometry.block_size_bytes != 0)
    return fail(Errc::invalid_argument, "not a number of blocks");
  return impl_->run(op);
}

Status SyncUnit::write(Lba lba, Bytes data, bool fua) {
  iovec iov{const_cast<std::uint8_t*>(data.data()), data.size()};
  block::BlockOp op;
  op.kind = block::OpKind::write;
  op.fua = fua;
  op.lba = lba;
  op.blocks = BlockCount(data.size() / impl_->geometry.block_size_bytes);
  op.data = {&iov, 1};
  if (data.size() % impl_->geometry.block_size_bytes != 0)
    return fail(Errc::invalid_argument, "not a number of blocks");
  return impl_->run(op);
}

Status SyncUnit::flush() {
  block::BlockOp op;
  op.kind = block::OpKind::flush;
  return impl_->run(op);
}

Status SyncUnit::unmap(Lba lba, BlockCount blocks) {
  block::BlockOp op;
  op.kind = block::OpKind::unmap;
  op.lba = lba;
  op.blocks = blocks;
  return impl_->run(op);
}

Status SyncUnit::write_zeroes(Lba lba, BlockCount blocks, bool may_unmap) {
  block::BlockOp op;
  op.kind = block::OpKind::write_zeroes;
  op.lba = lba;
  op.blocks = blocks;
  op.may_unmap = may_unmap;
  return impl_->run(op);
}

}  // namespace perilune::initiator
