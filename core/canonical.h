// SPDX-License-Identifier: Apache-2.0
// Owns the one way in which fields are written before they are hashed: equal bytes mean equal
// fields.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "mempool/content.h"
#include "mempool/status.h"

namespace mempool {

/// Fields in a row, each string behind its length, so that no two lists of fields give the same
/// bytes. The form is the same on every machine and version. Thread: confined.
class CanonicalBytes {
 public:
  /// Add eight bytes, the least significant first.
  void add(uint64_t number) {
    for (int shift = 0; shift < 64; shift += 8) bytes_.push_back(std::byte(number >> shift & 0xff));
  }
  void add(std::span<const std::byte> field) {
    add(uint64_t{field.size()});
    bytes_.insert(bytes_.end(), field.begin(), field.end());
  }
  void add(std::string_view field) { add(std::as_bytes(std::span(field))); }

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

/// The first 128 bits of SHA-256. Errors: kInternal where OpenSSL refuses the digest.
Result<ContentId> content_hash(const CanonicalBytes& canonical);
/// Name a tenant by its salt, from which nobody finds the salt; 0 for an empty one. Errors: as
/// content_hash().
Result<uint64_t> tenant_hash(std::string_view salt);
/// Name a key of the flat door; never the id of a content. Errors: as content_hash().
Result<ContentId> key_hash(std::string_view key);

}  // namespace mempool
