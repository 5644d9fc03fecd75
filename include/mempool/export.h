// SPDX-License-Identifier: Apache-2.0
// Owns the mark of what the shared library shows: everything else in it is hidden.
#pragma once

#define MEMPOOL_EXPORT [[gnu::visibility("default")]]
