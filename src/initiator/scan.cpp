// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <deque>
#include <utility>

#include "initiator/control_command.hpp"
#include "initiator/inquiry.hpp"
#include "initiator/logical_unit.hpp"

namespace perilune::initiator {

namespace {

constexpr std::size_t probes_at_once = 8;

// Asks one unit for everything, one command after the other. A command that the unit refuses leaves its part
// empty.
class Probe {
 public:
  Probe(Session& session, std::uint64_t lun, std::function<void(Probe&)> done)
      : command_(session), done_(std::move(done)) {
    info_.lun = lun;
  }

  void start() {
    command_.run(info_.lun, {0x12, 0, 0, 0, 252, 0}, 252, [this] { on_inquiry(); });
  }
  [[nodiscard]] UnitInfo& info() noexcept { return info_; }
  [[nodiscard]] const std::optional<Error>& error() const noexcept { return error_; }

 private:
  void finish() {
    auto done = std::move(done_);
    done(*this);  // may destroy this
  }
  void stop(Errc code, const char* what) {
    error_ = Error{code, what, 0};
    finish();
  }

  void on_inquiry() {
    if (command_.no_answer()) return stop(*command_.request().error_code, "INQUIRY: no answer");
    if (!command_.good() || !parse_inquiry(command_.data(), info_))
      return stop(Errc::protocol, "INQUIRY was refused");
    if (info_.peripheral_qualifier != 0) return finish();
    vpd(0x00, [this] {
      const Bytes page = command_.data();
      pages_.clear();
      for (std::size_t i = 4; i < vpd_end(page, 0x00); ++i) pages_.push_back(page[i]);
      next_page();
    });
  }

  template <class Then>
  void vpd(std::uint8_t page, Then then) {
    command_.run(info_.lun, {0x12, 1, page, 0x10, 0x00, 0}, 4096, std::move(then));
  }

  void next_page() {
    static constexpr std::array<std::uint8_t, 5> wanted = {0x80, 0x83, 0xb0, 0xb1, 0xb2};
    while (page_index_ < wanted.size()) {
      const std::uint8_t page = wanted[page_index_++];
      if (std::find(pages_.begin(), pages_.end(), page) == pages_.end()) continue;
      vpd(page, [this, page] {
        const Bytes data = command_.data();
        const std::size_t end = vpd_end(data, page);
        if (end > 4)
          page_of(info_, page).assign(data.begin(), data.begin() + static_cast<std::ptrdiff_t>(end));
        next_page();
      });
      return;
    }
    parse_vpd(info_);
    if (info_.peripheral_type != 0) return finish();
    command_.run(info_.lun, {0, 0, 0, 0, 0, 0}, 0, [this] {
      if (!command_.good()) return finish();
      command_.run(info_.lun, {0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0}, 32, [this] { on_capacity16(); });
    });
  }

  void on_capacity16() {
    if (command_.good()) {
      info_.ready = parse_capacity16(command_.data(), info_);
      return mode_sense();
    }
    command_.run(info_.lun, {0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 8, [this] {
      if (!command_.good()) return finish();
      info_.ready = parse_capacity10(command_.data(), info_);
      mode_sense();
    });
  }

  void mode_sense() {
    if (!info_.ready) return finish();
    command_.run(info_.lun, {0x1a, 0x08, 0x08, 0, 192, 0}, 192, [this] {
      if (command_.good()) {
        parse_mode6(command_.data(), info_);
        return finish();
      }
      command_.run(info_.lun, {0x5a, 0x08, 0x08, 0, 0, 0, 0, 0, 192, 0}, 192, [this] {
        if (command_.good()) parse_mode10(command_.data(), info_);
        finish();
      });
    });
  }

  ControlCommand command_;
  UnitInfo info_;
  std::optional<Error> error_;
  std::vector<std::uint8_t> pages_;
  std::size_t page_index_ = 0;
  std::function<void(Probe&)> done_;
};

}  // namespace

class Scan::Impl {
 public:
  Impl(Session& session, Done done) : session_(session), report_(session), done_(std::move(done)) {}

  void start() {
    report_.run(0, {0xa0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x10, 0, 0}, 16400, [this] { on_report(); });
  }
  void start_one(std::uint64_t lun) {
    only_one_ = true;
    waiting_.push_back(lun);
    more();
  }

 private:
  void on_report() {
    if (report_.no_answer()) return call(fail(*report_.request().error_code, "REPORT LUNS: no answer"));
    if (!report_.good()) return call(fail(Errc::protocol, "REPORT LUNS was refused"));
    const Bytes data = report_.data();
    if (data.size() >= 8) {
      // The list may say more than what came; what came counts.
      const std::size_t end = std::min<std::size_t>(data.size(), 8 + std::size_t{load_be32(data.data())});
      for (std::size_t at = 8; at + 8 <= end && waiting_.size() < max_scanned_units; at += 8) {
        const std::uint64_t lun = load_be64(data.data() + at);
        if (lun >> 56 == 0xc1) continue;  // a well known unit
        if (std::find(waiting_.begin(), waiting_.end(), lun) == waiting_.end()) waiting_.push_back(lun);
      }
    }
    more();
  }

  void more() {
    while (running_ < probes_at_once && !waiting_.empty()) {
      ++running_;
      probes_.push_back(
          std::make_unique<Probe>(session_, waiting_.front(), [this](Probe& probe) { on_probe(probe); }));
      waiting_.pop_front();
      probes_.back()->start();
    }
    if (running_ == 0) finish();
  }

  void on_probe(Probe&) {
    --running_;
    more();
  }

  void finish() {
    std::vector<UnitInfo> units;
    for (const auto& probe : probes_) {
      if (probe->error()) {
        if (only_one_ || probe->error()->code == Errc::connection)
          return call(tl::unexpected<Error>(*probe->error()));
        continue;  // one unit that is ill hides no other
      }
      if (probe->info().peripheral_qualifier == 3) continue;
      units.push_back(std::move(probe->info()));
    }
    if (only_one_ && units.empty()) {
      return call(fail(Errc::not_found,
                       "the target has no LUN " + std::to_string(lun_number(probes_.front()->info().lun))));
    }
    std::sort(units.begin(), units.end(),
              [](const UnitInfo& a, const UnitInfo& b) { return lun_number(a.lun) < lun_number(b.lun); });
    call(std::move(units));
  }

  void call(Result<std::vector<UnitInfo>> result) {
    Done done = std::move(done_);
    done(std::move(result));  // may destroy this
  }

  Session& session_;
  ControlCommand report_;
  Done done_;
  bool only_one_ = false;
  std::deque<std::uint64_t> waiting_;
  std::vector<std::unique_ptr<Probe>> probes_;
  std::size_t running_ = 0;
};

Scan::Scan(Session& session, Done done) : impl_(std::make_unique<Impl>(session, std::move(done))) {}
Scan::~Scan() = default;
void Scan::start() { impl_->start(); }
void Scan::start_one(std::uint64_t lun) { impl_->start_one(lun); }

}  // namespace perilune::initiator
