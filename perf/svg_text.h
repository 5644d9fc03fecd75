// SPDX-License-Identifier: Apache-2.0
// Owns words inside an SVG document.
#pragma once

#include <string>

namespace mempool {

/// Give a text element whose words cannot break the document.
std::string svg_text(int x, int y, const std::string& words);

}  // namespace mempool
