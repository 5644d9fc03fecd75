// SPDX-License-Identifier: Apache-2.0
// Owns memory as an engine has it: tensors of its own, in the ways in which engines lay them out.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

#include <gtest/gtest.h>

#include "mempool/pool.h"

namespace mempool::testing {

enum class TensorForm : uint8_t {
  kLayers,        // [layer][part][block][piece], as vLLM has it with one tensor for all layers
  kPartsInBlock,  // [layer][block][part][piece]
  kBlocks,        // [block][layer][part][piece]
};

enum class TensorMemory : uint8_t { kMemfd, kAnonymous };

/// Tensors of one shard. Thread: confined.
class EngineMemory {
 public:
  EngineMemory(const BlockLayout& pool, uint32_t blocks, TensorForm form = TensorForm::kLayers,
               TensorMemory memory = TensorMemory::kMemfd)
      : blocks_(blocks) {
    const uint64_t piece = pool.piece_bytes;
    shape_.bytes = pool.block_bytes * blocks;
    switch (form) {
      case TensorForm::kLayers:
        shape_.block_stride = piece;
        shape_.part_stride = piece * blocks;
        shape_.layer_stride = shape_.part_stride * pool.parts;
        break;
      case TensorForm::kPartsInBlock:
        shape_.part_stride = piece;
        shape_.block_stride = piece * pool.parts;
        shape_.layer_stride = shape_.block_stride * blocks;
        break;
      case TensorForm::kBlocks:
        shape_.part_stride = piece;
        shape_.layer_stride = piece * pool.parts;
        shape_.block_stride = pool.block_bytes;
        break;
    }
    if (memory == TensorMemory::kMemfd) make_memfd();
    const int flags = shape_.descriptor < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    void* const at =
        mmap(nullptr, shape_.bytes, PROT_READ | PROT_WRITE, flags, shape_.descriptor, 0);
    EXPECT_NE(at, MAP_FAILED);
    shape_.data = static_cast<std::byte*>(at);
  }
  ~EngineMemory() {
    munmap(shape_.data, shape_.bytes);
    if (shape_.descriptor >= 0) close(shape_.descriptor);
  }
  EngineMemory(const EngineMemory&) = delete;
  EngineMemory& operator=(const EngineMemory&) = delete;

  const AdoptedMemory& shape() const { return shape_; }
  AdoptOptions options(bool in_place = false) const { return {blocks_, {shape_}, in_place}; }
  std::byte* piece(uint32_t block, uint32_t layer, uint32_t part) const {
    return shape_.data + block * shape_.block_stride + layer * shape_.layer_stride +
           part * shape_.part_stride;
  }

 private:
  void make_memfd() {
    shape_.descriptor = memfd_create("engine", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    EXPECT_EQ(ftruncate(shape_.descriptor, static_cast<off_t>(shape_.bytes)), 0);
    EXPECT_EQ(fcntl(shape_.descriptor, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
  }

  AdoptedMemory shape_;
  uint32_t blocks_;
};

}  // namespace mempool::testing
