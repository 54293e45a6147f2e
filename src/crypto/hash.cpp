// SPDX-License-Identifier: Apache-2.0
#include "crypto/hash.hpp"

#include <openssl/evp.h>

#include <memory>
#include <string>

namespace perilune::crypto {
namespace {

struct FreeMd {
  void operator()(EVP_MD* md) const noexcept { EVP_MD_free(md); }
};
struct FreeContext {
  void operator()(EVP_MD_CTX* context) const noexcept { EVP_MD_CTX_free(context); }
};
using MdUp = std::unique_ptr<EVP_MD, FreeMd>;

MdUp fetch(const char* name) {
  MdUp md(EVP_MD_fetch(nullptr, name, nullptr));
  if (!md) md.reset(EVP_MD_fetch(nullptr, name, "-fips"));
  return md;
}

// Fetching is slow, so each algorithm is fetched once in the life of the process.
const EVP_MD* find(HashAlgorithm algorithm) {
  switch (algorithm) {
    case HashAlgorithm::md5: {
      static const MdUp md = fetch("MD5");
      return md.get();
    }
    case HashAlgorithm::sha1: {
      static const MdUp md = fetch("SHA1");
      return md.get();
    }
    case HashAlgorithm::sha256: {
      static const MdUp md = fetch("SHA256");
      return md.get();
    }
    case HashAlgorithm::sha3_256: {
      static const MdUp md = fetch("SHA3-256");
      return md.get();
    }
  }
  return nullptr;
}

}  // namespace

std::string_view to_string(HashAlgorithm algorithm) noexcept {
  switch (algorithm) {
    case HashAlgorithm::md5: return "MD5";
    case HashAlgorithm::sha1: return "SHA1";
    case HashAlgorithm::sha256: return "SHA256";
    case HashAlgorithm::sha3_256: return "SHA3-256";
  }
  return "unknown";
}

Result<HashValue> hash(HashAlgorithm algorithm, std::initializer_list<Bytes> parts) {
  const EVP_MD* md = find(algorithm);
  const std::unique_ptr<EVP_MD_CTX, FreeContext> context(EVP_MD_CTX_new());
  if (md == nullptr || !context || EVP_DigestInit_ex(context.get(), md, nullptr) != 1) {
    return fail(Errc::unsupported,
                "the system's OpenSSL does not offer " + std::string(to_string(algorithm)));
  }
  for (const Bytes part : parts) {
    if (EVP_DigestUpdate(context.get(), part.data(), part.size()) != 1)
      return fail(Errc::internal, "digest failed");
  }
  HashValue value;
  unsigned int size = 0;
  if (EVP_DigestFinal_ex(context.get(), value.data.data(), &size) != 1)
    return fail(Errc::internal, "digest failed");
  value.size = size;
  return value;
}

}  // namespace perilune::crypto
