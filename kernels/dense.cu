// Matrix product `y[rows, units] = x[rows, inputs] * w[inputs, units] + bias`, with ReLU if
// `rectify`; bit-identical to the CPU.

struct Arguments {
    const float *x, *w, *bias;
    float *y;
    unsigned rectify, rows, inputs, units;
};

// GEMM tile: a block computes `ROWS` x `UNITS` outputs, a thread `R` x `U` of them in registers.
// Slices of `DEPTH` terms of K pass through shared memory.
template <int ROWS, int UNITS, int DEPTH, int R, int U>
static __device__ void gemm(const Arguments &given) {
    const float *__restrict__ x = given.x, *__restrict__ w = given.w;
    const float *__restrict__ bias = given.bias;
    float *__restrict__ y = given.y;
    const unsigned rows = given.rows, inputs = given.inputs, units = given.units;
    const int THREADS = ROWS / R * (UNITS / U);
    // Four elements of padding per row: keeps 16-byte alignment and avoids bank conflicts.
    __shared__ __align__(16) float xs[DEPTH][ROWS + 4];
    __shared__ __align__(16) float ws[DEPTH][UNITS + 4];
    const unsigned t = threadIdx.x, across = t % (UNITS / U) * U, down = t / (UNITS / U) * R;
    const unsigned parts = (units + UNITS - 1) / UNITS;
    const size_t first_row = (size_t)(blockIdx.x / parts) * ROWS;
    const unsigned first_unit = blockIdx.x % parts * UNITS;
    float sums[R][U];
#pragma unroll
    for (int u = 0; u < U; u++) {
        const unsigned unit = first_unit + across + u;
        const float start = bias && unit < units ? bias[unit] : 0.0f;
#pragma unroll
        for (int r = 0; r < R; r++)
            sums[r][u] = start;
    }
    for (unsigned from = 0; from < inputs; from += DEPTH) {
        for (unsigned i = t; i < ROWS * DEPTH; i += THREADS) {
            unsigned k = i % DEPTH, row = i / DEPTH;
            xs[k][row] = first_row + row < rows && from + k < inputs
                             ? x[(first_row + row) * inputs + from + k]
                             : 0.0f;
        }
        for (unsigned i = t; i < UNITS * DEPTH; i += THREADS) {
            unsigned unit = i % UNITS, k = i / UNITS;
            ws[k][unit] = from + k < inputs && first_unit + unit < units
                              ? w[(size_t)(from + k) * units + first_unit + unit]
                              : 0.0f;
        }
        __syncthreads();
        // One K block: `DEPTH` terms are summed separately, in the CPU's order.
        float part[R][U] = {};
#pragma unroll
        for (int k = 0; k < DEPTH; k++) {
            float a[R], b[U];
#pragma unroll
            for (int r = 0; r < R; r++)
                a[r] = xs[k][down + r];
#pragma unroll
            for (int u = 0; u < U; u++)
                b[u] = ws[k][across + u];
#pragma unroll
            for (int r = 0; r < R; r++)
#pragma unroll
                for (int u = 0; u < U; u++)
                    part[r][u] = fmaf(a[r], b[u], part[r][u]);
        }
#pragma unroll
        for (int r = 0; r < R; r++)
#pragma unroll
            for (int u = 0; u < U; u++)
                sums[r][u] += part[r][u];
        __syncthreads();
    }
#pragma unroll
    for (int r = 0; r < R; r++)
#pragma unroll
        for (int u = 0; u < U; u++) {
            size_t row = first_row + down + r;
            unsigned unit = first_unit + across + u;
            if (row < rows && unit < units) {
                y[row * units + unit] = given.rectify ? relu(sums[r][u]) : sums[r][u];
            }
        }
}

extern "C" __global__ void __launch_bounds__(256, 2) dense_wide(Arguments given) {
    gemm<128, 64, 32, 8, 4>(given);
}

// Tile for few units.
extern "C" __global__ void __launch_bounds__(128) dense_narrow(Arguments given) {
    gemm<64, 16, 32, 4, 2>(given);
}

// `y[.., i, j] = sum over l of a[.., i, l] * b[.., l, j]`, of `m`, `k` and `n` places. The distances
// of neighbours in the matrices follow.
extern "C" __global__ void mat_mul(const float *__restrict__ a, const float *__restrict__ b,
                                   float *__restrict__ y, unsigned m, unsigned k, unsigned n,
                                   unsigned a_row, unsigned a_term, unsigned b_term,
                                   unsigned b_column, unsigned count) {
    for (unsigned i = first_element(); i < count; i += element_step()) {
        size_t pair = i / n / m;
        const float *left = a + pair * m * k + (size_t)(i / n % m) * a_row;
        const float *right = b + pair * k * n + (size_t)(i % n) * b_column;
        float sum = 0.0f;
        for (unsigned l = 0; l < k; l++)
            sum = fmaf(left[(size_t)l * a_term], right[(size_t)l * b_term], sum);
        y[i] = sum;
    }
}
