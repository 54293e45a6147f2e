// SPDX-License-Identifier: Apache-2.0
#include "scsi/unit_change.hpp"

#include <gtest/gtest.h>

#include "crypto/crc32c.hpp"

namespace perilune::scsi {
namespace {

DurableState full() {
  DurableState state;
  state.reservations.aptpl = true;
  state.reservations.registrations = {{{"iqn.a,i,0x000000000001", 1}, 0x1122334455667788, true},
                                      {{"iqn.b,i,0x000000000002", 7}, 1, false}};
  state.reservations.persistent =
      PersistentReservation{ReservationType::exclusive_access, {"iqn.b,i,0x000000000002", 7}};
  state.modes = ModeValues{.wce = false, .swp = true, .d_sense = true, .tas = true};
  state.identifying.information = {1, 2, 3};
  state.identifying.text = {'x', 0};
  return state;
}

// After a change of the record by hand.
std::vector<std::uint8_t> resealed(std::vector<std::uint8_t> record) {
  store_be32(&record[record.size() - 4],
             crypto::crc32c(crypto::crc32c_start, Bytes(record).first(record.size() - 4)));
  return record;
}

TEST(DurableState, IsReadBackAsItWasWritten) {
  const auto back = decode_durable_state(encode_durable_state(full()));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(*back, full());
  EXPECT_EQ(*decode_durable_state(encode_durable_state({})), DurableState{});
}

TEST(DurableState, HasThisFormat) {
  DurableState state;
  state.reservations.aptpl = true;
  state.reservations.registrations = {{{"p", 2}, 3, false}};
  const std::vector<std::uint8_t> body = {'P', 'L', 'U', 'R', 0, 1, 0, 0, 0, 0, 0, 27, 0x01, 0, 1, 0, 0, 0, 0,
                                          0, 0, 0, 3, 0, 0, 2, 0, 1, 'p',  // APTPL; one registration: key,
                                                                           // not of all ports, its nexus
                                          0, 0, 0, 0, 0,                   // no reservation
                                          0, 0, 0, 0, 0};  // no modes, no information, no text
  auto record = encode_durable_state(state);
  ASSERT_EQ(record.size(), body.size() + 4);
  record.resize(body.size());
  EXPECT_EQ(record, body);
}

TEST(DurableState, ThresholdsMakeItOfFormatThree) {
  DurableState state = full();
  state.modes->thresholds.single_initiator = true;
  state.modes->thresholds.list[2] = {.enabled = true, .count = 0x01020304};
  const auto record = encode_durable_state(state);
  EXPECT_EQ(record[5], 3);
  const std::vector<std::uint8_t> thresholds = {0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 0, 0, 0, 0, 0};
  EXPECT_EQ(std::vector<std::uint8_t>(record.end() - 4 - 21, record.end() - 4), thresholds);
  EXPECT_EQ(*decode_durable_state(record), state);
  state.modes->thresholds = {};
  EXPECT_EQ(encode_durable_state(state)[5], 1);  // as before there were any
}

TEST(DurableState, ADamagedRecordIsRefused) {
  const auto record = encode_durable_state(full());
  for (std::size_t i = 0; i < record.size(); ++i) {
    auto flipped = record;
    flipped[i] ^= 0x10;
    EXPECT_FALSE(decode_durable_state(flipped)) << "byte " << i;
    EXPECT_FALSE(decode_durable_state(Bytes(record).first(i))) << "cut at " << i;
  }
}

TEST(DurableState, AnotherVersionIsNamed) {
  auto record = encode_durable_state(full());
  record[5] = 4;
  const auto refused = decode_durable_state(resealed(record));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::unsupported);
  EXPECT_NE(refused.error().message.find("format 4"), std::string::npos);
}

TEST(DurableState, SealedNonsenseIsRefused) {
  const auto record = encode_durable_state(full());
  for (std::size_t i = 12; i < record.size() - 4;
       ++i) {  // whatever it says, nothing is read outside and nothing is made up
    for (const int value : {0x00, 0xff}) {
      auto changed = record;
      changed[i] = static_cast<std::uint8_t>(value);
      const auto back = decode_durable_state(resealed(changed));
      if (back) {
        EXPECT_EQ(*decode_durable_state(encode_durable_state(*back)), *back);
      }
    }
  }
  DurableState twice = full();
  twice.reservations.registrations[1].nexus = twice.reservations.registrations[0].nexus;
  twice.reservations.persistent.reset();
  EXPECT_FALSE(decode_durable_state(encode_durable_state(twice)));
  DurableState nobody = full();
  nobody.reservations.persistent->holder.target_port = 9;
  EXPECT_FALSE(decode_durable_state(encode_durable_state(nobody)));
  DurableState no_key = full();
  no_key.reservations.registrations[0].key = 0;
  EXPECT_FALSE(decode_durable_state(encode_durable_state(no_key)));
}

TEST(DurableState, SurvivesOnlyWithAptpl) {
  Reservations reservations = full().reservations;
  reservations.generation = 17;
  EXPECT_EQ(surviving(reservations), full().reservations);
  reservations.aptpl = false;
  EXPECT_EQ(surviving(reservations), Reservations{});
}

}  // namespace
}  // namespace perilune::scsi
