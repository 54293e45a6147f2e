// SPDX-License-Identifier: Apache-2.0
#include "control/targetd/requests.hpp"

#include <algorithm>
#include <array>

#include "config/target/json_text.hpp"
#include "config/target/saveconfig.hpp"
#include "control/targetd/protocol.hpp"

namespace perilune::control::targetd {

using namespace config::target;

namespace {

// What an operation has at hand.
struct Asked {
  const Request& request;
  const std::string& who;
  Administration& administration;
  const FrontEnds& front_ends;
  [[nodiscard]] const Json& args() const { return request.args; }
};

Result<Json> done(const Status& status) {
  if (!status) return tl::unexpected(status.error());
  return Json::object();
}

Result<Json> version(const Asked& asked) {
  return Json{{"version", asked.administration.version()}, {"protocol", protocol_version}};
}

Result<Json> command(const Asked& asked) {
  auto request = front_end_request(asked.request, asked.who);
  if (!request) return tl::unexpected(request.error());
  const auto front_end = asked.front_ends.find(request->front_end);
  if (front_end == asked.front_ends.end())
    return fail(Errc::unsupported, "this daemon knows no command " + request->front_end);
  const FrontEndAnswer answer = front_end->second(*request, asked.administration);
  return Json{
      {"out", answer.out}, {"err", answer.err}, {"code", answer.exit_code}, {"session", answer.session}};
}

Result<Json> configuration(const Asked& asked) {
  return Json{{"sequence", asked.administration.sequence()},
              {"saveconfig", write_saveconfig(asked.administration.configuration())}};
}

Result<Json> sessions(const Asked& asked) {
  const auto infos = asked.administration.sessions();
  if (!infos) return tl::unexpected(infos.error());
  Json list = Json::array();
  for (const SessionInfo& info : *infos) list.push_back(to_json(info));
  return Json{{"sessions", std::move(list)}};
}

Result<Json> history(const Asked& asked) {
  Json list = Json::array();
  for (const auto& past : asked.administration.history()) list.push_back(transaction_event(past));
  return Json{{"transactions", std::move(list)}};
}

Result<Json> check(const Asked& asked) {
  const auto changes = changes_of(asked.args());
  if (!changes) return tl::unexpected(changes.error());
  return done(asked.administration.check(*changes));
}

Result<Json> commit(const Asked& asked) {
  const auto changes = changes_of(asked.args());
  if (!changes) return tl::unexpected(changes.error());
  const std::string why = text_of(asked.args(), "why");
  const auto number = asked.administration.commit(asked.who + (why.empty() ? "" : ": " + why), *changes);
  if (!number) return tl::unexpected(number.error());
  return Json{{"sequence", *number}};
}

// The difference between what is and what the text says, as one transaction.
Result<Json> restore(const Asked& asked) {
  Administration& administration = asked.administration;
  const std::string path = text_of(asked.args(), "path");
  const auto text = path.empty() ? Result<std::string>(text_of(asked.args(), "saveconfig"))
                                 : administration.read_file(path, max_json_bytes);
  if (!text) return tl::unexpected(text.error());
  auto loaded = read_saveconfig(*text);
  if (!loaded) return fail(loaded.error().code, (path.empty() ? "" : path + ": ") + loaded.error().message);
  const Changes changes = diff(administration.configuration(), loaded->configuration);
  Json plan = Json::array();
  for (const Change& change : changes) plan.push_back(describe(change));
  Json result{
      {"plan", std::move(plan)}, {"warnings", loaded->warnings}, {"sequence", administration.sequence()}};
  if (flag_of(asked.args(), "dry_run")) {
    if (Status status = administration.check(changes); !status) return tl::unexpected(status.error());
    return result;
  }
  if (loaded->configuration.serves_nothing() && !administration.configuration().serves_nothing() &&
      !flag_of(asked.args(), "overwrite_with_nothing")) {
    return fail(Errc::busy,
                "this would take away all that is served; say overwrite_with_nothing if that is meant");
  }
  const auto number = administration.commit(asked.who + ": restore " + path, changes);
  if (!number) return tl::unexpected(number.error());
  result["sequence"] = *number;
  return result;
}

Result<Json> save(const Asked& asked) {
  const auto saved = asked.administration.save(
      {text_of(asked.args(), "path"), flag_of(asked.args(), "overwrite_with_nothing"), default_max_backups});
  if (!saved) return tl::unexpected(saved.error());
  return Json{{"path", saved->path}, {"backup", saved->backup_path}};
}

Result<Json> reload(const Asked& asked) {
  asked.administration.look_again();
  return Json::object();
}

Result<Json> pause(const Asked& asked) {
  const auto group = group_of(asked.args());
  if (!group) return tl::unexpected(group.error());
  return done(asked.administration.pause(*group));
}

Result<Json> resume(const Asked& asked) {
  const auto group = group_of(asked.args());
  if (!group) return tl::unexpected(group.error());
  return done(asked.administration.resume(*group));
}

Result<Json> drain(const Asked& asked) {
  const auto group = group_of(asked.args());
  if (!group) return tl::unexpected(group.error());
  const auto seconds = number_of(asked.args(), "seconds", 10);
  if (seconds < 1 || seconds > 3600) return fail(Errc::invalid_argument, "seconds must be 1 to 3600");
  return done(asked.administration.drain(*group, static_cast<std::uint32_t>(seconds)));
}

struct Operation {
  std::string_view name;
  Result<Json> (*run)(const Asked&);
};
constexpr std::array operations{
    Operation{"command", command},   Operation{"version", version}, Operation{"configuration", configuration},
    Operation{"sessions", sessions}, Operation{"history", history}, Operation{"check", check},
    Operation{"commit", commit},     Operation{"restore", restore}, Operation{"save", save},
    Operation{"reload", reload},     Operation{"pause", pause},     Operation{"resume", resume},
    Operation{"drain", drain},
};

}  // namespace

Result<Json> carry_out(const Request& request, const std::string& who, Administration& administration,
                       const FrontEnds& front_ends) {
  const auto* const operation = std::find_if(operations.begin(), operations.end(),
                                             [&](const Operation& each) { return each.name == request.op; });
  if (operation == operations.end())
    return fail(Errc::unsupported, "there is no operation " + request.op.substr(0, 64));
  return operation->run({request, who, administration, front_ends});
}

}  // namespace perilune::control::targetd
