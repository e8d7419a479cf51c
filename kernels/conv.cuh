// Convolution over `[height, width, channels]` with a fused epilogue.
//
// Every sum starts with the bias and has the CPU's order: the terms of one kernel row (column by
// column, channel by channel) are a run, or with dilated columns each column is a run. Blocks of
// `TERMS` terms are summed from zero and then added. The results are bit-identical to the CPU's,
// except for scaled channels: the CPU scales partial sums, this kernel the inputs.
#define TERMS 32

struct Convolution {
    unsigned items, height, width, in, out_height, out_width, out;
    unsigned rows, columns, stride_rows, stride_columns, dilation_rows, dilation_columns;
    unsigned before_rows, before_columns;
};

// Epilogue after the bias, each if set: ReLU, `x * scale + shift`, second ReLU, 2 x 2 max pooling.
// Other functions would lengthen the kernels and are launched separately.
struct Epilogue {
    unsigned relu, affine, relu_last, pool;
};

DEVICE float apply_epilogue(const Epilogue &f, float x, float scale, float shift) {
    x = f.relu ? relu(x) : x;
    x = f.affine ? fmaf(x, scale, shift) : x;
    return f.relu_last ? relu(x) : x;
}

// Arguments of every kernel here. `factors`, if not null, scale the input's channels: `[items,
// in]`. `copies` rows of factors share an item of `x`. A kernel first copies the pointers to local
// variables because `__restrict__` has an effect only there.
struct Arguments {
    const float *x, *factors, *kernel, *bias, *scale, *shift;
    float *y;
    Convolution g;
    Epilogue epilogue;
    unsigned copies;
};

// Tile of one block: `images` items, `tile_rows` x `tile_columns` output pixels of each, and
// `groups` times the channels of a thread.
struct Tiling {
    unsigned images, tile_rows, tile_columns, groups;
    // Number of tiles along both dimensions.
    unsigned down, across;
    // Distance of rows and of channels (for `conv_tiled` of four channels) in shared memory.
    unsigned pitch, plane;
    // Output channels including padding.
    unsigned padded_out;
    // Terms of a kernel row that `conv_tiled` holds in shared memory at a time, in groups of four:
    // a multiple of `TERMS`, or all of them.
    unsigned piece;
};

static __device__ __forceinline__ float4 *shared_memory() {
    DYNAMIC_SHARED(float4, memory);
    return memory;
}
