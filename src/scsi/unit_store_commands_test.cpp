// SPDX-License-Identifier: Apache-2.0
// What a unit keeps when it is told to: saved mode pages, identifying information.
#include <gtest/gtest.h>

#include "scsi/test_support.hpp"

namespace perilune::scsi {
namespace {

using namespace test;
using enum ScsiStatus;

class HeldStore final : public UnitStore {
 public:
  void save(std::vector<std::uint8_t> record, std::function<void(bool)> done) override {
    last = *decode_durable_state(record);
    done_ = std::move(done);
  }
  [[nodiscard]] bool waits() const { return static_cast<bool>(done_); }
  void answer(bool durable) {
    auto done = std::move(done_);
    done_ = nullptr;
    done(durable);
  }
  DurableState last;

 private:
  std::function<void(bool)> done_;
};

struct StoredRig {
  explicit StoredRig(DurableState durable = {}, bool cache = true, block::SpaceMeter* meter = nullptr)
      : channel(disk(cache)), device("iqn.x") {
    UnitConfig config = Rig::config();
    config.store = &store;
    config.durable = std::move(durable);
    config.space = meter;
    unit = *device.add_unit(0, std::move(config), channel);
    a.emplace(device, Rig::names("a"));
    b.emplace(device, Rig::names("b"));
    for (Nexus* nexus : {&*a, &*b}) Io(device, *nexus, {0, 0, 0, 0, 0, 0}).run();
  }
  static block::Geometry disk(bool cache) {
    auto geometry = FakeChannel::disk();
    geometry.write_cache = cache;
    return geometry;
  }
  Io select(std::vector<std::uint8_t> page, bool save) {
    std::vector<std::uint8_t> list(4);
    list.insert(list.end(), page.begin(), page.end());
    return Io(device, *a,
              {0x15, static_cast<std::uint8_t>(save ? 0x11 : 0x10), 0, 0,
               static_cast<std::uint8_t>(list.size()), 0},
              list);
  }
  std::vector<std::uint8_t> sense(std::uint8_t control, std::uint8_t page) {
    Io io(device, *a, {0x1a, 0x08, static_cast<std::uint8_t>(control << 6 | page), 0, 255, 0}, {}, 255);
    EXPECT_EQ(io.run().status(), good);
    auto data = io.data_in();
    data.erase(data.begin(), data.begin() + 4);
    return data;
  }
  HeldStore store;
  FakeChannel channel;
  Device device;
  LogicalUnit* unit = nullptr;
  std::optional<Nexus> a, b;
};

std::vector<std::uint8_t> caching(bool wce) {
  std::vector<std::uint8_t> page(20);
  page[0] = 0x08;
  page[1] = 18;
  page[2] = wce ? 0x04 : 0;
  return page;
}
std::vector<std::uint8_t> control(bool d_sense) {
  std::vector<std::uint8_t> page{0x0a, 10, 0, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0};
  if (d_sense) page[2] = 0x04;
  return page;
}

TEST(SavedPages, AreDurableBeforeGoodAndAreReportedApart) {
  StoredRig rig;
  Io io = rig.select(control(true), true);
  io.run();
  EXPECT_FALSE(io.ended);
  EXPECT_FALSE(rig.unit->descriptor_sense());
  rig.store.answer(true);
  EXPECT_TRUE(io.ended);
  EXPECT_EQ(io.status(), good);
  EXPECT_TRUE(rig.store.last.modes->d_sense);
  Io current = rig.select(control(false), false);
  EXPECT_EQ(current.run().status(), good);
  EXPECT_EQ(rig.sense(0, 0x0a)[2] & 0x04, 0);
  EXPECT_EQ(rig.sense(2, 0x0a)[2] & 0x04, 0);
  EXPECT_EQ(rig.sense(3, 0x0a)[2] & 0x04, 0x04);
}

TEST(SavedPages, PsTellsWhichPagesCanBeSaved) {
  StoredRig rig;
  for (const std::uint8_t pc : std::initializer_list<std::uint8_t>{0, 1, 2, 3}) {
    EXPECT_EQ(rig.sense(pc, 0x08)[0], 0x88);
    EXPECT_EQ(rig.sense(pc, 0x0a)[0], 0x8a);
    EXPECT_EQ(rig.sense(pc, 0x1c)[0], 0x1c);
  }
  StoredRig through({}, false);  // without a cache there is nothing to change
  EXPECT_EQ(through.sense(0, 0x08)[0], 0x08);
  Rig unsaved;
  Io io = unsaved.io({0x1a, 0x08, 0x0a, 0, 255, 0}, {}, 255);
  io.run();
  EXPECT_EQ(io.data_in()[4], 0x0a);
}

TEST(SavedPages, SavingWithoutAListSavesWhatIsThere) {
  StoredRig rig;
  EXPECT_EQ(rig.select(control(true), false).run().status(), good);
  Io io(rig.device, *rig.a, {0x15, 0x11, 0, 0, 0, 0});
  io.run();
  ASSERT_TRUE(rig.store.waits());
  rig.store.answer(true);
  EXPECT_EQ(io.status(), good);
  EXPECT_TRUE(rig.store.last.modes->d_sense);
}

TEST(SavedPages, AStoreThatFailsChangesNothing) {
  StoredRig rig;
  Io io = rig.select(control(true), true);
  io.run();
  rig.store.answer(false);
  EXPECT_EQ(io.status(), check_condition);
  EXPECT_EQ(io.sense(), 0x044400u);
  EXPECT_FALSE(rig.unit->descriptor_sense());
  EXPECT_EQ(rig.sense(3, 0x0a)[2], 0);
}

TEST(SavedPages, CountAtPowerOnAndAfterAReset) {
  DurableState durable;
  durable.modes = ModeValues{.wce = false, .swp = false, .d_sense = true, .tas = false};
  StoredRig rig(durable);
  EXPECT_TRUE(rig.unit->descriptor_sense());
  EXPECT_FALSE(rig.unit->write_cache_enabled());
  EXPECT_EQ(rig.select(control(false), false).run().status(), good);
  EXPECT_EQ(rig.select(caching(true), false).run().status(), good);
  TaskManagement reset;
  reset.function = TmFunction::lun_reset;
  reset.nexus = &*rig.a;
  EXPECT_TRUE(rig.device.manage(reset));
  EXPECT_TRUE(rig.unit->descriptor_sense());
  EXPECT_FALSE(rig.unit->write_cache_enabled());
}

TEST(SavedPages, AUnitWithoutACacheDoesNotGetOneFromItsRecord) {
  DurableState durable;
  durable.modes = ModeValues{.wce = true, .swp = false, .d_sense = false, .tas = false};
  StoredRig rig(durable, false);
  EXPECT_FALSE(rig.unit->write_cache_enabled());
}

TEST(SavedPages, TheCacheIsFlushedBeforeItIsSavedAsOff) {
  StoredRig rig;
  rig.channel.hold = true;
  Io io = rig.select(caching(false), true);
  io.run();
  ASSERT_EQ(rig.channel.kinds, std::vector{block::OpKind::flush});
  EXPECT_FALSE(rig.store.waits());
  rig.channel.release_all();
  EXPECT_TRUE(rig.unit->write_cache_enabled());
  rig.store.answer(true);
  EXPECT_EQ(io.status(), good);
  EXPECT_FALSE(rig.unit->write_cache_enabled());
}

// ---- identifying information

std::vector<std::uint8_t> set_cdb(std::uint8_t type, std::uint32_t length) {
  std::vector<std::uint8_t> cdb{0xa4, 0x06, 0, 0, 0, 0, 0, 0, 0, 0, static_cast<std::uint8_t>(type << 1), 0};
  store_be32(&cdb[6], length);
  return cdb;
}
std::vector<std::uint8_t> report(StoredRig& rig, std::uint8_t type) {
  Io io(rig.device, *rig.a, {0xa3, 0x05, 0, 0, 0, 0, 0, 0, 4, 0, static_cast<std::uint8_t>(type << 1), 0}, {},
        1024);
  EXPECT_EQ(io.run().status(), good);
  return io.data_in();
}

TEST(IdentifyingInformation, IsKeptAndReported) {
  StoredRig rig;
  EXPECT_EQ(report(rig, 0), (std::vector<std::uint8_t>{0, 0, 0, 0}));
  Io io(rig.device, *rig.a, set_cdb(0, 3), {7, 8, 9});
  io.run();
  EXPECT_FALSE(io.ended);
  EXPECT_EQ(report(rig, 0), (std::vector<std::uint8_t>{0, 0, 0, 0}));
  rig.store.answer(true);
  EXPECT_EQ(io.status(), good);
  EXPECT_EQ(report(rig, 0), (std::vector<std::uint8_t>{0, 0, 0, 3, 7, 8, 9}));
  EXPECT_EQ(report(rig, 2), (std::vector<std::uint8_t>{0, 0, 0, 0}));
  EXPECT_EQ(rig.store.last.identifying.information, (std::vector<std::uint8_t>{7, 8, 9}));
  Io told(rig.device, *rig.b, {0, 0, 0, 0, 0, 0});
  told.run();
  EXPECT_EQ(told.sense(), 0x063f05u);
  Io erased(rig.device, *rig.a, set_cdb(0, 0));
  erased.run();
  rig.store.answer(true);
  EXPECT_EQ(report(rig, 0), (std::vector<std::uint8_t>{0, 0, 0, 0}));
}

TEST(IdentifyingInformation, TellsTheTypesItKnows) {
  StoredRig rig;
  EXPECT_EQ(report(rig, 0x7f), (std::vector<std::uint8_t>{0, 0, 0, 8, 0, 0, 2, 0, 4, 0, 1, 0}));
}

TEST(IdentifyingInformation, TextEndsWithANul) {
  StoredRig rig;
  for (const std::vector<std::uint8_t>& text :
       {std::vector<std::uint8_t>{'a', 'b'}, std::vector<std::uint8_t>{'a', 0, 'b', 0}}) {
    Io io(rig.device, *rig.a, set_cdb(2, static_cast<std::uint32_t>(text.size())), text);
    EXPECT_EQ(io.run().status(), check_condition);
    EXPECT_EQ(io.sense(), 0x052600u);
  }
  Io io(rig.device, *rig.a, set_cdb(2, 3), {'a', 'b', 0});
  io.run();
  rig.store.answer(true);
  EXPECT_EQ(report(rig, 2), (std::vector<std::uint8_t>{0, 0, 0, 3, 'a', 'b', 0}));
}

TEST(IdentifyingInformation, LengthsAndTypesAreChecked) {
  StoredRig rig;
  const auto refused = [&](std::uint8_t type, std::uint32_t length, std::uint32_t wanted) {
    Io io(rig.device, *rig.a, set_cdb(type, length), bytes(std::min(length, 600u), 'x'));
    EXPECT_EQ(io.run().status(), check_condition);
    EXPECT_EQ(io.sense(), wanted) << int{type} << " " << length;
  };
  refused(0, 513, 0x052400);
  refused(2, 257, 0x052400);
  refused(0, 0xffffffff, 0x052400);
  refused(0x7f, 4, 0x052400);
  refused(1, 4, 0x052400);
  Io less(rig.device, *rig.a, set_cdb(0, 8), bytes(4, 'x'));
  EXPECT_EQ(less.run().sense(), 0x051a00u);
}

TEST(IdentifyingInformation, IsNotOfferedWhereNothingIsKept) {
  Rig rig;
  EXPECT_EQ(rig.io({0xa3, 0x05, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0}, {}, 64).run().status(), check_condition);
  EXPECT_EQ(rig.io(set_cdb(0, 1), {1}).run().status(), check_condition);
}

TEST(SavedPages, ThresholdsOfThinProvisioningComeBackAfterAResetAndAStart) {
  FakeMeter meter;
  meter.set(0, 1 << 30);
  DurableState kept;
  {
    StoredRig rig({}, true, &meter);
    std::vector<std::uint8_t> page(48);
    page[0] = 0x5c;
    page[1] = 0x02;
    page[3] = 44;
    page[16] = 0x80;
    page[17] = page[25] = 1;
    page[23] = 9;  // the first: available, at nine
    page[32] = page[40] = 1;
    page[33] = page[41] = 2;
    Io save = rig.select(page, true);
    save.run();
    rig.store.answer(true);
    ASSERT_EQ(save.status(), good);
    TaskManagement reset;
    reset.function = TmFunction::lun_reset;
    reset.nexus = &*rig.a;
    ASSERT_TRUE(rig.device.manage(reset));
    EXPECT_TRUE(rig.unit->modes().thresholds.list[0].enabled);
    kept = rig.store.last;
  }
  StoredRig again(*decode_durable_state(encode_durable_state(kept)), true, &meter);
  EXPECT_EQ(again.unit->modes().thresholds.list[0], (Threshold{.enabled = true, .count = 9}));
  meter.set(0, 8 << 20);
  again.device.space_measured(0);
  EXPECT_EQ(Io(again.device, *again.b, {0, 0, 0, 0, 0, 0}).run().sense(), 0x063807u);
}

}  // namespace
}  // namespace perilune::scsi
