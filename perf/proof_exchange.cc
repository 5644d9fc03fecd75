// SPDX-License-Identifier: Apache-2.0
// Owns the order of the messages: hello, answer, proof, welcome.
#include "perf/proof_exchange.h"

#include <array>

#include "core/check.h"
#include "core/random.h"
#include "transport/hello.h"

namespace mempool {
namespace {

Status prove_as_dialer(int descriptor, std::string_view token, std::string_view purpose,
                       const TimeLeft& time_left) {
  const TcpHello hello{random_word(), 0, 0, make_nonce()};
  MEMPOOL_RETURN_IF_ERROR(send_all(descriptor, encode_hello(hello), time_left));
  std::array<std::byte, kAnswerBytes> answer_bytes;
  MEMPOOL_RETURN_IF_ERROR(receive_all(descriptor, answer_bytes, time_left));
  MEMPOOL_ASSIGN_OR_RETURN(const Answer answer, decode_answer(answer_bytes));
  MEMPOOL_RETURN_IF_ERROR(verdict_status(answer.verdict));
  const Challenge challenge{hello.dialer, answer.acceptor, hello.nonce, answer.nonce};
  const Proof proof = make_proof(token, purpose, challenge, ProofRole::kDialer);
  MEMPOOL_RETURN_IF_ERROR(send_all(descriptor, proof, time_left));
  std::array<std::byte, kWelcomeBytes> welcome_bytes;
  MEMPOOL_RETURN_IF_ERROR(receive_all(descriptor, welcome_bytes, time_left));
  MEMPOOL_ASSIGN_OR_RETURN(const TcpWelcome welcome, decode_welcome(welcome_bytes));
  MEMPOOL_RETURN_IF_ERROR(verdict_status(welcome.verdict));
  const bool proven = check_proof(token, purpose, challenge, ProofRole::kAcceptor, welcome.proof);
  return verdict_status(proven ? Verdict::kWelcome : Verdict::kProof);
}

Status prove_as_acceptor(int descriptor, std::string_view token, std::string_view purpose,
                         const TimeLeft& time_left) {
  std::array<std::byte, kHelloBytes> hello_bytes;
  MEMPOOL_RETURN_IF_ERROR(receive_all(descriptor, hello_bytes, time_left));
  const Result<TcpHello> hello = decode_hello(hello_bytes);
  Answer answer{Verdict::kWelcome, random_word(), make_nonce()};
  if (hello.status().code() == StatusCode::kUnsupported) {
    answer.verdict = Verdict::kVersion;
    MEMPOOL_RETURN_IF_ERROR(send_all(descriptor, encode_answer(answer), time_left));
  }
  MEMPOOL_RETURN_IF_ERROR(hello.status());
  MEMPOOL_RETURN_IF_ERROR(send_all(descriptor, encode_answer(answer), time_left));
  const Challenge challenge{hello->dialer, answer.acceptor, hello->nonce, answer.nonce};
  Proof proof;
  MEMPOOL_RETURN_IF_ERROR(receive_all(descriptor, proof, time_left));
  TcpWelcome welcome;
  if (check_proof(token, purpose, challenge, ProofRole::kDialer, proof)) {
    welcome.proof = make_proof(token, purpose, challenge, ProofRole::kAcceptor);
  } else {
    welcome.verdict = Verdict::kProof;
  }
  MEMPOOL_RETURN_IF_ERROR(send_all(descriptor, encode_welcome(welcome), time_left));
  return verdict_status(welcome.verdict);
}

}  // namespace

Status exchange_proofs(int descriptor, ProofRole role, std::string_view token,
                       std::string_view purpose, const TimeLeft& time_left) {
  return role == ProofRole::kDialer ? prove_as_dialer(descriptor, token, purpose, time_left)
                                    : prove_as_acceptor(descriptor, token, purpose, time_left);
}

}  // namespace mempool
