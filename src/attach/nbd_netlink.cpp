// SPDX-License-Identifier: Apache-2.0
#include "attach/nbd_netlink.hpp"

#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>

#include "attach/mounts.hpp"
#include "base/assert.hpp"
#include "runtime/posix/unique_fd.hpp"

namespace perilune::attach {

using runtime::posix::UniqueFd;

namespace {

constexpr std::size_t max_message_bytes = 2048;

// One request: header, generic header, attributes. Everything we send fits.
class Message {
 public:
  Message(std::uint16_t family, std::uint8_t command, std::uint8_t version) {
    nlmsghdr header{};
    header.nlmsg_type = family;
    header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    append(&header, sizeof header);
    genlmsghdr generic{};
    generic.cmd = command;
    generic.version = version;
    append(&generic, sizeof generic);
  }
  void put(std::uint16_t type, std::string_view text) {
    const std::size_t at = begin(type);
    append(text.data(), text.size());
    append("", 1);
    end(at);
  }
  template <class T>
  void put_number(std::uint16_t type, T value) {
    const std::size_t at = begin(type);
    append(&value, sizeof value);
    end(at);
  }
  [[nodiscard]] std::size_t begin(std::uint16_t type) {
    const nlattr attribute{0, type};
    const std::size_t at = used_;
    append(&attribute, sizeof attribute);
    return at;
  }
  void end(std::size_t at) {
    const auto length = static_cast<std::uint16_t>(used_ - at);
    std::memcpy(bytes_.data() + at, &length, sizeof length);
    while (used_ % NLA_ALIGNTO != 0) append("", 1);
  }
  [[nodiscard]] std::span<const std::uint8_t> finished() {
    const auto length = static_cast<std::uint32_t>(used_);
    std::memcpy(bytes_.data(), &length, sizeof length);
    return {bytes_.data(), used_};
  }

 private:
  void append(const void* from, std::size_t size) {
    PERILUNE_ASSERT(used_ + size <= bytes_.size());
    std::memcpy(bytes_.data() + used_, from, size);
    used_ += size;
  }
  alignas(nlmsghdr) std::array<std::uint8_t, max_message_bytes> bytes_{};
  std::size_t used_ = 0;
};

// The attribute of an answer, or nothing.
template <class T>
std::optional<T> find_number(std::span<const std::uint8_t> attributes, std::uint16_t type) {
  while (attributes.size() >= sizeof(nlattr)) {
    nlattr attribute{};
    std::memcpy(&attribute, attributes.data(), sizeof attribute);
    if (attribute.nla_len < sizeof attribute || attribute.nla_len > attributes.size()) break;
    if ((attribute.nla_type & NLA_TYPE_MASK) == type && attribute.nla_len >= sizeof attribute + sizeof(T)) {
      T value{};
      std::memcpy(&value, attributes.data() + sizeof attribute, sizeof value);
      return value;
    }
    const std::size_t next = (std::size_t{attribute.nla_len} + NLA_ALIGNTO - 1) / NLA_ALIGNTO * NLA_ALIGNTO;
    if (next >= attributes.size()) break;
    attributes = attributes.subspan(next);
  }
  return std::nullopt;
}

class Netlink {
 public:
  [[nodiscard]] static Result<Netlink> open() {
    UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC));
    if (!fd.valid()) return fail_errno(errno, "netlink");
    Netlink netlink;
    netlink.fd_ = std::move(fd);
    return netlink;
  }

  // Sends and reads until the acknowledgement; the attribute `wanted` of what came before it, when there was
  // one.
  template <class T>
  [[nodiscard]] Result<std::optional<T>> ask(Message& message, std::uint16_t wanted) {
    const auto bytes = message.finished();
    if (::send(fd_.get(), bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
      return fail_errno(errno, "netlink");
    }
    std::optional<T> found;
    for (;;) {
      alignas(nlmsghdr) std::array<std::uint8_t, 8192> answer{};
      const ssize_t n = ::recv(fd_.get(), answer.data(), answer.size(), 0);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return fail_errno(errno, "netlink");
      std::span<const std::uint8_t> rest(answer.data(), static_cast<std::size_t>(n));
      nlmsghdr header{};
      while (rest.size() >= sizeof header) {
        std::memcpy(&header, rest.data(), sizeof header);
        if (header.nlmsg_len < sizeof header || header.nlmsg_len > rest.size())
          return fail(Errc::internal, "netlink: an answer that ends inside itself");
        const auto body = rest.first(header.nlmsg_len).subspan(sizeof header);
        if (header.nlmsg_type == NLMSG_ERROR) {
          int error = -EPROTO;
          if (body.size() >= sizeof error) std::memcpy(&error, body.data(), sizeof error);
          if (error != 0) return fail_errno(-error, "netlink");
          return found;
        }
        if (body.size() >= sizeof(genlmsghdr)) {
          if (const auto value = find_number<T>(body.subspan(sizeof(genlmsghdr)), wanted)) found = value;
        }
        const std::size_t next = NLMSG_ALIGN(std::size_t{header.nlmsg_len});
        rest = next >= rest.size() ? std::span<const std::uint8_t>() : rest.subspan(next);
      }
    }
  }

  // The number of the client's family in this kernel.
  [[nodiscard]] Result<std::uint16_t> nbd_family() {
    Message message(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 1);
    message.put(CTRL_ATTR_FAMILY_NAME, NBD_GENL_FAMILY_NAME);
    const auto family = ask<std::uint16_t>(message, CTRL_ATTR_FAMILY_ID);
    if (!family || !*family) return fail(Errc::unsupported, "this kernel has no NBD client (nbd.ko)");
    return **family;
  }

 private:
  UniqueFd fd_;
};

}  // namespace

Result<int> nbd_connect(const NbdSettings& settings, std::span<const int> sockets) {
  auto netlink = Netlink::open();
  if (!netlink) return tl::unexpected(netlink.error());
  const auto family = netlink->nbd_family();
  if (!family) return tl::unexpected(family.error());
  Message message(*family, NBD_CMD_CONNECT, NBD_GENL_VERSION);
  message.put_number<std::uint64_t>(NBD_ATTR_SIZE_BYTES, settings.size_bytes);
  message.put_number<std::uint64_t>(NBD_ATTR_BLOCK_SIZE_BYTES, settings.block_size_bytes);
  message.put_number<std::uint64_t>(NBD_ATTR_TIMEOUT, 0);
  message.put_number<std::uint64_t>(NBD_ATTR_DEAD_CONN_TIMEOUT, 0);  // a dead server's I/O fails at once
  message.put_number<std::uint64_t>(NBD_ATTR_SERVER_FLAGS, settings.server_flags);
  message.put(NBD_ATTR_BACKEND_IDENTIFIER, settings.identifier);
  const std::size_t list = message.begin(NBD_ATTR_SOCKETS | NLA_F_NESTED);
  for (const int socket : sockets) {
    const std::size_t item = message.begin(NBD_SOCK_ITEM | NLA_F_NESTED);
    message.put_number<std::uint32_t>(NBD_SOCK_FD, static_cast<std::uint32_t>(socket));
    message.end(item);
  }
  message.end(list);
  const auto number = netlink->ask<std::uint32_t>(message, NBD_ATTR_INDEX);
  if (!number) return tl::unexpected(number.error());
  if (!*number) return fail(Errc::internal, "the NBD client did not say which device it took");
  return static_cast<int>(**number);
}

Status nbd_disconnect(int number) {
  auto netlink = Netlink::open();
  if (!netlink) return tl::unexpected(netlink.error());
  const auto family = netlink->nbd_family();
  if (!family) return tl::unexpected(family.error());
  Message message(*family, NBD_CMD_DISCONNECT, NBD_GENL_VERSION);
  message.put_number<std::uint32_t>(NBD_ATTR_INDEX, static_cast<std::uint32_t>(number));
  if (const auto done = netlink->ask<std::uint32_t>(message, NBD_ATTR_INDEX); !done) {
    return tl::unexpected(done.error());
  }
  return {};
}

std::vector<int> all_nbds() {
  std::vector<int> numbers;
  for (const std::string& name : all_disks()) {
    int number = -1;
    const char* const end = name.data() + name.size();
    if (name.starts_with("nbd") && std::from_chars(name.data() + 3, end, number).ptr == end)
      numbers.push_back(number);
  }
  return numbers;
}

std::string nbd_name(int number) { return "nbd" + std::to_string(number); }

std::string nbd_identifier(int number) {
  return read_small_file("/sys/block/" + nbd_name(number) + "/backend");
}

}  // namespace perilune::attach
