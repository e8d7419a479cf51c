// Convolution over `[height, width, channels]`, with what follows it at once.
//
// Every sum begins with the bias and has the CPU's order: the terms of one row of the kernel, column by
// column and in each of them channel by channel, are a run (each column by itself where columns are
// dilated); `TERMS` of a run at a time are summed up from zero and then join the sum. So results are the
// CPU's to the bit, but where channels are scaled, which it does behind the sums.
#define TERMS 32

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
    const bool dilated = g.dilation_columns > 1;
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
            float part = 0.0f;
            for (unsigned l = 0; l < g.columns; l++) {
                unsigned at = column * g.stride_columns + l * g.dilation_columns - g.before_columns;
                const bool inside = at < g.width;
                const float *from = image + ((size_t)row * g.width + at) * g.in;
                const float *w = kernel + (size_t)(k * g.columns + l) * g.in * g.out + o;
                for (unsigned c = 0; c < g.in; c++) {
                    const unsigned term = dilated ? c : l * g.in + c;
                    if (term % TERMS == 0) {
                        sum += part;
                        part = 0.0f;
                    }
                    if (inside)
                        part = fmaf(factor ? from[c] * factor[c] : from[c], w[(size_t)c * g.out],
                                    part);
                }
            }
            sum += part;
        }
        y[i] = finished(finish, sum, finish.affine ? scale[o] : 1.0f,
                        finish.affine ? shift[o] : 0.0f);
    }
}

// What a block of the tiled kernels computes: `images` items, of each `tile_rows` x `tile_columns`
// pixels of the result, `groups` times the channels of a thread.
struct Tiling {
    unsigned images, tile_rows, tile_columns, groups;
    // Tiles along both dimensions.
    unsigned down, across;
    // Distances of rows and of channels (in `conv_tiled` of four channels) in shared memory.
    unsigned pitch, plane;
    // Channels of the kernel with their padding.
    unsigned padded_out;
    // Terms of a row of the kernel that `conv_tiled` has in shared memory at a time, in fours: a multiple
    // of `TERMS`, or all of them.
    unsigned piece;
};

static __device__ __forceinline__ float4 *shared_memory() {
    DYNAMIC_SHARED(float4, memory);
    return memory;
}

// Pixels and channels that a thread of `conv_tiled` computes in registers.
#define PIXELS 4
#define CHANNELS 8

// Any convolution whose input has a multiple of four channels. The part of the image that a block
// needs lies in shared memory whole, four channels by four, so that a thread reads those of a pixel as
// one and neighbouring threads read neighbouring places; the kernel, `[rows, columns, in, padded out]`,
// passes through it piece by piece. Bias, scale and shift are padded as the kernel, to a multiple of
// `CHANNELS * groups` channels. A thread has pixels below each other, or of an image with one row those
// that lie a quarter of the tile apart.
extern "C" __global__ void __launch_bounds__(256, 2) conv_tiled(Arguments given, Tiling tile) {
    const float *__restrict__ x = given.x, *__restrict__ factors = given.factors;
    const float *__restrict__ kernel = given.kernel, *__restrict__ bias = given.bias;
    const float *__restrict__ scale = given.scale, *__restrict__ shift = given.shift;
    float *__restrict__ y = given.y;
    const Convolution &g = given.g;
    const Finish &finish = given.finish;
    const unsigned copies = given.copies;
    float4 *xs = shared_memory();
    const unsigned fours = g.in / 4, slice = tile.groups * (CHANNELS / 4);
    const unsigned all = g.columns * fours;
    float4 *ws = xs + (size_t)fours * tile.plane;
    // Where the pixel's fours lie that a row of the kernel meets one after the other.
    unsigned *offsets = reinterpret_cast<unsigned *>(ws + (size_t)tile.piece * 4 * slice);
    const unsigned t = threadIdx.x, threads = blockDim.x;

    const bool flat = g.out_height == 1;
    const unsigned below = flat ? tile.tile_rows : tile.tile_rows / PIXELS;
    const unsigned beside = flat ? tile.tile_columns / PIXELS : tile.tile_columns;
    const unsigned places = tile.images * below * beside;
    // Threads of a warp share their channels, so that reading weights is one broadcast.
    const unsigned group = t / places, place = t % places;
    const unsigned own_image = place / (below * beside);
    const unsigned own_row = place / beside % below * (flat ? 1 : PIXELS);
    const unsigned own_column = place % beside;
    const bool works = group < tile.groups;

    // Blocks that read the same part of the image follow each other.
    const unsigned channels = tile.groups * CHANNELS;
    const unsigned parts = tile.padded_out / channels, block = blockIdx.x / parts;
    const unsigned first_channel = blockIdx.x % parts * channels;
    const unsigned tile_column = block % tile.across * tile.tile_columns;
    const unsigned tile_row = block / tile.across % tile.down * tile.tile_rows;
    const unsigned first_item = block / tile.across / tile.down * tile.images;

    const unsigned rows_in =
        (tile.tile_rows - 1) * g.stride_rows + (g.rows - 1) * g.dilation_rows + 1;
    const unsigned columns_in =
        (tile.tile_columns - 1) * g.stride_columns + (g.columns - 1) * g.dilation_columns + 1;
    const unsigned warp = t / 32, lane = t % 32, warps = (threads + 31) / 32;
    // Each warp brings whole rows.
    for (unsigned line = warp; line < tile.images * rows_in; line += warps) {
        const unsigned item = first_item + line / rows_in;
        const unsigned row = tile_row * g.stride_rows + line % rows_in - g.before_rows;
        const bool inside = item < g.items && row < g.height;
        const float *source = x + ((size_t)(item / copies) * g.height + row) * g.width * g.in;
        const float *factor = factors ? factors + (size_t)item * g.in : 0;
        float4 *target = xs + line * tile.pitch;
        for (unsigned i = lane; i < columns_in * fours; i += 32) {
            const unsigned column_in = i / fours, four = i % fours;
            const unsigned column = tile_column * g.stride_columns + column_in - g.before_columns;
            float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            if (inside && column < g.width) {
                v = *reinterpret_cast<const float4 *>(source + (size_t)column * g.in + 4 * four);
                if (factor) {
                    v.x *= factor[4 * four];
                    v.y *= factor[4 * four + 1];
                    v.z *= factor[4 * four + 2];
                    v.w *= factor[4 * four + 3];
                }
            }
            target[four * tile.plane + column_in] = v;
        }
    }

    const unsigned channel = first_channel + group * CHANNELS;
    float sums[PIXELS][CHANNELS];
#pragma unroll
    for (int o = 0; o < CHANNELS; o++) {
        const float start = works ? bias[channel + o] : 0.0f;
#pragma unroll
        for (int p = 0; p < PIXELS; p++)
            sums[p][o] = start;
    }
    for (unsigned i = t; i < all; i += threads)
        offsets[i] = i / fours * g.dilation_columns + i % fours * tile.plane;
    const unsigned step = flat ? beside * g.stride_columns : g.stride_rows * tile.pitch;
    const float4 *origin = xs + (own_image * rows_in + own_row * g.stride_rows) * tile.pitch +
                           own_column * g.stride_columns;
    for (unsigned k = 0; k < g.rows; k++) {
        const float4 *row = origin + k * g.dilation_rows * tile.pitch;
        for (unsigned begin = 0; begin < all; begin += tile.piece) {
            const unsigned end = begin + tile.piece < all ? begin + tile.piece : all;
            if (k > 0 || begin > 0)
                __syncthreads();
            for (unsigned i = t; i < (end - begin) * 4 * slice; i += threads)
                ws[i] = *reinterpret_cast<const float4 *>(
                    kernel + ((size_t)(k * all + begin) * 4 + i / slice) * tile.padded_out +
                    first_channel + 4 * (i % slice));
            __syncthreads();
            if (!works)
                continue;
            const float4 *w = ws + group * (CHANNELS / 4);
            for (unsigned from = begin; from < end;) {
                unsigned to = from + TERMS / 4 < end ? from + TERMS / 4 : end;
                if (g.dilation_columns > 1 && to > (from / fours + 1) * fours)
                    to = (from / fours + 1) * fours;
                float part[PIXELS][CHANNELS] = {};
#pragma unroll 2
                for (; from < to; from++) {
                    const float4 *at = row + offsets[from];
                    float4 v[PIXELS];
#pragma unroll
                    for (int p = 0; p < PIXELS; p++)
                        v[p] = at[p * step];
#pragma unroll
                    for (int c = 0; c < 4; c++) {
                        const float4 low = w[c * slice], high = w[c * slice + 1];
#pragma unroll
                        for (int p = 0; p < PIXELS; p++) {
                            const float one = c == 0 ? v[p].x : c == 1 ? v[p].y : c == 2 ? v[p].z : v[p].w;
                            float *s = part[p];
                            s[0] = fmaf(one, low.x, s[0]);
                            s[1] = fmaf(one, low.y, s[1]);
                            s[2] = fmaf(one, low.z, s[2]);
                            s[3] = fmaf(one, low.w, s[3]);
                            s[4] = fmaf(one, high.x, s[4]);
                            s[5] = fmaf(one, high.y, s[5]);
                            s[6] = fmaf(one, high.z, s[6]);
                            s[7] = fmaf(one, high.w, s[7]);
                        }
                    }
                    w += 4 * slice;
                }
#pragma unroll
                for (int p = 0; p < PIXELS; p++)
#pragma unroll
                    for (int o = 0; o < CHANNELS; o++)
                        sums[p][o] += part[p][o];
            }
        }
    }

#pragma unroll
    for (int o = 0; o < CHANNELS; o++) {
        const float own_scale = works && finish.affine ? scale[channel + o] : 1.0f;
        const float own_shift = works && finish.affine ? shift[channel + o] : 0.0f;
#pragma unroll
        for (int p = 0; p < PIXELS; p++)
            sums[p][o] = finished(finish, sums[p][o], own_scale, own_shift);
    }
    const unsigned item = first_item + own_image;
    const unsigned row = tile_row + own_row, column = tile_column + own_column;
    unsigned height = g.out_height, width = g.out_width;
    if (finish.pool) {
        // The column beside lies in the next thread: tiles have an even number of columns.
        height /= 2, width /= 2;
#pragma unroll
        for (int p = 0; p < PIXELS; p += 2)
#pragma unroll
            for (int o = 0; o < CHANNELS; o++) {
                const float upper = fmaxf(sums[p][o], __shfl_xor_sync(EVERY_LANE, sums[p][o], 1));
                const float lower =
                    fmaxf(sums[p + 1][o], __shfl_xor_sync(EVERY_LANE, sums[p + 1][o], 1));
                sums[p][o] = fmaxf(upper, lower);
            }
    }
    if (!works || item >= g.items || (finish.pool && column % 2 == 1))
        return;
    const bool whole = g.out % 4 == 0;
#pragma unroll
    for (int p = 0; p < PIXELS; p++) {
        if (finish.pool && p % 2 == 1)
            continue;
        const unsigned down = finish.pool ? (row + p) / 2 : flat ? row : row + p;
        const unsigned right = finish.pool ? column / 2 : flat ? column + p * beside : column;
        if (down >= height || right >= width)
            continue;
        float *to = y + (((size_t)item * height + down) * width + right) * g.out + channel;
#pragma unroll
        for (int o = 0; o < CHANNELS; o += 4) {
            if (whole && channel + o < g.out) {
                *reinterpret_cast<float4 *>(to + o) =
                    make_float4(sums[p][o], sums[p][o + 1], sums[p][o + 2], sums[p][o + 3]);
                continue;
            }
#pragma unroll
            for (int one = o; one < o + 4; one++)
                if (channel + one < g.out)
                    to[one] = sums[p][one];
        }
    }
}

// Pixels and channels that a thread of `first` computes in registers.
#define THREAD_ROWS 2
#define THREAD_COLUMNS 4
#define THREAD_CHANNELS 4

// A convolution of an image with one channel, such as a network's first layer, with stride 1 and a
// kernel of `K` x `K`: a thread reads a row of its window once for all columns of the kernel.
template <int K> static __device__ void first(const Arguments &given, const Tiling &tile) {
    const float *__restrict__ x = given.x, *__restrict__ factors = given.factors;
    const float *__restrict__ kernel = given.kernel, *__restrict__ bias = given.bias;
    const float *__restrict__ scale = given.scale, *__restrict__ shift = given.shift;
    float *__restrict__ y = given.y;
    const Convolution &g = given.g;
    const Finish &finish = given.finish;
    const unsigned copies = given.copies, padded_out = tile.padded_out;
    float *xs = reinterpret_cast<float *>(shared_memory());
    const unsigned rows_in = tile.tile_rows + K - 1, columns_in = tile.tile_columns + K - 1;
    const unsigned channels = tile.groups * THREAD_CHANNELS;
    float *ws = xs + (size_t)tile.images * tile.plane;
    const unsigned t = threadIdx.x, threads = blockDim.x;

    const unsigned per_row = tile.tile_columns / THREAD_COLUMNS;
    const unsigned per_image = tile.tile_rows / THREAD_ROWS * per_row;
    const unsigned places = tile.images * per_image;
    const unsigned group = t / places, place = t % places;
    const unsigned own_image = place / per_image;
    const unsigned own_row = place % per_image / per_row * THREAD_ROWS;
    const unsigned own_column = place % per_row * THREAD_COLUMNS;
    const bool works = group < tile.groups;

    const unsigned parts = padded_out / channels, block = blockIdx.x / parts;
    const unsigned first_channel = blockIdx.x % parts * channels;
    const unsigned tile_column = block % tile.across * tile.tile_columns;
    const unsigned tile_row = block / tile.across % tile.down * tile.tile_rows;
    const unsigned first_item = block / tile.across / tile.down * tile.images;

    const unsigned warp = t / 32, lane = t % 32, warps = (threads + 31) / 32;
    for (unsigned line = warp; line < tile.images * rows_in; line += warps) {
        const unsigned image = line / rows_in, row_in = line % rows_in;
        const unsigned item = first_item + image;
        const unsigned row = tile_row + row_in - g.before_rows;
        const bool inside = item < g.items && row < g.height;
        const float *source = x + ((size_t)(item / copies) * g.height + row) * g.width;
        const float factor = inside && factors ? factors[item] : 1.0f;
        float *target = xs + (size_t)image * tile.plane + row_in * tile.pitch;
        for (unsigned column_in = lane; column_in < columns_in; column_in += 32) {
            const unsigned column = tile_column + column_in - g.before_columns;
            target[column_in] = inside && column < g.width ? source[column] * factor : 0.0f;
        }
    }
    for (unsigned i = t; i < K * K * tile.groups; i += threads)
        reinterpret_cast<float4 *>(ws)[i] = *reinterpret_cast<const float4 *>(
            kernel + (size_t)(i / tile.groups) * padded_out + first_channel +
            4 * (i % tile.groups));
    __syncthreads();

    const unsigned item = first_item + own_image;
    if (!works || item >= g.items)
        return;
    const unsigned channel = first_channel + group * THREAD_CHANNELS;
    float sums[THREAD_ROWS][THREAD_COLUMNS][THREAD_CHANNELS];
#pragma unroll
    for (int o = 0; o < THREAD_CHANNELS; o++) {
        const float start = bias[channel + o];
#pragma unroll
        for (int a = 0; a < THREAD_ROWS; a++)
#pragma unroll
            for (int b = 0; b < THREAD_COLUMNS; b++)
                sums[a][b][o] = start;
    }
    const float *image = xs + (size_t)own_image * tile.plane + own_row * tile.pitch + own_column;
    const float *w = ws + group * THREAD_CHANNELS;
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
        float part[THREAD_ROWS][THREAD_COLUMNS][THREAD_CHANNELS] = {};
#pragma unroll
        for (int l = 0; l < K; l++) {
            const float4 taps =
                *reinterpret_cast<const float4 *>(w + ((r - 1) * K + l) * channels);
#pragma unroll
            for (int a = 0; a < THREAD_ROWS; a++)
#pragma unroll
                for (int b = 0; b < THREAD_COLUMNS; b++) {
                    const float v = window[a][b + l];
                    float *s = part[a][b];
                    s[0] = fmaf(v, taps.x, s[0]);
                    s[1] = fmaf(v, taps.y, s[1]);
                    s[2] = fmaf(v, taps.z, s[2]);
                    s[3] = fmaf(v, taps.w, s[3]);
                }
        }
#pragma unroll
        for (int a = 0; a < THREAD_ROWS; a++)
#pragma unroll
            for (int b = 0; b < THREAD_COLUMNS; b++)
#pragma unroll
                for (int o = 0; o < THREAD_CHANNELS; o++)
                    sums[a][b][o] += part[a][b][o];
    }
#pragma unroll
    for (int o = 0; o < THREAD_CHANNELS; o++) {
        const float own_scale = finish.affine ? scale[channel + o] : 1.0f;
        const float own_shift = finish.affine ? shift[channel + o] : 0.0f;
#pragma unroll
        for (int a = 0; a < THREAD_ROWS; a++)
#pragma unroll
            for (int b = 0; b < THREAD_COLUMNS; b++)
                sums[a][b][o] = finished(finish, sums[a][b][o], own_scale, own_shift);
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

extern "C" __global__ void __launch_bounds__(256, 2) conv_5_of_1(Arguments given, Tiling tile) {
    first<5>(given, tile);
}

extern "C" __global__ void __launch_bounds__(256, 2) conv_3_of_1(Arguments given, Tiling tile) {
    first<3>(given, tile);
}
