// SPDX-License-Identifier: Apache-2.0
// Owns the reading of what mempool.options describes.
#pragma once

#include <nanobind/nanobind.h>

#include "mempool/agent.h"
#include "mempool/content.h"

namespace mempool::python {

// Each raises TypeError, naming the field, for one of another type.
ContentSpec read_content_spec(nanobind::handle from);
Placement read_placement(nanobind::handle from);
AgentOptions read_agent_options(nanobind::handle from);

}  // namespace mempool::python
