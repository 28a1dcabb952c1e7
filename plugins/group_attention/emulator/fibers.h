// A GPU block on the host: one fiber per CUDA thread, with barriers for the warp and for the block.
//
// A fiber runs until it waits at a barrier. Which warp runs first is drawn anew for every block, and a block in which
// nobody can go on has diverged at a barrier: it is reported, and the process ends.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <vector>

namespace emulator {

constexpr int kLanes = 32;
constexpr size_t kStackBytes = 128 << 10;

[[noreturn]] inline void fail(const char* what, unsigned block, int thread) {
  std::fprintf(stderr, "emulator: %s (block %u, thread %d)\n", what, block, thread);
  std::exit(3);
}

// What the lanes of a warp hand each other. Two of each, used in turn: the next exchange may start while a slow lane
// still reads the last one.
struct Warp {
  int arrived = 0;
  unsigned generation = 0;
  uint32_t words[2][kLanes][8];
  const void* pointers[2][kLanes];
};

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
  bool done = false;
};

struct Block {
  unsigned index = 0;
  int current = 0, running = 0, waiting = 0;
  unsigned epoch = 0;     // barriers passed
  uint64_t progress = 0;  // barriers passed and fibers ended
  ucontext_t scheduler;
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  std::function<void()> body;
};

inline Block block;

inline void yield() { swapcontext(&block.fibers[block.current].context, &block.scheduler); }

inline Warp& this_warp() { return block.warps[block.current / kLanes]; }
inline int this_lane() { return block.current % kLanes; }

inline void wait_for_warp() {
  Warp& warp = this_warp();
  const unsigned generation = warp.generation;
  if (++warp.arrived == kLanes) {
    warp.arrived = 0;
    warp.generation++;
    block.progress++;
  }
  while (warp.generation == generation) yield();
}

inline void wait_for_block() {
  const unsigned epoch = block.epoch;
  if (++block.waiting == static_cast<int>(block.fibers.size())) {
    block.waiting = 0;
    block.epoch++;
    block.progress++;
  }
  while (block.epoch == epoch) yield();
}

inline void run_fiber() {
  block.body();
  block.fibers[block.current].done = true;
  block.running--;
  block.progress++;
  yield();
}

inline void start_fiber(Fiber& fiber) {
  fiber.done = false;
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.get();
  fiber.context.uc_stack.ss_size = kStackBytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, run_fiber, 0);
}

// Thread numbers, warp by warp, the warps in random order.
inline std::vector<int> shuffled_threads(unsigned threads, std::mt19937& random) {
  std::vector<int> warps(threads / kLanes), order;
  for (size_t i = 0; i < warps.size(); i++) warps[i] = static_cast<int>(i);
  std::shuffle(warps.begin(), warps.end(), random);
  for (int warp : warps)
    for (int lane = 0; lane < kLanes; lane++) order.push_back(warp * kLanes + lane);
  return order;
}

inline void run_block(unsigned index, unsigned threads, std::mt19937& random, const std::function<void()>& body) {
  block.index = index;
  block.running = static_cast<int>(threads);
  block.waiting = 0;
  block.epoch = 0;
  block.body = body;
  block.fibers.resize(threads);
  block.warps.assign(threads / kLanes, Warp());
  for (Fiber& fiber : block.fibers) start_fiber(fiber);
  const std::vector<int> order = shuffled_threads(threads, random);
  while (block.running > 0) {
    const uint64_t before = block.progress;
    for (int thread : order) {
      if (block.fibers[thread].done) continue;
      block.current = thread;
      swapcontext(&block.scheduler, &block.fibers[thread].context);
    }
    if (block.progress == before) fail("threads wait at different barriers", index, block.current);
  }
}

}  // namespace emulator
