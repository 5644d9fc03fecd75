// SPDX-License-Identifier: Apache-2.0
// Owns the bytes of the notes: version u8 | type u8 | body, all numbers little-endian.
#include "transport/verbs/setup_note.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "core/check.h"
#include "core/readable.h"
#include "transport/little_endian.h"

namespace mempool {
namespace {

constexpr uint8_t kNoteVersion = 1;
constexpr size_t kRefusalBytesMost = 1024;
constexpr size_t kPortBytes = 1 + sizeof(ibv_gid) + 2 + 4 + 1 + 1;
constexpr size_t kQueueBytes = 8;

enum class NoteType : uint8_t { kConnect = 1, kAccepted, kRefused, kRailLost, kRailGone };

/// Appends to a note. Thread: confined.
class NoteWriter {
 public:
  explicit NoteWriter(NoteType type) { put(kNoteVersion).put(static_cast<uint8_t>(type)); }

  template <std::integral Number>
  NoteWriter& put(Number number) {
    bytes_.resize(bytes_.size() + sizeof number);
    LittleEndianWriter(bytes_.data() + bytes_.size() - sizeof number).put(number);
    return *this;
  }
  NoteWriter& put(std::span<const std::byte> bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  NoteWriter& put(const std::vector<RailAddress>& rails) {
    put(static_cast<uint8_t>(rails.size()));
    for (const RailAddress& rail : rails) {
      put(static_cast<uint8_t>(rail.port.kind)).put(std::as_bytes(std::span(rail.port.gid.raw)));
      put(rail.port.lid).put(rail.port.mtu).put(rail.port.reads_out).put(rail.port.reads_in);
      put(static_cast<uint8_t>(rail.queues.size()));
      for (const QueueAddress& queue : rail.queues) put(queue.number).put(queue.sequence);
    }
    return *this;
  }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

/// Reads from a note; past its end it gives zeros and remembers that. Thread: confined.
class NoteReader {
 public:
  explicit NoteReader(std::span<const std::byte> bytes) : left_(bytes) {}

  template <std::integral Number>
  Number get() {
    if (!has(sizeof(Number))) return {};
    const auto number = LittleEndianReader(left_.data()).get<Number>();
    left_ = left_.subspan(sizeof(Number));
    return number;
  }
  std::span<const std::byte> get(size_t bytes) {
    if (!has(bytes)) return {};
    const std::span<const std::byte> taken = left_.first(bytes);
    left_ = left_.subspan(bytes);
    return taken;
  }
  size_t left() const { return left_.size(); }
  void fail() { good_ = false; }
  /// Everything that was asked for was there and sensible, and nothing is left.
  bool done() const { return good_ && left_.empty(); }

 private:
  bool has(size_t bytes) {
    good_ = good_ && left_.size() >= bytes;
    return good_;
  }

  std::span<const std::byte> left_;
  bool good_ = true;
};

PortAddress read_port(NoteReader& reader) {
  PortAddress port;
  const auto kind = reader.get<uint8_t>();
  if (kind > static_cast<uint8_t>(LinkKind::kRoceV2Ip6)) reader.fail();
  port.kind = static_cast<LinkKind>(kind);
  const std::span<const std::byte> gid = reader.get(sizeof port.gid.raw);
  if (!gid.empty()) std::memcpy(port.gid.raw, gid.data(), gid.size());
  port.lid = reader.get<uint16_t>();
  port.mtu = reader.get<uint32_t>();
  if (!std::has_single_bit(port.mtu) || port.mtu < 256 || port.mtu > 4096) reader.fail();
  port.reads_out = reader.get<uint8_t>();
  port.reads_in = reader.get<uint8_t>();
  if (port.reads_out == 0 || port.reads_in == 0) reader.fail();  // a read would wait for ever
  return port;
}

std::vector<RailAddress> read_rails(NoteReader& reader) {
  std::vector<RailAddress> rails;
  uint32_t lanes = 0;
  const auto count = reader.get<uint8_t>();
  if (count == 0 || reader.left() < count * kPortBytes) reader.fail();
  for (uint8_t i = 0; i < count && reader.left() >= kPortBytes; ++i) {
    RailAddress& rail = rails.emplace_back();
    rail.port = read_port(reader);
    const auto queues = reader.get<uint8_t>();
    lanes += queues;
    if (queues == 0 || lanes > kLanesMost || reader.left() < queues * kQueueBytes) {
      reader.fail();
      break;
    }
    for (uint8_t q = 0; q < queues; ++q) {
      rail.queues.push_back({reader.get<uint32_t>(), reader.get<uint32_t>()});
    }
  }
  if (rails.size() != count) reader.fail();
  return rails;
}

Status read_status(NoteReader& reader) {
  const auto code = reader.get<uint8_t>();
  if (code == 0 || code > static_cast<uint8_t>(StatusCode::kInternal)) reader.fail();
  const std::span<const std::byte> words = reader.get(reader.left());
  const std::string_view text(reinterpret_cast<const char*>(words.data()), words.size());
  return {static_cast<StatusCode>(code), "the peer refuses: " + readable(text, kRefusalBytesMost)};
}

struct NoteEncoder {
  std::vector<std::byte> operator()(const ConnectNote& note) const {
    return NoteWriter(NoteType::kConnect).put(note.rails).take();
  }
  std::vector<std::byte> operator()(const AcceptedNote& note) const {
    return NoteWriter(NoteType::kAccepted).put(note.notifications).put(note.rails).take();
  }
  std::vector<std::byte> operator()(const RefusedNote& note) const {
    const std::string_view words = note.status.message().substr(0, kRefusalBytesMost);
    return NoteWriter(NoteType::kRefused)
        .put(static_cast<uint8_t>(note.status.code()))
        .put(std::as_bytes(std::span(words)))
        .take();
  }
  std::vector<std::byte> operator()(const RailLostNote& note) const {
    return NoteWriter(NoteType::kRailLost).put(note.rail).take();
  }
  std::vector<std::byte> operator()(const RailGoneNote& note) const {
    return NoteWriter(NoteType::kRailGone).put(note.rail).take();
  }
};

}  // namespace

std::vector<std::byte> encode_note(const SetupNote& note) {
  return std::visit(NoteEncoder{}, note);
}

Result<SetupNote> decode_note(std::span<const std::byte> bytes) {
  NoteReader reader(bytes);
  const auto version = reader.get<uint8_t>();
  if (version != kNoteVersion && !bytes.empty()) {
    return unsupported(
        fmt::format("the peer's verbs transport speaks version {}, this one {}; "
                    "install one version of mempool on both",
                    version, kNoteVersion));
  }
  SetupNote note;
  switch (static_cast<NoteType>(reader.get<uint8_t>())) {
    case NoteType::kConnect:
      note = ConnectNote{read_rails(reader)};
      break;
    case NoteType::kAccepted: {
      const auto notifications = reader.get<uint16_t>();
      if (notifications == 0) reader.fail();
      note = AcceptedNote{notifications, read_rails(reader)};
      break;
    }
    case NoteType::kRefused:
      note = RefusedNote{read_status(reader)};
      break;
    case NoteType::kRailLost:
      note = RailLostNote{reader.get<uint8_t>()};
      break;
    case NoteType::kRailGone:
      note = RailGoneNote{reader.get<uint8_t>()};
      break;
    default:
      reader.fail();
  }
  if (reader.done()) return note;
  return invalid_argument(
      fmt::format("{} bytes that are no note of the verbs transport", bytes.size()));
}

}  // namespace mempool
