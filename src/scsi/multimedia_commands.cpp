// SPDX-License-Identifier: Apache-2.0
// MMC-6: what a drive tells of itself and of its disc. Everything is derived from the number of blocks: up to
// the 80 minutes that a compact disc holds it is a CD-ROM, beyond it a DVD-ROM.
#include "scsi/multimedia_commands.hpp"

#include <algorithm>

#include "scsi/device.hpp"
#include "scsi/handlers.hpp"
#include "scsi/multimedia.hpp"
#include "scsi/transfer.hpp"

namespace perilune::scsi {
namespace {

using Buffer = std::vector<std::uint8_t>;

constexpr std::uint16_t profile_none = 0x0000, profile_cd_rom = 0x0008, profile_dvd_rom = 0x0010;
constexpr std::uint64_t blocks_per_second = 75;
constexpr std::uint64_t pregap_blocks = 150;                           // LBA 0 is at 00:02:00
constexpr std::uint64_t max_cd_blocks = 80 * 60 * blocks_per_second;  // minutes
constexpr std::uint8_t data_track = 0x14;  // ADR 1: position; CONTROL 4: data, copying prohibited
constexpr std::uint8_t lead_out = 0xaa;                                // as a track number

std::uint64_t blocks_of(const LogicalUnit& unit) noexcept { return unit.geometry().blocks.value(); }

std::uint16_t profile_of(const LogicalUnit& unit) noexcept {
  if (!unit.medium_present()) return profile_none;
  return blocks_of(unit) <= max_cd_blocks ? profile_cd_rom : profile_dvd_rom;
}

// Minute, second, frame, as READ TOC gives them in three bytes; what a disc of 255 minutes cannot name is its
// end.
void store_msf(std::uint8_t* out, std::uint64_t lba) {
  const std::uint64_t at = std::min<std::uint64_t>(
      lba + pregap_blocks, 255 * 60 * blocks_per_second + 59 * blocks_per_second + 74);
  out[0] = static_cast<std::uint8_t>(at / (60 * blocks_per_second));
  out[1] = static_cast<std::uint8_t>(at / blocks_per_second % 60);
  out[2] = static_cast<std::uint8_t>(at % blocks_per_second);
}

void store_address(std::uint8_t* out, std::uint64_t lba, bool msf) {
  if (msf) store_msf(out + 1, lba);
  else store_be32(out, static_cast<std::uint32_t>(lba));
}

Progress invalid(Command& command, std::uint16_t byte, std::uint8_t bit = 7) {
  invalid_field_in_cdb(command.task, byte, bit);
  return Progress::over;
}

// Sets a two-byte length that counts what comes behind it, and answers.
Progress reply_with_length(Command& command, std::size_t allocation) {
  Buffer& out = command.task.parameter_data;
  store_be16(out.data(), static_cast<std::uint16_t>(out.size() - 2));
  return reply(command.task, allocation);
}

}  // namespace

bool is_compact_disc(const LogicalUnit& unit) noexcept { return profile_of(unit) == profile_cd_rom; }

// ---- MODE SENSE, MODE SELECT (MMC-6 7.2, 6.12): nothing in the pages can be changed

namespace {

Buffer recovery_page() { return {0x01, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}; }

// C/DVD capabilities and mechanical status: what drivers ask to learn that this is a drive that ejects and
// reads DVDs.
Buffer capabilities_page(const LogicalUnit& unit, bool changeable) {
  Buffer page(26, 0);
  page[0] = 0x2a;
  page[1] = static_cast<std::uint8_t>(page.size() - 2);
  if (changeable) return page;
  page[2] = 0x08 | 0x02 | 0x01;  // reads DVD-ROM, CD-RW, CD-R
  // tray, eject, lock; locked
  page[6] = static_cast<std::uint8_t>(0x20 | 0x08 | 0x01 | (unit.removal_prevented() ? 0x02 : 0));
  return page;
}

// Pages of this drive in `out`; false: there is no such page.
bool append_pages(Buffer& out, const LogicalUnit& unit, std::uint8_t code, bool changeable) {
  const std::size_t before = out.size();
  const auto append = [&](std::uint8_t page_code, const Buffer& page) {
    if (code == page_code || code == 0x3f) out.insert(out.end(), page.begin(), page.end());
  };
  append(0x01, recovery_page());
  append(0x2a, capabilities_page(unit, changeable));
  return out.size() != before;
}

Progress multimedia_mode_sense(Command& command, std::size_t header, std::size_t allocation) {
  Task& task = command.task;
  const auto control = static_cast<std::uint8_t>(task.cdb[2] >> 6);
  const std::uint8_t subpage = task.cdb[3];
  if (control == 3) {
    fail_command(task, SenseKey::illegal_request, asc::saving_parameters_not_supported);
    return Progress::over;
  }
  if (subpage != 0 && subpage != 0xff) return invalid(command, 3);
  Buffer& out = task.parameter_data;
  out.assign(header, 0);
  if (!append_pages(out, command.unit, task.cdb[2] & 0x3f, control == 1)) return invalid(command, 2, 5);
  if (header == 8) store_be16(out.data(), static_cast<std::uint16_t>(out.size() - 2));
  else out[0] = static_cast<std::uint8_t>(out.size() - 1);
  return reply(task, allocation);
}

}  // namespace

Progress run_multimedia_mode_sense_6(Command& command) {
  return multimedia_mode_sense(command, 4, command.task.cdb[4]);
}

Progress run_multimedia_mode_sense_10(Command& command) {
  return multimedia_mode_sense(command, 8, load_be16(command.task.cdb.data() + 7));
}

bool admit_multimedia_mode_select(Command& command) {
  Task& task = command.task;
  const std::uint16_t length = load_be16(task.cdb.data() + 7);
  if ((task.cdb[1] & 0x10) == 0 && length != 0) {  // PF
    invalid_field_in_cdb(task, 1, std::uint8_t{4});
    return false;
  }
  task.data_transfer_length = length;
  task.need.data_out_bytes = std::min<std::uint32_t>(length, task.expected_data_out_bytes);
  return true;
}

namespace {

constexpr std::size_t mode_header_bytes = 8;

Progress wrong_list(Command& command, std::size_t byte) {
  invalid_field_in_parameters(command.task, static_cast<std::uint16_t>(byte));
  return Progress::over;
}

Progress list_too_short(Command& command) {
  fail_command(command.task, SenseKey::illegal_request, asc::parameter_list_length_error);
  return Progress::over;
}

}  // namespace

// Every page has to be as MODE SENSE gives it, PS aside.
Progress run_multimedia_mode_select(Command& command) {
  Task& task = command.task;
  Buffer list(task.need.data_out_bytes);
  (void)gather(task.data, 0, list);
  if (task.data_transfer_length == 0) return good(task);
  if (list.size() < task.data_transfer_length || list.size() < mode_header_bytes)
    return list_too_short(command);
  if (load_be16(&list[6]) != 0) return wrong_list(command, 6);  // BLOCK DESCRIPTOR LENGTH
  for (std::size_t at = mode_header_bytes; at < list.size();) {
    Buffer page;
    if ((list[at] & 0x40) != 0 || (list[at] & 0x3f) == 0x3f ||
        !append_pages(page, command.unit, list[at] & 0x3f, false)) {
      return wrong_list(command, at);
    }
    list[at] &= 0x3f;
    for (std::size_t i = 0; i < page.size(); ++i) {
      if (at + i == list.size()) return list_too_short(command);
      if (list[at + i] != page[i]) return wrong_list(command, at + i);
    }
    at += page.size();
  }
  return good(task);
}

// ---- READ SUB-CHANNEL (MMC-6 6.24), SET CD SPEED (6.35)

// A track of data has no sub-channel to be played: no audio status, no catalogue number, no ISRC.
Progress run_read_sub_channel(Command& command) {
  Task& task = command.task;
  const bool msf = (task.cdb[1] & 0x02) != 0;
  const bool wanted = (task.cdb[2] & 0x40) != 0;  // SUBQ
  const std::uint8_t format = task.cdb[3];
  if (!is_compact_disc(command.unit)) {
    fail_command(task, SenseKey::illegal_request, asc::incompatible_medium);
    return Progress::over;
  }
  if (wanted && (format == 0 || format > 3)) return invalid(command, 3);
  if (wanted && format == 3 && task.cdb[6] != 1) return invalid(command, 6);
  Buffer& out = task.parameter_data;
  out.assign(4, 0);
  out[1] = 0x15;  // no current audio status
  if (wanted) {
    out.resize(format == 1 ? 16 : 24);
    out[4] = format;
    if (format == 1) {
      out[5] = data_track;
      out[6] = out[7] = 1;  // track, index
      store_address(&out[8], 0, msf);
    }
    if (format == 3) {
      out[5] = data_track;
      out[6] = 1;
    }
  }
  store_be16(&out[2], static_cast<std::uint16_t>(out.size() - 4));
  return reply(task, load_be16(task.cdb.data() + 7));
}

// A drive takes the speed that is nearest to what it was asked for; there is one.
Progress run_set_cd_speed(Command& command) { return good(command.task); }

// ---- READ TOC/PMA/ATIP (MMC-6 6.25)

namespace {

// Format 0: each track from the one asked for on, then the lead-out.
bool append_tracks(Buffer& out, const LogicalUnit& unit, std::uint8_t first, bool msf) {
  if (first > 1 && first != lead_out) return false;
  out.insert(out.end(), {1, 1});  // first and last track
  const auto append = [&](std::uint8_t track, std::uint64_t lba) {
    const std::size_t at = out.size();
    out.resize(at + 8);
    out[at + 1] = data_track;
    out[at + 2] = track;
    store_address(&out[at + 4], lba, msf);
  };
  if (first <= 1) append(1, 0);
  append(lead_out, blocks_of(unit));
  return true;
}

// Format 1: where the last session begins.
void append_sessions(Buffer& out, bool msf) {
  out.insert(out.end(), {1, 1, 0, data_track, 1, 0, 0, 0, 0, 0});
  store_address(&out[out.size() - 4], 0, msf);
}

// Format 2: the raw table of a compact disc: the first track, the last, the lead-out, and the track itself.
void append_raw(Buffer& out, const LogicalUnit& unit) {
  out.insert(out.end(), {1, 1});
  const auto append = [&](std::uint8_t point, std::uint8_t m, std::uint8_t s, std::uint8_t f) {
    out.insert(out.end(), {1, data_track, 0, point, 0, 0, 0, 0, m, s, f});
  };
  std::uint8_t end[3], begin[3];
  store_msf(end, blocks_of(unit));
  store_msf(begin, 0);
  append(0xa0, 1, 0, 0);  // and the disc type: CD-ROM
  append(0xa1, 1, 0, 0);
  append(0xa2, end[0], end[1], end[2]);
  append(0x01, begin[0], begin[1], begin[2]);
}

}  // namespace

Progress run_read_toc(Command& command) {
  Task& task = command.task;
  const auto& cdb = task.cdb;
  const bool msf = (cdb[1] & 0x02) != 0;
  std::uint8_t format = cdb[2] & 0x0f;
  if (format == 0) format = static_cast<std::uint8_t>(cdb[9] >> 6);  // where drivers older than MMC-2 put it
  Buffer& out = task.parameter_data;
  out.assign(2, 0);
  switch (format) {
    case 0:
      if (!append_tracks(out, command.unit, cdb[6], msf)) return invalid(command, 6);
      break;
    case 1: append_sessions(out, msf); break;
    case 2:
      if (profile_of(command.unit) != profile_cd_rom) return invalid(command, 2, 3);
      append_raw(out, command.unit);
      break;
    default: return invalid(command, 2, 3);
  }
  return reply_with_length(command, load_be16(cdb.data() + 7));
}

// ---- GET CONFIGURATION (MMC-6 6.5, features in 5.3)

namespace {

struct Feature {
  std::uint16_t code;
  std::uint8_t version;  // VERSION and PERSISTENT as they stand in byte 2, without CURRENT
  bool (*current)(const LogicalUnit&);
  void (*append)(Buffer&, const LogicalUnit&);
};

constexpr std::uint8_t persistent = 0x02;
bool is_always(const LogicalUnit&) { return true; }
bool with_disc(const LogicalUnit& unit) { return unit.medium_present(); }
bool with_cd(const LogicalUnit& unit) { return profile_of(unit) == profile_cd_rom; }
bool with_dvd(const LogicalUnit& unit) { return profile_of(unit) == profile_dvd_rom; }

void append_nothing(Buffer&, const LogicalUnit&) {}
void append_profiles(Buffer& out, const LogicalUnit& unit) {
  for (const std::uint16_t profile : {profile_dvd_rom, profile_cd_rom}) {
    const bool current = profile_of(unit) == profile;
    out.insert(out.end(), {static_cast<std::uint8_t>(profile >> 8), static_cast<std::uint8_t>(profile),
                           current ? std::uint8_t{1} : std::uint8_t{0}, 0});
  }
}
void append_core(Buffer& out, const LogicalUnit&) {
  out.insert(out.end(), {0, 0, 0, 1, 0x01, 0, 0, 0});
}  // SCSI family; DBE
void append_removable(Buffer& out, const LogicalUnit&) {
  out.insert(out.end(), {0x20 | 0x08 | 0x01, 0, 0, 0});  // tray, Eject, Lock
}
void append_random_readable(Buffer& out, const LogicalUnit& unit) {
  const std::uint8_t blocking = with_dvd(unit) ? 16 : 1;  // blocks of an ECC block
  out.insert(out.end(), {0, 0, 0x08, 0, 0, blocking, 0, 0});
}
void append_cd_read(Buffer& out, const LogicalUnit&) { out.insert(out.end(), {0, 0, 0, 0}); }

constexpr Feature features[] = {  // ascending
    {0x0000, persistent, is_always, append_profiles},
    {0x0001, 2 << 2 | persistent, is_always, append_core},
    {0x0003, persistent, is_always, append_removable},
    {0x0010, 0, with_disc, append_random_readable},
    {0x001d, 0, with_cd, append_nothing},    // multi-read
    {0x001e, 2 << 2, with_cd, append_cd_read},
    {0x001f, 0, with_dvd, append_nothing},   // DVD read
};

void append_feature(Buffer& out, const Feature& feature, const LogicalUnit& unit) {
  const std::size_t at = out.size();
  out.insert(out.end(),
             {static_cast<std::uint8_t>(feature.code >> 8), static_cast<std::uint8_t>(feature.code),
              static_cast<std::uint8_t>(feature.version | (feature.current(unit) ? 1 : 0)), 0});
  feature.append(out, unit);
  out[at + 3] = static_cast<std::uint8_t>(out.size() - at - 4);
}

}  // namespace

Progress run_get_configuration(Command& command) {
  Task& task = command.task;
  const auto& cdb = task.cdb;
  const std::uint8_t type = cdb[1] & 0x03;  // RT: 0 all, 1 those that are current, 2 one
  const std::uint16_t start = load_be16(cdb.data() + 2);
  if (type == 3) return invalid(command, 1, 1);
  Buffer& out = task.parameter_data;
  out.assign(8, 0);
  store_be16(&out[6], profile_of(command.unit));
  for (const Feature& feature : features) {
    if (feature.code < start || (type == 2 && feature.code != start)) continue;
    if (type != 1 || feature.current(command.unit)) append_feature(out, feature, command.unit);
  }
  store_be32(out.data(), static_cast<std::uint32_t>(out.size() - 4));
  return reply(task, load_be16(cdb.data() + 7));
}

// ---- GET EVENT STATUS NOTIFICATION (MMC-6 6.6): polled, of the media class

Progress run_get_event_status_notification(Command& command) {
  constexpr std::uint8_t media_class = 4;
  Task& task = command.task;
  if ((task.cdb[1] & 0x01) == 0) return invalid(command, 1, 0);  // nobody waits here for an event
  Buffer& out = task.parameter_data;
  out.assign(4, 0);
  out[3] = 1u << media_class;
  if ((task.cdb[4] & (1u << media_class)) == 0) {
    out[2] = 0x80;  // NEA: no class that was asked for has events
  } else {
    out[2] = media_class;
    const std::uint16_t allocation = load_be16(task.cdb.data() + 7);
    const MediaEvent event = allocation > 4 ? task.nexus->take_media_event(command.unit) : MediaEvent::none;
    const std::uint8_t disc_or_open_tray = command.unit.medium_present() ? 0x02 : 0x01;
    out.insert(out.end(), {static_cast<std::uint8_t>(event), disc_or_open_tray, 0, 0});
  }
  return reply_with_length(command, load_be16(task.cdb.data() + 7));
}

// ---- READ DISC INFORMATION, READ TRACK INFORMATION (MMC-6 6.21, 6.26)

Progress run_read_disc_information(Command& command) {
  if ((command.task.cdb[1] & 0x07) != 0) return invalid(command, 1, 2);  // standard information alone
  Buffer& out = command.task.parameter_data;
  out.assign(34, 0);
  out[2] = 0x0e;                 // last session complete, disc finalized
  out[3] = out[4] = out[5] = out[6] = 1;  // first track; sessions; first and last track of the last session
  out[7] = 0x20;                 // URU: anybody may use it
  std::fill(out.begin() + 16, out.begin() + 24, std::uint8_t{0xff});  // nothing more can be written
  return reply_with_length(command, load_be16(command.task.cdb.data() + 7));
}

Progress run_read_track_information(Command& command) {
  Task& task = command.task;
  const std::uint8_t type = task.cdb[1] & 0x03;  // of the address: 0 LBA, 1 track, 2 session
  const std::uint32_t address = load_be32(task.cdb.data() + 2);
  if (type == 3) return invalid(command, 1, 1);
  if (type == 0 ? address >= blocks_of(command.unit) : address != 1) return invalid(command, 2);
  Buffer& out = task.parameter_data;
  out.assign(36, 0);
  out[2] = out[3] = 1;          // track, session
  out[5] = data_track & 0x0f;   // TRACK MODE
  out[6] = 0x01;                // DATA MODE 1
  store_be32(&out[24], static_cast<std::uint32_t>(blocks_of(command.unit)));
  return reply_with_length(command, load_be16(task.cdb.data() + 7));
}

// ---- READ DVD STRUCTURE (MMC-6 6.22) and MECHANISM STATUS (6.11)

namespace {

constexpr std::uint32_t first_dvd_sector = 0x030000;  // where the data area of a DVD-ROM begins

void append_physical_format(Buffer& out, const LogicalUnit& unit) {
  const std::size_t at = out.size();
  out.resize(at + 2048);
  out[at] = 0x01;      // DVD-ROM, version 1
  out[at + 1] = 0x0f;  // 120 mm, no maximum rate
  out[at + 2] = 0x01;  // one layer, embossed
  store_be32(&out[at + 4], first_dvd_sector);
  store_be32(&out[at + 8], static_cast<std::uint32_t>(
                               std::min<std::uint64_t>(first_dvd_sector + blocks_of(unit) - 1, 0xffffff)));
}

void append_structure_list(Buffer& out) {
  out.insert(out.end(), {0x00, 0x40, 0x08, 0x04,    // SDS: readable
                         0x01, 0x40, 0x00, 0x08,
                         0x04, 0x40, 0x08, 0x04});
}

}  // namespace

Progress run_read_dvd_structure(Command& command) {
  Task& task = command.task;
  const std::uint8_t format = task.cdb[7];
  if ((task.cdb[1] & 0x0f) != 0) return invalid(command, 1, 3);  // media type: DVD
  if (task.cdb[6] != 0) return invalid(command, 6);              // layer
  Buffer& out = task.parameter_data;
  out.assign(4, 0);
  if (format == 0xff) {
    append_structure_list(out);
    return reply_with_length(command, load_be16(task.cdb.data() + 8));
  }
  if (profile_of(command.unit) != profile_dvd_rom) {
    fail_command(task, SenseKey::illegal_request, asc::incompatible_medium);
    return Progress::over;
  }
  switch (format) {
    case 0x00: append_physical_format(out, command.unit); break;
    case 0x01: out.resize(out.size() + 4); break;     // no copyright protection, every region
    case 0x04: out.resize(out.size() + 2048); break;  // manufacturing information: none
    default: return invalid(command, 7);
  }
  return reply_with_length(command, load_be16(task.cdb.data() + 8));
}

Progress run_mechanism_status(Command& command) {
  Task& task = command.task;
  task.parameter_data.assign(8, 0);
  task.parameter_data[1] = command.unit.medium_present() ? 0x00 : 0x10;  // door open
  return reply(task, load_be16(task.cdb.data() + 8));
}

}  // namespace perilune::scsi
