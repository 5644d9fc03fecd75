// SPDX-License-Identifier: Apache-2.0
// Owns the order of the handshake's messages, as two coroutines, each under one deadline.
#include "transport/handshake.h"

#include <fmt/format.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include "transport/hello.h"

namespace mempool {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

std::string purpose_of(const HandshakeTerms& terms) {
  return "data:" + terms.transport;
}

asio::awaitable<Status> send(tcp::socket& socket, std::span<const std::byte> bytes) {
  const auto [error, count] =
      co_await asio::async_write(socket, asio::buffer(bytes.data(), bytes.size()), kAwait);
  if (error) co_return unavailable(fmt::format("handshake: {}", error.message()));
  co_return Status();
}

asio::awaitable<Status> receive(tcp::socket& socket, std::span<std::byte> bytes) {
  const auto [error, count] =
      co_await asio::async_read(socket, asio::buffer(bytes.data(), bytes.size()), kAwait);
  if (error) co_return unavailable(fmt::format("handshake: {}", error.message()));
  co_return Status();
}

asio::awaitable<Status> greet_now(tcp::socket& socket, const HandshakeTerms& terms,
                                  uint64_t acceptor, uint64_t connection) {
  Challenge challenge;
  challenge.dialer = terms.incarnation;
  challenge.acceptor = acceptor;
  challenge.dialer_nonce = make_nonce();
  const auto hello =
      encode_hello({terms.incarnation, acceptor, connection, challenge.dialer_nonce});
  if (Status status = co_await send(socket, hello); !status.ok()) co_return status;

  std::array<std::byte, kAnswerBytes> answer_bytes;
  if (Status status = co_await receive(socket, answer_bytes); !status.ok()) co_return status;
  const Result<Answer> answer = decode_answer(answer_bytes);
  if (!answer.ok()) co_return answer.status();
  if (answer->verdict != Verdict::kWelcome) co_return verdict_status(answer->verdict);
  if (answer->acceptor != acceptor) co_return verdict_status(Verdict::kIncarnation);
  challenge.acceptor_nonce = answer->nonce;

  const Proof proof = make_proof(terms.token, purpose_of(terms), challenge, ProofRole::kDialer);
  if (Status status = co_await send(socket, proof); !status.ok()) co_return status;
  std::array<std::byte, kWelcomeBytes> welcome_bytes;
  if (Status status = co_await receive(socket, welcome_bytes); !status.ok()) co_return status;
  const Result<TcpWelcome> welcome = decode_welcome(welcome_bytes);
  if (!welcome.ok()) co_return welcome.status();
  if (welcome->verdict != Verdict::kWelcome) co_return verdict_status(welcome->verdict);
  const bool proven =
      check_proof(terms.token, purpose_of(terms), challenge, ProofRole::kAcceptor, welcome->proof);
  co_return verdict_status(proven ? Verdict::kWelcome : Verdict::kProof);
}

// Tell the dialer why not, and give the same words back.
asio::awaitable<Status> refuse(tcp::socket& socket, const HandshakeTerms& terms, Verdict verdict) {
  const auto answer = encode_answer({verdict, terms.incarnation, {}});
  (void)co_await send(socket, answer);
  co_return verdict_status(verdict);
}

asio::awaitable<Result<Dialer>> answer_now(tcp::socket& socket, const HandshakeTerms& terms) {
  std::array<std::byte, kHelloBytes> hello_bytes;
  if (Status status = co_await receive(socket, hello_bytes); !status.ok()) co_return status;
  const Result<TcpHello> hello = decode_hello(hello_bytes);
  if (!hello.ok() && hello.status().code() == StatusCode::kUnsupported) {
    co_return co_await refuse(socket, terms, Verdict::kVersion);
  }
  if (!hello.ok()) co_return hello.status();
  if (hello->acceptor != terms.incarnation) {
    co_return co_await refuse(socket, terms, Verdict::kIncarnation);
  }
  const Challenge challenge{hello->dialer, terms.incarnation, hello->nonce, make_nonce()};
  const auto answer =
      encode_answer({Verdict::kWelcome, terms.incarnation, challenge.acceptor_nonce});
  if (Status status = co_await send(socket, answer); !status.ok()) co_return status;

  Proof proof;
  if (Status status = co_await receive(socket, proof); !status.ok()) co_return status;
  TcpWelcome welcome;
  if (check_proof(terms.token, purpose_of(terms), challenge, ProofRole::kDialer, proof)) {
    welcome.proof = make_proof(terms.token, purpose_of(terms), challenge, ProofRole::kAcceptor);
  } else {
    welcome.verdict = Verdict::kProof;
  }
  const auto welcome_bytes = encode_welcome(welcome);
  if (Status status = co_await send(socket, welcome_bytes); !status.ok()) co_return status;
  if (welcome.verdict != Verdict::kWelcome) co_return verdict_status(welcome.verdict);
  co_return Dialer{hello->dialer, hello->connection};
}

}  // namespace

asio::awaitable<Status> greet(tcp::socket& socket, const HandshakeTerms& terms, uint64_t acceptor,
                              uint64_t connection) {
  const Deadline deadline(socket, terms.timeout);
  Status status = co_await greet_now(socket, terms, acceptor, connection);
  co_return deadline.passed() ? deadline.status() : status;
}

asio::awaitable<Result<Dialer>> answer(tcp::socket& socket, const HandshakeTerms& terms) {
  const Deadline deadline(socket, terms.timeout);
  Result<Dialer> dialer = co_await answer_now(socket, terms);
  if (deadline.passed()) co_return deadline.status();
  co_return dialer;
}

}  // namespace mempool
