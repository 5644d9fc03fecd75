// SPDX-License-Identifier: Apache-2.0
// Owns the hash of canonical bytes, and with it what a tenant and a key of the flat door are
// called.
#include "core/canonical.h"

#include <openssl/evp.h>

#include <array>

#include "core/check.h"

namespace mempool {

Result<ContentId> content_hash(const CanonicalBytes& canonical) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  if (EVP_Digest(canonical.bytes().data(), canonical.bytes().size(), digest.data(), nullptr,
                 EVP_sha256(), nullptr) != 1) {
    return internal_error("OpenSSL gives no SHA-256; check its installation");
  }
  ContentId id;
  for (size_t i = 0; i < sizeof(id.words); ++i) {
    id.words[i / 8] = id.words[i / 8] << 8 | digest[i];
  }
  return id;
}

Result<uint64_t> tenant_hash(std::string_view salt) {
  if (salt.empty()) return uint64_t{0};
  CanonicalBytes bytes;
  bytes.add("mempool tenant 1");
  bytes.add(salt);
  MEMPOOL_ASSIGN_OR_RETURN(const ContentId hash, content_hash(bytes));
  return hash.words[0];
}

Result<ContentId> key_hash(std::string_view key) {
  CanonicalBytes bytes;
  bytes.add("mempool key 1");
  bytes.add(key);
  return content_hash(bytes);
}

}  // namespace mempool
