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
