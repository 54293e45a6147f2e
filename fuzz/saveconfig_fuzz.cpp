// SPDX-License-Identifier: Apache-2.0
// saveconfig.json and the changes of the journal: no text crashes their readers, and what was read is written
// and read back the same.
#include <cstdint>
#include <string_view>

#include "config/target/codec.hpp"
#include "config/target/saveconfig.hpp"
#include "config/target/targets_conf.hpp"
#include "fuzz_input.hpp"

namespace {

using namespace perilune;
using namespace perilune::config::target;

void saveconfig(std::string_view text) {
  const auto loaded = read_saveconfig(text);
  if (!loaded) return;
  const std::string written = write_saveconfig(loaded->configuration);
  const auto again = read_saveconfig(written);
  fuzz::require(again.has_value());
  fuzz::require(write_saveconfig(again->configuration) == written);
}

void change(std::string_view text) {
  const auto json = parse_json(text);
  if (!json) return;
  const auto read = change_from_json(*json);
  if (!read) return;
  Configuration configuration;
  const auto inverse = configuration.apply(*read);
  if (!inverse) return;
  const auto again = change_from_json(change_to_json(*read));
  fuzz::require(again.has_value() && *again == *read);
  fuzz::require(configuration.apply(*inverse).has_value() && configuration == Configuration{});
}

// Files that include themselves and each other.
struct World : ConfWorld {
  std::string_view text;
  Result<std::vector<ConfFile>> include(const std::string& pattern) override {
    if (pattern.size() > 4) return fail(Errc::not_found, "no such file");
    return std::vector<ConfFile>(pattern.size() % 3,
                                 ConfFile{pattern, std::string(text.substr(text.size() / 2))});
  }
  bool is_block_device(const std::string& path) override { return path.starts_with("/dev"); }
};

void targets_conf(std::string_view text) {
  World world;
  world.text = text;
  const auto loaded = read_targets_conf({"f", std::string(text)}, world, {{"0.0.0.0", 3260}});
  if (!loaded) return;
  const auto again = read_saveconfig(write_saveconfig(loaded->configuration));
  fuzz::require(again.has_value() && again->configuration == loaded->configuration);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 3) {
    case 0:
      saveconfig(text);
      break;
    case 1:
      change(text);
      break;
    default:
      targets_conf(text);
      break;
  }
  return 0;
}
