// SPDX-License-Identifier: Apache-2.0
#include "control/targetd/protocol.hpp"

#include <algorithm>
#include <variant>

#include "config/target/codec.hpp"

namespace perilune::control::targetd {

using namespace config::target;

namespace {
constexpr int first_error = 100;
constexpr std::size_t max_words = 4096;
}  // namespace

int error_number(Errc code) noexcept { return first_error + static_cast<int>(code); }

Result<FrontEndRequest> front_end_request(const Request& request, const std::string& who) {
  const Json& args = request.args;
  FrontEndRequest asked;
  asked.front_end = text_of(args, "front_end");
  asked.uid = request.uid;
  asked.pid = request.pid;
  asked.who = who;
  const auto words = args.find("arguments");
  if (words != args.end()) {
    if (!words->is_array() || words->size() > max_words)
      return fail(Errc::invalid_argument, "arguments must be a list of words");
    for (const Json& word : *words) {
      if (!word.is_string()) return fail(Errc::invalid_argument, "arguments must be words");
      asked.arguments.push_back(word.get<std::string>());
    }
  }
  const auto input = args.find("input");
  if (input != args.end() && input->is_string()) asked.input = input->get<std::string>();
  const auto session = args.find("session");
  if (session != args.end() && session->is_object()) asked.session = *session;
  return asked;
}

Result<Changes> changes_of(const Json& args) {
  const auto list = args.find("changes");
  if (list == args.end() || !list->is_array()) return fail(Errc::invalid_argument, "changes must be a list");
  Changes changes;
  for (const Json& each : *list) {
    auto change = change_from_json(each);
    if (!change) return tl::unexpected(change.error());
    // They stand in a file under the names of their contents; a name that somebody chose would be lost there.
    if (std::holds_alternative<ChangeOf<Foreign>>(*change))
      return fail(Errc::invalid_argument, "foreign objects come from files alone; restore one that has them");
    changes.push_back(std::move(*change));
  }
  return changes;
}

Result<PortalGroupKey> group_of(const Json& args) {
  const std::string target = text_of(args, "target");
  const std::int64_t tag = number_of(args, "tag", 1);
  if (target.empty() || tag < 0 || tag > 65535)
    return fail(Errc::invalid_argument, "target and tag name a portal group");
  return PortalGroupKey{{target}, static_cast<std::uint16_t>(tag)};
}

Json to_json(const SessionInfo& info) {
  Json connections = Json::array();
  for (const ConnectionInfo& each : info.connections) {
    connections.push_back(
        {{"cid", each.cid}, {"address", each.address}, {"port", each.port}, {"state", each.state}});
  }
  return {{"target", info.group.parent.wwn},
          {"tag", info.group.tag},
          {"initiator", info.initiator},
          {"alias", info.alias},
          {"isid", info.isid},
          {"tsih", info.tsih},
          {"state", info.state},
          {"user", info.chap_user},
          {"parameters", info.parameters},
          {"connections", std::move(connections)}};
}

Json transaction_event(const PastTransaction& past) {
  Json changes = Json::array();
  for (const Change& change : past.changes) changes.push_back(describe(change));
  return {{"event", "transaction"},
          {"sequence", past.sequence},
          {"time_ms", past.time_ms},
          {"who", past.who},
          {"changes", std::move(changes)}};
}

Json session_event(const std::string& event, const std::string& fields) {
  Json json{{"event", event}};
  std::size_t at = 0;
  while (at < fields.size()) {
    const std::size_t end = std::min(fields.find(' ', at), fields.size());
    const std::string_view field = std::string_view(fields).substr(at, end - at);
    const std::size_t equals = field.find('=');
    if (equals != std::string_view::npos && equals != 0)
      json[std::string(field.substr(0, equals))] = field.substr(equals + 1);
    at = end + 1;
  }
  return json;
}

}  // namespace perilune::control::targetd
