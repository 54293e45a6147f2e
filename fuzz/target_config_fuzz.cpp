// SPDX-License-Identifier: Apache-2.0
// saveconfig.json and the changes of the journal: no text crashes their readers, and what was read is written
// and read back the same.
#include <cstdint>
#include <string_view>

#include "config/target/codec.hpp"
#include "config/target/saveconfig.hpp"
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

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 2 == 0) {
    saveconfig(text);
  } else {
    change(text);
  }
  return 0;
}
