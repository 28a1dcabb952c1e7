// Shared memory that remembers who touched it: the race detector of the emulator.
//
// It starts as NaNs. An asynchronous copy lands when its thread waits for it; until then, and until the next barrier
// after that for every other thread, reading the chunk is a race. So is starting a copy into a chunk that another
// thread read or wrote since the last barrier.
#pragma once

#include <cstring>

#include "fibers.h"

namespace emulator {

struct alignas(16) Chunk {
  uint32_t x, y, z, w;
};

struct Touch {
  static constexpr int kNobody = -1, kSeveral = -2;
  int thread = kNobody;
  unsigned epoch = 0;

  bool by_other(int reader, unsigned now) const { return thread != kNobody && thread != reader && epoch == now; }

  void add(int toucher, unsigned now) {
    const bool first = thread == kNobody || epoch != now;
    thread = first || thread == toucher ? toucher : kSeveral;
    epoch = now;
  }
};

struct ChunkHistory {
  Touch write, read;
  bool in_flight = false;
};

struct PendingCopy {
  Chunk* to;
  const void* from;
  bool valid;
};

struct SharedMemory {
  std::unique_ptr<Chunk[]> chunks;
  std::vector<ChunkHistory> history;
  std::vector<std::vector<PendingCopy>> pending;  // of each thread

  void reset(size_t bytes, unsigned threads) {
    const size_t count = bytes / sizeof(Chunk);
    chunks.reset(new Chunk[count]);
    std::memset(static_cast<void*>(chunks.get()), 0xff, bytes);
    history.assign(count, ChunkHistory());
    pending.assign(threads, {});
  }

  ChunkHistory& history_of(const Chunk* chunk) {
    const std::ptrdiff_t index = chunk - chunks.get();
    if (index < 0 || index >= static_cast<std::ptrdiff_t>(history.size()))
      fail("shared memory is left", block.index, block.current);
    return history[index];
  }

  static void check_free(const ChunkHistory& chunk) {
    if (chunk.in_flight || chunk.read.by_other(block.current, block.epoch) ||
        chunk.write.by_other(block.current, block.epoch))
      fail("race: a chunk still in use is overwritten", block.index, block.current);
  }

  void start_copy(Chunk* to, const void* from, bool valid) {
    ChunkHistory& chunk = history_of(to);
    check_free(chunk);
    chunk.in_flight = true;
    pending[block.current].push_back({to, from, valid});
  }

  void finish_copies() {
    for (const PendingCopy& copy : pending[block.current]) {
      if (reinterpret_cast<uintptr_t>(copy.from) % 16) fail("a copy is not aligned", block.index, block.current);
      *copy.to = copy.valid ? *static_cast<const Chunk*>(copy.from) : Chunk{0, 0, 0, 0};
      ChunkHistory& chunk = history_of(copy.to);
      chunk.in_flight = false;
      chunk.write.add(block.current, block.epoch);
    }
    pending[block.current].clear();
  }

  void write(Chunk* to, uint32_t word) {
    ChunkHistory& chunk = history_of(to);
    check_free(chunk);
    chunk.write.add(block.current, block.epoch);
    to->x = word;
  }

  Chunk read(const Chunk* from) {
    ChunkHistory& chunk = history_of(from);
    if (chunk.in_flight || chunk.write.by_other(block.current, block.epoch))
      fail("race: a chunk is read before it is there", block.index, block.current);
    chunk.read.add(block.current, block.epoch);
    return *from;
  }
};

inline SharedMemory shared_memory;

}  // namespace emulator
