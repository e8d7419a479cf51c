// Peak performance of a device, as a reference for other kernels.

#define PEAK_CHAINS 8
#define PEAK_STEPS 8

// `PEAK_CHAINS * PEAK_STEPS` multiply-adds per round and thread, in registers; the chains are
// independent of each other.
extern "C" __global__ void __launch_bounds__(256)
    peak_arithmetic(float *y, float a, float b, unsigned rounds) {
    float x[PEAK_CHAINS], sum = 0.0f;
#pragma unroll
    for (int k = 0; k < PEAK_CHAINS; k++)
        x[k] = (float)(threadIdx.x + k);
#pragma unroll 1
    for (unsigned round = 0; round < rounds; round++)
#pragma unroll
        for (int step = 0; step < PEAK_STEPS; step++)
#pragma unroll
            for (int k = 0; k < PEAK_CHAINS; k++)
                x[k] = fmaf(x[k], a, b);
#pragma unroll
    for (int k = 0; k < PEAK_CHAINS; k++)
        sum += x[k];
    y[first_element()] = sum;
}

// Copies `count` vectors, four per thread, to keep several loads in flight.
extern "C" __global__ void __launch_bounds__(256)
    peak_copy(const float4 *__restrict__ x, float4 *__restrict__ y, unsigned long long count) {
    const unsigned long long threads = blockDim.x;
    const unsigned long long first = 4 * threads * blockIdx.x + threadIdx.x;
    float4 held[4];
#pragma unroll
    for (int k = 0; k < 4; k++)
        if (first + k * threads < count)
            held[k] = x[first + k * threads];
#pragma unroll
    for (int k = 0; k < 4; k++)
        if (first + k * threads < count)
            y[first + k * threads] = held[k];
}
