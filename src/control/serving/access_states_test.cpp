// SPDX-License-Identifier: Apache-2.0
#include "control/serving/access_states.hpp"

#include <gtest/gtest.h>

#include <deque>

#include "runtime/native/native_loop.hpp"

namespace perilune::control::serving {
namespace {

using scsi::AccessState;
using scsi::PortGroup;

// Puts wait until the test answers them, in their order.
class Records final : public runtime::RecordWriter {
 public:
  Result<std::vector<std::uint8_t>> get(std::string_view name) override {
    const auto at = stored.find(std::string(name));
    if (at == stored.end()) return fail(Errc::not_found, "none");
    return at->second;
  }
  void put(runtime::Loop&, std::string name, std::vector<std::uint8_t> value,
           std::function<void(Status)> done) override {
    puts.push_back(
        [this, name = std::move(name), value = std::move(value), done = std::move(done)](bool well) {
          if (well) stored[name] = value;
          done(well ? Status() : fail(Errc::io, "the disk is broken"));
        });
  }
  void answer(bool well = true) {
    const auto put = std::move(puts.front());
    puts.pop_front();
    put(well);
  }
  std::map<std::string, std::vector<std::uint8_t>> stored;
  std::deque<std::function<void(bool)>> puts;
};

class AccessStatesTest : public testing::Test {
 protected:
  AccessStatesTest() : loop(std::move(*runtime::make_native_loop(runtime::Runtime::epoll, {}))) {}
  void keep(std::uint16_t group, AccessState state) {
    AccessStates::keep(states, *loop, {PortGroup{.id = group, .state = state, .ports = {}}}, "iqn.a",
                       [this](bool kept) { answers.push_back(kept); });
  }
  void take_up(const AccessStates::Kept& kept) {
    states->taken_up(*loop, kept, [this](const Status& status) { taken_up.push_back(status.has_value()); });
  }
  AccessStates::States read() { return AccessStates::read(records, "alua-a").value(); }

  Records records;
  std::unique_ptr<runtime::Loop> loop;
  int heard = 0;
  std::vector<bool> answers, taken_up;
  std::shared_ptr<AccessStates> states =
      std::make_shared<AccessStates>(records, "alua-a", [this] { ++heard; });
};

TEST_F(AccessStatesTest, ACommandEndsWhenTheRecordHasIt) {
  EXPECT_TRUE(read().empty());
  keep(0, AccessState::standby);
  keep(7, AccessState::unavailable);
  EXPECT_TRUE(answers.empty());
  EXPECT_TRUE(states->kept().states.empty());
  records.answer();
  EXPECT_EQ(answers, std::vector<bool>{true});
  EXPECT_EQ(read(), (AccessStates::States{{0, AccessState::standby}}));
  records.answer();
  EXPECT_EQ(heard, 2);
  EXPECT_EQ(read(), (AccessStates::States{{0, AccessState::standby}, {7, AccessState::unavailable}}));
  EXPECT_EQ(states->kept().states, read());
  EXPECT_EQ(states->kept().initiator, "iqn.a");
}

TEST_F(AccessStatesTest, TheRecordIsEmptyWhenTheConfigurationHasAllOfIt) {
  keep(0, AccessState::standby);
  records.answer();
  const auto before = states->kept();
  keep(0, AccessState::active_optimized);  // comes while that is taken up
  take_up(before);
  records.answer();
  EXPECT_TRUE(taken_up.empty());
  records.answer();
  EXPECT_EQ(taken_up, std::vector<bool>{true});
  EXPECT_EQ(read(), (AccessStates::States{{0, AccessState::active_optimized}}))
      << "what was on its way is not in the configuration";
  take_up(states->kept());
  EXPECT_TRUE(states->kept().states.empty());
  records.answer();
  EXPECT_EQ(taken_up, (std::vector<bool>{true, true}));
  EXPECT_TRUE(read().empty());
}

// An operator may set the group that was taken up; a command for another group does not bring it back.
TEST_F(AccessStatesTest, WhatIsTakenUpDoesNotComeWithWhatIsSetLater) {
  keep(0, AccessState::standby);
  records.answer();
  const auto before = states->kept();
  keep(7, AccessState::unavailable);
  take_up(before);
  records.answer();
  records.answer();
  EXPECT_EQ(states->kept().states, (AccessStates::States{{7, AccessState::unavailable}}));
  EXPECT_EQ(read(), states->kept().states);
}

// Two loops have put; the second hears first that its record is durable.
TEST_F(AccessStatesTest, TheLastCommandCountsInWhateverOrderLoopsHear) {
  keep(0, AccessState::standby);
  keep(0, AccessState::unavailable);
  std::swap(records.puts[0], records.puts[1]);
  records.answer();
  EXPECT_EQ(states->kept().states, (AccessStates::States{{0, AccessState::unavailable}}));
  take_up(states->kept());
  records.answer();
  EXPECT_TRUE(states->kept().states.empty()) << "an older command has come back";
  records.answer();
  EXPECT_TRUE(read().empty());
  EXPECT_EQ(answers, (std::vector<bool>{true, true}));
}

TEST_F(AccessStatesTest, ARecordThatCannotBeEmptiedIsAnError) {
  keep(0, AccessState::standby);
  records.answer();
  take_up(states->kept());
  records.answer(false);
  EXPECT_EQ(taken_up, std::vector<bool>{false});
}

TEST_F(AccessStatesTest, WhatCouldNotBeKeptIsNotTakenUpAndNotKeptLater) {
  keep(0, AccessState::standby);
  records.answer(false);
  EXPECT_EQ(answers, std::vector<bool>{false});
  EXPECT_EQ(heard, 0);
  EXPECT_TRUE(states->kept().states.empty());
  keep(7, AccessState::unavailable);
  records.answer();
  EXPECT_EQ(read(), (AccessStates::States{{7, AccessState::unavailable}}));
}

TEST_F(AccessStatesTest, ADamagedRecordIsAnError) {
  keep(3, AccessState::standby);
  records.answer();
  const auto whole = records.stored["alua-a"];
  for (std::size_t i = 0; i < whole.size(); ++i) {
    auto damaged = whole;
    damaged[i] ^= 1;
    records.stored["alua-a"] = damaged;
    EXPECT_EQ(AccessStates::read(records, "alua-a").error().code, Errc::io) << i;
    if (i == 0) continue;
    records.stored["alua-a"].assign(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(i));
    EXPECT_EQ(AccessStates::read(records, "alua-a").error().code, Errc::io) << i;
  }
}

}  // namespace
}  // namespace perilune::control::serving
