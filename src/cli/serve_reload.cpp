// SPDX-License-Identifier: Apache-2.0
#include "cli/serve_reload.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <fstream>

#include "runtime/posix/thread.hpp"

namespace perilune::cli {
namespace {

Result<std::string> read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return fail_errno(errno, path);
  std::string text(config::max_port_groups_file_bytes + 1, '\0');  // one more than is served: longer is told
                                                                   // from long enough
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) return fail(Errc::io, path + ": cannot be read");
  text.resize(static_cast<std::size_t>(file.gcount()));
  return text;
}

constexpr std::chrono::milliseconds ask_interval{250};

std::string describe(const config::PortGroupLine& line) {
  return fmt::format("{}{}", config::to_string(line.state), line.preferred ? " preferred" : "");
}

}  // namespace

PortGroupsOption::PortGroupsOption(std::string path, const std::vector<target::PortalGroup>& groups)
    : path_(std::move(path)) {
  for (const target::PortalGroup& group : groups) tags_.push_back(group.tag);
}

Result<PortGroupsOption> PortGroupsOption::open(std::string path,
                                                const std::vector<target::PortalGroup>& groups) {
  PortGroupsOption option(std::move(path), groups);
  auto file = option.read();
  if (!file) return tl::unexpected(file.error());
  option.file_ = std::move(*file);
  return option;
}

Result<config::PortGroupsFile> PortGroupsOption::read() const {
  const auto text = read_text(path_);
  if (!text) return tl::unexpected(text.error());
  auto file = config::parse_port_groups(*text, tags_);
  if (!file) return fail(file.error().code, fmt::format("{}: {}", path_, file.error().message));
  return file;
}

scsi::PortGroups PortGroupsOption::initial() const {
  std::vector<scsi::PortGroup> groups;
  for (const std::uint16_t tag : tags_) {
    const config::PortGroupLine line = file_.line_of(tag);
    groups.push_back({.id = tag, .state = line.state, .preferred = line.preferred, .ports = {tag}});
  }
  return {std::move(groups), file_.by_command};
}

void PortGroupsOption::apply(Result<config::PortGroupsFile> now, target::Server& server, std::uint32_t target,
                             EventLog& log) {
  if (!now) {
    log.event(EventLog::Level::error, "port_groups_refused",
              fmt::format("reason=\"{}\" nothing is changed", now.error().message));
    return;
  }
  for (const std::uint16_t tag : tags_) {
    const auto before = file_.line_of(tag), after = now->line_of(tag);
    if (before == after) continue;
    log.event(EventLog::Level::info, "port_groups",
              fmt::format("group={} {} -> {} (SIGHUP)", tag, describe(before), describe(after)));
  }
  if (file_.by_command != now->by_command) {
    log.event(EventLog::Level::info, "port_groups",
              fmt::format("explicit {} -> {} (SIGHUP)", file_.by_command ? "yes" : "no",
                          now->by_command ? "yes" : "no"));
  }
  if (!(file_ == *now)) {
    server.change_port_groups(target, [before = file_, now = *now](scsi::PortGroups& groups) {
      config::apply_changes(before, now, groups);
    });
  }
  file_ = std::move(*now);
}

Reload::~Reload() {
  if (thread_.joinable()) thread_.join();
}

void Reload::look() {
  again_ = thread_.joinable() || changing_ != 0;
  if (!again_) look(false);
}

void Reload::look(bool at_media_alone) {
  allowed_.cancel();
  prevented_.clear();  // whoever prevents it still is found again
  thread_ = runtime::posix::start_without_signals([this, at_media_alone, units = server_.units(target_)] {
    loop_.post([this, seen = see(units, at_media_alone)] { apply(seen); });
  });
}

// No initiator tells when it allows what it has prevented, is reset or gets lost: so it is asked for, while
// something waits.
void Reload::ask_whether_allowed() {
  const bool all_prevented = std::all_of(prevented_.begin(), prevented_.end(), [this](std::uint16_t lun) {
    return server_.removal_prevented(target_, lun);
  });
  if (all_prevented) return allowed_.arm(loop_.now() + ask_interval);
  if (!thread_.joinable() && changing_ == 0) look(true);
}

void Reload::look_again_if_asked() {
  if (again_ && changing_ == 0) look();
}

void Reload::see_media(Seen& seen) {
  const auto& watch = server_.config().space_watch;
  for (MediumFile& file : media_) {
    auto other = file.look();
    if (!other) {
      seen.refused.push_back(
          fmt::format("lun={} reason=\"{}\" the medium of before stays", file.lun(), other.error().message));
    } else if (*other) {
      const auto& medium = (*other)->medium;
      const bool measured = medium != nullptr && watch != nullptr && !medium->geometry().read_only;
      seen.media.push_back({&file, **other, measured ? watch->watch(medium) : nullptr});
    }
  }
}

Reload::Seen Reload::see(const Units& units, bool media_alone) {
  Seen seen;
  see_media(seen);
  if (media_alone) return seen;
  for (const auto& unit : units) {
    const bool other = std::any_of(seen.media.begin(), seen.media.end(),
                                   [&](const SeenMedium& each) { return each.file->lun() == unit->lun; });
    if (unit->backstore != nullptr && !other)
      seen.sizes.emplace_back(unit->lun, unit->backstore->look_at_size());
  }
  if (port_groups_ != nullptr) seen.port_groups = port_groups_->read();
  return seen;
}

void Reload::apply(const Seen& seen) {
  thread_.join();
  for (const std::string& line : seen.refused) log_.event(EventLog::Level::error, "medium_refused", line);
  changing_ = seen.media.size();
  for (const SeenMedium& medium : seen.media) change(medium);
  for (const auto& [lun, blocks] : seen.sizes) {
    const Status status =
        blocks ? server_.resize_unit(target_, lun, *blocks) : tl::unexpected(blocks.error());
    if (!status) {
      log_.event(EventLog::Level::error, "resize_refused",
                 fmt::format("lun={} reason=\"{}\"", lun, status.error().message));
    }
  }
  if (seen.port_groups) port_groups_->apply(*seen.port_groups, server_, target_, log_);
  look_again_if_asked();
}

void Reload::change(const SeenMedium& medium) {
  server_.change_medium(target_, medium.file->lun(), {medium.seen.medium, medium.space},
                        [this, medium](const Status& status) {
                          changed(medium, status);
                          --changing_;
                          look_again_if_asked();
                        });
}

void Reload::changed(const SeenMedium& medium, const Status& status) {
  const MediumFile& file = *medium.file;
  if (!status) {
    const bool waits = status.error().code == Errc::busy && server_.removal_prevented(target_, file.lun());
    log_.event(EventLog::Level::error, "medium_refused",
               fmt::format("lun={} reason=\"{}\" the medium of before stays{}", file.lun(),
                           status.error().message, waits ? " until none does" : ""));
    if (waits) {
      prevented_.push_back(file.lun());
      allowed_.arm(loop_.now() + ask_interval);
    }
    return;
  }
  medium.file->in_place(medium.seen.identity);
  log_.event(EventLog::Level::info, medium.seen.medium != nullptr ? "medium_changed" : "medium_removed",
             fmt::format("lun={} {}", file.lun(),
                         medium.seen.medium != nullptr ? medium.seen.medium->describe() : file.path()));
}

}  // namespace perilune::cli
