// Fourier transforms of short real frames by a block of threads.
//
// Two-step Cooley-Tukey algorithm (1965): with n = SIDE a + b, first the sums over a for each b,
// then the sums over b. The upper half of the first step's period mirrors the lower half and is not
// computed. The steps need a small part of the direct transform's multiplications, and are sums
// with the same factors for every frame: there are no passes of small butterflies over shared
// memory.

namespace spectrum {

struct alignas(16) Complex {
    double re, im;
};

// Transform of LENGTH points, of which all but the first ROWS * SIDE are zero and not stored.
// FRAMES frames are transformed together, so that each factor is loaded once for all. THREADS
// threads compute frequencies 0 to BINS - 1 with loops unrolled UNROLL times.
template <int LENGTH, int SIDE, int ROWS, int BINS, int FRAMES, int THREADS, int UNROLL>
struct Transform {
    // Frequencies of a sum of the first step, and those stored.
    static constexpr int PERIOD = LENGTH / SIDE, KEPT = PERIOD / 2 + 1;
    static_assert(LENGTH % SIDE == 0 && ROWS <= PERIOD && BINS <= LENGTH, "sizes that fit");

    typedef double Frames[FRAMES][SIDE * ROWS];
    typedef Complex Halfway[FRAMES][SIDE][KEPT];
    // exp(-2 pi i n / LENGTH)
    typedef Complex Turn[LENGTH];

    // Loads the cosines and sines of the parts of a turn.
    __device__ __forceinline__ static void load(Turn &turn, const double *circle) {
        for (int i = threadIdx.x; i < LENGTH; i += THREADS)
            turn[i] = {circle[2 * i], -circle[2 * i + 1]};
    }

    // Calls `bin(f, k, X)` for each frame f and frequency k, in any thread. Contains one barrier,
    // after which `frames` is no longer read. `frames` and `turn` must be complete at entry.
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
