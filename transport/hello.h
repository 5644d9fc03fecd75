// SPDX-License-Identifier: Apache-2.0
// Owns the messages with which a tcp data connection begins, each of fixed size:
//   dialer    hello   magic u32 | version u16 | 0 u16 | dialer u64 | acceptor u64 | connection u64
//   |
//                     nonce 16
//   acceptor  answer  magic u32 | version u16 | verdict u16 | acceptor u64 | nonce 16
//   dialer    proof   32
//   acceptor  welcome verdict u16 | proof 32
// A verdict other than kWelcome is the last word: the acceptor closes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/auth.h"
#include "mempool/status.h"

namespace mempool {

inline constexpr uint16_t kTcpVersion = 1;
inline constexpr size_t kHelloBytes = 48;
inline constexpr size_t kAnswerBytes = 32;
inline constexpr size_t kWelcomeBytes = 34;

enum class Verdict : uint16_t { kWelcome = 0, kVersion = 1, kIncarnation = 2, kProof = 3 };

/// Say a refusal in words; ok for kWelcome.
Status verdict_status(Verdict verdict);

struct TcpHello {
  uint64_t dialer = 0;
  uint64_t acceptor = 0;    // whom the dialer means to reach
  uint64_t connection = 0;  // the same for all streams of one endpoint
  Nonce nonce{};
};

struct Answer {
  Verdict verdict = Verdict::kWelcome;
  uint64_t acceptor = 0;
  Nonce nonce{};
};

struct TcpWelcome {
  Verdict verdict = Verdict::kWelcome;
  Proof proof{};
};

std::array<std::byte, kHelloBytes> encode_hello(const TcpHello& hello);
std::array<std::byte, kAnswerBytes> encode_answer(const Answer& answer);
std::array<std::byte, kWelcomeBytes> encode_welcome(const TcpWelcome& welcome);

/// Errors: kInvalidArgument for another magic; kUnsupported for another version.
Result<TcpHello> decode_hello(std::span<const std::byte, kHelloBytes> in);
/// Errors: kInvalidArgument for another magic or no verdict that there is.
Result<Answer> decode_answer(std::span<const std::byte, kAnswerBytes> in);
Result<TcpWelcome> decode_welcome(std::span<const std::byte, kWelcomeBytes> in);

}  // namespace mempool
