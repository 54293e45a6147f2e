// SPDX-License-Identifier: Apache-2.0
// Record files, iscsid.conf, initiatorname.iscsi, portals and frames of the control socket: no text crashes
// their readers, and a record that was read and stored reads back the same.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "config/iscsid_conf.hpp"
#include "config/portal.hpp"
#include "config/record.hpp"
#include "control/frame.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace perilune;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 6) {
    case 0:
    case 1:
    case 2: {
      const auto kind = static_cast<config::RecordKind>(data[0] % 3);
      const auto parsed = config::parse_record(kind, text);
      if (!parsed) break;
      const auto again = config::parse_record(kind, parsed->record.store());
      if (!again || !(again->record == parsed->record)) std::abort();
      break;
    }
    case 3:
      (void)config::parse_iscsid_conf(text);
      (void)config::parse_initiator_name(text);
      break;
    case 4:
      (void)config::Portal::parse(text);
      (void)config::is_iscsi_name(text);
      break;
    case 5: {
      control::FrameReader reader(control::max_request_bytes);
      reader.append(text);
      for (;;) {
        const auto frame = reader.next();
        if (!frame || !*frame) break;
        (void)control::session_from_json(**frame);
        (void)control::record_from_json(config::RecordKind::node, **frame);
      }
      break;
    }
  }
  return 0;
}
