// Sums, maxima and softmax over one dimension of `[before, n, after]`.

// `y[before, after]`, the sum over `n`.
extern "C" __global__ void sum_axis(const float *__restrict__ x, float *__restrict__ y, unsigned n,
                                    unsigned after, unsigned count) {
    for (unsigned i = first_element(); i < count; i += element_step()) {
        const float *from = x + (size_t)(i / after) * n * after + i % after;
        float sum = 0.0f;
        for (unsigned k = 0; k < n; k++)
            sum += from[(size_t)k * after];
        y[i] = sum;
    }
}

// The largest (`mean` 0) or the mean (1) over `n`.
extern "C" __global__ void global_pool(const float *__restrict__ x, float *__restrict__ y,
                                       unsigned mean, unsigned n, unsigned after, unsigned count) {
    for (unsigned i = first_element(); i < count; i += element_step()) {
        const float *from = x + (size_t)(i / after) * n * after + i % after;
        float all = from[0];
        for (unsigned k = 1; k < n; k++) {
            float v = from[(size_t)k * after];
            all = mean ? all + v : v > all ? v : all;
        }
        y[i] = mean ? all / (float)n : all;
    }
}

// Softmax over rows of `n` numbers, one warp for each; `y` may be `x`.
extern "C" __global__ void softmax_rows(const float *x, float *y, unsigned n, unsigned rows) {
    unsigned lane = threadIdx.x % 32;
    for (unsigned row = first_element() / 32; row < rows; row += element_step() / 32) {
        const float *from = x + (size_t)row * n;
        float *to = y + (size_t)row * n;
        float most = __int_as_float(0xff800000);
        for (unsigned i = lane; i < n; i += 32)
            most = fmaxf(most, from[i]);
        most = warp_max(most);
        float sum = 0.0f;
        for (unsigned i = lane; i < n; i += 32)
            sum += precise_exp(from[i] - most);
        sum = warp_sum(sum);
        for (unsigned i = lane; i < n; i += 32)
            to[i] = precise_exp(from[i] - most) / sum;
    }
}

// Softmax over `n` where `after` is not 1, one thread for each line; `count` lines.
extern "C" __global__ void softmax_axis(const float *x, float *y, unsigned n, unsigned after,
                                        unsigned count) {
    for (unsigned i = first_element(); i < count; i += element_step()) {
        size_t at = (size_t)(i / after) * n * after + i % after;
        float most = x[at], sum = 0.0f;
        for (unsigned k = 1; k < n; k++)
            most = fmaxf(most, x[at + (size_t)k * after]);
        for (unsigned k = 0; k < n; k++)
            sum += precise_exp(x[at + (size_t)k * after] - most);
        for (unsigned k = 0; k < n; k++)
            y[at + (size_t)k * after] = precise_exp(x[at + (size_t)k * after] - most) / sum;
    }
}
