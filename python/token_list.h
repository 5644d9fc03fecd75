// SPDX-License-Identifier: Apache-2.0
// Owns the tokens of a call as Python gives them: borrowed from a buffer where they lie as they
// should, else copied.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <span>
#include <vector>

#include "mempool/content.h"

namespace mempool::python {

/// The numbers of one argument, each of 32 bits. Thread: confined.
class TokenList {
 public:
  /// Raises InvalidArgument, naming the position and the number for one that is negative or too
  /// large, and the dtype or strides of an array that holds no tokens; TypeError for what is no
  /// sequence of ints. `what` names one of them in messages ("token").
  explicit TokenList(nanobind::handle from, const char* what = "token");
  TokenList(const TokenList&) = delete;
  TokenList& operator=(const TokenList&) = delete;

  std::span<const TokenId> span() const { return tokens_; }

 private:
  void read_sequence(nanobind::handle from);
  void read_array();
  template <typename T>
  void convert();
  void append(size_t position, int64_t number);
  [[noreturn]] void refuse(size_t position, nanobind::handle number) const;

  const char* const what_;
  nanobind::ndarray<nanobind::ro, nanobind::device::cpu> array_;  // that tokens_ may lie in
  std::vector<TokenId> copied_;
  std::span<const TokenId> tokens_;
};

}  // namespace mempool::python
