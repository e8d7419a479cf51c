// Convolution over `[height, width, channels]`, with what follows it at once.

struct Convolution {
    unsigned items, height, width, in, out_height, out_width, out;
    unsigned rows, columns, stride_rows, stride_columns, dilation_rows, dilation_columns;
    unsigned before_rows, before_columns;
};

// After the bias, each if it is set: ReLU, `x * scale + shift`, a last ReLU, the maximum of 2 x 2
// neighbours. Other functions would make the kernels long; they are launched by themselves.
struct Finish {
    unsigned relu, affine, relu_last, pool;
};

DEVICE float finished(const Finish &f, float x, float scale, float shift) {
    x = f.relu ? relu(x) : x;
    x = f.affine ? fmaf(x, scale, shift) : x;
    return f.relu_last ? relu(x) : x;
}

// What every kernel here takes. `factors`, if not null, scale the input's channels: `[items, in]`.
// `copies` rows of the factors share an item of `x`. A kernel names the pointers as its own first:
// only so is `__restrict__` heeded.
struct Arguments {
    const float *x, *factors, *kernel, *bias, *scale, *shift;
    float *y;
    Convolution g;
    Finish finish;
    unsigned copies;
};

// Any convolution without pooling, one number at a time.
extern "C" __global__ void conv(Arguments given, unsigned count) {
    const float *__restrict__ x = given.x, *__restrict__ factors = given.factors;
    const float *__restrict__ kernel = given.kernel, *__restrict__ bias = given.bias;
    const float *__restrict__ scale = given.scale, *__restrict__ shift = given.shift;
    float *__restrict__ y = given.y;
    const Convolution &g = given.g;
    const Finish &finish = given.finish;
    const unsigned copies = given.copies;
    for (unsigned i = first_element(); i < count; i += element_step()) {
        unsigned o = i % g.out, pixel = i / g.out;
        unsigned column = pixel % g.out_width, line = pixel / g.out_width;
        unsigned item = line / g.out_height;
        const float *image = x + (size_t)(item / copies) * g.height * g.width * g.in;
        const float *factor = factors ? factors + (size_t)item * g.in : 0;
        float sum = bias[o];
        for (unsigned k = 0; k < g.rows; k++) {
            // Wraps to a large number before the first row.
            unsigned row =
                line % g.out_height * g.stride_rows + k * g.dilation_rows - g.before_rows;
            if (row >= g.height)
                continue;
            for (unsigned l = 0; l < g.columns; l++) {
                unsigned at = column * g.stride_columns + l * g.dilation_columns - g.before_columns;
                if (at >= g.width)
                    continue;
                const float *from = image + ((size_t)row * g.width + at) * g.in;
                const float *w = kernel + (size_t)(k * g.columns + l) * g.in * g.out + o;
                for (unsigned c = 0; c < g.in; c++)
                    sum = fmaf(factor ? from[c] * factor[c] : from[c], w[(size_t)c * g.out], sum);
            }
        }
        y[i] = finished(finish, sum, finish.affine ? scale[o] : 1.0f,
                        finish.affine ? shift[o] : 0.0f);
    }
}

// What a block of the tiled kernels computes: `images` items, of each `tile_rows` x `tile_columns`
// pixels of the result (multiples of 2 and 4), `8 * groups` channels.
struct Tiling {
    unsigned images, tile_rows, tile_columns, groups;
    // Tiles along both dimensions.
    unsigned down, across;
    // In shared memory: distances of rows and of channels. `pitch` is a multiple of 4, `plane` 4 more
    // than a multiple of 8, so that channels that are stored together fall into different banks.
    unsigned pitch, plane;
    // Channels of the kernel with their padding.
    unsigned padded_out;
};

// Pixels and channels that a thread computes in registers.
#define THREAD_ROWS 2
#define THREAD_COLUMNS 4
#define THREAD_CHANNELS 8

// A convolution with stride 1 and a kernel of `K` x `K` as an implicit matrix product: `CHUNK`
// channels of the input at a time lie in shared memory, channel by channel, with the kernel's part
// for them. `kernel` is `[in, K, K, padded out]`, bias, scale and shift are padded too, to a multiple of
// `8 * groups` channels. `in` is a multiple of `CHUNK`.
template <int K, int CHUNK>
static __device__ void tiled(const Arguments &given, const Tiling &tile) {
    const float *__restrict__ x = given.x, *__restrict__ factors = given.factors;
    const float *__restrict__ kernel = given.kernel, *__restrict__ bias = given.bias;
    const float *__restrict__ scale = given.scale, *__restrict__ shift = given.shift;
    float *__restrict__ y = given.y;
    const Convolution &g = given.g;
    const Finish &finish = given.finish;
    const unsigned copies = given.copies, padded_out = tile.padded_out;
    DYNAMIC_SHARED(float, xs);
    const unsigned rows_in = tile.tile_rows + K - 1, columns_in = tile.tile_columns + K - 1;
    const unsigned channels = tile.groups * THREAD_CHANNELS;
    float *ws = xs + (size_t)tile.images * CHUNK * tile.plane;
    const unsigned t = threadIdx.x, threads = blockDim.x;

    const unsigned per_row = tile.tile_columns / THREAD_COLUMNS;
    const unsigned per_image = tile.tile_rows / THREAD_ROWS * per_row;
    const unsigned quads = tile.images * per_image;
    // Threads of a warp share their channels, so that reading weights is one broadcast.
    const unsigned group = t / quads, quad = t % quads;
    const unsigned own_image = quad / per_image;
    const unsigned own_row = quad % per_image / per_row * THREAD_ROWS;
    const unsigned own_column = quad % per_row * THREAD_COLUMNS;
    const bool works = group < tile.groups;

    // Blocks that read the same part of the image follow each other.
    const unsigned parts = padded_out / channels, block = blockIdx.x / parts;
    const unsigned first_channel = blockIdx.x % parts * channels;
    const unsigned tile_column = block % tile.across * tile.tile_columns;
    const unsigned tile_row = block / tile.across % tile.down * tile.tile_rows;
    const unsigned first_item = block / tile.across / tile.down * tile.images;

    float sums[THREAD_ROWS][THREAD_COLUMNS][THREAD_CHANNELS] = {};
    const unsigned warp = t / 32, lane = t % 32, warps = (threads + 31) / 32;
    const unsigned lanes = threads - warp * 32 < 32 ? threads - warp * 32 : 32;

    for (unsigned from = 0; from < g.in; from += CHUNK) {
        // Each warp brings whole rows.
        for (unsigned line = warp; line < tile.images * rows_in; line += warps) {
            const unsigned image = line / rows_in, row_in = line % rows_in;
            const unsigned item = first_item + image;
            const unsigned row = tile_row + row_in - g.before_rows;
            const bool inside = item < g.items && row < g.height;
            const float *source = x + ((size_t)(item / copies) * g.height + row) * g.width * g.in;
            const float *factor = factors ? factors + (size_t)item * g.in : 0;
            float *target = xs + (size_t)image * CHUNK * tile.plane + row_in * tile.pitch;
            for (unsigned column_in = lane; column_in < columns_in; column_in += lanes) {
                const unsigned column = tile_column + column_in - g.before_columns;
                const bool there = inside && column < g.width;
                if (CHUNK == 4) {
                    float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                    if (there) {
                        v = *reinterpret_cast<const float4 *>(source + (size_t)column * g.in + from);
                        if (factor) {
                            v.x *= factor[from];
                            v.y *= factor[from + 1];
                            v.z *= factor[from + 2];
                            v.w *= factor[from + 3];
                        }
                    }
                    target[column_in] = v.x;
                    target[tile.plane + column_in] = v.y;
                    target[2 * tile.plane + column_in] = v.z;
                    target[3 * tile.plane + column_in] = v.w;
                } else {
                    float v = there ? source[(size_t)column * g.in + from] : 0.0f;
                    target[column_in] = there && factor ? v * factor[from] : v;
                }
            }
        }
        for (unsigned i = t; i < CHUNK * K * K * tile.groups * 2; i += threads) {
            const unsigned four = i % (tile.groups * 2), tap = i / (tile.groups * 2);
            reinterpret_cast<float4 *>(ws)[i] = *reinterpret_cast<const float4 *>(
                kernel + ((size_t)from * K * K + tap) * padded_out + first_channel + 4 * four);
        }
        __syncthreads();
        if (works) {
#pragma unroll 1
            for (int c = 0; c < CHUNK; c++) {
                const float *image = xs + ((size_t)own_image * CHUNK + c) * tile.plane +
                                     own_row * tile.pitch + own_column;
                const float *w = ws + c * K * K * channels + group * THREAD_CHANNELS;
                float window[THREAD_ROWS][8];
                // The last row of one tap is the first of the next.
#pragma unroll
                for (int r = 0; r < THREAD_ROWS + K - 1; r++) {
                    const float4 *row = reinterpret_cast<const float4 *>(image + r * tile.pitch);
                    const float4 left = row[0], right = row[1];
#pragma unroll
                    for (int k = 0; k < 8; k++)
                        window[0][k] = window[1][k];
                    window[1][0] = left.x;
                    window[1][1] = left.y;
                    window[1][2] = left.z;
                    window[1][3] = left.w;
                    window[1][4] = right.x;
                    window[1][5] = right.y;
                    window[1][6] = right.z;
                    window[1][7] = right.w;
                    if (r == 0)
                        continue;
#pragma unroll
                    for (int l = 0; l < K; l++) {
                        const float4 *taps =
                            reinterpret_cast<const float4 *>(w + ((r - 1) * K + l) * channels);
                        const float4 low = taps[0], high = taps[1];
#pragma unroll
                        for (int a = 0; a < THREAD_ROWS; a++)
#pragma unroll
                            for (int b = 0; b < THREAD_COLUMNS; b++) {
                                const float v = window[a][b + l];
                                float *s = sums[a][b];
                                s[0] = fmaf(v, low.x, s[0]);
                                s[1] = fmaf(v, low.y, s[1]);
                                s[2] = fmaf(v, low.z, s[2]);
                                s[3] = fmaf(v, low.w, s[3]);
                                s[4] = fmaf(v, high.x, s[4]);
                                s[5] = fmaf(v, high.y, s[5]);
                                s[6] = fmaf(v, high.z, s[6]);
                                s[7] = fmaf(v, high.w, s[7]);
                            }
                    }
                }
            }
        }
        __syncthreads();
    }

    const unsigned item = first_item + own_image;
    if (!works || item >= g.items)
        return;
    const unsigned channel = first_channel + group * THREAD_CHANNELS;
#pragma unroll
    for (int o = 0; o < THREAD_CHANNELS; o++) {
        const float own_bias = bias[channel + o];
        const float own_scale = finish.affine ? scale[channel + o] : 1.0f;
        const float own_shift = finish.affine ? shift[channel + o] : 0.0f;
#pragma unroll
        for (int a = 0; a < THREAD_ROWS; a++)
#pragma unroll
            for (int b = 0; b < THREAD_COLUMNS; b++)
                sums[a][b][o] = finished(finish, sums[a][b][o] + own_bias, own_scale, own_shift);
    }
    const unsigned row = tile_row + own_row, column = tile_column + own_column;
    if (finish.pool) {
        const unsigned height = g.out_height / 2, width = g.out_width / 2;
#pragma unroll
        for (int b = 0; b < THREAD_COLUMNS; b += 2) {
            if (row / 2 >= height || (column + b) / 2 >= width)
                continue;
            float *to = y + (((size_t)item * height + row / 2) * width + (column + b) / 2) * g.out;
#pragma unroll
            for (int o = 0; o < THREAD_CHANNELS; o++)
                if (channel + o < g.out)
                    to[channel + o] = fmaxf(fmaxf(sums[0][b][o], sums[0][b + 1][o]),
                                            fmaxf(sums[1][b][o], sums[1][b + 1][o]));
        }
        return;
    }
#pragma unroll
    for (int a = 0; a < THREAD_ROWS; a++)
#pragma unroll
        for (int b = 0; b < THREAD_COLUMNS; b++) {
            if (row + a >= g.out_height || column + b >= g.out_width)
                continue;
            float *to = y + (((size_t)item * g.out_height + row + a) * g.out_width + column + b) *
                                g.out;
#pragma unroll
            for (int o = 0; o < THREAD_CHANNELS; o++)
                if (channel + o < g.out)
                    to[channel + o] = sums[a][b][o];
        }
}

// Named after the kernel's size and the channels of a chunk.

extern "C" __global__ void __launch_bounds__(256, 2) conv_5_by_1(Arguments given, Tiling tile) {
    tiled<5, 1>(given, tile);
}

extern "C" __global__ void __launch_bounds__(256, 2) conv_5_by_4(Arguments given, Tiling tile) {
    tiled<5, 4>(given, tile);
}

extern "C" __global__ void __launch_bounds__(256, 2) conv_3_by_1(Arguments given, Tiling tile) {
    tiled<3, 1>(given, tile);
}

extern "C" __global__ void __launch_bounds__(256, 2) conv_3_by_4(Arguments given, Tiling tile) {
    tiled<3, 4>(given, tile);
}
