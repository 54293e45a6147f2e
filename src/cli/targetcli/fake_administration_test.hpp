// SPDX-License-Identifier: Apache-2.0
// The daemon as the interpreter sees it, in memory: a configuration, files, sessions.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "cli/targetcli/interpreter.hpp"
#include "config/target/json_text.hpp"
#include "config/target/saveconfig.hpp"
#include "control/targetd/fake_folder_test.hpp"

namespace perilune::cli::targetcli::test {

using targetd::FileProbe;

class FakeAdministration final : public targetd::Administration {
 public:
  std::map<std::string, FileProbe> files;
  std::map<std::string, std::string> texts;  // what read_file() gives
  std::vector<targetd::SessionInfo> open_sessions;
  std::vector<targetd::PastTransaction> past;
  std::vector<std::string> addresses{"127.0.0.1", "::1"};
  std::uint64_t free_space = 512ULL << 20;
  targetd::FakeFolder folder, backups;
  model::Configuration own;

  const model::Configuration& configuration() const override { return own; }
  std::uint64_t sequence() const override { return past.empty() ? 0 : past.back().sequence; }
  Result<std::uint64_t> commit(const std::string& who, const model::Changes& changes) override {
    if (changes.empty()) return sequence();
    if (const auto bound = check_portals(changes); !bound) return tl::unexpected<Error>(bound.error());
    auto inverses = model::apply_all(own, changes);
    if (!inverses) return tl::unexpected<Error>(inverses.error());
    past.push_back({sequence() + 1, 1795968000000, who, changes, std::move(*inverses)});
    return sequence();
  }
  Status check(const model::Changes& changes) override {
    model::Configuration copy = own;
    const auto applied = model::apply_all(copy, changes);
    if (!applied) return tl::unexpected<Error>(applied.error());
    return {};
  }
  std::vector<targetd::PastTransaction> history() const override { return past; }
  Result<std::vector<targetd::SessionInfo>> sessions() const override { return open_sessions; }
  Result<std::vector<targetd::SessionInfo>> sessions_of(const model::PortalGroupKey& group) const override {
    auto some = open_sessions;
    std::erase_if(some, [&](const auto& session) { return session.group != group; });
    return some;
  }
  std::map<model::LunKey, targetd::IoCounters> counters;
  Result<targetd::IoCounters> io_counters(const model::LunKey& lun) const override {
    const auto at = counters.find(lun);
    if (at == counters.end()) return fail(Errc::not_found, "it is not served");
    return at->second;
  }
  Result<std::uint64_t> size_of(const model::StorageKey& key) const override {
    const auto* const object = own.find<model::StorageObject>(key);
    if (object == nullptr) return fail(Errc::not_found, "no such object");
    return object->size_bytes != 0 ? object->size_bytes : probe(object->dev).size_bytes;
  }
  bool healthy(const model::StorageKey&) const override { return true; }
  Status resize(const model::StorageKey&) override { return {}; }
  void look_again() override {}

  FileProbe probe(const std::string& path) const override {
    const auto at = files.find(path);
    if (at != files.end()) return at->second;
    FileProbe text;
    if (texts.contains(path) || (path == default_save_path() && folder.has("saveconfig.json")))
      text.kind = FileProbe::Kind::regular;
    return text;
  }
  Status create_file(const std::string& path, std::uint64_t size_bytes, bool) override {
    if (!files.contains(path.substr(0, path.rfind('/')))) return fail(Errc::io, "there is no such folder", 2);
    if (size_bytes > free_space) return fail(Errc::no_space, "no space is left");
    FileProbe made;
    made.kind = FileProbe::Kind::regular;
    made.size_bytes = size_bytes;
    files[path] = made;
    return {};
  }
  Status remove_file(const std::string& path) override {
    files.erase(path);
    return {};
  }

  Result<targetd::Saved> save(const targetd::SaveOptions& options) override {
    if (!options.path.empty()) {
      texts[options.path] = model::write_saveconfig(own);
      return targetd::Saved{options.path, false, {}};
    }
    targetd::ExportOptions how;
    how.overwrite_with_nothing = options.overwrite_with_nothing;
    how.max_backups = options.max_backups;
    now_ += std::chrono::seconds(1);
    const auto done = targetd::export_saveconfig(folder, backups, own, now_, how);
    if (!done) return tl::unexpected<Error>(done.error());
    return targetd::Saved{default_save_path(), done->backed_up,
                          "/etc/rtslib-fb-target/backup/" + done->backup};
  }
  bool is_saved() const override { return false; }
  std::string default_save_path() const override { return "/etc/rtslib-fb-target/saveconfig.json"; }
  Result<std::string> read_file(const std::string& path, std::size_t) const override {
    const auto at = texts.find(path);
    if (at == texts.end()) return fail(Errc::not_found, "there is no such file");
    return at->second;
  }
  std::vector<std::string> host_addresses() const override { return addresses; }
  Status pause(const model::PortalGroupKey&) override { return {}; }
  Status drain(const model::PortalGroupKey&, std::uint32_t) override { return {}; }
  Status resume(const model::PortalGroupKey&) override { return {}; }
  Status drop_connection(std::uint16_t tsih, std::uint16_t cid) override {
    const auto session = std::find_if(open_sessions.begin(), open_sessions.end(),
                                      [tsih](const auto& each) { return each.tsih == tsih; });
    if (session == open_sessions.end()) return fail(Errc::not_found, "there is no such session");
    std::erase_if(session->connections, [cid](const auto& each) { return each.cid == cid; });
    if (session->connections.empty()) open_sessions.erase(session);
    return {};
  }
  std::string version() const override { return "2.1.53"; }

  void add_file(const std::string& path, FileProbe::Kind kind, std::uint64_t size_bytes,
                std::string used_by = {}) {
    FileProbe file;
    file.kind = kind;
    file.size_bytes = size_bytes;
    file.used_by = std::move(used_by);
    files[path] = file;
  }

 private:
  // As bind() and listen() see it: an address of this host, and none that a portal on all addresses has.
  Status check_portals(const model::Changes& changes) const {
    for (const model::Change& change : changes) {
      const auto* const portal = std::get_if<model::ChangeOf<model::Portal>>(&change);
      if (portal == nullptr || portal->action != model::Action::add) continue;
      const auto& key = portal->key;
      const bool everywhere = key.address == "0.0.0.0" || key.address == "::";
      if (!everywhere && std::find(addresses.begin(), addresses.end(), key.address) == addresses.end()) {
        return fail(Errc::io, model::path_of(key) + ": is no address of this host");
      }
      for (const auto& [other, value] : own.all<model::Portal>()) {
        const bool overlaps = other.port == key.port && other.address == "0.0.0.0" &&
                              key.address != "0.0.0.0" && key.address.find(':') == std::string::npos;
        if (overlaps)
          return fail(Errc::busy, model::path_of(key) + ": is covered by " + model::path_of(other));
      }
    }
    return {};
  }

  std::chrono::local_seconds now_{};
};

// Counts where the world would throw dice.
class FakeChance final : public Chance {
 public:
  std::string unit_serial() override { return "00000000-0000-4000-8000-" + hex(12); }
  std::string hex(std::size_t digits) override {
    std::string text = std::to_string(++count_);
    return std::string(digits - std::min(digits, text.size()), '0') + text;
  }
  std::string host_name() override { return "Box-1"; }

 private:
  std::size_t count_ = 0;
};

// What one who types at it has.
struct Shell {
  FakeAdministration daemon;
  FakeChance chance;
  Session session;
  Answer run(std::string_view line) {
    return Interpreter(daemon, chance, "root (pid 42)").run(line, session);
  }
  // The output of a line that must go well.
  std::string out(std::string_view line) {
    const Answer answer = run(line);
    return answer.error.empty() ? answer.out : "error: " + answer.error;
  }
};

}  // namespace perilune::cli::targetcli::test
