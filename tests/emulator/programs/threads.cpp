// Threads that load the kernel, allocate, copy and launch side by side, each in its own stream.
#include <atomic>
#include <cstdio>
#include <thread>
#include <vector>

#include "expect.h"

int main() {
  constexpr unsigned int threads = 6, rounds = 12, n = 64;
  CUcontext context = nullptr;
  std::atomic<unsigned int> wrong{0};
  OK(cuInit(0));
  OK(cuDevicePrimaryCtxRetain(&context, 0));
  auto work = [&](unsigned int number) {
    CUmodule module = nullptr;
    CUfunction add = nullptr;
    CUstream stream = nullptr;
    CUdeviceptr data = 0;
    std::vector<unsigned int> host(n, number);
    wrong += cuCtxSetCurrent(context) != 0 || cuModuleLoadData(&module, ptx) != 0;
    wrong += cuModuleGetFunction(&add, module, "add") != 0 || cuStreamCreate(&stream, 1) != 0;
    wrong += cuMemAlloc_v2(&data, 4 * n) != 0 || cuMemcpyHtoDAsync_v2(data, host.data(), 4 * n, stream) != 0;
    for (unsigned int round = 0; round < rounds; ++round) {
      void *params[] = {&data, &round};
      wrong += cuLaunchKernel(add, 1, 1, 1, n, 1, 1, 0, stream, params, nullptr) != 0;
    }
    wrong += cuMemcpyDtoHAsync_v2(host.data(), data, 4 * n, stream) != 0 || cuStreamSynchronize(stream) != 0;
    for (unsigned int value : host) {
      wrong += value != number + rounds * (rounds - 1) / 2;
    }
    wrong += cuMemFree_v2(data) != 0 || cuStreamDestroy_v2(stream) != 0 || cuModuleUnload(module) != 0;
  };
  std::vector<std::thread> running;
  for (unsigned int number = 0; number < threads; ++number) {
    running.emplace_back(work, number);
  }
  for (auto &thread : running) {
    thread.join();
  }
  std::printf("%u wrong\n", wrong.load());
  return wrong != 0 || failures != 0;
}
