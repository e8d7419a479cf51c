// What all kernels share; it stands in front of each of the .cu files.
#pragma once

#ifndef DYNAMIC_SHARED
// Shared memory whose size the launch gives.
#define DYNAMIC_SHARED(type, name)                                                                 \
    extern __shared__ __align__(16) unsigned char dynamic_shared_memory[];                         \
    type *name = reinterpret_cast<type *>(dynamic_shared_memory)
#endif

#define EVERY_LANE 0xffffffffu

// The number of this thread among all of a one-dimensional launch, and how many there are.
static __device__ __forceinline__ unsigned first_element() {
    return blockIdx.x * blockDim.x + threadIdx.x;
}
static __device__ __forceinline__ unsigned element_step() { return gridDim.x * blockDim.x; }

static __device__ __forceinline__ float warp_sum(float x) {
    for (unsigned bits = 16; bits > 0; bits >>= 1)
        x += __shfl_xor_sync(EVERY_LANE, x, bits);
    return x;
}

static __device__ __forceinline__ float warp_max(float x) {
    for (unsigned bits = 16; bits > 0; bits >>= 1)
        x = fmaxf(x, __shfl_xor_sync(EVERY_LANE, x, bits));
    return x;
}
