// SPDX-License-Identifier: Apache-2.0
#include "control/targetd/export.hpp"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "config/target/json_text.hpp"
#include "config/target/saveconfig.hpp"
#include "control/targetd/gzip.hpp"

namespace perilune::control::targetd {
namespace {

using config::target::max_json_bytes;

bool is_backup(const std::string& name) {
  return name.starts_with("saveconfig-") && (name.ends_with("-json.gz") || name.ends_with(".json"));
}

// Oldest first: the name begins with the time.
Result<std::vector<std::string>> list_backups(StateFolder& backups) {
  auto names = backups.list();
  if (!names) return names;
  std::erase_if(*names, [](const std::string& name) { return !is_backup(name); });
  return names;
}

bool newest_holds(StateFolder& backups, const std::vector<std::string>& names, std::string_view text) {
  if (names.empty()) return false;
  const auto stored = backups.read(names.back(), max_json_bytes);
  if (!stored) return false;
  if (!names.back().ends_with(".gz")) return *stored == text;
  const auto plain = gunzip(*stored, max_json_bytes);
  return plain && *plain == text;
}

Status remove_oldest(StateFolder& backups, std::vector<std::string> names, std::size_t keep) {
  for (std::size_t i = 0; i + std::max<std::size_t>(keep, 1) < names.size(); ++i) {
    if (auto done = backups.remove(names[i]); !done) return done;
  }
  return {};
}

// The time in a name that backup_name() makes; of another: the beginning of time.
std::chrono::local_seconds time_in(const std::string& name) {
  int year = 0, hour = 0, minute = 0, second = 0;
  unsigned month = 0, day = 0;
  const int found = std::sscanf(name.c_str(), "saveconfig-%4d%2u%2u-%2d:%2d:%2d", &year, &month, &day, &hour,
                                &minute, &second);
  const std::chrono::year_month_day date{std::chrono::year{year}, std::chrono::month{month},
                                         std::chrono::day{day}};
  if (found != 6 || !date.ok()) return {};
  return std::chrono::local_days{date} + std::chrono::hours{hour} + std::chrono::minutes{minute} +
         std::chrono::seconds{second};
}

// Gives its name; empty: there was nothing new to keep.
Result<std::string> keep_backup(StateFolder& backups, std::string_view text, std::chrono::local_seconds now,
                                std::size_t max_backups) {
  auto names = list_backups(backups);
  if (!names) return tl::unexpected<Error>(std::move(names.error()));
  if (newest_holds(backups, *names, text)) return std::string();
  const auto compressed = gzip(text);
  if (!compressed) return tl::unexpected<Error>(compressed.error());
  if (!names->empty()) now = std::max(now, time_in(names->back()) + std::chrono::seconds{1});
  const std::string name = backup_name(now);
  if (auto done = replace_file(backups, name, *compressed); !done)
    return tl::unexpected<Error>(std::move(done.error()));
  names->push_back(name);
  if (auto done = remove_oldest(backups, std::move(*names), max_backups); !done) {
    return tl::unexpected<Error>(std::move(done.error()));
  }
  return name;
}

bool has_something(std::string_view text) {
  const auto loaded = config::target::read_saveconfig(text);
  return !loaded || !loaded->configuration.serves_nothing();
}

}  // namespace

std::string backup_name(std::chrono::local_seconds now) {
  const auto day = std::chrono::floor<std::chrono::days>(now);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss time(now - day);
  char text[64];
  std::snprintf(text, sizeof text, "saveconfig-%04d%02u%02u-%02d:%02d:%02d-json.gz",
                static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                static_cast<unsigned>(date.day()), static_cast<int>(time.hours().count()),
                static_cast<int>(time.minutes().count()), static_cast<int>(time.seconds().count()));
  return text;
}

Result<Exported> export_saveconfig(StateFolder& folder, StateFolder& backups,
                                   const config::target::Configuration& configuration,
                                   std::chrono::local_seconds now, const ExportOptions& options) {
  const auto before = folder.read(options.name, max_json_bytes);
  if (!before && before.error().code != Errc::not_found) return tl::unexpected<Error>(before.error());
  if (before && configuration.serves_nothing() && !options.overwrite_with_nothing && has_something(*before)) {
    return fail(Errc::busy,
                options.name + " holds a configuration and there is nothing to save; not overwritten");
  }
  Exported exported;
  if (before) {
    const auto kept = keep_backup(backups, *before, now, options.max_backups);
    if (!kept)
      return fail(kept.error().code, "cannot keep a backup of " + options.name + ": " + kept.error().message);
    exported.backed_up = !kept->empty();
    exported.backup = *kept;
  }
  const std::string text = config::target::write_saveconfig(configuration);
  if (auto done = replace_file(folder, options.name, text); !done)
    return tl::unexpected<Error>(std::move(done.error()));
  return exported;
}

}  // namespace perilune::control::targetd
