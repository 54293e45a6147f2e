// SPDX-License-Identifier: Apache-2.0
#include "control/targetd/state_store.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/temporary_folder_test.hpp"
#include "control/targetd/fake_folder_test.hpp"

namespace perilune::control::targetd {
namespace {

using namespace config::target;
using testing::HasSubstr;

const TargetKey target_a{"iqn.2026-11.io.perilune:a"};

Transaction by_root(Changes changes) { return {1795870000000, "root targetcli", std::move(changes)}; }

// What an administrator does in these tests, one transaction each.
std::vector<Transaction> script() {
  StorageObject ram;
  ram.size_bytes = 4096;
  ram.wwn = "s";
  PortalGroup group;
  group.chap.password = Password("secret");
  const StorageKey disk{Plugin::ramdisk, "r"};
  return {by_root({add<Target>(target_a, {})}),
          by_root({add<PortalGroup>({target_a, 1}, {}), add<StorageObject>(disk, ram)}),
          by_root({add<Lun>({{target_a, 1}, 0}, {disk, "", "", {}})}),
          by_root({set<PortalGroup>({target_a, 1}, group)}), by_root({remove<Lun>({{target_a, 1}, 0})})};
}

// The configuration after each of the first transactions of the script.
std::vector<Configuration> states() {
  std::vector<Configuration> all(1);
  for (const Transaction& transaction : script()) {
    all.push_back(all.back());
    (void)apply_all(all.back(), transaction.changes).value();
  }
  return all;
}

StateStore opened(StateFolder& folder) {
  auto store = StateStore::open(folder);
  EXPECT_TRUE(store.has_value()) << store.error().message;
  return std::move(*store);
}

std::string refused(StateFolder& folder) {
  const auto store = StateStore::open(folder);
  EXPECT_FALSE(store.has_value());
  return store ? "" : store.error().message;
}

// Runs the script with a new snapshot in its middle until something fails; gives how many transactions were
// answered.
std::size_t run_script(StateFolder& folder) {
  auto store = StateStore::open(folder);
  if (!store) return 0;
  std::size_t answered = 0;
  for (const Transaction& transaction : script()) {
    if (answered == 3 && !store->compact()) return answered;
    if (!store->commit(transaction)) return answered;
    ++answered;
  }
  return answered;
}

// A folder in which the whole script was run, with the first three transactions in the snapshot when
// `compacted`.
FakeFolder whole(bool compacted) {
  FakeFolder folder;
  StateStore store = opened(folder);
  std::size_t done = 0;
  for (const Transaction& transaction : script()) {
    if (compacted && done++ == 3) {
      EXPECT_TRUE(store.compact().has_value());
    }
    EXPECT_TRUE(store.commit(transaction).has_value());
  }
  return folder;
}

TEST(JournalFormat, IsLinesOfChecksumAndJson) {
  EXPECT_EQ(journal_header(0), "0f702fa5 {\"after\":0,\"format\":1,\"perilune\":\"journal\"}\n");
  EXPECT_EQ(journal_record(1, script()[0]),
            "27bf7cc5 "
            "{\"changes\":[{\"do\":\"add\",\"key\":{\"target\":\"iqn.2026-11.io.perilune:a\"},\"kind\":"
            "\"target\",\"value\":{\"parameters\":{}}}]"
            ",\"sequence\":1,\"time_ms\":1795870000000,\"who\":\"root targetcli\"}\n");
}

TEST(StateStore, BeginsEmptyAndKeepsWhatWasAnswered) {
  FakeFolder folder;
  EXPECT_EQ(run_script(folder), script().size());
  const StateStore store = opened(folder);
  EXPECT_EQ(store.configuration(), states().back());
  EXPECT_EQ(store.sequence(), script().size());
  EXPECT_EQ(store.torn_bytes(), 0U);
}

TEST(StateStore, ARefusedTransactionIsNotWritten) {
  FakeFolder folder;
  StateStore store = opened(folder);
  const std::string before = folder.text("journal");
  const auto done = store.commit(
      by_root({add<Target>(target_a, {}), add<PortalGroup>({{"iqn.2026-11.io.perilune:x"}, 1}, {})}));
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(folder.text("journal"), before);
  EXPECT_EQ(store.configuration(), Configuration{});
}

TEST(StateStore, TheAnswerIsTheUndo) {
  FakeFolder folder;
  StateStore store = opened(folder);
  auto undo = store.commit(script()[0]);
  ASSERT_TRUE(undo.has_value());
  ASSERT_TRUE(store.commit(by_root(*undo)).has_value());
  EXPECT_EQ(opened(folder).configuration(), Configuration{});
  EXPECT_EQ(store.sequence(), 2U);
}

// Power is lost after every operation and at every byte of every write; of what was not synced all, nothing,
// or zeroes are left.
TEST(StateStore, WhatCannotBePreparedHasNotHappened) {
  FakeFolder folder;
  StateStore store = opened(folder);
  ASSERT_TRUE(store.commit(script()[0]).has_value());
  const Configuration before = store.configuration();
  const auto refused = store.commit(script()[1], [&](const config::target::Changes& inverses) -> Status {
    EXPECT_NE(store.configuration(), before) << "it sees what is to be";
    EXPECT_EQ(inverses.size(), script()[1].changes.size());
    return fail(Errc::busy, "no");
  });
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Errc::busy);
  EXPECT_EQ(store.configuration(), before);
  EXPECT_EQ(store.sequence(), 1U);
  EXPECT_EQ(opened(folder).configuration(), before);
}

TEST(StateStore, ACheckLeavesEverythingAsItWas) {
  FakeFolder folder;
  StateStore store = opened(folder);
  ASSERT_TRUE(store.commit(script()[0]).has_value());
  const Configuration before = store.configuration();
  EXPECT_TRUE(store.check(script()[1].changes).has_value());
  EXPECT_FALSE(store.check(script()[0].changes).has_value()) << "it is there already";
  EXPECT_EQ(store.configuration(), before);
  EXPECT_EQ(store.sequence(), 1U);
}

TEST(StateStore, ALossOfPowerLeavesTheOldOrTheNew) {
  const auto after = states();
  std::size_t whole_run = 0;
  {
    FakeFolder folder;
    folder.power = 1U << 20;
    ASSERT_EQ(run_script(folder), script().size());
    whole_run = (1U << 20) - folder.power;
  }
  for (std::size_t power = 0; power <= whole_run; ++power) {
    FakeFolder folder;
    folder.power = power;
    const std::size_t answered = run_script(folder);
    for (const auto data : {FakeFolder::Data::lost, FakeFolder::Data::kept, FakeFolder::Data::zeroed}) {
      for (const auto names : {FakeFolder::Names::lost, FakeFolder::Names::kept}) {
        const auto left = folder.after_power_loss(data, names);
        auto store = StateStore::open(*left);
        ASSERT_TRUE(store.has_value()) << "power " << power << ": " << store.error().message;
        const bool old_one = store->configuration() == after[answered];
        const bool new_one = answered + 1 < after.size() && store->configuration() == after[answered + 1];
        ASSERT_TRUE(old_one || new_one)
            << "power " << power << ", " << answered << " answered, found " << store->sequence();
        // And it goes on from there.
        ASSERT_TRUE(store->commit(by_root({add<Target>({"iqn.2026-11.io.perilune:later"}, {})})).has_value());
        const auto again = left->after_power_loss(FakeFolder::Data::lost, FakeFolder::Names::lost);
        ASSERT_EQ(opened(*again).configuration(), store->configuration()) << "power " << power;
      }
    }
  }
}

// Each operation fails once (a full disk, say) while the server lives on.
TEST(StateStore, AFailedWriteChangesNothingAndTheNextOneWorks) {
  FakeFolder counting;
  ASSERT_EQ(run_script(counting), script().size());
  for (std::size_t failing = 0; failing < counting.operations; ++failing) {
    FakeFolder folder;
    folder.failing_operation = failing;
    auto store = StateStore::open(folder);
    if (!store) store = StateStore::open(folder);
    ASSERT_TRUE(store.has_value()) << failing;
    Configuration expected;
    std::size_t done = 0;
    for (const Transaction& transaction : script()) {
      if (done++ == 3 && !store->compact()) {
        EXPECT_TRUE(store->compact().has_value()) << failing;
      }
      if (!store->commit(transaction)) {
        ASSERT_EQ(store->configuration(), expected) << failing;
        ASSERT_TRUE(store->commit(transaction).has_value()) << failing;
      }
      (void)apply_all(expected, transaction.changes).value();
      ASSERT_EQ(store->configuration(), expected) << failing;
      // What was answered is durable at once.
      const auto left = folder.after_power_loss(FakeFolder::Data::lost, FakeFolder::Names::lost);
      ASSERT_EQ(opened(*left).configuration(), expected) << failing;
    }
  }
}

TEST(StateStore, ATornTailIsCutAndKeptAside) {
  FakeFolder folder = whole(false);
  std::string& journal = folder.text("journal");
  const std::size_t last = journal.rfind('\n', journal.size() - 2) + 1;
  for (std::size_t cut = last; cut < journal.size(); ++cut) {
    FakeFolder torn;
    torn.put("journal", journal.substr(0, cut));
    const StateStore store = opened(torn);
    EXPECT_EQ(store.configuration(), states()[4]);
    EXPECT_EQ(store.torn_bytes(), cut - last);
    EXPECT_EQ(torn.text("journal"), journal.substr(0, last));
    if (cut > last) {
      EXPECT_EQ(torn.text("journal.torn"), journal.substr(last, cut - last));
    }
  }
}

TEST(StateStore, ADamagedMiddleIsAnErrorAndNothingIsLost) {
  const FakeFolder intact = whole(false);
  const std::string journal = const_cast<FakeFolder&>(intact).text("journal");
  const std::size_t header = journal.find('\n') + 1;
  const std::size_t last = journal.rfind('\n', journal.size() - 2) + 1;
  for (std::size_t at = header; at < last; ++at) {
    FakeFolder folder;
    std::string damaged = journal;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    folder.put("journal", damaged);
    EXPECT_THAT(refused(folder), HasSubstr("state file journal is damaged at line ")) << at;
    EXPECT_EQ(folder.text("journal"), damaged) << at;
    EXPECT_FALSE(folder.has("journal.torn"));
  }
}

TEST(StateStore, AMissingRecordIsNoticed) {
  FakeFolder folder = whole(false);
  std::string& journal = folder.text("journal");
  const std::size_t second = journal.find('\n', journal.find('\n') + 1) + 1;
  journal.erase(second, journal.find('\n', second) + 1 - second);
  EXPECT_THAT(refused(folder), HasSubstr("damaged at line 4: transaction 2 is missing"));
}

TEST(StateStore, ADamagedSnapshotIsAnError) {
  FakeFolder intact = whole(true);
  const std::string snapshot = intact.text("snapshot");
  for (std::size_t at = 0; at < snapshot.size(); ++at) {
    FakeFolder folder = whole(true);
    folder.text("snapshot")[at] = static_cast<char>(snapshot[at] ^ 1);
    EXPECT_THAT(refused(folder), HasSubstr("state file snapshot ")) << at;
  }
  for (std::size_t size = 0; size < snapshot.size(); ++size) {
    FakeFolder folder = whole(true);
    folder.text("snapshot").resize(size);
    EXPECT_THAT(refused(folder), HasSubstr("state file snapshot ")) << size;
  }
}

TEST(StateStore, AMissingFileIsAnError) {
  FakeFolder folder = whole(true);
  folder.erase("journal");
  EXPECT_THAT(refused(folder), HasSubstr("state file journal is missing"));
  folder = whole(true);
  folder.erase("snapshot");
  EXPECT_THAT(refused(folder), HasSubstr("continues after transaction 3, but the snapshot ends at 0"));
}

TEST(StateStore, ALaterFormatIsRefused) {
  FakeFolder folder;
  folder.put("journal", "91043fed {\"after\":0,\"format\":2,\"perilune\":\"journal\"}\n");
  EXPECT_THAT(refused(folder), HasSubstr("is of format 2, written by a later version; this one reads 1"));
  folder.put("journal", "something else\n");
  EXPECT_THAT(refused(folder), HasSubstr("state file journal does not begin as a journal of Perilune"));
}

TEST(StateStore, CompactionIsWantedWhenTheJournalIsLong) {
  FakeFolder folder;
  StateStore store = opened(folder);
  ASSERT_TRUE(store.commit(script()[0]).has_value());
  EXPECT_FALSE(store.wants_compaction());
  Target value;
  value.unknown.emplace("/note", '"' + std::string(1 << 20, 'x') + '"');
  ASSERT_TRUE(store.commit(by_root({set<Target>(target_a, value)})).has_value());
  EXPECT_TRUE(store.wants_compaction());
  ASSERT_TRUE(store.compact().has_value());
  EXPECT_FALSE(store.wants_compaction());
  EXPECT_EQ(opened(folder).configuration(), store.configuration());
}

// ---- on a real disk

class LockedFolderTest : public testing::Test {
 protected:
  [[nodiscard]] unsigned mode_of(const std::string& path) const {
    struct stat status {};
    EXPECT_EQ(::lstat(path.c_str(), &status), 0) << path;
    return status.st_mode & 07777;
  }
  TemporaryFolder root_;
  std::string path_ = root_ / "state";
};

TEST_F(LockedFolderTest, KeepsTheStateInFilesOfTheOwnerAlone) {
  {
    auto folder = LockedFolder::open(path_);
    ASSERT_TRUE(folder.has_value()) << folder.error().message;
    EXPECT_EQ(run_script(**folder), script().size());
    EXPECT_THAT((*folder)->list().value(), testing::ElementsAre("journal", "lock", "snapshot"));
  }
  EXPECT_EQ(mode_of(path_), 0700U);
  for (const char* name : {"journal", "lock", "snapshot"})
    EXPECT_EQ(mode_of(path_ + "/" + name), 0600U) << name;
  auto folder = LockedFolder::open(path_);
  ASSERT_TRUE(folder.has_value());
  EXPECT_EQ(opened(**folder).configuration(), states().back());
}

TEST_F(LockedFolderTest, IsForOneServer) {
  const auto first = LockedFolder::open(path_);
  ASSERT_TRUE(first.has_value());
  const auto second = LockedFolder::open(path_);
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, Errc::busy);
  EXPECT_THAT(second.error().message,
              HasSubstr("is in use by another server (process " + std::to_string(::getpid()) + ")"));
}

TEST_F(LockedFolderTest, FollowsNoLink) {
  const auto folder = LockedFolder::open(path_);
  ASSERT_TRUE(folder.has_value());
  const std::string outside = root_ / "outside";
  ASSERT_EQ(::symlink(outside.c_str(), (path_ + "/journal").c_str()), 0);
  EXPECT_FALSE((*folder)->append("journal", "x").has_value());
  EXPECT_FALSE((*folder)->read("journal", 100).has_value());
  EXPECT_TRUE((*folder)->write("journal", "x").has_value()) << "the link is replaced, not followed";
  EXPECT_NE(::access(outside.c_str(), F_OK), 0);
}

TEST_F(LockedFolderTest, AFolderInThePlaceOfTheStateIsNoEmptyState) {
  const auto folder = LockedFolder::open(path_);
  ASSERT_TRUE(folder.has_value());
  ASSERT_EQ(::mkdir((path_ + "/journal").c_str(), 0700), 0);
  const auto text = (*folder)->read("journal", 100);
  ASSERT_FALSE(text.has_value());
  EXPECT_NE(text.error().code, Errc::not_found);
}

}  // namespace
}  // namespace perilune::control::targetd
