// Functions of one element at a time.

// `y = x * scale[channel] + shift[channel]`, the channel being the last dimension.
extern "C" __global__ void scale_shift(const float *__restrict__ x, const float *__restrict__ scale,
                                       const float *__restrict__ shift, float *__restrict__ y,
                                       unsigned channels, unsigned count) {
    for (unsigned i = first_element(); i < count; i += element_step()) {
        unsigned c = i % channels;
        y[i] = fmaf(x[i], scale[c], shift[c]);
    }
}
