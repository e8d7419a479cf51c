// LSTM and GRU over many sequences, all time steps in one launch (equations in
// src/nn/cpu/recurrent.rs). The input products `[items, time, gates * units]`, with the input bias,
// are computed before.

enum Cell { LSTM, GRU_RESET_AFTER, GRU_RESET_BEFORE };

struct Recurrence {
    unsigned cell, items, time, units, sequences, backwards;
    // Sequences per block.
    unsigned group;
    Activation activation, recurrent_activation;
};

// Arguments of every kernel here. `bias` is the recurrent bias, or null.
struct Arguments {
    const float *projected, *kernel, *bias;
    float *y, *memory;
    Recurrence r;
};

// Applies the function to `rows` rows of `units` elements, `distance` apart. Called by all threads.
static __device__ void activate_rows(Activation f, float *values, unsigned rows, unsigned units,
                                     unsigned distance) {
    if (f.kind != SOFTMAX) {
        for (unsigned i = threadIdx.x; i < rows * units; i += blockDim.x) {
            float *v = values + (size_t)(i / units) * distance + i % units;
            *v = activated(f, *v);
        }
    } else {
        for (unsigned row = threadIdx.x; row < rows; row += blockDim.x) {
            float *v = values + (size_t)row * distance;
            float most = v[0], sum = 0.0f;
            for (unsigned u = 1; u < units; u++)
                most = fmaxf(most, v[u]);
            for (unsigned u = 0; u < units; u++) {
                v[u] = precise_exp(v[u] - most);
                sum += v[u];
            }
            for (unsigned u = 0; u < units; u++)
                v[u] /= sum;
        }
    }
    __syncthreads();
}

// Length of a K block: terms that are summed separately, in the CPU's order.
#define TERMS 32

// Returns `start` plus the sum over u of `h[u] * column[u * width]`.
DEVICE float dot(float start, const float *h, const float *__restrict__ column, unsigned units,
                 unsigned width) {
    for (unsigned from = 0; from < units; from += TERMS) {
        const unsigned to = from + TERMS < units ? from + TERMS : units;
        float part = 0.0f;
        for (unsigned u = from; u < to; u++)
            part = fmaf(h[u], column[(size_t)u * width], part);
        start += part;
    }
    return start;
}

// `z[s][j] += sum over u of h[s][u] * kernel[u][j]` for columns `from..to`. With `apart` the
// product has its own bias (null is zeros) and is summed before it is added to `z`.
static __device__ void add_product(float *z, const float *h, const float *__restrict__ kernel,
                                   unsigned group, unsigned units, unsigned width, unsigned from,
                                   unsigned to, bool apart = false,
                                   const float *__restrict__ bias = 0) {
    for (unsigned i = threadIdx.x; i < group * (to - from); i += blockDim.x) {
        unsigned j = from + i % (to - from), s = i / (to - from);
        const float start = !apart ? z[s * width + j] : bias ? bias[j] : 0.0f;
        const float sum = dot(start, h + s * units, kernel + j, units, width);
        z[s * width + j] = apart ? z[s * width + j] + sum : sum;
    }
    __syncthreads();
}

// Any number of units. State and gates are in shared memory, or in `memory` if it is not null.
extern "C" __global__ void recurrent(Arguments given) {
    const float *__restrict__ projected = given.projected, *__restrict__ kernel = given.kernel;
    const float *__restrict__ bias = given.bias;
    float *__restrict__ y = given.y;
    float *memory = given.memory;
    const Recurrence &r = given.r;
    DYNAMIC_SHARED(float, shared);
    const unsigned units = r.units, gates = r.cell == LSTM ? 4 : 3, width = gates * units;
    const unsigned group = r.group, first = blockIdx.x * group;
    // Gates, the candidate's recurrent product, state and cell of each sequence.
    float *z = memory ? memory + (size_t)blockIdx.x * group * (width + 3 * units) : shared;
    float *p = z + group * width, *h = p + group * units, *c = h + group * units;
    for (unsigned i = threadIdx.x; i < group * units; i += blockDim.x)
        h[i] = c[i] = 0.0f;
    for (unsigned step = 0; step < r.time; step++) {
        unsigned t = r.backwards ? r.time - 1 - step : step;
        for (unsigned i = threadIdx.x; i < group * width; i += blockDim.x) {
            unsigned item = first + i / width, j = i % width;
            z[i] = item < r.items ? projected[((size_t)item * r.time + t) * width + j] : 0.0f;
        }
        __syncthreads();
        if (r.cell == LSTM) {
            add_product(z, h, kernel, group, units, width, 0, width);
            activate_rows(r.recurrent_activation, z, group, units, width);
            activate_rows(r.recurrent_activation, z + units, group, units, width);
            activate_rows(r.activation, z + 2 * units, group, units, width);
            activate_rows(r.recurrent_activation, z + 3 * units, group, units, width);
            for (unsigned i = threadIdx.x; i < group * units; i += blockDim.x) {
                const float *gate = z + (size_t)(i / units) * width + i % units;
                c[i] = fmaf(gate[units], c[i], gate[0] * gate[2 * units]);
                h[i] = c[i];
            }
            __syncthreads();
            activate_rows(r.activation, h, group, units, units);
            for (unsigned i = threadIdx.x; i < group * units; i += blockDim.x)
                h[i] *= z[(size_t)(i / units) * width + 3 * units + i % units];
        } else {
            add_product(z, h, kernel, group, units, width, 0, 2 * units, r.cell == GRU_RESET_AFTER,
                        bias);
            activate_rows(r.recurrent_activation, z, group, units, width);
            activate_rows(r.recurrent_activation, z + units, group, units, width);
            if (r.cell == GRU_RESET_AFTER) {
                for (unsigned i = threadIdx.x; i < group * units; i += blockDim.x) {
                    unsigned s = i / units, j = 2 * units + i % units;
                    float sum =
                        dot(bias ? bias[j] : 0.0f, h + s * units, kernel + j, units, width);
                    float *gate = z + (size_t)s * width + i % units;
                    gate[2 * units] = fmaf(gate[units], sum, gate[2 * units]);
                }
                __syncthreads();
            } else {
                for (unsigned i = threadIdx.x; i < group * units; i += blockDim.x)
                    p[i] = z[(size_t)(i / units) * width + units + i % units] * h[i];
                __syncthreads();
                add_product(z, p, kernel, group, units, width, 2 * units, width);
            }
            activate_rows(r.activation, z + 2 * units, group, units, width);
            for (unsigned i = threadIdx.x; i < group * units; i += blockDim.x) {
                const float *gate = z + (size_t)(i / units) * width + i % units;
                h[i] = fmaf(gate[0], h[i], (1.0f - gate[0]) * gate[2 * units]);
            }
        }
        __syncthreads();
        if (r.sequences || step + 1 == r.time)
            for (unsigned i = threadIdx.x; i < group * units; i += blockDim.x) {
                size_t item = first + i / units;
                size_t row = r.sequences ? item * r.time + step : item;
                if (item < r.items)
                    y[row * units + i % units] = h[i];
            }
        __syncthreads();
    }
}

// Returns an input product of an item's step, in the order of processing; 0 past the end.
DEVICE float projection(const float *__restrict__ projected, const Recurrence &r, unsigned item,
                        unsigned step, unsigned width, unsigned column) {
    if (item >= r.items || step >= r.time)
        return 0.0f;
    const unsigned at = r.backwards ? r.time - 1 - step : step;
    return projected[((size_t)item * r.time + at) * width + column];
}

// Adds to each accumulator the product of a sequence's state with a column kept in registers.
template <int UNITS, int SUMS>
DEVICE void add_products(float (&sum)[SUMS], const float (*h)[UNITS], const float (&own)[UNITS]) {
#pragma unroll
    for (int from = 0; from < UNITS; from += TERMS) {
        float partial[SUMS] = {};
#pragma unroll
        for (int u = from; u < from + TERMS && u < UNITS; u += 4)
#pragma unroll
            for (int k = 0; k < SUMS; k++) {
                const float4 state = *reinterpret_cast<const float4 *>(&h[k][u]);
                partial[k] = fmaf(state.x, own[u], partial[k]);
                partial[k] = fmaf(state.y, own[u + 1], partial[k]);
                partial[k] = fmaf(state.z, own[u + 2], partial[k]);
                partial[k] = fmaf(state.w, own[u + 3], partial[k]);
            }
#pragma unroll
        for (int k = 0; k < SUMS; k++)
            sum[k] += partial[k];
    }
}

// LSTM of `UNITS` units with tanh and a (hard) sigmoid. Each of `4 * UNITS` threads keeps one
// column of the recurrent kernel in registers for all time steps and computes one gate of `GROUP`
// sequences. The input products are prefetched one step ahead into the registers just consumed;
// there are not enough registers for both.
template <int UNITS, int GROUP>
static __device__ void lstm(const Arguments &given) {
    const float *__restrict__ projected = given.projected, *__restrict__ kernel = given.kernel;
    float *__restrict__ y = given.y;
    const Recurrence &r = given.r;
    const int WIDTH = 4 * UNITS, AT_ONCE = 4, OWN = GROUP / 4;
    __shared__ __align__(16) float h[GROUP][UNITS];
    __shared__ float z[GROUP][WIDTH];
    const unsigned column = threadIdx.x, unit = column % UNITS, part = column / UNITS;
    const unsigned first = blockIdx.x * GROUP;
    const bool hard = r.recurrent_activation.kind == HARD_SIGMOID;
    float own[UNITS];
#pragma unroll
    for (int u = 0; u < UNITS; u++)
        own[u] = kernel[u * WIDTH + column];
    // The thread keeps the cells of this unit for the sequences `part`, `part + 4`...
    float cell[OWN];
#pragma unroll
    for (int k = 0; k < OWN; k++) {
        cell[k] = 0.0f;
        h[part + 4 * k][unit] = 0.0f;
    }
    float ahead[GROUP];
#pragma unroll
    for (int s = 0; s < GROUP; s++) {
        ahead[s] = projection(projected, r, first + s, 0, WIDTH, column);
    }
    __syncthreads();
    for (unsigned step = 0; step < r.time; step++) {
#pragma unroll
        for (int s = 0; s < GROUP; s += AT_ONCE) {
            float sum[AT_ONCE];
#pragma unroll
            for (int k = 0; k < AT_ONCE; k++) {
                sum[k] = ahead[s + k];
                ahead[s + k] = projection(projected, r, first + s + k, step + 1, WIDTH, column);
            }
            add_products<UNITS>(sum, &h[s], own);
#pragma unroll
            for (int k = 0; k < AT_ONCE; k++)
                z[s + k][column] = part == 2 ? precise_tanh(sum[k])
                                   : hard    ? hard_sigmoid(sum[k])
                                             : precise_sigmoid(sum[k]);
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < OWN; k++) {
            unsigned s = part + 4 * k;
            const float *gate = &z[s][unit];
            cell[k] = fmaf(gate[UNITS], cell[k], gate[0] * gate[2 * UNITS]);
            float state = gate[3 * UNITS] * precise_tanh(cell[k]);
            h[s][unit] = state;
            size_t item = first + s;
            if (item < r.items && (r.sequences || step + 1 == r.time))
                y[(r.sequences ? item * r.time + step : item) * UNITS + unit] = state;
        }
        __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(256) lstm_64(Arguments given) {
    lstm<64, 8>(given);
}

extern "C" __global__ void __launch_bounds__(128, 2) lstm_32(Arguments given) {
    lstm<32, 8>(given);
}

// GRU of `UNITS` units with the reset after the product, tanh and a (hard) sigmoid. Like `lstm`
// with `3 * UNITS` threads: each exchanges its sum through shared memory, and then computes the
// next state of some units.
template <int UNITS, int GROUP>
static __device__ void gru(const Arguments &given) {
    const float *__restrict__ projected = given.projected, *__restrict__ kernel = given.kernel;
    const float *__restrict__ bias = given.bias;
    float *__restrict__ y = given.y;
    const Recurrence &r = given.r;
    const int WIDTH = 3 * UNITS, AT_ONCE = 4;
    __shared__ __align__(16) float h[GROUP][UNITS];
    // Both gates, the candidate's recurrent product and its input product.
    __shared__ float z[GROUP][4 * UNITS];
    const unsigned column = threadIdx.x;
    const unsigned first = blockIdx.x * GROUP;
    const bool hard = r.recurrent_activation.kind == HARD_SIGMOID;
    const bool is_gate = column < 2 * UNITS;
    float own[UNITS];
#pragma unroll
    for (int u = 0; u < UNITS; u++)
        own[u] = kernel[u * WIDTH + column];
    const float start = bias ? bias[column] : 0.0f;
    for (int i = column; i < GROUP * UNITS; i += WIDTH)
        h[i / UNITS][i % UNITS] = 0.0f;
    float ahead[GROUP];
#pragma unroll
    for (int s = 0; s < GROUP; s++) {
        ahead[s] = projection(projected, r, first + s, 0, WIDTH, column);
    }
    __syncthreads();
    for (unsigned step = 0; step < r.time; step++) {
#pragma unroll
        for (int s = 0; s < GROUP; s += AT_ONCE) {
            float sum[AT_ONCE], rest[AT_ONCE];
#pragma unroll
            for (int k = 0; k < AT_ONCE; k++) {
                sum[k] = start;
                rest[k] = ahead[s + k];
                ahead[s + k] = projection(projected, r, first + s + k, step + 1, WIDTH, column);
            }
            add_products<UNITS>(sum, &h[s], own);
#pragma unroll
            for (int k = 0; k < AT_ONCE; k++) {
                const float gate = rest[k] + sum[k];
                z[s + k][column] = !is_gate ? sum[k] : hard ? hard_sigmoid(gate) : precise_sigmoid(gate);
                if (!is_gate)
                    z[s + k][column + UNITS] = rest[k];
            }
        }
        __syncthreads();
        for (int i = column; i < GROUP * UNITS; i += WIDTH) {
            const int s = i / UNITS, unit = i % UNITS;
            const float *gate = &z[s][unit];
            const float update = gate[0];
            const float candidate = precise_tanh(fmaf(gate[UNITS], gate[2 * UNITS], gate[3 * UNITS]));
            const float state = fmaf(update, h[s][unit], (1.0f - update) * candidate);
            h[s][unit] = state;
            size_t item = first + s;
            if (item < r.items && (r.sequences || step + 1 == r.time))
                y[(r.sequences ? item * r.time + step : item) * UNITS + unit] = state;
        }
        __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(144, 2) gru_48(Arguments given) {
    gru<48, 8>(given);
}
