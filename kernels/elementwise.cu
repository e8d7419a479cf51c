// Element-wise functions. `count` is the number of output elements.

// `y = x * scale[channel] + shift[channel]`, the channel being the last dimension.
extern "C" __global__ void scale_shift(const float *__restrict__ x, const float *__restrict__ scale,
                                       const float *__restrict__ shift, float *__restrict__ y,
                                       unsigned channels, unsigned count) {
    for (unsigned i = first_element(); i < count; i += element_step()) {
        unsigned c = i % channels;
        y[i] = fmaf(x[i], scale[c], shift[c]);
    }
}

extern "C" __global__ void activate(const float *x, float *y, Activation function, unsigned count) {
    for (unsigned i = first_element(); i < count; i += element_step())
        y[i] = activated(function, x[i]);
}

// `x` where it is positive, else `alpha * x`, with one slope per element of an item.
extern "C" __global__ void prelu(const float *__restrict__ x, const float *__restrict__ alpha,
                                 float *__restrict__ y, unsigned item, unsigned count) {
    for (unsigned i = first_element(); i < count; i += element_step())
        y[i] = x[i] > 0.0f ? x[i] : alpha[i % item] * x[i];
}

// A function of each element by its number, with a constant `c`. Logarithm and exponential are
// computed in `double`, so that the rounded result does not depend on the device's `float` functions.
extern "C" __global__ void map(const float *__restrict__ x, float *__restrict__ y,
                               unsigned function, float c, unsigned count) {
    for (unsigned i = first_element(); i < count; i += element_step()) {
        float v = x[i];
        switch (function) {
        case 0: v = fabsf(v); break;
        case 1: v = -v; break;
        case 2: v = v * v; break;
        case 3: v = sqrtf(v > 0.0f ? v : 0.0f); break;
        case 4: v = (float)log((double)v); break;
        case 5: v = (float)exp((double)v); break;
        case 6: v = v + c; break;
        case 7: v = c - v; break;
        case 8: v = v * c; break;
        case 9: v = v / c; break;
        case 10: v = c / v; break;
        case 11: v = v > c ? v : c; break;
        case 12: v = v < c ? v : c; break;
        case 13: v = v == c ? 0.0f : 1.0f; break;
        }
        y[i] = v;
    }
}

// Multiplies maps `[.., channels]` by attention `[.., 1]`.
extern "C" __global__ void spatial_multiply(const float *__restrict__ x,
                                            const float *__restrict__ attention,
                                            float *__restrict__ y, unsigned channels,
                                            unsigned count) {
    for (unsigned i = first_element(); i < count; i += element_step())
        y[i] = x[i] * attention[i / channels];
}

// Multiplies maps of `item` elements by attention `[channels]` of the same item.
extern "C" __global__ void channel_multiply(const float *__restrict__ x,
                                            const float *__restrict__ attention,
                                            float *__restrict__ y, unsigned item,
                                            unsigned channels, unsigned count) {
    for (unsigned i = first_element(); i < count; i += element_step())
        y[i] = x[i] * attention[i / item * channels + i % channels];
}

enum MergeOp { ADD, SUBTRACT, MULTIPLY, MAXIMUM, MINIMUM };

// Broadcast: shape of the output, and strides of both inputs along each dimension, 0 where
// stretched.
struct Broadcast {
    unsigned rank, item, item_a, item_b;
    unsigned shape[8], a[8], b[8];
};

// `y = (a op b) / divisor` after broadcasting; `y` may be `a`.
extern "C" __global__ void merge(const float *a, const float *b, float *y, Broadcast how,
                                 unsigned op, float divisor, unsigned count) {
    for (unsigned i = first_element(); i < count; i += element_step()) {
        unsigned rest = i % how.item, at_a = i / how.item * how.item_a,
                 at_b = i / how.item * how.item_b;
        for (unsigned d = how.rank; d-- > 0;) {
            unsigned k = rest % how.shape[d];
            rest /= how.shape[d];
            at_a += k * how.a[d];
            at_b += k * how.b[d];
        }
        float u = a[at_a], v = b[at_b], r;
        switch (op) {
        case ADD:
            r = u + v;
            break;
        case SUBTRACT:
            r = u - v;
            break;
        case MULTIPLY:
            r = u * v;
            break;
        case MAXIMUM:
            r = v > u ? v : u;
            break;
        default:
            r = v < u ? v : u;
        }
        y[i] = divisor == 1.0f ? r : r / divisor;
    }
}
