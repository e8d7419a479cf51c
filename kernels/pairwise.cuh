// numpy's pairwise summation by a block of threads, to the last bit.
//
// Method: numpy's `pairwise_sum_DOUBLE` (numpy/core/src/umath/loops.c.src): up to 128 terms in
// eight running sums, longer stretches halved at a multiple of eight. The halves are a binary tree
// whose shape follows from the number of terms alone. Its leaves are summed side by side, eight
// threads to a leaf, and then added up along the tree. The tree is taken as complete to its deepest
// leaf: a leaf that is reached earlier is the first of its places there, and the others hold -0.0,
// the one number that changes nothing when it is added.

namespace pairwise {

constexpr unsigned THREADS = 256;
constexpr unsigned LANES = 8;
constexpr unsigned long long LEAF = 128;
// Leaves that a block sums at a time; a power of two, so that they are a branch of the tree.
constexpr unsigned LEAVES = THREADS / LANES;
// Branches wait here for their neighbours; more terms than 2^48 do not occur.
constexpr unsigned LEVELS = 48;

struct Scratch {
    double lanes[THREADS];
    double leaves[LEAVES];
    double waiting[LEVELS];
    double total;
};

// How often the larger half of `n` terms is halved until it is a leaf.
__device__ __forceinline__ unsigned depth(unsigned long long n) {
    unsigned depth = 0;
    while (n > LEAF) {
        n -= n / 2 / LANES * LANES;
        depth++;
    }
    return depth;
}

struct Stretch {
    unsigned long long start, count;
};

// The terms of a leaf's place, the first one's for a leaf that has several, else none.
__device__ __forceinline__ Stretch leaf(unsigned long long n, unsigned depth, unsigned long long place) {
    Stretch s = {0, n};
    unsigned level = depth;
    while (s.count > LEAF) {
        level--;
        unsigned long long half = s.count / 2 / LANES * LANES;
        if (place >> level & 1) {
            s.start += half;
            s.count -= half;
        } else {
            s.count = half;
        }
    }
    bool first = (place & ((1ull << level) - 1)) == 0;
    return first ? s : Stretch{0, 0};
}

// The sum of `term(i)` for i in 0..n, given to every thread of the block. All THREADS of a block
// call it, with the same `n`.
template <typename Term>
__device__ double sum(Scratch& scratch, unsigned long long n, Term term) {
    const unsigned thread = threadIdx.x, lane = thread % LANES, own = thread / LANES;
    const unsigned deepest = depth(n);
    const unsigned long long places = 1ull << deepest;
    for (unsigned long long base = 0; base < places; base += LEAVES) {
        Stretch s = base + own < places ? leaf(n, deepest, base + own) : Stretch{0, 0};
        const unsigned long long grouped = s.count / LANES * LANES;
        double running = 0.0;
        for (unsigned long long i = lane; i < grouped; i += LANES) running += term(s.start + i);
        scratch.lanes[thread] = running;
        __syncthreads();
        if (lane == 0) {
            const double *r = scratch.lanes + thread;
            double all = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
            for (unsigned long long i = grouped; i < s.count; i++) all += term(s.start + i);
            scratch.leaves[own] = s.count > 0 ? all : -0.0;
        }
        for (unsigned width = 1; width < LEAVES; width *= 2) {
            __syncthreads();
            const unsigned at = thread * 2 * width;
            if (at < LEAVES) scratch.leaves[at] += scratch.leaves[at + width];
        }
        if (thread == 0) {
            // As in a binary counter, two branches of one size become one of twice the size.
            double branch = scratch.leaves[0];
            unsigned level = 0;
            for (unsigned long long done = base / LEAVES; done & 1; done /= 2) {
                branch = scratch.waiting[level++] + branch;
            }
            scratch.waiting[level] = branch;
            scratch.total = branch;
        }
        __syncthreads();
    }
    const double total = scratch.total;
    // The next sum must not begin before every thread has this one.
    __syncthreads();
    return total;
}

}  // namespace pairwise
