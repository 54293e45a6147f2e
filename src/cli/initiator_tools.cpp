// SPDX-License-Identifier: Apache-2.0
// perilune ls, inq, readcap: what iscsi-ls, iscsi-inq and iscsi-readcapacity16 do, with outputs that scripts
// for those can read.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cstdio>
#include <functional>
#include <optional>
#include <string>

#include "cli/command_line.hpp"
#include "cli/initiator_common.hpp"
#include "cli/verbs.hpp"
#include "cli/vpd_print.hpp"
#include "initiator/sense.hpp"

namespace perilune::cli {

namespace {

using namespace initiator;

struct Options {
  std::string url;
  std::string initiator_name;
};

void add_common(CLI::App& app, Options& options) {
  app.add_option("URL", options.url, "iscsi://HOST[:PORT]/TARGET/LUN")->required();
  app.add_option("-i,--initiator-name", options.initiator_name,
                 "the name to log in with (default: this machine's)");
  app.footer(std::string(url_help));
}

std::string size_text(std::uint64_t bytes) {
  static constexpr const char* units[] = {"", "K", "M", "G", "T", "P"};
  std::size_t unit = 0;
  while (unit + 1 < std::size(units) && bytes >= 1024 && bytes >> 10 >= 1) {
    if (bytes < 10240 && bytes % 1024 != 0) break;  // keep what a small odd size says
    bytes >>= 10;
    ++unit;
  }
  return fmt::format("{}{}", bytes, units[unit]);
}

// --- ls
// ------------------------------------------------------------------------------------------------------------

struct Listing {
  bool luns = false;
  bool as_urls = false;
};

std::string portal_text(const TargetPortal& portal) {
  const bool v6 = portal.address.find(':') != std::string::npos;
  return v6 ? fmt::format("[{}]:{}", portal.address, portal.port)
            : fmt::format("{}:{}", portal.address, portal.port);
}

// The units of one target, by a session of its own to the portal that was asked.
int list_units(LoopThread& thread, const Url& portal, const std::string& target, const SessionConfig& base) {
  SessionConfig config = base.clone();
  config.target_name = target;
  auto session = open_session(thread, portal, config);
  if (!session) {
    session.error().message = target + ": " + session.error().message;
    return report("ls", session.error());
  }
  auto units = (*session)->scan();
  if (!units) return report("ls", tool_error(units.error()));
  for (const UnitInfo& unit : *units) {
    fmt::print("Lun:{:<4} Type:{}", lun_number(unit.lun), peripheral_type_name(unit.peripheral_type));
    if (unit.ready)
      fmt::print(" (Size:{})", size_text(unit.geometry.blocks.value() * unit.geometry.block_size_bytes));
    fmt::print("\n");
  }
  return 0;
}

int list(const Url& url, const Options& options, const Listing& listing) {
  auto thread = start_loop_thread();
  if (!thread) return report("ls", thread.error());
  SessionConfig config = session_config(url, options.initiator_name);
  auto endpoints = resolve(url.host, url.port);
  if (!endpoints) return report("ls", tool_error(endpoints.error()));

  LoginFailure failure;
  Result<std::vector<DiscoveredTarget>> found = fail(Errc::not_found, "no address");
  for (const runtime::Endpoint& endpoint : *endpoints) {
    config.portal = endpoint;
    found = discover(**thread, config, &failure);
    if (found || failure.status_class != 0) break;
  }
  if (!found) {
    ToolError error = failure.status_class != 0 ? tool_error(failure) : tool_error(found.error());
    error.message = config.portal.to_string() + ": " + error.message;
    return report("ls", error);
  }
  int worst = 0;
  for (const DiscoveredTarget& target : *found) {
    if (!url.target.empty() && url.target != target.name) continue;
    for (const TargetPortal& portal : target.portals) {
      if (listing.as_urls) {
        fmt::print("iscsi://{}/{}\n", portal_text(portal), target.name);
      } else {
        fmt::print("Target:{} Portal:{},{}\n", target.name, portal_text(portal), portal.portal_group_tag);
      }
    }
    if (listing.luns && !listing.as_urls) {
      const int code = list_units(**thread, url, target.name, config);
      if (code != 0) worst = code;
    }
  }
  return worst;
}

// --- inq, readcap
// --------------------------------------------------------------------------------------------------

// One session for one unit; `work` gets the LUN bytes.
int with_unit(std::string_view verb, const Options& options,
              const std::function<int(SyncSession&, std::uint64_t)>& work) {
  auto url = parse_url(options.url);
  if (!url) return report(verb, tool_error(url.error()));
  if (url->target.empty() || !url->lun)
    return report(verb, {ToolExit::usage, "the URL names no target and LUN: iscsi://HOST[:PORT]/TARGET/LUN"});
  auto thread = start_loop_thread();
  if (!thread) return report(verb, thread.error());
  auto session = open_session(**thread, *url, session_config(*url, options.initiator_name));
  if (!session) return report(verb, session.error());
  return work(**session, lun_bytes(*url->lun));
}

ToolError no_unit(std::uint64_t lun) {
  return {ToolExit::not_found, fmt::format("the target has no LUN {}", lun_number(lun))};
}

ToolError refusal(const char* command, std::uint64_t lun, const SyncOutcome& outcome) {
  const SenseCode sense = decode_sense(outcome.sense);
  if (sense.code() == 0x2500) return no_unit(lun);
  if (sense.key != 0) {
    return {ToolExit::failed,
            fmt::format("{} was refused: status {:02x}h, sense key {:x}h, code {:02x}h/{:02x}h", command,
                        outcome.status, sense.key, sense.asc, sense.ascq)};
  }
  return {ToolExit::failed, fmt::format("{} was refused: status {:02x}h", command, outcome.status)};
}

int print_inquiry(SyncSession& session, std::uint64_t lun, std::optional<unsigned> page) {
  const std::array<std::uint8_t, 6> cdb = {0x12,
                                           static_cast<std::uint8_t>(page ? 1 : 0),
                                           static_cast<std::uint8_t>(page.value_or(0)),
                                           static_cast<std::uint8_t>(page ? 0x10 : 0),
                                           static_cast<std::uint8_t>(page ? 0 : 255),
                                           0};
  auto outcome = session.command_in(lun, cdb, page ? 4096 : 255);
  if (!outcome) return report("inq", tool_error(outcome.error()));
  if (outcome->status != 0) return report("inq", refusal("INQUIRY", lun, *outcome));
  if (!page && !outcome->data.empty() && (outcome->data[0] >> 5) == 3) {
    return report("inq", no_unit(lun));
  }
  fmt::print("{}", page ? format_vpd(outcome->data) : format_inquiry(outcome->data));
  return 0;
}

int print_capacity(SyncSession& session, std::uint64_t lun, bool size_only) {
  const std::array<std::uint8_t, 16> cdb = {0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0};
  auto outcome = session.command_in(lun, cdb, 32);
  if (!outcome) return report("readcap", tool_error(outcome.error()));
  if (outcome->status != 0) return report("readcap", refusal("READ CAPACITY(16)", lun, *outcome));
  const auto& d = outcome->data;
  if (d.size() < 16) return report("readcap", {ToolExit::failed, "READ CAPACITY(16) answered too little"});
  const std::uint64_t last = load_be64(d.data());
  const std::uint32_t block = load_be32(d.data() + 8);
  // In 128 bits: what a target says may overflow.
  const auto total = (static_cast<unsigned __int128>(last) + 1) * block;
  const std::string total_text =
      total >> 64 == 0 ? std::to_string(static_cast<std::uint64_t>(total)) : std::string("more than 2^64");
  if (size_only) {
    fmt::print("{}\n", total_text);
    return 0;
  }
  fmt::print("RETURNED LOGICAL BLOCK ADDRESS:{}\n", last);
  fmt::print("LOGICAL BLOCK LENGTH IN BYTES:{}\n", block);
  fmt::print("P_TYPE:{} PROT_EN:{}\n", (d[12] >> 1) & 7, d[12] & 1);
  fmt::print("P_I_EXPONENT:{} LOGICAL BLOCKS PER PHYSICAL BLOCK EXPONENT:{}\n", d[13] >> 4, d[13] & 0xf);
  fmt::print("LBPME:{} LBPRZ:{}\n", d[14] >> 7, (d[14] >> 6) & 1);
  fmt::print("LOWEST ALIGNED LOGICAL BLOCK ADDRESS:{}\n", load_be16(d.data() + 14) & 0x3fff);
  fmt::print("Total size:{}\n", total_text);
  return 0;
}

}  // namespace

int run_ls(int argc, char** argv) {
  CLI::App app("Lists the targets that a portal offers, and with -s their logical units.", argv[0]);
  Options options;
  Listing listing;
  add_common(app, options);
  app.add_flag("-s,--show-luns", listing.luns, "log in to each target and show its logical units");
  app.add_flag("-U,--url", listing.as_urls, "print URLs");
  if (const auto code = parse_arguments(app, argc, argv, static_cast<int>(ToolExit::usage))) return *code;
  auto url = parse_url(options.url);
  if (!url) return report("ls", tool_error(url.error()));
  return list(*url, options, listing);
}

int run_inq(int argc, char** argv) {
  CLI::App app("Shows the INQUIRY data of a logical unit, or one of its VPD pages.", argv[0]);
  Options options;
  int evpd = 0;
  std::string page_text;
  add_common(app, options);
  app.add_option("-e,--evpd", evpd, "1: a VPD page instead of the standard data");
  app.add_option("-c,--pagecode", page_text, "which VPD page (0x83, 131); implies -e 1");
  if (const auto code = parse_arguments(app, argc, argv, static_cast<int>(ToolExit::usage))) return *code;
  std::optional<unsigned> page;
  if (evpd != 0 || !page_text.empty()) {
    try {
      std::size_t used = 0;
      page = page_text.empty() ? 0u : static_cast<unsigned>(std::stoul(page_text, &used, 0));
      if (used != page_text.size() || *page > 0xff) throw std::out_of_range("page");
    } catch (const std::exception&) {
      return report("inq", {ToolExit::usage, "the page code is no number from 0 to 0xff"});
    }
  }
  return with_unit("inq", options, [&](SyncSession& session, std::uint64_t lun) {
    return print_inquiry(session, lun, page);
  });
}

int run_readcap(int argc, char** argv) {
  CLI::App app("Shows the capacity and the block sizes of a logical unit.", argv[0]);
  Options options;
  bool size_only = false;
  add_common(app, options);
  app.add_flag("-s,--size", size_only, "print the size in bytes only");
  if (const auto code = parse_arguments(app, argc, argv, static_cast<int>(ToolExit::usage))) return *code;
  return with_unit("readcap", options, [&](SyncSession& session, std::uint64_t lun) {
    return print_capacity(session, lun, size_only);
  });
}

}  // namespace perilune::cli
