// SPDX-License-Identifier: Apache-2.0
#include "control/targetd/export.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/target/saveconfig.hpp"
#include "control/targetd/fake_folder_test.hpp"
#include "control/targetd/gzip.hpp"

namespace perilune::control::targetd {
namespace {

using namespace config::target;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;

const std::chrono::local_seconds noon =
    std::chrono::local_days{std::chrono::year{2026} / 11 / 20} + seconds(48008);

Configuration with_targets(int count) {
  Configuration configuration;
  for (int i = 0; i < count; ++i) {
    (void)configuration.apply(add<Target>({"iqn.2026-11.io.perilune:t" + std::to_string(i)}, {})).value();
  }
  return configuration;
}

TEST(BackupName, IsTargetclis) { EXPECT_EQ(backup_name(noon), "saveconfig-20261120-13:20:08-json.gz"); }

TEST(Gzip, GivesBackWhatItTook) {
  for (const std::size_t size : {0UL, 1UL, 1000UL, 65535UL, 65536UL, 300000UL}) {
    std::string text(size, 'x');
    for (std::size_t i = 0; i < size; i += 3) text[i] = static_cast<char>(i * 2654435761U >> 13);
    const auto compressed = gzip(text);
    ASSERT_TRUE(compressed.has_value()) << size;
    EXPECT_EQ(compressed->substr(0, 2), "\x1f\x8b");
    EXPECT_EQ(gunzip(*compressed, size).value(), text) << size;
    if (size > 0) {
      EXPECT_EQ(gunzip(*compressed, size - 1).error().code, Errc::limit);
    }
  }
}

TEST(Gzip, ReadsWhatPythonWrote) {
  // gzip.compress(b"{}\n", mtime=0)
  const char bytes[] =
      "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xab\xae\xe5\x02\x00\x06\xb0\xa1\xdd\x03\x00\x00\x00";
  EXPECT_EQ(gunzip(std::string_view(bytes, sizeof bytes - 1), 100).value(), "{}\n");
}

TEST(Gzip, RefusesWhatIsDamaged) {
  const std::string whole = gzip("some text, some text, some text").value();
  for (std::size_t size = 0; size < whole.size(); ++size)
    EXPECT_FALSE(gunzip(whole.substr(0, size), 100).has_value()) << size;
  std::string damaged = whole;
  damaged[whole.size() - 6] = static_cast<char>(damaged[whole.size() - 6] ^ 1);  // of the CRC
  EXPECT_FALSE(gunzip(damaged, 100).has_value());
  EXPECT_FALSE(gunzip("no gzip at all, but long enough", 100).has_value());
}

TEST(Export, TheFirstHasNothingToBackUp) {
  FakeFolder folder;
  FakeFolder backups;
  const auto done = export_saveconfig(folder, backups, with_targets(1), noon);
  ASSERT_TRUE(done.has_value()) << done.error().message;
  EXPECT_FALSE(done->backed_up);
  EXPECT_EQ(folder.text("saveconfig.json"), write_saveconfig(with_targets(1)));
  EXPECT_THAT(folder.list().value(), ElementsAre("saveconfig.json"));
  EXPECT_TRUE(backups.list().value().empty());
}

TEST(Export, KeepsWhatTheFileHeldOnce) {
  FakeFolder folder;
  FakeFolder backups;
  for (int i = 1; i <= 2; ++i) {
    ASSERT_TRUE(export_saveconfig(folder, backups, with_targets(i), noon + seconds(i)).has_value());
  }
  ASSERT_THAT(backups.list().value(), ElementsAre("saveconfig-20261120-13:20:10-json.gz"));
  EXPECT_EQ(gunzip(backups.text("saveconfig-20261120-13:20:10-json.gz"), 100000).value(),
            write_saveconfig(with_targets(1)));
  // The file now holds two targets: kept once, not again and again.
  ASSERT_TRUE(export_saveconfig(folder, backups, with_targets(2), noon + seconds(3))->backed_up);
  EXPECT_FALSE(export_saveconfig(folder, backups, with_targets(2), noon + seconds(4))->backed_up);
  EXPECT_EQ(backups.list()->size(), 2U);
}

TEST(Export, TheNewestTenBackupsStay) {
  FakeFolder folder;
  FakeFolder backups;
  backups.put("notes", "not ours");
  for (int i = 0; i < 15; ++i) {
    ASSERT_TRUE(export_saveconfig(folder, backups, with_targets(i + 1), noon + seconds(i)).has_value());
  }
  const auto names = backups.list().value();
  ASSERT_EQ(names.size(), 11U);
  EXPECT_EQ(names[0], "notes");
  EXPECT_EQ(names[1], backup_name(noon + seconds(5)));
  EXPECT_EQ(names[10], backup_name(noon + seconds(14)));
}

TEST(Export, NothingDoesNotReplaceSomethingUnlessToldSo) {
  FakeFolder folder;
  FakeFolder backups;
  ASSERT_TRUE(export_saveconfig(folder, backups, with_targets(1), noon).has_value());
  for (const std::string& held : {folder.text("saveconfig.json"), std::string("not JSON, but somebody's")}) {
    folder.put("saveconfig.json", held);
    const auto refused = export_saveconfig(folder, backups, {}, noon);
    ASSERT_FALSE(refused.has_value());
    EXPECT_THAT(refused.error().message,
                HasSubstr("saveconfig.json holds a configuration and there is nothing to save"));
    EXPECT_EQ(folder.text("saveconfig.json"), held);
  }
  ExportOptions told;
  told.overwrite_with_nothing = true;
  ASSERT_TRUE(export_saveconfig(folder, backups, {}, noon, told).has_value());
  EXPECT_EQ(folder.text("saveconfig.json"), write_saveconfig({}));
  EXPECT_TRUE(export_saveconfig(folder, backups, {}, noon).has_value()) << "nothing over nothing";
}

TEST(Export, ALossOfPowerLeavesTheOldOrTheNewFile) {
  const std::string old_text = write_saveconfig(with_targets(1));
  const std::string new_text = write_saveconfig(with_targets(2));
  for (std::size_t power = 0;; ++power) {
    FakeFolder folder;
    FakeFolder backups;
    folder.put("saveconfig.json", old_text);
    folder.power = power;
    const bool answered = export_saveconfig(folder, backups, with_targets(2), noon).has_value();
    for (const auto data : {FakeFolder::Data::lost, FakeFolder::Data::kept, FakeFolder::Data::zeroed}) {
      for (const auto names : {FakeFolder::Names::lost, FakeFolder::Names::kept}) {
        const std::string found = folder.after_power_loss(data, names)->text("saveconfig.json");
        ASSERT_TRUE(found == new_text || (!answered && found == old_text)) << "power " << power;
      }
    }
    if (answered) break;
  }
}

// Of two folders, whatever is left of each: the text of before is in the file or in a whole backup, and the
// pruning has taken nothing but the oldest.
TEST(Export, ALossOfPowerWhileBackupsArePrunedLosesNoText) {
  const auto text_of = [](int count) { return write_saveconfig(with_targets(count)); };
  for (std::size_t power = 0;; ++power) {
    FakeFolder folder;
    FakeFolder backups;
    for (int i = 1; i <= 11; ++i)
      ASSERT_TRUE(export_saveconfig(folder, backups, with_targets(i), noon + seconds(i)).has_value());
    backups.power = power;  // all of its writes come before the first of the file
    const bool answered =
        export_saveconfig(folder, backups, with_targets(12), noon + seconds(12)).has_value();
    for (const auto data : {FakeFolder::Data::lost, FakeFolder::Data::kept, FakeFolder::Data::zeroed}) {
      for (const auto names : {FakeFolder::Names::lost, FakeFolder::Names::kept}) {
        const auto left = backups.after_power_loss(data, names);
        std::vector<std::string> texts{folder.text("saveconfig.json")};
        const auto files = left->list().value();
        for (const std::string& name : files) {
          if (!name.ends_with("-json.gz")) continue;  // what a write in progress has left
          const auto plain = gunzip(left->text(name), 1 << 20);
          ASSERT_TRUE(plain.has_value()) << name << " is damaged at power " << power;
          texts.push_back(*plain);
        }
        for (int i = 2; i <= 11; ++i) {
          ASSERT_TRUE(std::find(texts.begin(), texts.end(), text_of(i)) != texts.end())
              << "the configuration with " << i << " targets is nowhere at power " << power;
        }
        ASSERT_EQ(texts.front(), text_of(answered ? 12 : 11));
      }
    }
    if (answered) break;
    ASSERT_LT(power, 100000U);
  }
}

TEST(Export, ABackupOfAClockThatStandsOrGoesBackIsNotLost) {
  FakeFolder folder;
  FakeFolder backups;
  const std::chrono::local_seconds long_ago{seconds(60)};
  for (int i = 1; i <= 13; ++i) {
    const auto done = export_saveconfig(folder, backups, with_targets(i), i < 8 ? noon : long_ago);
    ASSERT_TRUE(done.has_value()) << done.error().message;
    if (i == 1) continue;
    EXPECT_EQ(gunzip(backups.text(done->backup), 1 << 20).value(), write_saveconfig(with_targets(i - 1)));
  }
  const auto names = backups.list().value();
  ASSERT_EQ(names.size(), 10U);
  EXPECT_EQ(names.front(), backup_name(noon + seconds(2)));
  EXPECT_EQ(names.back(), backup_name(noon + seconds(11)));
}

TEST(Export, WithoutABackupTheFileStays) {
  FakeFolder folder;
  FakeFolder backups;
  ASSERT_TRUE(export_saveconfig(folder, backups, with_targets(1), noon).has_value());
  backups.power = 1;
  const auto done = export_saveconfig(folder, backups, with_targets(2), noon);
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().message, HasSubstr("cannot keep a backup of saveconfig.json: "));
  EXPECT_EQ(folder.text("saveconfig.json"), write_saveconfig(with_targets(1)));
}

}  // namespace
}  // namespace perilune::control::targetd
