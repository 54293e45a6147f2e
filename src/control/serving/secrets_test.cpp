// SPDX-License-Identifier: Apache-2.0
#include "control/serving/secrets.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/temporary_folder_test.hpp"

namespace perilune::control::serving {
namespace {

namespace fs = std::filesystem;
using config::target::Password;
using testing::HasSubstr;

class SecretsOutside : public testing::Test {
 protected:
  std::string make(const std::string& name, const std::string& text, mode_t mode = 0600) {
    const std::string path = folder_ / name;
    fs::remove(path);
    std::ofstream(path) << text;
    EXPECT_EQ(::chmod(path.c_str(), mode), 0);
    return path;
  }
  Password file(const std::string& name) { return Password::typed("@file:" + (folder_ / name)); }
  std::string refused(Secrets& secrets, const Password& password) {
    const auto read = secrets.read(password);
    EXPECT_FALSE(read.has_value());
    return read ? "" : read.error().message;
  }

  TemporaryFolder folder_;
};

TEST_F(SecretsOutside, ASecretOfItsOwnIsWhatItIs) {
  Secrets secrets(nullptr, "");
  EXPECT_EQ(secrets.read(Password("literal")).value(), false);
  EXPECT_EQ(secrets.of(Password("literal")), "literal");
}

TEST_F(SecretsOutside, OneNewlineAtTheEndDoesNotCount) {
  Secrets secrets(nullptr, "");
  for (const auto& [text, secret] : {std::pair<std::string, std::string>{"a secret\n", "a secret"},
                                     {"a secret", "a secret"},
                                     {"a secret\n\n", "a secret\n"},
                                     {std::string(255, 'x') + "\n", std::string(255, 'x')},
                                     {"x", "x"}}) {
    make("one", text, 0400);
    ASSERT_TRUE(secrets.read(file("one")).has_value());
    EXPECT_EQ(secrets.of(file("one")), secret);
  }
}

TEST_F(SecretsOutside, AnUnsafeFileIsRefusedAndTheOldSecretStays) {
  Secrets secrets(nullptr, "");
  make("one", "before");
  EXPECT_EQ(secrets.read(file("one")).value(), true);
  EXPECT_EQ(secrets.read(file("one")).value(), false) << "the same";
  for (const mode_t mode : {0640u, 0604u, 0620u, 0601u}) {
    make("one", "after", mode);
    EXPECT_EQ(refused(secrets, file("one")),
              (folder_ / "one") + " may be opened by others than its owner; chmod it to 0600");
  }
  make("one", "");
  EXPECT_THAT(refused(secrets, file("one")), HasSubstr("/one is empty"));
  make("one", "\n");
  EXPECT_THAT(refused(secrets, file("one")), HasSubstr("/one is empty"));
  make("one", std::string(256, 'x'));
  EXPECT_THAT(refused(secrets, file("one")), HasSubstr("/one is too long"));
  fs::remove(folder_ / "one");
  EXPECT_EQ(refused(secrets, file("one")), (folder_ / "one") + ": No such file or directory");
  ASSERT_EQ(::mkfifo((folder_ / "one").c_str(), 0600), 0);  // and nobody waits for who writes to it
  EXPECT_EQ(refused(secrets, file("one")), (folder_ / "one") + " is no regular file");
  EXPECT_EQ(secrets.of(file("one")), "before");
  fs::remove(folder_ / "one");
  make("one", "after");
  EXPECT_EQ(secrets.read(file("one")).value(), true);
  EXPECT_EQ(secrets.of(file("one")), "after");
}

TEST_F(SecretsOutside, OfAnotherUserIsRefused) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to give a file away";
  Secrets secrets(nullptr, "");
  const std::string path = make("one", "secret");
  ASSERT_EQ(::chown(path.c_str(), 65534, 65534), 0);
  EXPECT_THAT(refused(secrets, file("one")), HasSubstr("belongs to another user"));
  EXPECT_EQ(secrets.of(file("one")), "");
}

TEST_F(SecretsOutside, ACredentialIsInTheServiceManagersFolderWithItsRights) {
  const Password password = Password::typed("@credential:one");
  Secrets none(nullptr, "");
  EXPECT_THAT(refused(none, password),
              HasSubstr("@credential:one: the service manager has given no credentials"));
  make("one", "secret\n", 0440);
  Secrets secrets(nullptr, folder_.path());
  EXPECT_EQ(secrets.read(password).value(), true);
  EXPECT_EQ(secrets.of(password), "secret");
  EXPECT_EQ(refused(secrets, Password::typed("@credential:two")),
            (folder_ / "two") + ": No such file or directory");
}

}  // namespace
}  // namespace perilune::control::serving
