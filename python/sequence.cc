// SPDX-License-Identifier: Apache-2.0
// Owns the copy of a sequence.
#include "python/sequence.h"

namespace mempool::python {

namespace nb = nanobind;

nb::tuple items_of(nb::handle sequence, const char* words) {
  if (PySequence_Check(sequence.ptr()) == 0) throw nb::type_error(words);
  const auto items = nb::steal<nb::tuple>(PySequence_Tuple(sequence.ptr()));
  if (!items.is_valid()) throw nb::python_error();
  return items;
}

}  // namespace mempool::python
