// SPDX-License-Identifier: Apache-2.0
// Owns the options' words, and the way from lists to cases.
#include "cli/transfer_arguments.h"

#include <CLI/App.hpp>
#include <CLI/Validators.hpp>

#include "core/check.h"
#include "core/config_value.h"

namespace mempool {
namespace {

/// Append a case for each transport, op, pattern and verify to what `measured` says.
Status add_cases(const TransferArguments& arguments, TransferCase measured,
                 std::vector<TransferCase>& cases) {
  for (const std::string& bytes : arguments.piece_bytes) {
    MEMPOOL_ASSIGN_OR_RETURN(measured.piece_bytes, parse_size(bytes));
    for (const std::string& verify : arguments.verify) {
      measured.verify = verify;
      if (measured.read && verify != "off") {
        return invalid_argument("a raw read seals nothing; measure --op read with --verify off");
      }
      MEMPOOL_RETURN_IF_ERROR(shape_of(measured).status());
      cases.push_back(measured);
    }
  }
  return Status();
}

}  // namespace

Result<std::vector<TransferCase>> cases_of(const TransferArguments& arguments) {
  std::vector<TransferCase> cases;
  TransferCase measured = arguments.shared;
  MEMPOOL_ASSIGN_OR_RETURN(measured.send_buffer, parse_size(arguments.send_buffer));
  MEMPOOL_ASSIGN_OR_RETURN(measured.receive_buffer, parse_size(arguments.receive_buffer));
  if (measured.repeat == 0) return invalid_argument("give at least 1 repeat");
  for (const std::string& transport : arguments.transports) {
    measured.transport = transport;
    for (const std::string& op : arguments.ops) {
      measured.read = op == "read";
      for (const std::string& pattern : arguments.patterns) {
        MEMPOOL_ASSIGN_OR_RETURN(measured.pattern, parse_transfer_pattern(pattern));
        MEMPOOL_RETURN_IF_ERROR(add_cases(arguments, measured, cases));
      }
    }
  }
  return cases;
}

void add_transfer_options(CLI::App& app, TransferArguments& into) {
  TransferCase& shared = into.shared;
  app.add_option("--transport,--transports", into.transports, "Transports; may be a list")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--op", into.ops, "write, read, or both as a list")
      ->delimiter(',')
      ->check(CLI::IsMember({"write", "read"}))
      ->capture_default_str();
  app.add_option("--pattern", into.patterns, "How the pieces lie; may be a list")
      ->delimiter(',')
      ->check(CLI::IsMember(transfer_patterns()))
      ->capture_default_str();
  app.add_option("--piece-bytes", into.piece_bytes, "Bytes of one piece; may be a list")
      ->delimiter(',')
      ->type_name("SIZE")
      ->capture_default_str();
  app.add_option("--pieces", shared.pieces,
                 "Pieces of one move; 0: as many as make 256 MiB, at most 16384")
      ->capture_default_str();
  app.add_option("--repeat", shared.repeat, "Samples of each row")->capture_default_str();
  app.add_option("--verify", into.verify, "Seal checksums: off, sampled, always; a list")
      ->delimiter(',')
      ->check(CLI::IsMember({"off", "sampled", "always"}))
      ->capture_default_str();
  app.add_option("--streams", shared.streams, "Connections of tcp")->capture_default_str();
  app.add_option("--copy-threads", shared.copy_threads, "Threads of shm that share one list")
      ->capture_default_str();
  app.add_option("--send-buffer", into.send_buffer, "SO_SNDBUF; 0: the kernel's choice")
      ->type_name("SIZE")
      ->capture_default_str();
  app.add_option("--receive-buffer", into.receive_buffer, "SO_RCVBUF; likewise")
      ->type_name("SIZE")
      ->capture_default_str();
}

}  // namespace mempool
