// SPDX-License-Identifier: Apache-2.0
// The target daemon without a server, sockets and files: the journal's store over a folder in memory, and the
// tests' picture of the world around it. Its configuration has one of everything, and secrets that no input
// knows.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>

#include "cli/targetcli/fake_administration_test.hpp"
#include "config/target/saveconfig.hpp"
#include "control/targetd/state_store.hpp"
#include "fuzz_input.hpp"

namespace perilune::fuzz {

namespace model = config::target;
namespace targetd = control::targetd;
using cli::targetcli::test::FakeAdministration;
using cli::targetcli::test::FakeChance;

// What nobody may be shown.
inline constexpr std::string_view planted_secret = "owl-under-the-stairs";

inline void shows_no_secret(std::string_view text) { require(text.find(planted_secret) == text.npos); }

class MemoryDaemon final : public targetd::Administration {
 public:
  MemoryDaemon() {
    using Kind = targetd::FileProbe::Kind;
    world_.add_file("/srv", Kind::folder, 0);
    world_.add_file("/srv/a.img", Kind::regular, 64U << 20);
    world_.add_file("/srv/b.img", Kind::regular, 32U << 20);
    world_.add_file("/srv/c.img", Kind::regular, 16U << 20);
    world_.add_file("/dev/sda", Kind::block, 16U << 20);
    world_.add_file("/dev/sdb", Kind::block, 1U << 30, "mounted on /");
    world_.texts["/f"] = beginning_saved();
    world_.texts["/e"] = "{}";
    world_.texts["/bad"] = "{ x";
    world_.open_sessions.push_back({{{"iqn.2026-11.io.perilune:one"}, 1},
                                    "iqn.2026-11.io.perilune:host",
                                    "host",
                                    "00023d000001",
                                    1,
                                    "LOGGED_IN",
                                    "u1",
                                    {{0, "192.0.2.7", 40000, "LOGGED_IN"}}});
    folder_.put("journal", beginning());
    store_.emplace(targetd::StateStore::open(folder_).value());
    world_.own = last_ = store_->configuration();
  }

  // A restart finds what was answered, and a file takes it all.
  void survives() {
    if (sequence() == beginning_sequence) return;
    auto again = targetd::StateStore::open(folder_);
    require(again.has_value() && again->configuration() == configuration() &&
            again->sequence() == sequence());
    require(again->torn_bytes() == 0);
    const std::string text = model::write_saveconfig(configuration());
    const auto loaded = model::read_saveconfig(text);
    require(loaded.has_value() && loaded->configuration == configuration());
  }
  // What tells whether an administrator has changed anything.
  struct Picture {
    std::uint64_t sequence = 0;
    std::size_t files = 0, texts = 0;
    friend bool operator==(const Picture&, const Picture&) = default;
  };
  [[nodiscard]] Picture picture() const { return {sequence(), world_.files.size(), world_.texts.size()}; }
  void is_as_before(const Picture& before) const {
    require(picture() == before && configuration() == last_ && world_.own == last_);
  }

  // ---- Administration

  const model::Configuration& configuration() const override { return store_->configuration(); }
  std::uint64_t sequence() const override { return store_->sequence(); }
  Result<std::uint64_t> commit(const std::string& who, const model::Changes& changes) override {
    if (changes.empty()) return sequence();
    require(who.find('\n') == who.npos);
    const auto done = store_->commit({1795968000000, who, changes}, [&](const model::Changes&) -> Status {
      const auto made = world_.commit(who, changes);
      if (!made) return tl::unexpected(made.error());
      return {};
    });
    if (!done) return tl::unexpected(done.error());
    last_ = configuration();
    require(world_.own == last_);
    world_.past.back().sequence = sequence();
    if (sequence() % 4 == 0) require(store_->compact().has_value());
    return sequence();
  }
  Status check(const model::Changes& changes) override { return store_->check(changes); }
  std::vector<targetd::PastTransaction> history() const override { return world_.history(); }
  Result<std::vector<targetd::SessionInfo>> sessions() const override { return world_.sessions(); }
  Result<std::vector<targetd::SessionInfo>> sessions_of(const model::PortalGroupKey& group) const override {
    if (configuration().find<model::PortalGroup>(group) == nullptr)
      return fail(Errc::not_found, "no such group");
    return world_.sessions_of(group);
  }
  Result<targetd::IoCounters> io_counters(const model::LunKey& lun) const override { return world_.io_counters(lun); }
  Result<std::uint64_t> size_of(const model::StorageKey& key) const override { return world_.size_of(key); }
  bool healthy(const model::StorageKey& key) const override { return world_.healthy(key); }
  Status resize(const model::StorageKey& key) override { return world_.resize(key); }
  void look_again() override { world_.look_again(); }
  targetd::FileProbe probe(const std::string& path) const override { return world_.probe(path); }
  Status create_file(const std::string& path, std::uint64_t size_bytes, bool sparse) override {
    return world_.create_file(path, size_bytes, sparse);
  }
  Status remove_file(const std::string& path) override { return world_.remove_file(path); }
  Result<targetd::Saved> save(const targetd::SaveOptions& options) override { return world_.save(options); }
  bool is_saved() const override { return world_.is_saved(); }
  std::string default_save_path() const override { return world_.default_save_path(); }
  Result<std::string> read_file(const std::string& path, std::size_t max_bytes) const override {
    return world_.read_file(path, max_bytes);
  }
  std::vector<std::string> host_addresses() const override { return world_.host_addresses(); }
  Status pause(const model::PortalGroupKey& group) override { return world_.pause(group); }
  Status drain(const model::PortalGroupKey& group, std::uint32_t seconds) override {
    return world_.drain(group, seconds);
  }
  Status resume(const model::PortalGroupKey& group) override { return world_.resume(group); }
  Status drop_connection(std::uint16_t, std::uint16_t) override { return {}; }
  std::string version() const override { return world_.version(); }

 private:
  static constexpr std::uint64_t beginning_sequence = 1;
  // The configuration that everything begins with.
  static const model::Configuration& first() {
    static const model::Configuration configuration = [] {
      model::Configuration made;
      const auto put = [&](const model::Change& change) { require(made.apply(change).has_value()); };
      const model::StorageKey disk{model::Plugin::fileio, "disk"};
      const model::TargetKey target{"iqn.2026-11.io.perilune:one"};
      const model::PortalGroupKey group{target, 1};
      const model::NodeAclKey acl{group, "iqn.2026-11.io.perilune:host"};
      model::StorageObject object;
      object.dev = "/srv/a.img";
      object.wwn = "serial-of-disk";
      object.size_bytes = 64U << 20;
      const std::string alua(model::default_alua_group);
      model::PortalGroup with_secret;
      with_secret.chap = {"u1", model::Password(planted_secret), "u2", model::Password(planted_secret)};
      model::NodeAcl acl_with_secret;
      acl_with_secret.chap = with_secret.chap;
      model::Discovery discovery;
      discovery.chap = with_secret.chap;
      put(model::add<model::StorageObject>(disk, object));
      put(model::add<model::AluaGroup>({disk, alua}, {}));
      put(model::add<model::Target>(target, {}));
      put(model::add<model::PortalGroup>(group, with_secret));
      put(model::add<model::Portal>({group, "0.0.0.0", 3260}, {}));
      put(model::add<model::Lun>({group, 0}, {disk, alua, "", {}}));
      put(model::add<model::NodeAcl>(acl, acl_with_secret));
      put(model::add<model::MappedLun>({acl, 0}, {0, false, "", {}}));
      put(model::add<model::Discovery>({}, discovery));
      return made;
    }();
    return configuration;
  }
  static const std::string& beginning() {
    static const std::string text =
        targetd::journal_header(0) +
        targetd::journal_record(1, {1795968000000, "root", model::diff({}, first())});
    return text;
  }
  static const std::string& beginning_saved() {
    static const std::string text = model::write_saveconfig(first());
    return text;
  }

  targetd::FakeFolder folder_;
  std::optional<targetd::StateStore> store_;
  FakeAdministration world_;
  model::Configuration last_;  // after the last transaction
};

// What comes over the socket at all is UTF-8. (And the planted secret is not known to who types; the fuzzer
// finds it by watching comparisons.)
inline bool is_typed(std::string_view text) {
  if (text.find(planted_secret) != text.npos) return false;
  try {
    (void)targetd::Json(text).dump();
    return true;
  } catch (const targetd::Json::exception&) {
    return false;
  }
}

// What a front end says of one line: where it refuses it in one line, and has changed nothing; never a
// secret.
inline void judge(const targetd::FrontEndAnswer& answer, const MemoryDaemon& daemon,
                  const MemoryDaemon::Picture& before) {
  shows_no_secret(answer.out);
  shows_no_secret(answer.err);
  if (answer.exit_code == 0) {
    require(daemon.sequence() <= before.sequence + 1);  // one line is one transaction
    return;
  }
  daemon.is_as_before(before);
  require(!answer.err.empty() && answer.err.back() == '\n');
  require(std::count(answer.err.begin(), answer.err.end(), '\n') == 1);
}

// The secret that a line gives (behind `option`) and nobody may repeat; empty when it stands elsewhere in it,
// too.
inline std::string_view given_secret(std::string_view line, std::string_view option) {
  static constexpr std::string_view secret = "hush-hush-hush-12";
  const auto at = line.find(secret);
  const bool given =
      at != line.npos && line.substr(0, at).ends_with(option) && line.find(secret, at + 1) == line.npos;
  return given ? secret : std::string_view();
}

}  // namespace perilune::fuzz
