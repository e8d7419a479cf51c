// Pooling over windows of `[height, width, channels]`.

struct Windows {
    unsigned height, width, channels, out_height, out_width;
    unsigned size_rows, size_columns, stride_rows, stride_columns, before_rows, before_columns;
};

// Maximum (`mean` 0) or mean (`mean` 1) of the samples of each window that lie in the image.
extern "C" __global__ void pool(const float *__restrict__ x, float *__restrict__ y, Windows w,
                                unsigned mean, unsigned count) {
    for (unsigned i = first_element(); i < count; i += element_step()) {
        unsigned c = i % w.channels, pixel = i / w.channels;
        unsigned column = pixel % w.out_width, line = pixel / w.out_width;
        int top = (int)(line % w.out_height * w.stride_rows) - (int)w.before_rows;
        int left = (int)(column * w.stride_columns) - (int)w.before_columns;
        int bottom = min(top + (int)w.size_rows, (int)w.height);
        int right = min(left + (int)w.size_columns, (int)w.width);
        top = max(top, 0);
        left = max(left, 0);
        const float *from = x + (size_t)(line / w.out_height) * w.height * w.width * w.channels + c;
        float all = mean ? 0.0f : __int_as_float(0xff800000);
        for (int row = top; row < bottom; row++)
            for (int k = left; k < right; k++) {
                float v = from[((size_t)row * w.width + k) * w.channels];
                all = mean ? all + v : v > all ? v : all;
            }
        y[i] = mean ? all / (float)((bottom - top) * (right - left)) : all;
    }
}
