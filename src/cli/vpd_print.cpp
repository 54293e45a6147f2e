// SPDX-License-Identifier: Apache-2.0
#include "cli/vpd_print.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "initiator/inquiry.hpp"

namespace perilune::cli {

namespace {

using initiator::printable;

class Lines {
 public:
  template <class... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(text_), format, std::forward<Args>(args)...);
    text_ += '\n';
  }
  [[nodiscard]] std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

int bit(std::uint8_t byte, int n) { return (byte >> n) & 1; }

const char* qualifier_name(unsigned q) {
  switch (q) {
    case 0: return "CONNECTED";
    case 1: return "DISCONNECTED";
    case 3: return "NOT_SUPPORTED";
    default: return "RESERVED";
  }
}

const char* version_name(unsigned v) {
  switch (v) {
    case 0: return "NO_STANDARD";
    case 3: return "ANSI INCITS 301-1997 (SPC)";
    case 4: return "ANSI INCITS 351-2001 (SPC-2)";
    case 5: return "ANSI INCITS 408-2005 (SPC-3)";
    case 6: return "ANSI INCITS 513-2015 (SPC-4)";
    case 7: return "ANSI INCITS 566 (SPC-5)";
    default: return "unknown";
  }
}

const char* page_name(unsigned page) {
  switch (page) {
    case 0x00: return "SUPPORTED_VPD_PAGES";
    case 0x80: return "UNIT_SERIAL_NUMBER";
    case 0x83: return "DEVICE_IDENTIFICATION";
    case 0x85: return "MANAGEMENT_NETWORK_ADDRESSES";
    case 0x86: return "EXTENDED_INQUIRY_DATA";
    case 0x87: return "MODE_PAGE_POLICY";
    case 0x88: return "SCSI_PORTS";
    case 0x8f: return "THIRD_PARTY_COPY";
    case 0xb0: return "BLOCK_LIMITS";
    case 0xb1: return "BLOCK_DEVICE_CHARACTERISTICS";
    case 0xb2: return "LOGICAL_BLOCK_PROVISIONING";
    default: return "unknown";
  }
}

const char* code_set_name(unsigned c) {
  switch (c) {
    case 1: return "BINARY";
    case 2: return "ASCII";
    case 3: return "UTF8";
    default: return "RESERVED";
  }
}

const char* association_name(unsigned a) {
  static constexpr const char* names[] = {"LOGICAL_UNIT", "TARGET_PORT", "TARGET_DEVICE", "RESERVED"};
  return names[a & 3];
}

const char* designator_name(unsigned t) {
  static constexpr const char* names[] = {"VENDOR_SPECIFIC",      "T10_VENDOR_ID",      "EUI_64", "NAA", "RELATIVE_TARGET_PORT",
                                          "TARGET_PORT_GROUP",    "LOGICAL_UNIT_GROUP", "MD5_LOGICAL_UNIT_IDENTIFIER",
                                          "SCSI_NAME_STRING",     "PROTOCOL_SPECIFIC_PORT"};
  return t < std::size(names) ? names[t] : "RESERVED";
}

std::string hex(Bytes bytes) {
  std::string out;
  for (std::uint8_t b : bytes) fmt::format_to(std::back_inserter(out), "{:02x}", b);
  return out;
}

void add_designators(Lines& lines, Bytes body) {
  for (std::size_t at = 0, number = 0; at + 4 <= body.size(); ++number) {
    const std::size_t length = body[at + 3];
    if (at + 4 + length > body.size()) {
      lines.add("(cut short)");
      return;
    }
    const Bytes id = body.subspan(at + 4, length);
    const unsigned code_set = body[at] & 0xf;
    const bool piv = bit(body[at + 1], 7) != 0;
    lines.add("DEVICE DESIGNATOR #{}", number);
    if (piv) lines.add("Device Protocol Identifier:({}) {}", body[at] >> 4, (body[at] >> 4) == 5 ? "ISCSI" : "other");
    lines.add("Code Set:({}) {}", code_set, code_set_name(code_set));
    lines.add("PIV:{}", piv ? 1 : 0);
    lines.add("Association:({}) {}", (body[at + 1] >> 4) & 3, association_name((body[at + 1] >> 4) & 3u));
    lines.add("Designator Type:({}) {}", body[at + 1] & 0xf, designator_name(body[at + 1] & 0xfu));
    lines.add("Designator:[{}]", code_set == 2 || code_set == 3 ? printable(id) : hex(id));
    at += 4 + length;
  }
}

void add_block_limits(Lines& lines, Bytes p) {
  if (p.size() >= 16) {
    lines.add("wsnz:{}", bit(p[4], 0));
    lines.add("maximum compare and write length:{}", p[5]);
    lines.add("optimal transfer length granularity:{}", load_be16(p.data() + 6));
    lines.add("maximum transfer length:{}", load_be32(p.data() + 8));
    lines.add("optimal transfer length:{}", load_be32(p.data() + 12));
  }
  if (p.size() >= 36) {
    lines.add("maximum prefetch xdread xdwrite transfer length:{}", load_be32(p.data() + 16));
    lines.add("maximum unmap lba count:{}", load_be32(p.data() + 20));
    lines.add("maximum unmap block descriptor count:{}", load_be32(p.data() + 24));
    lines.add("optimal unmap granularity:{}", load_be32(p.data() + 28));
    lines.add("ugavalid:{}", bit(p[32], 7));
    lines.add("unmap granularity alignment:{}", load_be32(p.data() + 32) & 0x7fffffff);
  }
  if (p.size() >= 44) lines.add("maximum write same length:{}", load_be64(p.data() + 36));
}

void add_provisioning(Lines& lines, Bytes p) {
  if (p.size() < 8) return;
  lines.add("Threshold Exponent:{}", p[4]);
  lines.add("lbpu:{}", bit(p[5], 7));
  lines.add("lbpws:{}", bit(p[5], 6));
  lines.add("lbpws10:{}", bit(p[5], 5));
  lines.add("lbprz:{}", (p[5] >> 2) & 7);
  lines.add("anc_sup:{}", bit(p[5], 1));
  lines.add("dp:{}", bit(p[5], 0));
  static constexpr const char* types[] = {"NOT_REPORTED", "RESOURCE_PROVISIONED", "THIN_PROVISIONED"};
  const unsigned type = p[6] & 7;
  lines.add("provisioning type:{} {}", type, type < std::size(types) ? types[type] : "RESERVED");
}

void add_extended_inquiry(Lines& lines, Bytes p) {
  if (p.size() < 16) return;
  lines.add("activate_microcode:{}", p[4] >> 6);
  lines.add("spt:{}", (p[4] >> 3) & 7);
  lines.add("grd_chk:{} app_chk:{} ref_chk:{}", bit(p[4], 2), bit(p[4], 1), bit(p[4], 0));
  lines.add("uask_sup:{} group_sup:{} prior_sup:{} headsup:{} ordsup:{} simpsup:{}", bit(p[5], 5), bit(p[5], 4), bit(p[5], 3),
            bit(p[5], 2), bit(p[5], 1), bit(p[5], 0));
  lines.add("wu_sup:{} crd_sup:{} nv_sup:{} v_sup:{}", bit(p[6], 3), bit(p[6], 2), bit(p[6], 1), bit(p[6], 0));
  lines.add("luiclr:{}", bit(p[7], 0));
}

}  // namespace

std::string format_inquiry(Bytes d) {
  Lines lines;
  if (d.size() < 36) return "INQUIRY data cut short\n";
  lines.add("Peripheral Qualifier:{}", qualifier_name(d[0] >> 5));
  lines.add("Peripheral Device Type:{}", initiator::peripheral_type_name(d[0] & 0x1f));
  lines.add("Removable:{}", bit(d[1], 7));
  lines.add("Version:{} {}", d[2], version_name(d[2]));
  lines.add("NormACA:{}", bit(d[3], 5));
  lines.add("HiSup:{}", bit(d[3], 4));
  lines.add("ResponseDataFormat:{}", d[3] & 0xf);
  lines.add("SCCS:{}", bit(d[5], 7));
  lines.add("ACC:{}", bit(d[5], 6));
  lines.add("TPGS:{}", (d[5] >> 4) & 3);
  lines.add("3PC:{}", bit(d[5], 3));
  lines.add("Protect:{}", bit(d[5], 0));
  lines.add("EncServ:{}", bit(d[6], 6));
  lines.add("MultiP:{}", bit(d[6], 4));
  lines.add("CmdQue:{}", bit(d[7], 1));
  lines.add("Vendor:{}", printable(d.subspan(8, 8)));
  lines.add("Product:{}", printable(d.subspan(16, 16)));
  lines.add("Revision:{}", printable(d.subspan(32, 4)));
  for (std::size_t at = 58; at + 2 <= std::min<std::size_t>(d.size(), 74); at += 2) {
    if (const unsigned v = load_be16(d.data() + at); v != 0) lines.add("Version Descriptor:{:04x}", v);
  }
  return lines.take();
}

std::string format_vpd(Bytes page) {
  Lines lines;
  if (page.size() < 4) return "page cut short\n";
  const std::size_t end = std::min<std::size_t>(page.size(), 4u + load_be16(page.data() + 2));
  page = page.first(end);
  lines.add("Page:0x{:02x} {}", page[1], page_name(page[1]));
  const Bytes body = page.subspan(4);
  switch (page[1]) {
    case 0x00:
      for (std::uint8_t code : body) lines.add("Supported Page:0x{:02x} {}", code, page_name(code));
      break;
    case 0x80: lines.add("Unit Serial Number:[{}]", printable(body)); break;
    case 0x83: add_designators(lines, body); break;
    case 0x86: add_extended_inquiry(lines, page); break;
    case 0xb0: add_block_limits(lines, page); break;
    case 0xb1:
      if (page.size() >= 8) {
        const unsigned rate = load_be16(page.data() + 4);
        lines.add("Medium Rotation Rate:{}{}", rate, rate == 1 ? " (non-rotating)" : rate == 0 ? " (not reported)" : "");
        lines.add("Product Type:{}", page[6]);
        lines.add("WABEREQ:{} WACEREQ:{} Nominal Form Factor:{}", page[7] >> 6, (page[7] >> 4) & 3, page[7] & 0xf);
      }
      break;
    case 0xb2: add_provisioning(lines, page); break;
    default:
      for (std::size_t at = 0; at < page.size(); at += 16) {
        lines.add("{:04x}: {}", at, hex(page.subspan(at, std::min<std::size_t>(16, page.size() - at))));
      }
  }
  return lines.take();
}

}  // namespace perilune::cli
