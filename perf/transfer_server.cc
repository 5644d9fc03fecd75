// SPDX-License-Identifier: Apache-2.0
// Owns the loop over orders.
#include "perf/transfer_server.h"

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "core/check.h"
#include "perf/bare_stream.h"
#include "perf/transfer_ends.h"

namespace mempool {
namespace {

ChannelMessage message(TransferOrder order, uint64_t number = 0, std::string text = {}) {
  return {static_cast<uint32_t>(order), number, std::move(text)};
}

/// Thread: confined.
class TransferServer {
 public:
  TransferServer(const TransferCase& measured, const TransferSite& site, Channel& channel)
      : measured_(measured), site_(site), channel_(channel) {}

  /// Open, say so, connect the bare stream, and obey until the channel closes.
  Status run() {
    MEMPOOL_ASSIGN_OR_RETURN(end_, measured_.read ? open_read_end(measured_, site_)
                                                  : open_written_end(measured_, site_));
    MEMPOOL_ASSIGN_OR_RETURN(
        BareListener listener,
        BareListener::open(site_, {measured_.send_buffer, measured_.receive_buffer}));
    MEMPOOL_RETURN_IF_ERROR(
        channel_.send(message(TransferOrder::kReady, listener.port(), end_->address())));
    MEMPOOL_ASSIGN_OR_RETURN(BareStream stream, listener.accept(channel_.descriptor()));
    stream_.emplace(std::move(stream));
    for (;;) {
      const Result<ChannelMessage> asked = channel_.receive();
      if (!asked.ok()) return Status();  // the other has what it wanted
      const auto kind = static_cast<TransferOrder>(asked->kind);
      if (kind == TransferOrder::kBareMove) {
        MEMPOOL_RETURN_IF_ERROR(move_bare());
        continue;
      }
      ChannelMessage answer = *asked;
      MEMPOOL_RETURN_IF_ERROR(obey(kind, answer.number));
      MEMPOOL_RETURN_IF_ERROR(channel_.send(answer));
    }
  }

 private:
  Status obey(TransferOrder kind, uint64_t& number) {
    switch (kind) {
      case TransferOrder::kCheck:
        return end_->check(static_cast<uint32_t>(number));
      case TransferOrder::kClean:
        return end_->clean(static_cast<uint32_t>(number));
      case TransferOrder::kUsage:
        number = static_cast<uint64_t>(cpu_seconds() * 1e9);
        return Status();
      case TransferOrder::kLend: {
        MEMPOOL_ASSIGN_OR_RETURN(const std::vector<iovec> pieces, end_->lend_pieces());
        pieces_ = merged(pieces);
        return Status();
      }
      case TransferOrder::kTakeBack:
        return end_->take_back();
      default:
        return internal_error("an order that the serving process does not know");
    }
  }

  Status move_bare() {
    char word = 0;
    if (measured_.read) {
      MEMPOOL_RETURN_IF_ERROR(stream_->receive({{&word, 1}}));
      return stream_->send(pieces_);
    }
    MEMPOOL_RETURN_IF_ERROR(stream_->receive(pieces_));
    return stream_->send({{&word, 1}});
  }

  const TransferCase& measured_;
  const TransferSite& site_;
  Channel& channel_;
  std::unique_ptr<ServingEnd> end_;
  std::optional<BareStream> stream_;
  std::vector<iovec> pieces_;
};

Result<ChannelMessage> unwrap(Result<ChannelMessage> answer) {
  if (!answer.ok() || answer->kind != static_cast<uint32_t>(TransferOrder::kFailed)) return answer;
  return Status(static_cast<StatusCode>(answer->number), answer->text);
}

}  // namespace

Status serve_transfers(const TransferCase& measured, const TransferSite& site, Channel& channel) {
  return TransferServer(measured, site, channel).run();
}

void send_failure(Channel& channel, const Status& status) {
  (void)channel.send(message(TransferOrder::kFailed, static_cast<uint64_t>(status.code()),
                             std::string(status.message())));
}

Result<ChannelMessage> order(Channel& channel, TransferOrder order, uint64_t number) {
  return unwrap(channel.ask(message(order, number)));
}

Result<ChannelMessage> await_answer(Channel& channel) {
  return unwrap(channel.receive());
}

Result<ToldProcess> start_serving(const TransferCase& measured, const TransferSite& site) {
  return start_told([&](Channel& channel) {
    const Status status = serve_transfers(measured, site, channel);
    if (!status.ok()) send_failure(channel, status);
  });
}

}  // namespace mempool
