// SPDX-License-Identifier: Apache-2.0
// perilune-sim: runs scenarios of the simulated world. A program of its own: the simulator is no part of
// `perilune`.
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "runtime/sim/scenario.hpp"

namespace {

using perilune::sim::Event;
using perilune::sim::Instant;
using perilune::sim::Scenario;

struct Arguments {
  std::uint64_t seed = 1;
  std::uint64_t count = 1;
  std::string scenario;
  bool list = false;
  bool trace = false;
  bool narrate = false;
  bool quiet = false;
};

// What a crash of the program itself prints, so that its seed is not lost.
char replay_line[256];

void on_fatal_signal(int number) {
  const auto ignored = write(STDERR_FILENO, replay_line, std::strlen(replay_line));
  (void)ignored;
  signal(number, SIG_DFL);
  raise(number);
}

void remember(const Scenario& scenario, std::uint64_t seed) {
  std::snprintf(replay_line, sizeof replay_line, "\nreplay: perilune-sim --scenario %s --seed %" PRIu64 "\n",
                scenario.name, seed);
}

perilune::sim::ScenarioOptions options_of(const Arguments& arguments) {
  perilune::sim::ScenarioOptions options;
  if (arguments.trace) {
    options.trace_sink = [](Instant at, Event event, std::uint64_t detail, std::uint64_t hash) {
      std::printf("%" PRId64 " event %u detail %016" PRIx64 " hash %016" PRIx64 "\n",
                  static_cast<std::int64_t>(at.time_since_epoch().count()), static_cast<unsigned>(event),
                  detail, hash);
    };
  }
  if (arguments.narrate) {
    options.narrate = [](Instant at, const std::string& line) {
      std::printf("%" PRId64 " %s\n", static_cast<std::int64_t>(at.time_since_epoch().count()), line.c_str());
    };
  }
  return options;
}

bool run_one(const Scenario& scenario, std::uint64_t seed, const Arguments& arguments) {
  remember(scenario, seed);
  const auto result = scenario.run(seed, options_of(arguments));
  const bool passed = result.problem.empty();
  if (!arguments.quiet || !passed) {
    std::printf("scenario %s seed %" PRIu64 " hash %016" PRIx64 " events %" PRIu64 " %s\n", scenario.name,
                seed, result.trace_hash, result.events, passed ? "ok" : "FAILED");
  }
  if (!passed) std::printf("problem: %s%s", result.problem.c_str(), replay_line);
  std::fflush(stdout);
  return passed;
}

int run_all(const std::vector<const Scenario*>& chosen, const Arguments& arguments) {
  using Clock = std::chrono::steady_clock;
  std::uint64_t runs = 0;
  std::uint64_t failures = 0;
  auto last_word = Clock::now();
  for (const Scenario* scenario : chosen) {
    for (std::uint64_t i = 0; i < arguments.count; ++i) {
      ++runs;
      if (!run_one(*scenario, arguments.seed + i, arguments)) ++failures;
      if (arguments.quiet && Clock::now() - last_word > std::chrono::seconds(5)) {
        last_word = Clock::now();
        std::fprintf(stderr, "%s: %" PRIu64 " of %" PRIu64 " seeds\n", scenario->name, i + 1,
                     arguments.count);
      }
    }
  }
  std::printf("%" PRIu64 " runs, %" PRIu64 " failed\n", runs, failures);
  return failures == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("Runs a target and an initiator in a simulated world; the same seed gives the same run.",
               "perilune-sim");
  app.add_option("--seed", arguments.seed, "the first seed")->capture_default_str();
  app.add_option("--count", arguments.count, "how many seeds, one after the other")->capture_default_str();
  app.add_option("--scenario", arguments.scenario, "one scenario only (see --list)");
  app.add_flag("--list", arguments.list, "names the scenarios");
  app.add_flag("--trace", arguments.trace, "prints every event");
  app.add_flag("--narrate", arguments.narrate, "prints what target and initiator log");
  app.add_flag("--quiet", arguments.quiet, "prints failures and progress only");
  CLI11_PARSE(app, argc, argv);

  std::vector<const Scenario*> chosen;
  for (const Scenario& scenario : perilune::sim::scenarios()) {
    if (arguments.list) std::printf("%-12s %s\n", scenario.name, scenario.summary);
    if (arguments.scenario.empty() || arguments.scenario == scenario.name) chosen.push_back(&scenario);
  }
  if (arguments.list) return 0;
  if (chosen.empty()) {
    std::fprintf(stderr, "perilune-sim: no scenario '%s' (see --list)\n", arguments.scenario.c_str());
    return 2;
  }
  for (const int number : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) signal(number, on_fatal_signal);
  return run_all(chosen, arguments);
}
