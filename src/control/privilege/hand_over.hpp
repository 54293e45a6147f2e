// SPDX-License-Identifier: Apache-2.0
// Files that root's daemon made once become those of the user that it becomes. The folders may belong to that
// user already, who may have been taken over and wait for root to follow a link: only folders and regular
// files of root's with one name change hands, and no symbolic link is followed.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/result.hpp"

namespace perilune::control::privilege {

// The folder and what is in it, four levels deep.
[[nodiscard]] Status hand_over_folder(const std::string& path, uid_t uid, gid_t gid);
// Success when it is not there.
[[nodiscard]] Status hand_over_file(const std::string& path, uid_t uid, gid_t gid);
// Root's folder in which the group may make files, and remove its own alone (the sticky bit). A folder in
// which everybody may do so is left as it is.
[[nodiscard]] Status share_folder(const std::string& path, gid_t gid);

}  // namespace perilune::control::privilege
