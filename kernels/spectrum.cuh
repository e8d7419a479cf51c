// Fourier transforms of short real frames by a block of threads.
//
// In two steps (J. W. Cooley, J. W. Tukey, 1965): with n = SIDE a + b, the sums over a for each b, of
// which those for frequencies beyond half of their period mirror those below, and then the sums over
// b. That is a small part of the direct transform's multiplications, and still plain sums of products
// that are the same for every frame: no passes over shared memory between small butterflies, and
// nothing to get wrong.

namespace spectrum {

struct alignas(16) Complex {
    double re, im;
};

// Of LENGTH points, of which all but the first ROWS times SIDE are zeros and not stored; of FRAMES
// frames together, since a factor that is read is used for all of them. Frequencies 0 to BINS - 1 are
// computed, by THREADS threads, the loops unrolled UNROLL times.
template <int LENGTH, int SIDE, int ROWS, int BINS, int FRAMES, int THREADS, int UNROLL>
struct Transform {
    // Frequencies of a sum of the first step, and those that are kept.
    static constexpr int PERIOD = LENGTH / SIDE, KEPT = PERIOD / 2 + 1;
    static_assert(LENGTH % SIDE == 0 && ROWS <= PERIOD && BINS <= LENGTH, "sizes that fit");

    typedef double Frames[FRAMES][SIDE * ROWS];
    typedef Complex Halfway[FRAMES][SIDE][KEPT];
    // exp(-2 pi i n / LENGTH)
    typedef Complex Turn[LENGTH];

    // Takes the cosines and sines of a turn's parts.
    __device__ __forceinline__ static void load(Turn &turn, const double *circle) {
        for (int i = threadIdx.x; i < LENGTH; i += THREADS)
            turn[i] = {circle[2 * i], -circle[2 * i + 1]};
    }

    // Calls `bin(f, k, X)` for each frame f and frequency k, in any thread. The block waits once in
    // between: from there on `frames` is no longer read. `frames` and `turn` are there when this begins.
    template <typename Bin>
    __device__ __forceinline__ static void run(const Frames &frames, Halfway &halfway,
                                               const Turn &turn, Bin bin) {
        for (int i = threadIdx.x; i < SIDE * KEPT; i += THREADS) {
            const int k = i / SIDE, b = i % SIDE;
            Complex sums[FRAMES] = {};
            int at = 0;
#pragma unroll UNROLL
            for (int a = 0; a < ROWS; a++) {
                const Complex w = turn[at];
                at += SIDE * k;
                at -= at >= LENGTH ? LENGTH : 0;
#pragma unroll
                for (int f = 0; f < FRAMES; f++) {
                    sums[f].re += frames[f][SIDE * a + b] * w.re;
                    sums[f].im += frames[f][SIDE * a + b] * w.im;
                }
            }
#pragma unroll
            for (int f = 0; f < FRAMES; f++)
                halfway[f][b][k] = sums[f];
        }
        __syncthreads();
        for (int i = threadIdx.x; i < BINS; i += THREADS) {
            const int k = i % PERIOD;
            const bool mirror = k >= KEPT;
            Complex sums[FRAMES] = {};
            int at = 0;
#pragma unroll UNROLL
            for (int b = 0; b < SIDE; b++) {
                const Complex w = turn[at];
                at += i;
                at -= at >= LENGTH ? LENGTH : 0;
#pragma unroll
                for (int f = 0; f < FRAMES; f++) {
                    Complex y = halfway[f][b][mirror ? PERIOD - k : k];
                    y.im = mirror ? -y.im : y.im;
                    sums[f].re += y.re * w.re - y.im * w.im;
                    sums[f].im += y.re * w.im + y.im * w.re;
                }
            }
#pragma unroll
            for (int f = 0; f < FRAMES; f++)
                bin(f, i, sums[f]);
        }
    }
};

} // namespace spectrum
