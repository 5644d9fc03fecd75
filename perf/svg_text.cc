// SPDX-License-Identifier: Apache-2.0
// Owns the escaping of words in SVG.
#include "perf/svg_text.h"

#include <fmt/format.h>

namespace mempool {

std::string svg_text(int x, int y, const std::string& words) {
  std::string escaped;
  for (const char c : words) {
    escaped += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : std::string(1, c);
  }
  return fmt::format("<text x=\"{}\" y=\"{}\">{}</text>\n", x, y, escaped);
}

}  // namespace mempool
