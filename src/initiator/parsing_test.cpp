// SPDX-License-Identifier: Apache-2.0
// URLs, SendTargets answers, INQUIRY and VPD pages, LUN numbers: texts and bytes that come from elsewhere.
#include <gtest/gtest.h>

#include "initiator/discovery.hpp"
#include "initiator/inquiry.hpp"
#include "initiator/sense.hpp"
#include "initiator/url.hpp"

namespace perilune::initiator {
namespace {

const Environment empty = [](const char*) -> const char* { return nullptr; };

std::string_view secret_text(const crypto::Secret& secret) { return as_text(secret.reveal()); }

TEST(Url, ReadsEveryPart) {
  auto url = parse_url(
      "iscsi://alice%secret!word12@192.0.2.1:3261/iqn.2001-04.com.example:disk/"
      "5?header_digest=crc32c&data_digest=none"
      "&target_user=t%C3%BCr&target_password=other%2Dsecret1&auth=sha-256&force_usn=7&connections=3&error_"
      "recovery_level=2",
      empty);
  ASSERT_TRUE(url) << url.error().message;
  EXPECT_EQ(url->host, "192.0.2.1");
  EXPECT_EQ(url->port, 3261);
  EXPECT_EQ(url->target, "iqn.2001-04.com.example:disk");
  EXPECT_EQ(url->lun, 5u);
  EXPECT_EQ(url->header_digest, DigestPreference::crc32c);
  EXPECT_EQ(url->data_digest, DigestPreference::none);
  ASSERT_TRUE(url->chap);
  EXPECT_EQ(url->chap->user, "alice");
  EXPECT_EQ(secret_text(url->chap->secret), "secret!word12");
  EXPECT_EQ(url->chap->mutual_user, "t\xc3\xbcr");
  EXPECT_EQ(secret_text(url->chap->mutual_secret), "other-secret1");
  EXPECT_EQ(url->chap->algorithms, std::vector<std::uint8_t>{7});
  SessionConfig config;
  url->apply_to(config);
  EXPECT_EQ(config.max_connections, 3);
  EXPECT_EQ(config.error_recovery_level, 2);
  EXPECT_GT(config.default_time2retain, 0) << "without it no connection can be recovered";
}

TEST(Url, PasswordsMayHoldSlashAndAt) {
  auto url = parse_url("iscsi://alice%a/b@c@host/iqn.2001-04.com.example:disk/0", empty);
  ASSERT_TRUE(url) << url.error().message;
  EXPECT_EQ(secret_text(url->chap->secret), "a/b@c");
  EXPECT_EQ(url->host, "host");
}

TEST(Url, PortalAndTargetFormsLeaveTheRestOut) {
  auto portal = parse_url("iscsi://[2001:db8::1]", empty);
  ASSERT_TRUE(portal);
  EXPECT_EQ(portal->host, "2001:db8::1");
  EXPECT_EQ(portal->port, 3260);
  EXPECT_EQ(portal->target, "");
  EXPECT_FALSE(portal->lun);
  EXPECT_FALSE(portal->chap);
  auto target = parse_url("iscsi://[fe80::1%2]:3999/iqn.2001-04.com.example:disk", empty);
  ASSERT_TRUE(target);
  EXPECT_EQ(target->host, "fe80::1%2");
  EXPECT_EQ(target->port, 3999);
  EXPECT_FALSE(target->lun);
}

TEST(Url, SecretsComeFromTheEnvironmentWhenTheUrlHasNone) {
  const Environment environment = [](const char* name) -> const char* {
    const std::string_view n(name);
    if (n == "LIBISCSI_CHAP_USERNAME") return "bob";
    if (n == "LIBISCSI_CHAP_PASSWORD") return "bobs-secret-1";
    if (n == "LIBISCSI_CHAP_TARGET_USERNAME") return "target";
    if (n == "LIBISCSI_CHAP_TARGET_PASSWORD") return "its-secret-12";
    return nullptr;
  };
  auto url = parse_url("iscsi://host/iqn.2001-04.com.example:disk/0", environment);
  ASSERT_TRUE(url && url->chap);
  EXPECT_EQ(url->chap->user, "bob");
  EXPECT_EQ(secret_text(url->chap->secret), "bobs-secret-1");
  EXPECT_EQ(url->chap->mutual_user, "target");
  EXPECT_EQ(secret_text(url->chap->mutual_secret), "its-secret-12");
  auto own = parse_url("iscsi://alice%alices-secret@host/iqn.2001-04.com.example:disk/0", environment);
  ASSERT_TRUE(own && own->chap);
  EXPECT_EQ(own->chap->user, "alice");
  EXPECT_EQ(secret_text(own->chap->secret), "alices-secret");
}

TEST(Url, RefusesWhatIsNoneAndNeverRepeatsTheSecret) {
  for (const char* text : {"",
                           "http://host/",
                           "iscsi://",
                           "iscsi:///iqn.2001-04.com.example:disk/0",
                           "iscsi://u%topsecret12@:3260/",
                           "iscsi://u%topsecret12@host:0/",
                           "iscsi://u%topsecret12@host:65536/",
                           "iscsi://u%topsecret12@host:12x/",
                           "iscsi://u%topsecret12@host:/",
                           "iscsi://u%topsecret12@[::1/",
                           "iscsi://u%topsecret12@[::1]x/",
                           "iscsi://u%topsecret12@host/disk/0",
                           "iscsi://u%topsecret12@host/iqn.2001-04.com.example:d/x",
                           "iscsi://u%topsecret12@host/iqn.2001-04.com.example:d/-1",
                           "iscsi://u%topsecret12@host/iqn.2001-04.com.example:d/16777216",
                           "iscsi://u%topsecret12@host/?connections=0",
                           "iscsi://u%topsecret12@host/?connections=17",
                           "iscsi://u%topsecret12@host/?error_recovery_level=3",
                           "iscsi://u%topsecret12@host/?connections=",
                           "iscsi://u%topsecret12@host/?header_digest=md5",
                           "iscsi://u%topsecret12@host/?auth=rot13"}) {
    auto url = parse_url(text, empty);
    ASSERT_FALSE(url) << text;
    EXPECT_EQ(url.error().code, Errc::invalid_argument) << text;
    EXPECT_EQ(url.error().message.find("topsecret"), std::string::npos) << text;
  }
}

TEST(Resolve, TakesNumericAddressesAsTheyAre) {
  auto v4 = resolve("192.0.2.7", 3261);
  ASSERT_TRUE(v4);
  EXPECT_EQ((*v4)[0].to_string(), "192.0.2.7:3261");
  auto v6 = resolve("2001:db8::7", 3260);
  ASSERT_TRUE(v6);
  EXPECT_EQ((*v6)[0].to_string(), "[2001:db8::7]:3260");
}

// --- SendTargets
// ---------------------------------------------------------------------------------------------------

const runtime::Endpoint asked = *runtime::Endpoint::parse("192.0.2.1:3262", 3260);

Result<std::vector<DiscoveredTarget>> parse(std::string text) {
  for (char& c : text) c = c == '|' ? '\0' : c;
  return parse_send_targets(as_bytes(text), asked);
}

TEST(SendTargets, ReadsTargetsWithAllTheirPortals) {
  auto found = parse(
      "TargetName=iqn.2001-04.com.example:a|TargetAddress=192.0.2.1:3260,1|TargetAddress=[2001:db8::1]:3261,"
      "2|"
      "TargetName=iqn.2001-04.com.example:b|TargetName=eui.02004567a425678d|TargetAddress=storage.example,"
      "3|");
  ASSERT_TRUE(found) << found.error().message;
  ASSERT_EQ(found->size(), 3u);
  ASSERT_EQ((*found)[0].portals.size(), 2u);
  EXPECT_EQ((*found)[0].portals[1].address, "2001:db8::1");
  EXPECT_EQ((*found)[0].portals[1].port, 3261);
  EXPECT_EQ((*found)[0].portals[1].portal_group_tag, 2);
  ASSERT_EQ((*found)[1].portals.size(), 1u);   // none was named: the one that was asked
  EXPECT_EQ((*found)[1].portals[0].address, "192.0.2.1");
  EXPECT_EQ((*found)[1].portals[0].port, 3262);
  EXPECT_EQ((*found)[2].portals[0].address, "storage.example");
  EXPECT_EQ((*found)[2].portals[0].port, 3260);
}

TEST(SendTargets, AnEmptyAnswerIsNoTarget) {
  auto found = parse_send_targets({}, asked);
  ASSERT_TRUE(found);
  EXPECT_TRUE(found->empty());
}

TEST(SendTargets, LeavesOutAddressesThatCannotBeRead) {
  auto found = parse(
      "TargetName=iqn.2001-04.com.example:a|TargetAddress=|TargetAddress=192.0.2.1:99999,1|TargetAddress=[::"
      "1,1|"
      "TargetAddress=a "
      "b,1|TargetAddress=$(reboot),1|TargetAddress=192.0.2.9:3260,x|TargetAddress=192.0.2.2:3260,1|");
  ASSERT_TRUE(found) << found.error().message;
  ASSERT_EQ((*found)[0].portals.size(), 1u);
  EXPECT_EQ((*found)[0].portals[0].address, "192.0.2.2");
}

TEST(SendTargets, RefusesNamesThatAreNoneAndAddressesOfNobody) {
  EXPECT_FALSE(parse("TargetName=../../etc/passwd|"));
  EXPECT_FALSE(parse("TargetName=iqn.2001-04.com.example:a\n|"));
  EXPECT_FALSE(parse("TargetAddress=192.0.2.1:3260,1|"));
  EXPECT_FALSE(parse("TargetName=iqn.2001-04.com.example:a"));
  EXPECT_FALSE(parse("nonsense|"));
}

TEST(SendTargets, TheNumberOfPortalsIsBounded) {
  std::string text = "TargetName=iqn.2001-04.com.example:a|";
  for (int i = 0; i < 300; ++i) text += "TargetAddress=192.0.2.1:3260,1|";
  auto found = parse(text);
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, Errc::limit);
}

// --- what a unit says
// ----------------------------------------------------------------------------------------------

TEST(Inquiry, PagesWhoseLengthLiesAreCutWhereTheBytesEnd) {
  const std::vector<std::uint8_t> page = {0, 0x83, 0xff, 0xff, 1, 3, 0, 200, 0x60, 1};
  EXPECT_EQ(vpd_end(page, 0x83), page.size());
  EXPECT_EQ(vpd_end(page, 0x80), 0u);
  EXPECT_EQ(wwid_of(page), "");
  UnitInfo info;
  info.vpd83 = page;
  info.vpd80 = {0, 0x80, 0, 0};
  info.vpd_b0 = {0, 0xb0, 0, 1, 0};
  info.vpd_b2 = {0, 0xb2, 0};
  parse_vpd(info);
  EXPECT_EQ(info.wwid, "");
  EXPECT_EQ(info.geometry.max_transfer_blocks, 0u);
}

TEST(Inquiry, ChoosesTheBestDesignatorOfTheUnit) {
  // Relative port (association 1), T10, NAA 3, NAA 6.
  const std::vector<std::uint8_t> page = {0, 0x83, 0, 56,
      0x51, 0x93, 0, 8, 0x60, 0, 0, 0, 0, 0, 0, 9,
      0x02, 0x01, 0, 4, 'I', 'E', 'T', ' ',
      0x01, 0x03, 0, 8, 0x30, 0, 0, 0, 0, 0, 0, 1,
      0x01, 0x03, 0, 16, 0x60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
  EXPECT_EQ(wwid_of(page), "naa.60000000000000000000000000000002");
}

TEST(Inquiry, TextFromAUnitIsMadePrintable) {
  const std::vector<std::uint8_t> text = {' ', 'A', 0x1b, '[', 0, 0xff, 'B', ' ', 0};
  EXPECT_EQ(printable(text), "A_[ _B");
}

std::vector<std::uint8_t> capacity16(std::uint64_t last, std::uint32_t block, std::uint8_t exponent = 0,
                                     std::uint8_t thin = 0) {
  std::vector<std::uint8_t> out(32);
  store_be64(out.data(), last);
  store_be32(out.data() + 8, block);
  out[13] = exponent;
  out[14] = thin;
  return out;
}

TEST(Capacity, IsTakenWhenItIsPossible) {
  UnitInfo info;
  info.unmap = true;
  ASSERT_TRUE(parse_capacity16(capacity16(0x1ffffffff, 512, 3, 0xc0), info));
  EXPECT_EQ(info.geometry.blocks.value(), 0x200000000u);
  EXPECT_EQ(info.geometry.physical_block_size_bytes, 4096u);
  EXPECT_TRUE(info.geometry.thin);
  EXPECT_TRUE(info.geometry.unmap_zeroes);
}

TEST(Capacity, IsRefusedWhenItIsALie) {
  UnitInfo info;
  EXPECT_FALSE(parse_capacity16(capacity16(~std::uint64_t{0}, 512), info));
  EXPECT_FALSE(parse_capacity16(capacity16(~std::uint64_t{0} - 1, 512), info));
  EXPECT_FALSE(parse_capacity16(capacity16(100, 0), info));
  EXPECT_FALSE(parse_capacity16(capacity16(100, 520), info));
  EXPECT_FALSE(parse_capacity16(capacity16(100, 0xffffffff), info));
  EXPECT_FALSE(parse_capacity16(std::vector<std::uint8_t>(11), info));
  EXPECT_FALSE(parse_capacity10(std::vector<std::uint8_t>{0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0}, info));
}

TEST(ModeSense, CachingPageAndDeviceSpecificBits) {
  UnitInfo info;
  parse_mode6(std::vector<std::uint8_t>{23, 0, 0x90, 0, 0x08, 0x12, 0x04}, info);
  EXPECT_TRUE(info.geometry.read_only);
  EXPECT_TRUE(info.dpo_fua);
  EXPECT_TRUE(info.geometry.write_cache);
  // With a block descriptor that DBD did not suppress.
  parse_mode6(std::vector<std::uint8_t>{31, 0, 0x10, 8, 0, 0, 0, 0, 0, 0, 2, 0, 0x08, 0x12, 0x00}, info);
  EXPECT_FALSE(info.geometry.read_only);
  EXPECT_FALSE(info.geometry.write_cache);
  // A descriptor length that leads out of the data changes nothing.
  info.geometry.write_cache = true;
  parse_mode6(std::vector<std::uint8_t>{31, 0, 0x10, 200, 0x08, 0x12, 0x00}, info);
  EXPECT_TRUE(info.geometry.write_cache);
  parse_mode10(std::vector<std::uint8_t>{0, 26, 0, 0x10, 0, 0, 0, 0, 0x08, 0x12, 0x00}, info);
  EXPECT_FALSE(info.geometry.write_cache);
}

TEST(Lun, NumbersAndTheirEightBytes) {
  EXPECT_EQ(lun_bytes(0), 0u);
  EXPECT_EQ(lun_bytes(5), 0x0005000000000000u);
  EXPECT_EQ(lun_bytes(256), 0x4100000000000000u);
  EXPECT_EQ(lun_bytes(20000), 0xd2004e2000000000u);
  for (std::uint64_t n : {std::uint64_t{0}, std::uint64_t{255}, std::uint64_t{256}, std::uint64_t{16383},
                          std::uint64_t{16384}, std::uint64_t{0xffffff}}) {
    EXPECT_EQ(lun_number(lun_bytes(n)), n);
  }
  EXPECT_EQ(lun_number(0x4005000000000000), 5u);
  EXPECT_EQ(lun_number(0xc101000000000000), 0xc101000000000000u);  // the well known REPORT LUNS unit
}

TEST(Sense, BothFormatsAndNoneAtAll) {
  const auto fixed = decode_sense(std::vector<std::uint8_t>{0xf0, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 1, 0, 0, 0, 0});
  EXPECT_EQ(fixed.key, 6);
  EXPECT_EQ(fixed.code(), 0x2901);
  const auto descriptor = decode_sense(std::vector<std::uint8_t>{0x72, 5, 0x24, 0, 0, 0, 0, 0});
  EXPECT_EQ(descriptor.key, 5);
  EXPECT_EQ(descriptor.code(), 0x2400);
  EXPECT_EQ(decode_sense({}).key, 0);
  EXPECT_EQ(decode_sense(std::vector<std::uint8_t>{0x70}).key, 0);
  EXPECT_EQ(decode_sense(std::vector<std::uint8_t>{0x7f, 1, 2, 3}).key, 0);
}

}  // namespace
}  // namespace perilune::initiator
