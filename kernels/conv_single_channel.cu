// Convolutions of single-channel images (arguments in conv.cuh).

// Pixels and channels per thread of `single_channel`, kept in registers.
#define THREAD_ROWS 2
#define THREAD_COLUMNS 4
#define THREAD_CHANNELS 4

// Convolution of a single-channel image, such as a network's first layer, with stride 1 and a `K` x
// `K` kernel. A thread reads a row of its window once for all kernel columns.
template <int K> static __device__ void single_channel(const Arguments &given, const Tiling &tile) {
    const float *__restrict__ x = given.x, *__restrict__ factors = given.factors;
    const float *__restrict__ kernel = given.kernel, *__restrict__ bias = given.bias;
    const float *__restrict__ scale = given.scale, *__restrict__ shift = given.shift;
    float *__restrict__ y = given.y;
    const Convolution &g = given.g;
    const Epilogue &epilogue = given.epilogue;
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
    // The bottom input row of one kernel row is the top one of the next.
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
        const float own_scale = epilogue.affine ? scale[channel + o] : 1.0f;
        const float own_shift = epilogue.affine ? shift[channel + o] : 0.0f;
#pragma unroll
        for (int a = 0; a < THREAD_ROWS; a++)
#pragma unroll
            for (int b = 0; b < THREAD_COLUMNS; b++)
                sums[a][b][o] = apply_epilogue(epilogue, sums[a][b][o], own_scale, own_shift);
    }
    const unsigned row = tile_row + own_row, column = tile_column + own_column;
    if (epilogue.pool) {
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
    single_channel<5>(given, tile);
}

extern "C" __global__ void __launch_bounds__(256, 2) conv_3_of_1(Arguments given, Tiling tile) {
    single_channel<3>(given, tile);
}
