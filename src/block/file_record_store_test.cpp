// SPDX-License-Identifier: Apache-2.0
#include "block/file_record_store.hpp"

#include <sys/resource.h>

#include <csignal>

#include "block/block_test.hpp"

namespace perilune::block {
namespace {

class RecordStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = FileRecordStore::open(folder.path());
    ASSERT_TRUE(made) << made.error().message;
    store = std::move(*made);
  }
  static std::string text(const Result<std::vector<std::uint8_t>>& r) {
    return r ? std::string(r->begin(), r->end()) : "error: " + r.error().message;
  }
  TemporaryFolder folder;
  std::unique_ptr<FileRecordStore> store;
};

TEST_F(RecordStoreTest, PutGetReplaceRemove) {
  EXPECT_EQ(store->get("a").error().code, Errc::not_found);
  ASSERT_TRUE(store->put("a", as_bytes("one")));
  EXPECT_EQ(text(store->get("a")), "one");
  ASSERT_TRUE(store->put("a", as_bytes("the second")));
  EXPECT_EQ(text(store->get("a")), "the second");
  ASSERT_TRUE(store->put("empty", {}));
  EXPECT_EQ(text(store->get("empty")), "");
  ASSERT_TRUE(store->remove("a"));
  EXPECT_EQ(store->get("a").error().code, Errc::not_found);
  EXPECT_TRUE(store->remove("a"));
}

TEST_F(RecordStoreTest, FilesAreForTheOwnerAlone) {
  ASSERT_TRUE(store->put("secret", as_bytes("x")));
  struct stat info{};
  ASSERT_EQ(::stat((folder / "secret").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
}

TEST_F(RecordStoreTest, NamesThatLeaveTheFolderAreRefused) {
  for (const char* name : {"", ".", "..", "../x", "a/b", ".new", "/etc/passwd", "a b"}) {
    EXPECT_EQ(store->put(name, as_bytes("x")).error().code, Errc::invalid_argument) << name;
    EXPECT_EQ(store->get(name).error().code, Errc::invalid_argument) << name;
    EXPECT_EQ(store->remove(name).error().code, Errc::invalid_argument) << name;
  }
  EXPECT_FALSE(store->put(std::string(201, 'a'), as_bytes("x")));
}

TEST_F(RecordStoreTest, SymbolicLinksAreNotFollowed) {
  const std::string outside = folder.file("outside", 4);
  ASSERT_EQ(::symlink(outside.c_str(), (folder / "link").c_str()), 0);
  EXPECT_FALSE(store->get("link"));
  ASSERT_TRUE(store->put("link", as_bytes("new")));  // replaces the link, not what it points to
  EXPECT_EQ(text(store->get("link")), "new");
  struct stat info{};
  ASSERT_EQ(::stat(outside.c_str(), &info), 0);
  EXPECT_EQ(info.st_size, 4);
  ASSERT_EQ(::symlink(folder.path().c_str(), (folder / "loop").c_str()), 0);
  EXPECT_FALSE(FileRecordStore::open(folder / "loop"));
}

TEST_F(RecordStoreTest, OneStoreAtATime) {
  EXPECT_EQ(FileRecordStore::open(folder.path()).error().code, Errc::busy);
  store.reset();
  EXPECT_TRUE(FileRecordStore::open(folder.path()));
}

// Writing fails at each byte in turn, as on a full disk, and at its name.
TEST_F(RecordStoreTest, APutThatFailsAnywhereLeavesTheOldRecord) {
  const std::string value(300, 'n');
  ASSERT_TRUE(store->put("a", as_bytes("the old one")));
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto previous = std::signal(SIGXFSZ, SIG_IGN);
  for (rlim_t bytes = 0; bytes < value.size(); ++bytes) {
    const rlimit limited{bytes, before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limited), 0);
    const Status done = store->put("a", as_bytes(value));
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
    ASSERT_FALSE(done.has_value()) << bytes;
    ASSERT_EQ(text(store->get("a")), "the old one") << bytes;
    ASSERT_FALSE(std::filesystem::exists(folder / ".new")) << bytes;
  }
  std::signal(SIGXFSZ, previous);
  std::filesystem::create_directories(folder / "b/in the way");
  EXPECT_FALSE(store->put("b", as_bytes(value)));
  EXPECT_FALSE(std::filesystem::exists(folder / ".new"));
  EXPECT_TRUE(store->put("a", as_bytes(value)));
  EXPECT_EQ(text(store->get("a")), value);
}

TEST_F(RecordStoreTest, WhatAnInterruptedPutLeftIsRemovedAndHarmless) {
  ASSERT_TRUE(store->put("a", as_bytes("whole")));
  store.reset();
  (void)folder.file(".new", 100);
  auto again = FileRecordStore::open(folder.path());
  ASSERT_TRUE(again);
  EXPECT_FALSE(std::filesystem::exists(folder / ".new"));
  EXPECT_EQ(text((*again)->get("a")), "whole");
  EXPECT_TRUE((*again)->put("a", as_bytes("next")));
}

}  // namespace
}  // namespace perilune::block
