// SPDX-License-Identifier: Apache-2.0
#include "control/privilege/privileges.hpp"

#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "base/sanitizer.hpp"
#include "control/privilege/capabilities.hpp"
#include "control/privilege/hand_over.hpp"

namespace perilune::control::privilege {
namespace {

struct Account {
  std::string name;
  uid_t uid = 0;
  gid_t gid = 0;
};

Result<Account> find_account(const std::string& name) {
  passwd entry{};
  passwd* found = nullptr;
  std::vector<char> buffer(65536);
  const int error = ::getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (error != 0) return fail_errno(error, "--user " + name);
  if (found == nullptr) return fail(Errc::not_found, "--user " + name + ": there is no such user");
  return Account{name, found->pw_uid, found->pw_gid};
}

Status become(const Account& account) {
  // The administrator may have made it a member of other groups ("disk").
  if (::initgroups(account.name.c_str(), account.gid) != 0 ||
      ::setresgid(account.gid, account.gid, account.gid) != 0 ||
      ::setresuid(account.uid, account.uid, account.uid) != 0) {
    return fail_errno(errno, "--user " + account.name);
  }
  return {};
}

Status hand_over_all(const PrivilegeOptions& options, const Account& account) {
  for (const std::string& folder : options.own_folders) {
    if (Status status = hand_over_folder(folder, account.uid, account.gid); !status) return status;
  }
  if (Status status = share_folder(options.shared_folder, account.gid); !status) return status;
  for (const std::string& file : options.shared_files) {
    if (Status status = hand_over_file(file, account.uid, account.gid); !status) return status;
  }
  return {};
}

// Root's ring buffers are not counted; a user's are, against a limit that only root may raise.
void let_memory_be_locked() {
  const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
  static_cast<void>(::setrlimit(RLIMIT_MEMLOCK, &unlimited));
}

void harden() {
  static_cast<void>(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  // LeakSanitizer reads the memory of its own process from another.
  static_cast<void>(::prctl(PR_SET_DUMPABLE, PERILUNE_SANITIZED != 0 ? 1 : 0));
}

Status is_who_it_should_be(const std::string& user) {
  if (user.empty()) return {};
  const auto account = find_account(user);
  if (!account) return tl::unexpected(account.error());
  if (account->uid == ::geteuid()) return {};
  return fail(Errc::permission, "--user " + user + ": only root can become another user");
}

}  // namespace

Result<Privileges> Privileges::give_up(const PrivilegeOptions& options) {
  Privileges self;
  self.kept_ = options.keep;
  if (options.keep) return self;
  if (::geteuid() != 0) {
    if (Status status = is_who_it_should_be(options.user); !status) return tl::unexpected(status.error());
    harden();
    return self;
  }
  std::optional<Account> account;
  if (!options.user.empty()) {
    auto found = find_account(options.user);
    if (!found) return tl::unexpected(found.error());
    account = std::move(*found);
  }
  HelperPolicy policy;
  policy.roots = options.roots;
  if (!options.credentials.empty()) policy.secrets.push_back(options.credentials);
  if (account) {
    policy.uid = account->uid;
    policy.gid = account->gid;
  }
  auto helper = HelperAccess::start(policy);
  if (!helper) return tl::unexpected(helper.error());
  self.helper_ = std::move(*helper);
  let_memory_be_locked();
  if (account) {
    if (Status status = hand_over_all(options, *account); !status) return tl::unexpected(status.error());
    if (Status status = become(*account); !status) return tl::unexpected(status.error());
    self.user_ = account->name;
  }
  if (Status status = keep_capabilities({}); !status) return tl::unexpected(status.error());
  harden();
  return self;
}

void Privileges::tell(EventLog& log) const {
  if (kept_) return log.event(EventLog::Level::warning, "privileges", "kept reason=\"--keep-privileges\"");
  if (helper_ == nullptr) return log.event(EventLog::Level::info, "privileges", "none helper=none");
  log.event(EventLog::Level::info, "privileges",
            "dropped user=" + (user_.empty() ? "root" : user_) + " helper=" + std::to_string(helper_->pid()));
}

}  // namespace perilune::control::privilege
