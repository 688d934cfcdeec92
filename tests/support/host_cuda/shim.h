// CUDA C++ on the host: one block after the other, its threads as fibers; one warp after the other, up to each barrier.
#include <csetjmp>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>
#include <utility>
using namespace std;

#define __device__ static
#define __global__
#define __shared__ static
#define __forceinline__ inline
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(threads)

struct Index { unsigned x; };
static Index threadIdx, blockIdx;

static const unsigned MOST = 1024, WARP = 32, STACK = 1 << 16;
enum State { READY, WARP_WAITS, BLOCK_WAITS, DONE };
static ucontext_t contexts[MOST];
static jmp_buf resume_at[MOST], home;
static char *stacks;
static State state[MOST];
static bool started[MOST], in_fibers;
static void (*fiber_body)();

static void fiber() {
  fiber_body();
  state[threadIdx.x] = DONE;
  _longjmp(home, 1);
}

static void wait(State for_whom) {
  if (!in_fibers) abort();
  unsigned thread = threadIdx.x;
  state[thread] = for_whom;
  if (!_setjmp(resume_at[thread])) _longjmp(home, 1);
}

static void resume(unsigned thread) {
  threadIdx.x = thread;
  if (_setjmp(home)) return;
  if (started[thread]) _longjmp(resume_at[thread], 1);
  started[thread] = true;
  setcontext(&contexts[thread]);
}

// A warp runs on until all of it waits for the block: no other warp has come as far.
static void run_warp(unsigned first, unsigned threads) {
  for (bool again = true; again;) {
    again = false;
    for (volatile unsigned thread = first; thread < first + WARP && thread < threads; thread = thread + 1) {
      if (state[thread] == DONE || state[thread] == BLOCK_WAITS) continue;
      resume(thread);
      again = again || state[thread] == WARP_WAITS;
    }
  }
}

static void run_block(unsigned threads, void (*body)()) {
  if (!stacks) stacks = (char *)malloc((size_t)MOST * STACK);
  fiber_body = body;
  in_fibers = true;
  for (unsigned thread = 0; thread < threads; ++thread) {
    state[thread] = READY;
    started[thread] = false;
    getcontext(&contexts[thread]);
    contexts[thread].uc_stack.ss_sp = stacks + (size_t)thread * STACK;
    contexts[thread].uc_stack.ss_size = STACK;
    makecontext(&contexts[thread], fiber, 0);
  }
  for (bool any = true; any;) {
    any = false;
    for (volatile unsigned first = 0; first < threads; first = first + WARP) run_warp(first, threads);
    for (unsigned thread = 0; thread < threads; ++thread)
      if (state[thread] != DONE) {
        state[thread] = READY;
        any = true;
      }
  }
  in_fibers = false;
}

static void **arguments;

template <class... P, size_t... I> static void spread(void (*kernel)(P...), void **given, index_sequence<I...>) {
  kernel((P)given[I]...);
}

template <auto Kernel> struct Runner;
template <class... P, void (*Kernel)(P...)> struct Runner<Kernel> {
  static void body() { spread(Kernel, arguments, index_sequence_for<P...>()); }
};

template <auto Kernel> static void run_grid(unsigned blocks, unsigned threads, void **given, bool barriers) {
  arguments = given;
  for (unsigned turn = 0; turn < blocks; ++turn) {
    blockIdx.x = blocks - 1 - turn;  // any order must do
    if (barriers) {
      run_block(threads, Runner<Kernel>::body);
      continue;
    }
    for (unsigned thread = 0; thread < threads; ++thread) {
      threadIdx.x = thread;
      Runner<Kernel>::body();
    }
  }
}

static inline void __syncthreads() { wait(BLOCK_WAITS); }

template <class T> static T __shfl_xor_sync(unsigned, T value, int distance) {
  static_assert(sizeof(T) >= 4, "what is smaller is promoted on a GPU");
  alignas(8) static unsigned char slots[MOST][8];
  memcpy(slots[threadIdx.x], &value, sizeof(T));
  wait(WARP_WAITS);
  memcpy(&value, slots[threadIdx.x ^ distance], sizeof(T));
  wait(WARP_WAITS);
  return value;
}
static inline int __shfl_xor_sync(unsigned mask, bool value, int distance) { return __shfl_xor_sync(mask, (int)value, distance); }
static inline int __shfl_xor_sync(unsigned mask, signed char value, int distance) { return __shfl_xor_sync(mask, (int)value, distance); }
static inline int __shfl_xor_sync(unsigned mask, unsigned char value, int distance) { return __shfl_xor_sync(mask, (int)value, distance); }
static inline int __shfl_xor_sync(unsigned mask, short value, int distance) { return __shfl_xor_sync(mask, (int)value, distance); }
static inline int __shfl_xor_sync(unsigned mask, unsigned short value, int distance) { return __shfl_xor_sync(mask, (int)value, distance); }

template <class To, class From> static To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}
static inline int __float_as_int(float x) { return same_bits<int>(x); }
static inline float __int_as_float(int x) { return same_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return same_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return same_bits<double>(x); }

static inline float half_value(unsigned short bits) { return (float)same_bits<_Float16>(bits); }
static inline unsigned short half_bits(float value) { return same_bits<unsigned short>((_Float16)value); }
static inline float rounded_to_half(float value) { return half_value(half_bits(value)); }
template <class T, int N> struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Pack { T at[N]; };
