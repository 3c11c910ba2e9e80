// CUDA's words for a processor: a block's threads are threads, blocks come one after another. For the tests of
// kernels.cu.

#include <math.h>

#include <barrier>
#include <cstddef>
#include <thread>
#include <map>
#include <string>
#include <vector>

#define __global__ static
#define __device__ static
#define __shared__ static

struct Index {
    unsigned x;
};
static thread_local Index threadIdx, blockIdx;
static std::barrier<> *block_barrier;
static void __syncthreads() { block_barrier->arrive_and_wait(); }

struct Numbers;
using Kernel = void (*)(Numbers, const float *, const float *, const float *, const float *, float *);

static std::map<std::string, Kernel> &kernels() {
    static std::map<std::string, Kernel> all;
    return all;
}
struct Known {
    Known(const char *name, Kernel kernel) { kernels()[name] = kernel; }
};
#define KERNEL(name)                                                                                            \
    static void name(Numbers p, const float *a, const float *b, const float *c, const float *d, float *y);      \
    static Known known_##name(#name, name);                                                                     \
    static void name([[maybe_unused]] Numbers p, [[maybe_unused]] const float *a, [[maybe_unused]] const float *b, \
                     [[maybe_unused]] const float *c, [[maybe_unused]] const float *d, float *y)

#include "kernels.cu"

// Runs a kernel; 1 when there is none of that name.
extern "C" int emulate(const char *name, unsigned blocks, const Numbers *p, const float *a, const float *b, const float *c, const float *d,
                       float *y) {
    const auto found = kernels().find(name);
    if (found == kernels().end()) return 1;
    std::barrier<> inside(THREADS), between(THREADS);
    block_barrier = &inside;
    std::vector<std::jthread> all;
    for (unsigned t = 0; t < THREADS; t++)
        all.emplace_back([&, t] {
            threadIdx.x = t;
            for (unsigned block = 0; block < blocks; block++) {
                blockIdx.x = block;
                found->second(*p, a, b, c, d, y);
                between.arrive_and_wait();
            }
        });
    return 0;
}
