// SPDX-License-Identifier: Apache-2.0
#include "cli/tgt/tgtadm.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "config/portal.hpp"
#include "config/target/plan.hpp"
#include "config/target/targets_conf.hpp"
#include "iscsi/names/names.hpp"

namespace perilune::cli::tgt {
namespace {

template <class Number>
std::optional<Number> parse_number(std::string_view text) {
  Number value = 0;
  const auto end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  return error == std::errc{} && at == end ? std::optional(value) : std::nullopt;
}

// "a=1,b=2"
std::vector<std::pair<std::string, std::string>> pairs_of(std::string_view text) {
  std::vector<std::pair<std::string, std::string>> pairs;
  while (!text.empty()) {
    const auto end = std::min(text.find(','), text.size());
    const std::string_view pair = text.substr(0, end);
    const auto equals = std::min(pair.find('='), pair.size());
    pairs.emplace_back(pair.substr(0, equals),
                       equals < pair.size() ? pair.substr(equals + 1) : std::string_view{});
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return pairs;
}

void set_flag(model::PortalGroup& group, std::string_view name, bool on) {
  (void)group.attributes.set(model::group_attributes(), name, on ? "1" : "0");
}

std::string describe_options(const Options& options) {
  std::string text = "tgtadm";
  for (const auto& [name, value] : options.values) {
    text +=
        " --" + name + (value.empty() ? "" : "=" + (name == "password" ? std::string("********") : value));
  }
  return text;
}

targetd::FrontEndAnswer answer_of(const Outcome& outcome, std::string out, std::string_view name) {
  targetd::FrontEndAnswer answer;
  answer.out = std::move(out);
  if (outcome) return answer;
  const Failure& failure = outcome.error();
  answer.exit_code = failure.exit_code;
  answer.err =
      fmt::format("{}: {}{}\n", name, failure.message, failure.hint.empty() ? "" : " (" + failure.hint + ")");
  return answer;
}

}  // namespace

Outcome Command::run() {
  if (const std::string* const lld = options_.find("lld"); lld != nullptr && *lld != "iscsi") {
    return refuse("can't find the driver", "iscsi is the only one");
  }
  switch (options_.mode) {
    case Mode::system:
      return system();
    case Mode::target:
      return targets();
    case Mode::logical_unit:
      return logical_units();
    case Mode::portal:
      return portals();
    case Mode::session:
    case Mode::connection:
      return connections();
    case Mode::account:
      return accounts();
    case Mode::lld:
      if (is("start")) return {};  // it runs, or nobody would have answered
      if (!is("show")) return not_supported("lld");
      out_ = show_drivers(configuration());
      return {};
  }
  return {};
}

Outcome Command::commit(const model::Changes& changes) {
  const auto done = administration_.commit(who_ + ": " + describe_options(options_), changes);
  if (!done) return refuse(done.error());
  return {};
}

Outcome Command::not_supported(std::string_view mode) const {
  return refuse(fmt::format("operation {} not supported in {} mode", options_.operation, mode));
}

tl::expected<std::string, Failure> Command::needed(std::string_view name) const {
  const std::string* const value = options_.find(name);
  if (value == nullptr || value->empty()) return refuse(fmt::format("'{}' option is necessary", name));
  return *value;
}

tl::expected<std::uint32_t, Failure> Command::tid() const {
  const auto text = needed("tid");
  if (!text) return tl::unexpected<Failure>(text.error());
  const auto number = parse_number<std::uint32_t>(*text);
  if (!number) return refuse(fmt::format("-t argument value '{}' invalid", *text));
  if (*number == 0) return refuse("'tid' cannot be 0");
  return *number;
}

tl::expected<model::TargetKey, Failure> Command::target() const {
  const auto number = tid();
  if (!number) return tl::unexpected<Failure>(number.error());
  const Tids tids = tids_of(configuration());
  const auto at = tids.find(*number);
  if (at == tids.end()) return refuse("can't find the target", "tgtadm --mode target --op show lists them");
  return at->second;
}

tl::expected<model::PortalGroupKey, Failure> Command::group() const {
  const auto key = target();
  if (!key) return tl::unexpected<Failure>(key.error());
  const auto found = group_of(configuration(), *key);
  if (!found) return refuse("can't find the target", key->wwn + " has no portal group");
  return *found;
}

tl::expected<model::LunKey, Failure> Command::lun() const {
  const auto key = group();
  if (!key) return tl::unexpected<Failure>(key.error());
  const auto text = needed("lun");
  if (!text) return tl::unexpected<Failure>(text.error());
  const auto number = parse_number<std::uint16_t>(*text);
  if (!number || *number > model::max_lun)
    return refuse(fmt::format("-l argument value '{}' invalid", *text));
  return model::LunKey{*key, *number};
}

// ---- system

// Counted by logical unit, of all its initiators together.
Outcome Command::statistics(std::string_view mode) {
  if (mode == "logicalunit") {
    const auto key = lun();
    if (!key) return tl::unexpected<Failure>(key.error());
    if (configuration().find<model::Lun>(*key) == nullptr) return refuse("can't find the logical unit");
    out_ = show_statistics(administration_, key->parent.parent, key->index);
    return {};
  }
  if (mode == "system") {
    out_ = show_statistics(administration_);
    return {};
  }
  const auto key = target();
  if (!key) return tl::unexpected<Failure>(key.error());
  out_ = show_statistics(administration_, *key);
  return {};
}

Outcome Command::system() {
  if (is("stat")) return statistics("system");
  if (is("show")) {
    out_ = show_system();
    return {};
  }
  const std::string* const name = options_.find("name");
  const std::string* const value = options_.find("value");
  if (!is("update")) return not_supported("system");
  if (name == nullptr || value == nullptr)
    return refuse("update operation requires 'name' and 'value' options");
  if ((*name == "State" || *name == "state") && *value == "ready") return {};
  return refuse("invalid request",
                "a target is set offline by --mode target --op update --name state --value offline");
}

// ---- target

Outcome Command::targets() {
  if (is("new")) return new_target_of_name();
  if (is("delete")) return delete_target();
  if (is("update")) return update_target();
  if (is("bind") || is("unbind")) return bind(is("bind"));
  if (is("stat")) return statistics("target");
  if (!is("show")) return not_supported("target");
  if (!options_.has("tid")) {
    out_ = show_targets(administration_);
    return {};
  }
  const auto key = group();
  if (!key) return tl::unexpected<Failure>(key.error());
  out_ = show_parameters(configuration(), *key);
  return {};
}

Outcome Command::new_target_of_name() {
  const auto number = tid();
  if (!number) return tl::unexpected<Failure>(number.error());
  const std::string* const text = options_.find("targetname");
  if (text == nullptr) return refuse("creating new target requires a name, use --targetname");
  const auto name = iscsi::normalize_name(*text);
  if (!name) return refuse("invalid request", "'" + *text + "': " + name.error().message);
  const model::TargetKey key{*name};
  if (tids_of(configuration()).contains(*number))
    return refuse("this target already exists", fmt::format("tid {} is taken", *number));
  if (configuration().find<model::Target>(key) != nullptr) return refuse("this target already exists", *name);
  return commit(new_target(configuration(), key, *number));
}

Outcome Command::delete_target() {
  const auto key = target();
  if (!key) return tl::unexpected<Failure>(key.error());
  for (const auto& [group_key, value] : configuration().below<model::PortalGroup>(*key)) {
    const auto sessions = administration_.sessions_of(group_key);
    if (sessions && !sessions->empty() && !options_.has("force")) {
      return refuse("this target is still active",
                    sessions->front().initiator + " is logged in; --force removes it all the same");
    }
  }
  return commit(removal_with_objects(configuration(), *key));
}

Outcome Command::set_state(const std::string& state) {
  const auto key = group();
  if (!key) return tl::unexpected<Failure>(key.error());
  if (state != "ready" && state != "offline")
    return refuse("invalid request", "the state is ready or offline");
  model::PortalGroup value = *configuration().find<model::PortalGroup>(*key);
  value.enable = state == "ready";
  return commit({model::set<model::PortalGroup>(*key, std::move(value))});
}

Outcome Command::update_target() {
  const std::string* const name = options_.find("name");
  const std::string* const value = options_.find("value");
  if (name == nullptr || value == nullptr)
    return refuse("update operation requires 'name' and 'value' options");
  if (*name == "state") return set_state(*value);
  const auto key = group();
  if (!key) return tl::unexpected<Failure>(key.error());
  model::PortalGroup changed = *configuration().find<model::PortalGroup>(*key);
  if (const auto set = changed.parameters.set(model::group_parameters(), *name, *value); !set)
    return refuse("invalid request", set.error().message);
  return commit({model::set<model::PortalGroup>(*key, std::move(changed))});
}

Outcome Command::bind(bool on) {
  if (const std::string* const name = options_.find("initiator-name")) return bind_name(*name, on);
  const std::string* const address = options_.find("initiator-address");
  if (address == nullptr)
    return refuse(options_.operation + " operation requires initiator-address or initiator-name");
  if (*address == "ALL") return bind_all(on);
  return bind_address(*address, on);
}

// As in tgt, who comes has to come from one of the addresses, and by one of the names where there are any.
Outcome Command::bind_address(const std::string& text, bool on) {
  const auto key = group();
  if (!key) return tl::unexpected<Failure>(key.error());
  const auto network = model::normal_network(text);
  if (!network) return refuse("invalid request", network.error().message);
  model::PortalGroup value = *configuration().find<model::PortalGroup>(*key);
  auto& all = value.initiator_addresses;
  const auto place = std::find(all.begin(), all.end(), *network);
  if ((place != all.end()) == on)
    return refuse(on ? "this access control rule already exists" : "this access control rule does not exist",
                  *network);
  if (on) {
    all.push_back(*network);
  } else {
    all.erase(place);
  }
  const auto names = configuration().below<model::NodeAcl>(*key);
  set_flag(value, "generate_node_acls", !all.empty() && names.begin() == names.end());
  return commit({model::set<model::PortalGroup>(*key, std::move(value))});
}

Outcome Command::bind_all(bool on) {
  const auto key = group();
  if (!key) return tl::unexpected<Failure>(key.error());
  model::PortalGroup value = *configuration().find<model::PortalGroup>(*key);
  const bool now = value.initiator_addresses.empty() &&
                   value.attributes.number(model::group_attributes(), "generate_node_acls") != 0;
  if (now == on)
    return refuse(on ? "this access control rule already exists" : "this access control rule does not exist");
  set_flag(value, "generate_node_acls", on);
  if (on) value.initiator_addresses.clear();  // from everywhere is from there too
  return commit({model::set<model::PortalGroup>(*key, std::move(value))});
}

Outcome Command::bind_name(const std::string& text, bool on) {
  const auto key = group();
  if (!key) return tl::unexpected<Failure>(key.error());
  const auto name = iscsi::normalize_name(text);
  if (!name) return refuse("invalid request", "'" + text + "': " + name.error().message);
  const model::NodeAclKey acl{*key, *name};
  const bool now = configuration().find<model::NodeAcl>(acl) != nullptr;
  if (now == on)
    return refuse(on ? "this access control rule already exists" : "this access control rule does not exist",
                  *name);
  // Where addresses are bound, they let in everybody only as long as there are no names.
  model::PortalGroup value = *configuration().find<model::PortalGroup>(*key);
  const auto names = configuration().below<model::NodeAcl>(*key);
  const bool last = std::distance(names.begin(), names.end()) == 1;
  model::Changes changes;
  if (!value.initiator_addresses.empty() && (on || last)) {
    set_flag(value, "generate_node_acls", !on);
    changes.push_back(model::set<model::PortalGroup>(*key, std::move(value)));
  }
  if (!on) {
    for (model::Change& change : model::removal_of(configuration(), acl))
      changes.push_back(std::move(change));
    return commit(changes);
  }
  changes.push_back(model::add<model::NodeAcl>(acl, {}));
  for (const auto& [lun_key, lun] : configuration().below<model::Lun>(*key)) {
    changes.push_back(model::add<model::MappedLun>({acl, lun_key.index}, {lun_key.index, false, "", {}}));
  }
  return commit(changes);
}

// ---- logical units

namespace {

tl::expected<model::StorageKey, Failure> key_for_unit(const targetd::FileProbe& probe,
                                                      const UnitWanted& wanted) {
  using Kind = targetd::FileProbe::Kind;
  const std::string name = name_for_path(wanted.path);
  const bool pass = wanted.device_type == "pt" || wanted.type == "sg" || wanted.type == "bsg";
  constexpr std::array types{"disk", "pt", "tape", "cd", "changer", "osd", "ssc"};
  if (!wanted.device_type.empty() && std::find(types.begin(), types.end(), wanted.device_type) == types.end())
    return refuse("unknown target type: " + wanted.device_type);
  if (!wanted.device_type.empty() && wanted.device_type != "disk" && wanted.device_type != "pt") {
    return refuse("invalid request",
                  "devices of type " + wanted.device_type + " are not served here; disk and pt are");
  }
  if (!wanted.type.empty() && !pass && wanted.type != "rdwr" && wanted.type != "aio") {
    return refuse("invalid request",
                  "there is no backing store " + wanted.type + " here; rdwr, aio and sg are");
  }
  if (probe.kind == Kind::none)
    return refuse("invalid request", wanted.path + " is not there; make it first");
  if (pass) return model::StorageKey{model::Plugin::pscsi, name};
  if (probe.kind == Kind::block) return model::StorageKey{model::Plugin::block, name};
  if (probe.kind == Kind::regular) return model::StorageKey{model::Plugin::fileio, name};
  return refuse("invalid request", wanted.path + " is neither a file nor a block device");
}

tl::expected<model::StorageObject, Failure> object_for_unit(model::Plugin plugin, const UnitWanted& wanted,
                                                            const targetd::FileProbe& probe,
                                                            const std::string& serial) {
  model::StorageObject object;
  object.dev = wanted.path;
  if (plugin == model::Plugin::pscsi) return object;
  object.wwn = serial;
  if (plugin == model::Plugin::fileio) object.size_bytes = probe.size_bytes;
  const bool sync = wanted.flags.find("sync") != std::string::npos;
  object.write_back = plugin == model::Plugin::fileio && !sync;
  (void)object.attributes.set(model::storage_attributes(plugin), "emulate_write_cache",
                              object.write_back ? "1" : "0");
  if (wanted.type == "aio") object.unknown.emplace("/tgt_bstype", targetd::Json(wanted.type).dump());
  if (!wanted.flags.empty()) object.unknown.emplace("/tgt_bsoflags", targetd::Json(wanted.flags).dump());
  if (!wanted.block_size.empty()) {
    const auto set =
        object.attributes.set(model::storage_attributes(plugin), "block_size", wanted.block_size);
    if (!set) return refuse("invalid request", set.error().message + ", not " + wanted.block_size);
  }
  return object;
}

}  // namespace

tl::expected<model::Changes, Failure> changes_for_unit(const targetd::Administration& administration,
                                                       const model::LunKey& key, const UnitWanted& wanted,
                                                       const std::string& serial) {
  if (!wanted.path.starts_with('/'))
    return refuse("invalid request", "the path of a backing store begins with '/'");
  if (!wanted.flags.empty() && !model::is_store_flags(wanted.flags))
    return refuse("invalid request", "the flags of a backing store are sync, direct or sync:direct");
  const targetd::FileProbe probe = administration.probe(wanted.path);
  const auto storage = key_for_unit(probe, wanted);
  if (!storage) return tl::unexpected<Failure>(storage.error());
  if (!probe.used_by.empty()) return refuse("invalid request", wanted.path + " is in use: " + probe.used_by);
  auto object = object_for_unit(storage->plugin, wanted, probe, serial);
  if (!object) return tl::unexpected<Failure>(object.error());
  const bool groups = storage->plugin != model::Plugin::pscsi;
  const std::string alua(groups ? model::default_alua_group : std::string_view{});
  model::Changes changes{model::add<model::StorageObject>(*storage, std::move(*object))};
  if (groups) changes.push_back(model::add<model::AluaGroup>({*storage, alua}, {}));
  changes.push_back(model::add<model::Lun>(key, {*storage, alua, "", {}}));
  for (const auto& [acl, value] : administration.configuration().below<model::NodeAcl>(key.parent)) {
    changes.push_back(model::add<model::MappedLun>({acl, key.index}, {key.index, false, "", {}}));
  }
  return changes;
}

Outcome Command::logical_units() {
  if (is("new")) return new_unit();
  if (is("update")) return update_unit();
  if (is("delete")) return delete_unit();
  if (is("stat")) return statistics("logicalunit");
  return not_supported("logicalunit");
}

Outcome Command::new_unit() {
  const auto key = lun();
  if (!key) return tl::unexpected<Failure>(key.error());
  // LUN 0 is tgt's controller.
  if (key->index == 0 || configuration().find<model::Lun>(*key) != nullptr)
    return refuse("this logical unit number already exists");
  const auto path = needed("backing-store");
  if (!path) return tl::unexpected<Failure>(path.error());
  const auto text = [this](std::string_view name) {
    const std::string* const value = options_.find(name);
    return value == nullptr ? std::string() : *value;
  };
  const auto serial = config::target::serial_for_path(*path);
  if (!serial) return refuse(serial.error());
  const auto changes = changes_for_unit(
      administration_, *key,
      {*path, text("bstype"), text("bsoflags"), text("device-type"), text("blocksize")}, *serial);
  return changes ? commit(*changes) : Outcome(tl::unexpected<Failure>(changes.error()));
}

// What describes a disk but does not change what it holds is left out, as in targets.conf; what is asked for
// by `params` otherwise is refused.
Outcome Command::update_unit() {
  const auto key = lun();
  if (!key) return tl::unexpected<Failure>(key.error());
  const auto* const exported = configuration().find<model::Lun>(*key);
  if (exported == nullptr) return refuse("can't find the logical unit");
  const auto params = needed("params");
  if (!params) return tl::unexpected<Failure>(params.error());
  model::StorageObject object = *configuration().find<model::StorageObject>(exported->object);
  bool another = false;
  for (const auto& [name, value] : pairs_of(*params)) {
    constexpr std::array left_out{"vendor_id",         "product_id",      "product_rev", "scsi_id",
                                  "sense_format",      "rotation_rate",   "lbppbe",      "la_lba",
                                  "optimal_xfer_gran", "optimal_xfer_len"};
    if (name == "readonly") {
      object.readonly = value == "1";
    } else if (name == "thin_provisioning") {
      (void)object.attributes.set(model::storage_attributes(exported->object.plugin), "emulate_tpu",
                                  value == "1" ? "1" : "0");
    } else if (name == "scsi_sn") {
      another = object.wwn != value;
      object.wwn = value;
    } else if (std::find(left_out.begin(), left_out.end(), name) == left_out.end()) {
      return refuse("invalid request",
                    name + " cannot be changed; readonly, thin_provisioning and scsi_sn can");
    }
  }
  if (!another) return commit({model::set<model::StorageObject>(exported->object, std::move(object))});
  // A disk of another serial number is another disk, which comes in the place of this one.
  model::Configuration copy = configuration();
  model::Changes changes = model::removal_of(copy, exported->object);
  auto back = model::apply_all(copy, changes);
  if (!back) return refuse(back.error());
  for (model::Change& change : *back) {
    auto* const put = std::get_if<model::ChangeOf<model::StorageObject>>(&change);
    if (put != nullptr) put->value = object;
    changes.push_back(std::move(change));
  }
  return commit(changes);
}

Outcome Command::delete_unit() {
  const auto key = lun();
  if (!key) return tl::unexpected<Failure>(key.error());
  if (key->index == 0) return refuse("invalid request", "LUN 0 is tgt's controller");
  const auto* const exported = configuration().find<model::Lun>(*key);
  if (exported == nullptr) return refuse("can't find the logical unit");
  const bool only_here = configuration().luns_of(exported->object).size() == 1;
  return commit(only_here ? model::removal_of(configuration(), exported->object)
                          : model::removal_of(configuration(), *key));
}

// ---- portals

Outcome Command::portals() {
  if (is("new") || is("delete")) return change_portal(is("new"));
  if (!is("show")) return not_supported("portal");
  for (const auto& [address, port] : portals_of(configuration()))
    out_ += "Portal: " + config::format_host_port(address, port) + ",1\n";
  return {};
}

Outcome Command::change_portal(bool on) {
  const std::string* const params = options_.find("params");
  const auto pairs = params == nullptr ? decltype(pairs_of("")){} : pairs_of(*params);
  if (pairs.size() != 1 || pairs.front().first != "portal")
    return refuse("you must specify --param portal=<portal>");
  const auto parsed = config::Portal::parse(pairs.front().second);
  if (!parsed) return refuse("invalid request", parsed.error().message);
  const auto address = model::normal_address(parsed->host);
  if (!address) return refuse("invalid request", address.error().message);
  model::Changes changes;
  for (const auto& [key, value] : configuration().all<model::Target>()) {
    const auto group_key = is_tgts(value) ? group_of(configuration(), key) : std::nullopt;
    if (!group_key) continue;
    const model::PortalKey portal{*group_key, *address, parsed->port};
    if ((configuration().find<model::Portal>(portal) != nullptr) == on) continue;
    changes.push_back(on ? model::add<model::Portal>(portal, {}) : model::remove<model::Portal>(portal));
  }
  if (changes.empty())
    return refuse("invalid request",
                  on ? "make a target first; its portal can be changed then"
                     : "there is no portal " + pairs.front().second + "; --mode portal --op show lists them");
  return commit(changes);
}

// ---- sessions, accounts

namespace {

tl::unexpected<Failure> no_account(const std::string& user) {
  return refuse("can't find the account", user + " is none; tgtadm --mode account --op show lists them");
}

}  // namespace

Outcome Command::connections() {
  if (is("delete") && options_.mode == Mode::connection) return delete_connection();
  if (!is("show"))
    return refuse("this operation isn't supported",
                  "show is, and --mode connection --op delete; statistics are --mode target's");
  const auto key = group();
  if (!key) return tl::unexpected<Failure>(key.error());
  out_ = show_connections(administration_, *key);
  return {};
}

Outcome Command::delete_connection() {
  const auto key = group();
  if (!key) return tl::unexpected<Failure>(key.error());
  const auto number = [this](std::string_view name) {
    const std::string* const text = options_.find(name);
    return text == nullptr ? std::nullopt : parse_number<std::uint16_t>(*text);
  };
  const auto sessions = administration_.sessions_of(*key);
  if (!sessions) return refuse(sessions.error());
  const auto session = std::find_if(sessions->begin(), sessions->end(),
                                    [sid = number("sid")](const auto& each) { return sid == each.tsih; });
  const std::string hint = "tgtadm --mode connection --op show --tid N lists them";
  if (session == sessions->end()) return refuse("can't find the session", hint);
  const auto connection = std::find_if(session->connections.begin(), session->connections.end(),
                                       [cid = number("cid")](const auto& each) { return cid == each.cid; });
  if (connection == session->connections.end()) return refuse("can't find the connection", hint);
  if (const Status dropped = administration_.drop_connection(session->tsih, connection->cid); !dropped)
    return refuse(dropped.error());
  return {};
}

Outcome Command::accounts() {
  if (is("new")) return new_account();
  if (is("delete")) return delete_account();
  if (is("bind") || is("unbind")) return bind_account(is("bind"));
  if (!is("show")) return not_supported("account");
  const Accounts all = accounts_of(configuration());
  if (!all.empty()) out_ = "Account list:\n";
  for (const auto& [user, secret] : all) out_ += "    " + user + "\n";
  return {};
}

Outcome Command::new_account() {
  const std::string* const user = options_.find("user");
  const std::string* const password = options_.find("password");
  if (user == nullptr || password == nullptr || user->empty() || password->empty())
    return refuse("'user' and 'password' options are required");
  Accounts accounts = accounts_of(configuration());
  if (!accounts.emplace(*user, model::Password::typed(*password)).second)
    return refuse("this account already exists");
  return commit({keep_accounts(configuration(), accounts)});
}

Outcome Command::delete_account() {
  const auto user = needed("user");
  if (!user) return tl::unexpected<Failure>(user.error());
  Accounts accounts = accounts_of(configuration());
  if (accounts.erase(*user) == 0) return no_account(*user);
  model::Changes changes{keep_accounts(configuration(), accounts)};
  for (const auto& [key, value] : configuration().all<model::PortalGroup>()) {
    if (value.chap.userid != *user && value.chap.mutual_userid != *user) continue;
    // A target that asked for this account must not stand open now: nobody can log in until another is bound.
    model::PortalGroup changed = value;
    if (changed.chap.userid == *user) changed.chap.userid = {}, changed.chap.password = {};
    if (changed.chap.mutual_userid == *user)
      changed.chap.mutual_userid = {}, changed.chap.mutual_password = {};
    changes.push_back(model::set<model::PortalGroup>(key, std::move(changed)));
  }
  if (const auto* const discovery = configuration().find<model::Discovery>({}); discovery != nullptr) {
    model::Discovery changed = *discovery;  // as with targets: enabled, and nobody can prove to be anybody
    if (changed.chap.userid == *user) changed.chap.userid = {}, changed.chap.password = {};
    if (changed.chap.mutual_userid == *user)
      changed.chap.mutual_userid = {}, changed.chap.mutual_password = {};
    if (!(changed == *discovery)) changes.push_back(model::set<model::Discovery>({}, std::move(changed)));
  }
  return commit(changes);
}

// In the place of one direction of `chap`, or out of it.
Outcome Command::bind_in(model::Chap& chap, const Accounts::value_type& account, bool on) const {
  const bool outgoing = options_.has("outgoing");
  std::string& bound = outgoing ? chap.mutual_userid : chap.userid;
  model::Password& secret = outgoing ? chap.mutual_password : chap.password;
  if (!on && bound != account.first)
    return refuse("can't find the account", account.first + " is not bound there");
  if (on && !bound.empty()) {
    return refuse(outgoing ? "this target already has an outgoing account" : "this account already exists",
                  bound + " is bound, and there is one account for each direction; unbind it first");
  }
  bound = on ? account.first : std::string();
  secret = on ? account.second : model::Password();
  return {};
}

Outcome Command::bind_account(bool on) {
  const auto user = needed("user");
  if (!user) return tl::unexpected<Failure>(user.error());
  const Accounts accounts = accounts_of(configuration());
  if (!options_.has("tid")) return bind_for_discovery(accounts, *user, on);
  const auto key = group();
  if (!key) return tl::unexpected<Failure>(key.error());
  const auto account = accounts.find(*user);
  if (account == accounts.end()) return no_account(*user);
  model::PortalGroup value = *configuration().find<model::PortalGroup>(*key);
  if (const Outcome bound = bind_in(value.chap, *account, on); !bound) return bound;
  if (!options_.has("outgoing")) set_flag(value, "authentication", on);
  // Stays in the list of accounts.
  return commit(
      {keep_accounts(configuration(), accounts), model::set<model::PortalGroup>(*key, std::move(value))});
}

// An account of no target is of discovery sessions.
Outcome Command::bind_for_discovery(const Accounts& accounts, const std::string& user, bool on) {
  const auto account = accounts.find(user);
  if (account == accounts.end()) return no_account(user);
  const auto* const there = configuration().find<model::Discovery>({});
  model::Discovery value = there == nullptr ? model::Discovery{} : *there;
  if (const Outcome bound = bind_in(value.chap, *account, on); !bound) return bound;
  if (!options_.has("outgoing")) value.enable = on;
  return commit({keep_accounts(configuration(), accounts),
                 there == nullptr ? model::add<model::Discovery>({}, std::move(value))
                                  : model::set<model::Discovery>({}, std::move(value))});
}

// ---- the front ends

targetd::FrontEndAnswer answer_tgtadm(const targetd::FrontEndRequest& request,
                                      targetd::Administration& administration) {
  OptionsOrFailure parsed = parse_options(request.arguments);
  if (parsed.failure) return answer_of(tl::unexpected<Failure>(*parsed.failure), "", "tgtadm");
  Command command(administration, std::move(parsed.options), request.who);
  const Outcome outcome = command.run();
  return answer_of(outcome, command.out(), "tgtadm");
}

}  // namespace perilune::cli::tgt
