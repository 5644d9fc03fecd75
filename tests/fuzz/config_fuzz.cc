// SPDX-License-Identifier: Apache-2.0
// Owns the fuzz target of settings: any text is refused, or prints to a text that reads back.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/check.h"
#include "core/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using mempool::Config;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = Config::parse(text, "fuzz.toml");
  if (!config.ok()) return 0;
  const std::string printed = config->print();
  const auto again = Config::parse(printed, "printed.toml");
  MEMPOOL_CHECK(again.ok());
  MEMPOOL_CHECK(again->print() == printed);
  return 0;
}
