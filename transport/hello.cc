// SPDX-License-Identifier: Apache-2.0
// Owns the encoding and the checks of the first messages on a tcp data connection.
#include "transport/hello.h"

#include <fmt/format.h>

#include "transport/little_endian.h"

namespace mempool {
namespace {

constexpr uint32_t kHelloMagic = 0x3148504d;  // "MPH1"

Result<Verdict> make_verdict(uint16_t number) {
  if (number <= static_cast<uint16_t>(Verdict::kProof)) return static_cast<Verdict>(number);
  return invalid_argument(fmt::format("malformed handshake: verdict {}", number));
}

Status check_magic(uint32_t magic) {
  if (magic == kHelloMagic) return {};
  return invalid_argument(fmt::format("malformed handshake: magic {:08x} is not ours", magic));
}

}  // namespace

Status verdict_status(Verdict verdict) {
  switch (verdict) {
    case Verdict::kWelcome:
      return {};
    case Verdict::kVersion:
      return unsupported("the two ends speak different versions; upgrade the older");
    case Verdict::kIncarnation:
      return stale("the incarnation dialed is not the one that listens there; ask the peer anew");
    case Verdict::kProof:
      return permission_denied("the two ends have different tokens; give both agents the same");
  }
  return internal_error("no such verdict");
}

std::array<std::byte, kHelloBytes> encode_hello(const TcpHello& hello) {
  std::array<std::byte, kHelloBytes> out;
  LittleEndianWriter(out.data())
      .put(kHelloMagic)
      .put(kTcpVersion)
      .put(uint16_t{0})
      .put(hello.dialer)
      .put(hello.acceptor)
      .put(hello.connection)
      .put(hello.nonce);
  return out;
}

std::array<std::byte, kAnswerBytes> encode_answer(const Answer& answer) {
  std::array<std::byte, kAnswerBytes> out;
  LittleEndianWriter(out.data())
      .put(kHelloMagic)
      .put(kTcpVersion)
      .put(static_cast<uint16_t>(answer.verdict))
      .put(answer.acceptor)
      .put(answer.nonce);
  return out;
}

std::array<std::byte, kWelcomeBytes> encode_welcome(const TcpWelcome& welcome) {
  std::array<std::byte, kWelcomeBytes> out;
  LittleEndianWriter(out.data()).put(static_cast<uint16_t>(welcome.verdict)).put(welcome.proof);
  return out;
}

Result<TcpHello> decode_hello(std::span<const std::byte, kHelloBytes> in) {
  LittleEndianReader reader(in.data());
  if (Status status = check_magic(reader.get<uint32_t>()); !status.ok()) return status;
  const auto version = reader.get<uint16_t>();
  if (version != kTcpVersion) {
    return unsupported(fmt::format("handshake of version {}, this end speaks {}; upgrade the older",
                                   version, kTcpVersion));
  }
  reader.get<uint16_t>();
  TcpHello hello;
  hello.dialer = reader.get<uint64_t>();
  hello.acceptor = reader.get<uint64_t>();
  hello.connection = reader.get<uint64_t>();
  reader.get(hello.nonce);
  return hello;
}

Result<Answer> decode_answer(std::span<const std::byte, kAnswerBytes> in) {
  LittleEndianReader reader(in.data());
  if (Status status = check_magic(reader.get<uint32_t>()); !status.ok()) return status;
  reader.get<uint16_t>();  // a refusal says so itself, in every version
  Result<Verdict> verdict = make_verdict(reader.get<uint16_t>());
  if (!verdict.ok()) return verdict.status();
  Answer answer;
  answer.verdict = *verdict;
  answer.acceptor = reader.get<uint64_t>();
  reader.get(answer.nonce);
  return answer;
}

Result<TcpWelcome> decode_welcome(std::span<const std::byte, kWelcomeBytes> in) {
  LittleEndianReader reader(in.data());
  Result<Verdict> verdict = make_verdict(reader.get<uint16_t>());
  if (!verdict.ok()) return verdict.status();
  TcpWelcome welcome;
  welcome.verdict = *verdict;
  reader.get(welcome.proof);
  return welcome;
}

}  // namespace mempool
