// SPDX-License-Identifier: Apache-2.0
// From root to nobody in particular: what a daemon does first of all, while it has one thread and no ring.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/event_log.hpp"
#include "base/result.hpp"
#include "control/privilege/helper_access.hpp"

namespace perilune::control::privilege {

struct PrivilegeOptions {
  bool keep = false;                      // what it was started with
  std::string user;                       // whom it becomes; empty: it stays who it is
  std::vector<std::string> own_folders;   // that belong to it alone, with all that is in them
  std::string shared_folder;              // in which it makes files beside others' (the sockets)
  std::vector<std::string> shared_files;  // those of them that are its own
  Roots roots = default_roots();
  std::string credentials;  // the service manager's folder of secrets; empty: none
};

class Privileges {
 public:
  // As root: starts the helper, hands the folders over to the user, becomes it, gives up all capabilities,
  // sets no_new_privs, and has no core dumps written (they would hold the secrets of initiators). As anybody
  // else it has nothing to give up but the last two, and `user` must be who it is. Fails with not_found (no
  // such user), permission, io.
  [[nodiscard]] static Result<Privileges> give_up(const PrivilegeOptions& options);

  // nullptr: there is no helper; the process can do what it can.
  [[nodiscard]] HelperAccess* access() const noexcept { return helper_.get(); }
  // One line that says what has become of us.
  void tell(EventLog& log) const;

 private:
  std::unique_ptr<HelperAccess> helper_;
  std::string user_;
  bool kept_ = false;
};

}  // namespace perilune::control::privilege
