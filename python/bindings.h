// SPDX-License-Identifier: Apache-2.0
// Owns the list of what the module is made of.
#pragma once

#include <nanobind/nanobind.h>

namespace mempool::python {

class PoolHandle;

void bind_content(nanobind::module_& module);
void bind_blocks(nanobind::module_& module);
void bind_transfer(nanobind::module_& module);
void bind_pool(nanobind::module_& module);
void bind_pool_transfers(nanobind::class_<PoolHandle>& pool);
void bind_agent(nanobind::module_& module);

}  // namespace mempool::python
