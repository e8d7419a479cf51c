// Kernels that move elements. `count` is the number of output elements.

struct Image {
    unsigned height, width, channels, out_height, out_width;
};

enum Interpolation { NEAREST, BILINEAR_LEGACY, BILINEAR_HALF_PIXEL };

struct Tap {
    unsigned lower, upper;
    float fraction;
};

DEVICE Tap tap(unsigned i, unsigned n, unsigned factor, unsigned how) {
    float source = how == NEAREST           ? (float)(i / factor)
                   : how == BILINEAR_LEGACY ? (float)i / (float)factor
                                            : ((float)i + 0.5f) / (float)factor - 0.5f;
    source = fminf(fmaxf(source, 0.0f), (float)(n - 1));
    unsigned lower = (unsigned)source;
    return {lower, lower + 1 < n ? lower + 1 : n - 1, source - (float)lower};
}

// Returns channel `c` of an output pixel; pixels are counted through all items.
DEVICE float upsampled(const float *x, Image image, unsigned rows, unsigned columns, unsigned how,
                       unsigned pixel, unsigned c) {
    unsigned column = pixel % image.out_width, line = pixel / image.out_width;
    Tap h = tap(column, image.width, columns, how);
    Tap v = tap(line % image.out_height, image.height, rows, how);
    const float *from =
        x + (size_t)(line / image.out_height) * image.height * image.width * image.channels + c;
    const float *top = from + (size_t)v.lower * image.width * image.channels;
    const float *bottom = from + (size_t)v.upper * image.width * image.channels;
    unsigned left = h.lower * image.channels, right = h.upper * image.channels;
    float above = fmaf(top[right] - top[left], h.fraction, top[left]);
    float below = fmaf(bottom[right] - bottom[left], h.fraction, bottom[left]);
    return fmaf(below - above, v.fraction, above);
}

// Repeats or interpolates rows and columns.
extern "C" __global__ void upsample(const float *__restrict__ x, float *__restrict__ y, Image image,
                                    unsigned rows, unsigned columns, unsigned how, unsigned count) {
    for (unsigned i = first_element(); i < count; i += element_step())
        y[i] = upsampled(x, image, rows, columns, how, i / image.channels, i % image.channels);
}

// Multiplies maps by a single channel upsampled to their pixels. The upsampled value is computed
// once per four channels; `count` is the number of such groups.
extern "C" __global__ void upsample_multiply(const float *__restrict__ x,
                                             const float *__restrict__ maps, float *__restrict__ y,
                                             Image image, unsigned rows, unsigned columns,
                                             unsigned how, unsigned channels, unsigned count) {
    unsigned groups = (channels + 3) / 4;
    for (unsigned i = first_element(); i < count; i += element_step()) {
        unsigned pixel = i / groups, first = i % groups * 4;
        float factor = upsampled(x, image, rows, columns, how, pixel, 0);
        if (channels % 4 == 0) {
            float4 v = reinterpret_cast<const float4 *>(maps)[i];
            reinterpret_cast<float4 *>(y)[i] =
                make_float4(v.x * factor, v.y * factor, v.z * factor, v.w * factor);
        } else {
            for (unsigned c = first; c < first + 4 && c < channels; c++)
                y[(size_t)pixel * channels + c] = maps[(size_t)pixel * channels + c] * factor;
        }
    }
}

extern "C" __global__ void zero_pad(const float *__restrict__ x, float *__restrict__ y, Image image,
                                    unsigned top, unsigned left, unsigned count) {
    for (unsigned i = first_element(); i < count; i += element_step()) {
        unsigned c = i % image.channels, pixel = i / image.channels;
        // Wraps to a large value before the first row and column.
        unsigned column = pixel % image.out_width - left, line = pixel / image.out_width;
        unsigned row = line % image.out_height - top;
        size_t item = line / image.out_height;
        y[i] = row < image.height && column < image.width
                   ? x[((item * image.height + row) * image.width + column) * image.channels + c]
                   : 0.0f;
    }
}

// Reverses the rows of each item.
extern "C" __global__ void reverse(const float *__restrict__ x, float *__restrict__ y,
                                   unsigned rows, unsigned width, unsigned count) {
    for (unsigned i = first_element(); i < count; i += element_step()) {
        unsigned row = i / width % rows, item = i / width / rows;
        y[i] = x[(size_t)(item * rows + (rows - 1 - row)) * width + i % width];
    }
}

// Permutation: shape of the output, and the input's strides along each output dimension.
struct Permutation {
    unsigned rank, item;
    unsigned shape[8], strides[8];
};

extern "C" __global__ void permute(const float *__restrict__ x, float *__restrict__ y,
                                   Permutation how, unsigned count) {
    for (unsigned i = first_element(); i < count; i += element_step()) {
        unsigned rest = i % how.item, at = i / how.item * how.item;
        for (unsigned d = how.rank; d-- > 0;) {
            at += rest % how.shape[d] * how.strides[d];
            rest /= how.shape[d];
        }
        y[i] = x[at];
    }
}

// Repeats each row of `width` elements `times` times, side by side.
extern "C" __global__ void repeat(const float *__restrict__ x, float *__restrict__ y,
                                  unsigned times, unsigned width, unsigned count) {
    for (unsigned i = first_element(); i < count; i += element_step())
        y[i] = x[(size_t)(i / width / times) * width + i % width];
}

// Copies rows of `width` elements into rows of `total`, from column `at` on; `count` is the number
// of input elements.
extern "C" __global__ void place(const float *__restrict__ x, float *__restrict__ y, unsigned width,
                                 unsigned total, unsigned at, unsigned count) {
    for (unsigned i = first_element(); i < count; i += element_step())
        y[(size_t)(i / width) * total + at + i % width] = x[i];
}

// `y[.., k, after] = x[.., start + k * step, after]`, of `n` and `rows` places of the middle dimension.
extern "C" __global__ void slice(const float *__restrict__ x, float *__restrict__ y, unsigned n,
                                 unsigned after, unsigned start, unsigned step, unsigned rows,
                                 unsigned count) {
    for (unsigned i = first_element(); i < count; i += element_step()) {
        unsigned row = i / after % rows;
        size_t block = i / after / rows;
        y[i] = x[(block * n + start + row * step) * after + i % after];
    }
}

// Rows of `table` by index. The fraction of an index is dropped; other indices give zeros.
extern "C" __global__ void embedding(const float *__restrict__ x, const float *__restrict__ table,
                                     float *__restrict__ y, unsigned rows, unsigned width,
                                     unsigned count) {
    for (unsigned i = first_element(); i < count; i += element_step()) {
        float index = x[i / width];
        bool known = index > -1.0f && index < (float)rows;
        y[i] = known ? table[(size_t)(int)index * width + i % width] : 0.0f;
    }
}
