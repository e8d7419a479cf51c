// Convolutions of arbitrary images (arguments in conv.cuh).

// General convolution without pooling, one output per thread.
extern "C" __global__ void conv(Arguments given, unsigned count) {
    const float *__restrict__ x = given.x, *__restrict__ factors = given.factors;
    const float *__restrict__ kernel = given.kernel, *__restrict__ bias = given.bias;
    const float *__restrict__ scale = given.scale, *__restrict__ shift = given.shift;
    float *__restrict__ y = given.y;
    const Convolution &g = given.g;
    const Epilogue &epilogue = given.epilogue;
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
            // Wraps to a large value before the first row.
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
        y[i] = apply_epilogue(epilogue, sum, epilogue.affine ? scale[o] : 1.0f,
                        epilogue.affine ? shift[o] : 0.0f);
    }
}

// Pixels and channels per thread of `conv_tiled`, kept in registers.
#define PIXELS 4
#define CHANNELS 8

// Tiled convolution for a multiple of four input channels. The input tile is in shared memory as
// planes of four channels: one load per pixel, and neighbouring threads read neighbouring
// addresses. The kernel, `[rows, columns, in, padded out]`, streams through shared memory in
// pieces. Bias, scale and shift are padded like the kernel, to a multiple of `CHANNELS * groups`
// channels. A thread's pixels lie below each other, or a quarter of the tile apart for images of
// one row.
extern "C" __global__ void __launch_bounds__(256, 2) conv_tiled(Arguments given, Tiling tile) {
    const float *__restrict__ x = given.x, *__restrict__ factors = given.factors;
    const float *__restrict__ kernel = given.kernel, *__restrict__ bias = given.bias;
    const float *__restrict__ scale = given.scale, *__restrict__ shift = given.shift;
    float *__restrict__ y = given.y;
    const Convolution &g = given.g;
    const Epilogue &epilogue = given.epilogue;
    const unsigned copies = given.copies;
    float4 *xs = shared_memory();
    const unsigned fours = g.in / 4, slice = tile.groups * (CHANNELS / 4);
    const unsigned all = g.columns * fours;
    float4 *ws = xs + (size_t)fours * tile.plane;
    // Offsets in the tile of a kernel row's terms, in groups of four.
    unsigned *offsets = reinterpret_cast<unsigned *>(ws + (size_t)tile.piece * 4 * slice);
    const unsigned t = threadIdx.x, threads = blockDim.x;

    const bool flat = g.out_height == 1;
    const unsigned below = flat ? tile.tile_rows : tile.tile_rows / PIXELS;
    const unsigned beside = flat ? tile.tile_columns / PIXELS : tile.tile_columns;
    const unsigned places = tile.images * below * beside;
    // Threads of a warp share their channels, so reading weights is a broadcast.
    const unsigned group = t / places, place = t % places;
    const unsigned own_image = place / (below * beside);
    const unsigned own_row = place / beside % below * (flat ? 1 : PIXELS);
    const unsigned own_column = place % beside;
    const bool works = group < tile.groups;

    // Blocks that read the same input tile are consecutive.
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
    // Each warp loads whole rows.
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
        const float own_scale = works && epilogue.affine ? scale[channel + o] : 1.0f;
        const float own_shift = works && epilogue.affine ? shift[channel + o] : 0.0f;
#pragma unroll
        for (int p = 0; p < PIXELS; p++)
            sums[p][o] = apply_epilogue(epilogue, sums[p][o], own_scale, own_shift);
    }
    const unsigned item = first_item + own_image;
    const unsigned row = tile_row + own_row, column = tile_column + own_column;
    unsigned height = g.out_height, width = g.out_width;
    if (epilogue.pool) {
        // The neighbouring column belongs to the next thread: tiles have an even number of columns.
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
    if (!works || item >= g.items || (epilogue.pool && column % 2 == 1))
        return;
    const bool whole = g.out % 4 == 0;
#pragma unroll
    for (int p = 0; p < PIXELS; p++) {
        if (epilogue.pool && p % 2 == 1)
            continue;
        const unsigned down = epilogue.pool ? (row + p) / 2 : flat ? row : row + p;
        const unsigned right = epilogue.pool ? column / 2 : flat ? column + p * beside : column;
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
