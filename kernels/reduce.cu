// Sums over whole rows.

// `y[row] = sum of x[row][..]`: one block per row, whose size is a multiple of 32, at most 1024.
extern "C" __global__ void row_sum(const float *__restrict__ x, float *__restrict__ y,
                                   unsigned width) {
    __shared__ float part[32];
    const float *row = x + size_t(blockIdx.x) * width;
    float sum = 0.0f;
    for (unsigned i = threadIdx.x; i < width; i += blockDim.x)
        sum += row[i];
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x < 32) {
        sum = threadIdx.x < blockDim.x / 32 ? part[threadIdx.x] : 0.0f;
        sum = warp_sum(sum);
        if (threadIdx.x == 0)
            y[blockIdx.x] = sum;
    }
}
