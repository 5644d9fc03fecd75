// SPDX-License-Identifier: Apache-2.0
// Owns what a backend sees of its host's event loop. A module may use nothing else of it: Asio
// keeps state in each copy of its code, and the module's copy would know nothing of the host's.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "mempool/status.h"

namespace mempool {

/// Something to be done in a later turn of the loop. Nothing is done after its end.
/// Thread: confined to the loop's thread.
class LoopTask {
 public:
  virtual ~LoopTask() = default;
  /// Do it once, soon, and not from inside this call; asked again before that, still once.
  virtual void schedule() = 0;
};

/// Waits for a descriptor, which is borrowed and outlives it. Nothing is called after its end.
/// Thread: confined to the loop's thread.
class LoopWatch {
 public:
  virtual ~LoopWatch() = default;
};

/// What a set-up link tells, never from inside one of its calls. Thread: confined, as its link.
class SetupLinkOwner {
 public:
  virtual ~SetupLinkOwner() = default;
  /// The other end sent this. It has proven the token and may send anything all the same. An error
  /// ends the link: on_closed() follows with it. The owner may go instead.
  virtual Status on_note(std::span<const std::byte> note) = 0;
  /// The link is closed by the other end or by an error; the owner may go now.
  virtual void on_closed(const Status& why) = 0;
};

inline constexpr size_t kSetupNoteBytesMax = size_t{64} << 10;

/// A proven connection beside one whose data moves elsewhere: over it both ends set up what a NIC
/// needs of the other side, and its end is the end of what was set up. Carries notes of at most
/// kSetupNoteBytesMax, in order. Thread: confined to the loop's thread.
class SetupLink {
 public:
  virtual ~SetupLink() = default;
  /// Begin to read, for this owner. Once.
  virtual void start(SetupLinkOwner& owner) = 0;
  virtual void send(std::span<const std::byte> note) = 0;
  /// End with kUnavailable unless clear_deadline() comes before the time is over.
  virtual void set_deadline(std::chrono::milliseconds time) = 0;
  virtual void clear_deadline() = 0;
  /// Close without a word to the owner; what was sent is still on its way.
  virtual void close() = 0;
};

/// Where set-up links come in and go out. Thread: confined to the loop's thread.
class SetupPort {
 public:
  /// Gets a link whose dialer has proven the token. False: there is no room for it.
  using ArrivalHandler = std::function<bool(std::shared_ptr<SetupLink>, uint64_t peer)>;
  using DialHandler = std::function<void(Result<std::shared_ptr<SetupLink>>)>;

  virtual ~SetupPort() = default;
  /// Give what a peer needs to dial. Errors: kUnavailable.
  virtual Result<std::vector<std::byte>> address() const = 0;
  /// Connect to the port of a peer's address and prove the token. The handler comes later, unless
  /// this goes first. Errors: kInvalidArgument for a malformed address; kStale where another
  /// incarnation answers; kPermissionDenied for another token; kUnsupported for another version;
  /// kUnavailable.
  virtual void dial(uint64_t peer, std::string host, std::span<const std::byte> address,
                    DialHandler handler) = 0;
};

/// What an end of a set-up link brings to it, and where it listens.
struct SetupTerms {
  std::string transport;  // what is proven for one is none for another
  uint64_t incarnation = 0;
  std::string token;
  std::chrono::milliseconds timeout{0};
  std::string host;
  uint16_t port = 0;  // 0 lets the kernel pick
};

/// Thread: confined to its own thread. Outlives what it has made.
class Loop {
 public:
  virtual ~Loop() = default;
  virtual std::unique_ptr<LoopTask> make_task(std::function<void()> action) = 0;
  /// Call whenever there is something to read. Null where the kernel cannot watch it.
  virtual std::unique_ptr<LoopWatch> watch(int descriptor, std::function<void()> action) = 0;
  /// Listen. Errors: kPermissionDenied for a host beyond loopback without a token; kInvalidArgument
  /// for a bad host; kUnavailable when the port is taken.
  virtual Result<std::unique_ptr<SetupPort>> open_setup_port(const SetupTerms& terms,
                                                             SetupPort::ArrivalHandler arrived) = 0;
};

}  // namespace mempool
