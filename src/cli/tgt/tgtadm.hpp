// SPDX-License-Identifier: Apache-2.0
// tgtadm against the target daemon: runs inside it, on its control thread. One command is one transaction.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/tgt/options.hpp"
#include "cli/tgt/view.hpp"
#include "control/targetd/administration.hpp"

namespace perilune::cli::tgt {

namespace targetd = control::targetd;

using Outcome = tl::expected<void, Failure>;
[[nodiscard]] inline tl::unexpected<Failure> refuse(std::string message, std::string hint = {}) {
  return tl::unexpected<Failure>(Failure{std::move(message), std::move(hint), 22});
}
[[nodiscard]] inline tl::unexpected<Failure> refuse(const Error& error) { return refuse(error.message); }

// One command of tgtadm that is being carried out.
class Command {
 public:
  Command(targetd::Administration& administration, Options options, std::string who)
      : administration_(administration), options_(std::move(options)), who_(std::move(who)) {}

  [[nodiscard]] Outcome run();
  [[nodiscard]] const std::string& out() const noexcept { return out_; }

 private:
  [[nodiscard]] const model::Configuration& configuration() const { return administration_.configuration(); }
  [[nodiscard]] Outcome commit(const model::Changes& changes);
  [[nodiscard]] bool is(std::string_view operation) const { return options_.operation == operation; }
  [[nodiscard]] Outcome not_supported(std::string_view mode) const;
  // An option that must be there.
  [[nodiscard]] tl::expected<std::string, Failure> needed(std::string_view name) const;
  [[nodiscard]] tl::expected<std::uint32_t, Failure> tid() const;
  [[nodiscard]] tl::expected<model::TargetKey, Failure> target() const;
  [[nodiscard]] tl::expected<model::PortalGroupKey, Failure> group() const;
  [[nodiscard]] tl::expected<model::LunKey, Failure> lun() const;

  [[nodiscard]] Outcome system();
  [[nodiscard]] Outcome targets();
  [[nodiscard]] Outcome new_target_of_name();
  [[nodiscard]] Outcome delete_target();
  [[nodiscard]] Outcome update_target();
  [[nodiscard]] Outcome set_state(const std::string& state);
  [[nodiscard]] Outcome bind(bool on);
  [[nodiscard]] Outcome bind_all(bool on);
  [[nodiscard]] Outcome statistics(std::string_view mode);
  [[nodiscard]] Outcome bind_address(const std::string& text, bool on);
  [[nodiscard]] Outcome bind_name(const std::string& name, bool on);
  [[nodiscard]] Outcome logical_units();
  [[nodiscard]] Outcome new_unit();
  [[nodiscard]] Outcome update_unit();
  [[nodiscard]] Outcome delete_unit();
  [[nodiscard]] Outcome portals();
  [[nodiscard]] Outcome change_portal(bool on);
  [[nodiscard]] Outcome connections();
  [[nodiscard]] Outcome delete_connection();
  [[nodiscard]] Outcome accounts();
  [[nodiscard]] Outcome new_account();
  [[nodiscard]] Outcome delete_account();
  [[nodiscard]] Outcome bind_account(bool on);
  [[nodiscard]] Outcome bind_for_discovery(const Accounts& accounts, const std::string& user, bool on);
  [[nodiscard]] Outcome bind_in(model::Chap& chap, const Accounts::value_type& account, bool on) const;

  targetd::Administration& administration_;
  Options options_;
  std::string who_;
  std::string out_;
};

// A logical unit as an option line describes it: its storage object, LUN and mapped LUNs. Nothing is changed.
struct UnitWanted {
  std::string path;
  std::string type;   // --bstype, may be empty
  std::string flags;  // --bsoflags
  std::string device_type;
  std::string block_size;
};
[[nodiscard]] tl::expected<model::Changes, Failure> changes_for_unit(
    const targetd::Administration& administration, const model::LunKey& key, const UnitWanted& wanted,
    const std::string& serial);

// ---- what is shown (show.cpp)

[[nodiscard]] std::string show_targets(const targetd::Administration& administration);
[[nodiscard]] std::string show_parameters(const model::Configuration& configuration,
                                          const model::PortalGroupKey& group);
// tgt's table of what was read and written, of all targets, of one, or of one of its LUNs. What is not served
// has no line; tgt has one for each session, here sid is 0 and stands for all.
[[nodiscard]] std::string show_statistics(const targetd::Administration& administration,
                                          const std::optional<model::TargetKey>& target = std::nullopt,
                                          std::optional<std::uint16_t> lun = std::nullopt);
[[nodiscard]] std::string show_connections(const targetd::Administration& administration,
                                           const model::PortalGroupKey& group);
[[nodiscard]] std::string show_system();
[[nodiscard]] std::string show_drivers(const model::Configuration& configuration);
[[nodiscard]] std::string dump(const model::Configuration& configuration);

// ---- the front ends

// Arguments: those of tgtadm.
[[nodiscard]] targetd::FrontEndAnswer answer_tgtadm(const targetd::FrontEndRequest& request,
                                                    targetd::Administration& administration);
// Arguments: {"execute" | "update" | "delete" | "offline" | "ready" | "dump", SELECTOR, "force" |
// "pretend"...}; for the first two the input is a saveconfig.json with what targets.conf says. SELECTOR:
// "ALL", "tid=N" or a name.
[[nodiscard]] targetd::FrontEndAnswer answer_tgt_admin(const targetd::FrontEndRequest& request,
                                                       targetd::Administration& administration);
// Arguments: those of tgt-setup-lun.
[[nodiscard]] targetd::FrontEndAnswer answer_tgt_setup_lun(const targetd::FrontEndRequest& request,
                                                           targetd::Administration& administration);

}  // namespace perilune::cli::tgt
