// SPDX-License-Identifier: Apache-2.0
// Owns the reading of lists, buffers and tensors of ints, and the range that a token has.
#include "python/token_list.h"

#include <fmt/format.h>

#include <limits>
#include <string>

#include "python/raised_status.h"
#include "python/sequence.h"

namespace mempool::python {
namespace {

namespace nb = nanobind;
using Code = nb::dlpack::dtype_code;

constexpr int64_t kTokenMax = std::numeric_limits<TokenId>::max();

}  // namespace

TokenList::TokenList(nb::handle from, const char* what) : what_(what) {
  const bool sequence = PyList_Check(from.ptr()) || PyTuple_Check(from.ptr());
  if (!sequence && nb::try_cast(from, array_, false) && array_.is_valid()) {
    read_array();
  } else {
    read_sequence(from);
  }
}

void TokenList::refuse(size_t position, nb::handle number) const {
  raise(invalid_argument(fmt::format("{} {} is {}; each is at least 0 and below 2**32", what_,
                                     position, nb::str(number).c_str())));
}

void TokenList::append(size_t position, int64_t number) {
  if (number < 0 || number > kTokenMax) refuse(position, nb::int_(number));
  copied_.push_back(static_cast<TokenId>(number));
}

void TokenList::read_sequence(nb::handle from) {
  // Held, for an item's __index__ may change the caller's list.
  const nb::tuple items = items_of(from, fmt::format("{}s are no sequence of ints", what_).c_str());
  copied_.reserve(items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    int overflow = 0;
    // Takes what has __index__, a number of numpy among it, and no float.
    const auto index = nb::steal(PyNumber_Index(nb::handle(items[i]).ptr()));
    if (!index.is_valid()) throw nb::python_error();
    const long long number = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
    if (overflow != 0) refuse(i, index);
    append(i, number);
  }
  tokens_ = copied_;
}

template <typename T>
void TokenList::convert() {
  const T* const items = static_cast<const T*>(array_.data());
  copied_.reserve(array_.size());
  for (size_t i = 0; i < array_.size(); ++i) {
    if (std::cmp_less(items[i], 0) || std::cmp_greater(items[i], kTokenMax)) {
      refuse(i, nb::int_(items[i]));
    }
    copied_.push_back(static_cast<TokenId>(items[i]));
  }
  tokens_ = copied_;
}

void TokenList::read_array() {
  if (array_.ndim() != 1) {
    raise(invalid_argument(
        fmt::format("{}s have {} dimensions; give one row of them", what_, array_.ndim())));
  }
  if (array_.size() > 1 && array_.stride(0) != 1) {
    raise(invalid_argument(fmt::format("{}s lie {} numbers apart; give a contiguous copy of them",
                                       what_, array_.stride(0))));
  }
  const auto type = array_.dtype();
  const bool is_signed = type.code == static_cast<uint8_t>(Code::Int);
  if ((!is_signed && type.code != static_cast<uint8_t>(Code::UInt)) || type.lanes != 1 ||
      (type.bits != 32 && type.bits != 64)) {
    raise(invalid_argument(
        fmt::format("{}s come as an array of another type than uint32, int32, uint64 and int64; "
                    "convert them",
                    what_)));
  }
  if (type.bits == 64) return is_signed ? convert<int64_t>() : convert<uint64_t>();
  const auto* const items = static_cast<const TokenId*>(array_.data());
  tokens_ = {items, array_.size()};
  if (!is_signed) return;
  TokenId all = 0;
  for (const TokenId token : tokens_) all |= token;
  if (all > TokenId{std::numeric_limits<int32_t>::max()}) convert<int32_t>();  // names the first
}

}  // namespace mempool::python
