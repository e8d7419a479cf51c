// Kernels between the networks: gathering of inputs and means of outputs.

// Gathers rows of `width` elements from arbitrary offsets of `x`; one block per row.
extern "C" __global__ void __launch_bounds__(256)
    gather(const float *__restrict__ x, const unsigned long long *__restrict__ starts,
           float *__restrict__ y, unsigned width) {
    const float *from = x + starts[blockIdx.x];
    float *to = y + (size_t)blockIdx.x * width;
    for (unsigned i = threadIdx.x; i < width; i += blockDim.x)
        to[i] = from[i];
}

// Column means over the rows of each group, rows `firsts[group]` to `firsts[group + 1]`, each
// repeated `times` times. Sums in double precision in row order, bit-identical to `column_means` in
// src/recognizer/statistics.rs. `count` is the number of means without repetitions.
extern "C" __global__ void __launch_bounds__(256)
    group_means(const float *__restrict__ x, const unsigned *__restrict__ firsts,
                float *__restrict__ y, unsigned width, unsigned times, unsigned count) {
    for (unsigned i = first_element(); i < count; i += element_step()) {
        const unsigned group = i / width, column = i % width;
        const unsigned first = firsts[group], end = firsts[group + 1];
        double sum = 0.0;
        for (unsigned row = first; row < end; row++)
            sum += (double)x[(size_t)row * width + column];
        const float mean = (float)(sum / (double)(end - first));
        for (unsigned k = 0; k < times; k++)
            y[((size_t)group * times + k) * width + column] = mean;
    }
}

// Means of rows of `width` elements; an item of `item` elements has `rows` of them. The means
// accumulate over `parts` launches, numbered by `part`, and the last launch divides by `parts`.
// Sums in double precision in order, bit-identical to `mean` in src/recognizer/statistics.rs.
// `count` is the number of means.
extern "C" __global__ void __launch_bounds__(256)
    row_means(const float *__restrict__ x, double *__restrict__ y, unsigned item, unsigned rows,
              unsigned width, unsigned part, unsigned parts, unsigned count) {
    for (unsigned i = first_element(); i < count; i += element_step()) {
        const float *row = x + (size_t)(i / rows) * item + (size_t)(i % rows) * width;
        double sum = 0.0;
        for (unsigned k = 0; k < width; k++)
            sum += (double)row[k];
        const double mean = sum / (double)width, all = part == 0 ? mean : y[i] + mean;
        y[i] = part + 1 == parts ? all / (double)parts : all;
    }
}
