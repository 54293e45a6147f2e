// SPDX-License-Identifier: Apache-2.0
#include "cli/targetcli/interpreter.hpp"
#include "cli/targetd.hpp"
#include "cli/tgt/tgtadm.hpp"

namespace perilune::cli {

control::targetd::FrontEnds target_front_ends() {
  return {{"targetcli", targetcli::answer_front_end},
          {"tgtadm", tgt::answer_tgtadm},
          {"tgt-admin", tgt::answer_tgt_admin},
          {"tgt-setup-lun", tgt::answer_tgt_setup_lun}};
}

}  // namespace perilune::cli
