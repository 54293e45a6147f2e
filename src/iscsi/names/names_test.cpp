// SPDX-License-Identifier: Apache-2.0
#include "iscsi/names/names.hpp"

#include <gtest/gtest.h>

namespace perilune::iscsi {
namespace {

TEST(Names, ValidNamesBecomeLowerCase) {
  EXPECT_EQ(*normalize_name("iqn.2001-04.com.Example:Storage:disk2.sys1.XYZ"),
            "iqn.2001-04.com.example:storage:disk2.sys1.xyz");
  EXPECT_EQ(*normalize_name("iqn.2001-04.com.example"), "iqn.2001-04.com.example");
  EXPECT_EQ(*normalize_name("eui.02004567A425678D"), "eui.02004567a425678d");
  EXPECT_EQ(*normalize_name("naa.52004567BA64678D"), "naa.52004567ba64678d");
  EXPECT_EQ(*normalize_name("naa.62004567BA64678D0123456789ABCDEF"), "naa.62004567ba64678d0123456789abcdef");
  EXPECT_EQ(*normalize_name("iqn.1991-05.com.microsoft:host_name"), "iqn.1991-05.com.microsoft:host_name");
  EXPECT_EQ(*normalize_name("iqn.2010-04.org.ipxe:00000000-0000"), "iqn.2010-04.org.ipxe:00000000-0000");
}

TEST(Names, RefusesEverythingElse) {
  const std::string limit = "iqn.2026-11.io.x:" + std::string(223 - 17, 'a');
  EXPECT_TRUE(normalize_name(limit).has_value());
  for (const std::string& bad : {std::string(""),
                                 std::string("bob"),
                                 std::string("iqn."),
                                 std::string("iqn.2026-11"),
                                 std::string("iqn.2026-11."),
                                 std::string("iqn.2026-13.com.x"),
                                 std::string("iqn.2026-00.com.x"),
                                 std::string("iqn.20a6-01.com.x"),
                                 std::string("iqn.2026-1.com.x"),
                                 std::string("iqn.2026-11.:x"),
                                 std::string("iqn.2026-11.com..x"),
                                 std::string("iqn.2026-11.com.:x"),
                                 std::string("iqn.2026-11.-com:x"),
                                 std::string("eui.02004567A425678"),
                                 std::string("eui.02004567A425678DD"),
                                 std::string("eui.02004567A425678G"),
                                 std::string("naa.5200"),
                                 std::string("iqn.2026-11.io.x:a b"),
                                 std::string("iqn.2026-11.io.x:a/b"),
                                 std::string("iqn.2026-11.io.x:%41"),
                                 std::string("iqn.2026-11.io.x:\xc3\x84"),
                                 std::string("iqn.2026-11.io.x:a\n"),
                                 std::string("iqn.2026-11.io.x:a\0b", 20),
                                 limit + "a"}) {
    const auto name = normalize_name(bad);
    ASSERT_FALSE(name.has_value()) << bad;
    EXPECT_EQ(name.error().code, Errc::invalid_argument) << bad;
  }
}

TEST(Names, TypesAreTold) {
  EXPECT_EQ(name_type("iqn.2001-04.com.example"), NameType::iqn);
  EXPECT_EQ(name_type("eui.02004567a425678d"), NameType::eui);
  EXPECT_EQ(name_type("naa.52004567ba64678d"), NameType::naa);
}

TEST(Names, DefaultNameIsStableAndItsOwn) {
  const auto machine = as_bytes("0123456789abcdef0123456789abcdef");
  const auto name = default_name("Box-1.lan", machine, "/srv/disk.img");
  ASSERT_TRUE(name.has_value());
  EXPECT_EQ(*name, *default_name("Box-1.lan", machine, "/srv/disk.img"));
  EXPECT_EQ(name->substr(0, 30), "iqn.2026-11.io.perilune:box-1.");
  EXPECT_EQ(name->size(), 30u + 16u);
  EXPECT_EQ(*normalize_name(*name), *name);
  EXPECT_NE(*name, *default_name("Box-1.lan", machine, "/srv/disk2.img"));
  EXPECT_NE(*name, *default_name("Box-1.lan", as_bytes("another"), "/srv/disk.img"));
  EXPECT_TRUE(default_name("!!!", {}, "")->starts_with("iqn.2026-11.io.perilune:host."));
  EXPECT_TRUE(normalize_name(*default_name(std::string(300, 'H'), {}, "")).has_value());
}

}  // namespace
}  // namespace perilune::iscsi
