// SPDX-License-Identifier: Apache-2.0
#include "cli/serve_media.hpp"

#include <sys/stat.h>

#include <cerrno>

namespace perilune::cli {

Result<MediumFile> MediumFile::open(std::uint16_t lun, std::string path, const block::BackstoreOptions& how) {
  MediumFile file(lun, std::move(path), how);
  auto identity = file.identify();
  if (!identity) return tl::unexpected(identity.error());
  file.identity_ = *identity;
  return file;
}

Result<std::optional<FileIdentity>> MediumFile::identify() const {
  struct stat info{};
  if (::stat(path_.c_str(), &info) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return std::optional<FileIdentity>();
    return fail_errno(errno, path_);
  }
  FileIdentity identity{.device = info.st_dev, .inode = info.st_ino};
  if (how_.read_only && S_ISREG(info.st_mode)) {
    identity.size_bytes = static_cast<std::uint64_t>(info.st_size);
    identity.changed_s = info.st_mtim.tv_sec;
    identity.changed_ns = info.st_mtim.tv_nsec;
  }
  return std::optional(identity);
}

Result<std::optional<MediumFile::Seen>> MediumFile::look() const {
  const auto identity = identify();
  if (!identity) return tl::unexpected(identity.error());
  if (*identity == identity_) return std::optional<Seen>();
  if (!*identity) return std::optional(Seen{});
  auto medium = block::open_backstore(path_, how_);
  if (!medium) return tl::unexpected(medium.error());
  return std::optional(Seen{*identity, std::move(*medium)});
}

}  // namespace perilune::cli
