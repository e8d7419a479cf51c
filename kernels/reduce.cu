// Sums, maxima and softmax over one dimension of `[before, n, after]`, and attention pooling.

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

// `y[before, after]`, the mean over `n`.
extern "C" __global__ void mean_axis(const float *__restrict__ x, float *__restrict__ y, unsigned n,
                                     unsigned after, unsigned count) {
    for (unsigned i = first_element(); i < count; i += element_step()) {
        const float *from = x + (size_t)(i / after) * n * after + i % after;
        float sum = 0.0f;
        for (unsigned k = 0; k < n; k++)
            sum += from[(size_t)k * after];
        y[i] = sum / (float)n;
    }
}

// Maximum (`mean` 0) or mean (`mean` 1) over `n`.
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

// Softmax over rows of `n` elements, one warp per row; `y` may be `x`.
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

// Softmax over `n` with `after` other than 1, one thread per line; `count` lines.
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

// Attention pooling: a sequence of `n` rows of `width` elements; strides of its scores along rows
// and columns, and scores per sequence. `weights` is the width of the stored attention weights:
// `width`, or 1 if all columns share them.
struct AttentionPool {
    unsigned n, width, row, column, scores, weights, mean;
};

const unsigned POOL_WARPS = 8;

// Sum (or mean) over the rows of `x`, weighted by the softmax of the scores over the rows. If
// `weights` is not null, it receives the weights `[n, how.weights]`. A block computes 32 columns of
// a sequence, each warp every eighth row. The softmax needs one pass: partial sums are scaled down
// when a larger score comes (Milakov and Gimelshein, "Online normalizer calculation for softmax",
// 2018).
extern "C" __global__ void __launch_bounds__(32 * POOL_WARPS)
    attention_pool(const float *__restrict__ scores, const float *__restrict__ x,
                   float *__restrict__ weights, float *__restrict__ y, AttentionPool how) {
    __shared__ float tile[32][33];
    __shared__ float mosts[POOL_WARPS][32], sums[POOL_WARPS][32], products[POOL_WARPS][32];
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    unsigned blocks = (how.width + 31) / 32;
    unsigned left = blockIdx.x % blocks * 32, column = left + lane;
    size_t item = blockIdx.x / blocks;
    bool inside = column < how.width;
    scores += item * how.scores;
    x += item * how.n * how.width + column;

    // Transposed scores are transposed back in shared memory, 32 rows at a time.
    bool turned = how.row == 1 && how.column > 1;
    auto turn = [&](unsigned start) {
        __syncthreads();
        for (unsigned c = warp; c < 32; c += POOL_WARPS)
            if (left + c < how.width && start + lane < how.n)
                tile[c][lane] = scores[(size_t)(left + c) * how.column + start + lane];
        __syncthreads();
    };
    auto score = [&](unsigned row) {
        return turned ? tile[lane][row % 32]
                      : scores[(size_t)row * how.row + (size_t)column * how.column];
    };

    // The lowest finite value; a score may be -infinity.
    float most = -3.402823466e38f, sum = 0.0f, product = 0.0f;
    for (unsigned start = 0; start < how.n; start += 32) {
        if (turned)
            turn(start);
        for (unsigned k = warp; inside && k < 32 && start + k < how.n; k += POOL_WARPS) {
            float s = score(start + k);
            if (s > most) {
                float scale = precise_exp(most - s);
                sum *= scale;
                product *= scale;
                most = s;
            }
            float e = precise_exp(s - most);
            sum += e;
            product = fmaf(e, x[(size_t)(start + k) * how.width], product);
        }
    }
    mosts[warp][lane] = most;
    sums[warp][lane] = sum;
    products[warp][lane] = product;
    __syncthreads();
    for (unsigned w = 0; w < POOL_WARPS; w++)
        most = fmaxf(most, mosts[w][lane]);
    sum = product = 0.0f;
    for (unsigned w = 0; w < POOL_WARPS; w++) {
        float scale = precise_exp(mosts[w][lane] - most);
        sum = fmaf(sums[w][lane], scale, sum);
        product = fmaf(products[w][lane], scale, product);
    }
    if (inside && warp == 0)
        y[item * how.width + column] = product / sum / (how.mean ? (float)how.n : 1.0f);
    if (!weights)
        return;
    weights += item * how.n * how.weights + column;
    for (unsigned start = 0; start < how.n; start += 32) {
        if (turned && how.n > 32)
            turn(start);
        if (column < how.weights)
            for (unsigned k = warp; k < 32 && start + k < how.n; k += POOL_WARPS)
                weights[(size_t)(start + k) * how.weights] =
                    precise_exp(score(start + k) - most) / sum;
    }
}
