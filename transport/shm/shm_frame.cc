// SPDX-License-Identifier: Apache-2.0
// Owns the checks that stand between an shm peer's frames and their use.
#include "transport/shm/shm_frame.h"

#include <fmt/format.h>

#include "transport/little_endian.h"

namespace mempool {
namespace {

bool body_fits(ShmFrameType type, uint32_t bytes) {
  switch (type) {
    case ShmFrameType::kHello:
      return bytes == kShmHelloBytes;
    case ShmFrameType::kAnswer:
      return bytes == kShmAnswerBytes;
    case ShmFrameType::kProof:
    case ShmFrameType::kWelcome:
      return bytes == sizeof(Proof);
    case ShmFrameType::kMemory:
      return bytes == kShmMemoryBytes;
    case ShmFrameType::kList:
      return bytes > 0 && bytes <= kShmBodyMax && bytes % kShmPairBytes == 0;
    case ShmFrameType::kForget:
    case ShmFrameType::kGiven:
    case ShmFrameType::kReady:
    case ShmFrameType::kNotify:
    case ShmFrameType::kAck:
      return bytes == 0;
  }
  return false;  // no such type
}

}  // namespace

Status shm_verdict_status(ShmVerdict verdict) {
  switch (verdict) {
    case ShmVerdict::kOk:
      return {};
    case ShmVerdict::kVersion:
      return unsupported("the two ends speak different versions of shm; upgrade the older");
    case ShmVerdict::kIncarnation:
      return stale("the incarnation dialed is not the one that listens there; ask the peer anew");
    case ShmVerdict::kTicket:
      return permission_denied(
          "the ticket is not the one given for this dialer; ask the peer anew");
    case ShmVerdict::kProof:
      return permission_denied("the two ends have different tokens; give both agents the same");
    case ShmVerdict::kStale:
      return stale("the source's blocks were freed or its slot was ended while they were copied");
  }
  return internal_error("no such verdict");
}

void encode_shm_header(const ShmHeader& header, std::byte* out) {
  LittleEndianWriter(out)
      .put(kShmMagic)
      .put(kShmVersion)
      .put(static_cast<uint8_t>(header.type))
      .put(static_cast<uint16_t>(header.verdict))
      .put(header.slot.index)
      .put(header.slot.generation)
      .put(header.tag)
      .put(header.expected)
      .put(header.word)
      .put(header.body_bytes);
}

void encode_shm_hello(const ShmHello& hello, std::byte* out) {
  LittleEndianWriter(out).put(hello.dialer).put(hello.acceptor).put(hello.ticket).put(hello.nonce);
}

void encode_shm_answer(const ShmAnswer& answer, std::byte* out) {
  LittleEndianWriter(out).put(answer.acceptor).put(answer.nonce);
}

void encode_shm_memory(const ShmMemory& memory, std::byte* out) {
  LittleEndianWriter(out)
      .put(static_cast<uint32_t>(memory.kind))
      .put(memory.region)
      .put(memory.bytes)
      .put(memory.table)
      .put(memory.first_block)
      .put(memory.blocks)
      .put(memory.block_stride);
}

void encode_shm_pair(const RunPair& pair, std::byte* out) {
  LittleEndianWriter(out)
      .put(pair.local_region)
      .put(pair.remote_region)
      .put(pair.local_offset)
      .put(pair.remote_offset)
      .put(static_cast<uint32_t>(pair.bytes));
}

Result<ShmHeader> decode_shm_header(std::span<const std::byte, kShmHeaderBytes> in) {
  LittleEndianReader reader(in.data());
  const auto magic = reader.get<uint32_t>();
  const auto version = reader.get<uint8_t>();
  if (magic != kShmMagic) {
    return invalid_argument(fmt::format("malformed frame: magic {:08x} is not ours", magic));
  }
  if (version != kShmVersion) {
    return unsupported(fmt::format("frame of version {}, this end speaks {}; upgrade the older",
                                   version, kShmVersion));
  }
  ShmHeader header;
  header.type = static_cast<ShmFrameType>(reader.get<uint8_t>());
  const auto verdict = reader.get<uint16_t>();
  header.verdict = static_cast<ShmVerdict>(verdict);
  header.slot.index = reader.get<uint32_t>();
  header.slot.generation = reader.get<uint32_t>();
  header.tag = reader.get<uint64_t>();
  header.expected = reader.get<uint64_t>();
  header.word = reader.get<uint32_t>();
  header.body_bytes = reader.get<uint32_t>();
  if (verdict > static_cast<uint16_t>(ShmVerdict::kStale)) {
    return invalid_argument(fmt::format("malformed frame: verdict {}", verdict));
  }
  if (!body_fits(header.type, header.body_bytes)) {
    return invalid_argument(fmt::format("malformed frame: type {} with a body of {} bytes",
                                        static_cast<int>(header.type), header.body_bytes));
  }
  return header;
}

ShmHello decode_shm_hello(std::span<const std::byte> in) {
  LittleEndianReader reader(in.data());
  ShmHello hello;
  hello.dialer = reader.get<uint64_t>();
  hello.acceptor = reader.get<uint64_t>();
  reader.get(hello.ticket);
  reader.get(hello.nonce);
  return hello;
}

ShmAnswer decode_shm_answer(std::span<const std::byte> in) {
  LittleEndianReader reader(in.data());
  ShmAnswer answer;
  answer.acceptor = reader.get<uint64_t>();
  reader.get(answer.nonce);
  return answer;
}

Result<ShmMemory> decode_shm_memory(std::span<const std::byte> in) {
  LittleEndianReader reader(in.data());
  ShmMemory memory;
  const auto kind = reader.get<uint32_t>();
  memory.kind = static_cast<ShmMemoryKind>(kind);
  memory.region = reader.get<uint32_t>();
  memory.bytes = reader.get<uint64_t>();
  memory.table = reader.get<uint64_t>();
  memory.first_block = reader.get<uint32_t>();
  memory.blocks = reader.get<uint32_t>();
  memory.block_stride = reader.get<uint64_t>();
  if (kind < static_cast<uint32_t>(ShmMemoryKind::kWords) ||
      kind > static_cast<uint32_t>(ShmMemoryKind::kRegion) || memory.bytes == 0) {
    return invalid_argument(
        fmt::format("malformed frame: memory of kind {} and {} bytes", kind, memory.bytes));
  }
  return memory;
}

Status decode_shm_pairs(std::span<const std::byte> in, std::vector<RunPair>& out) {
  out.clear();
  LittleEndianReader reader(in.data());
  uint64_t sum = 0;  // at most kShmPairsMax times 2^32: cannot wrap
  for (size_t at = 0; at < in.size(); at += kShmPairBytes) {
    RunPair pair;
    pair.local_region = reader.get<uint32_t>();
    pair.remote_region = reader.get<uint32_t>();
    pair.local_offset = reader.get<uint64_t>();
    pair.remote_offset = reader.get<uint64_t>();
    pair.bytes = reader.get<uint32_t>();
    if (pair.bytes == 0) return invalid_argument("malformed frame: a pair is empty");
    sum += pair.bytes;
    out.push_back(pair);
  }
  if (sum <= kShmCallBytesMax) return {};
  return invalid_argument(
      fmt::format("oversized frame: a list of {} bytes, at most {}", sum, kShmCallBytesMax));
}

}  // namespace mempool
