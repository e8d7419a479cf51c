// numpy's pairwise summation by a block of threads, bit-identical.
//
// Method: numpy's `pairwise_sum_DOUBLE` (numpy/core/src/umath/loops.c.src). Up to 128 terms are a
// leaf, summed in eight running sums; longer ranges are split in halves at a multiple of eight. The
// halves form a binary tree that depends on the number of terms only. Eight threads sum a leaf, and
// leaves are then added along the tree. The tree is treated as complete to its deepest level: a
// leaf at a higher level takes the first of its positions there, and its other positions hold -0.0,
// the neutral element of addition.

namespace pairwise {

constexpr unsigned THREADS = 256;
constexpr unsigned LANES = 8;
constexpr unsigned long long LEAF = 128;
// Leaves that a block sums at a time; a power of two, so that they form a subtree.
constexpr unsigned LEAVES = THREADS / LANES;
// Completed subtrees that wait for their sibling; enough for 2^48 terms.
constexpr unsigned LEVELS = 48;

struct Scratch {
    double lanes[THREADS];
    double leaves[LEAVES];
    double waiting[LEVELS];
    double total;
};

// Returns the depth of the deepest leaf of `n` terms, which is in the larger halves.
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

// Returns the terms of the leaf at `place`; empty unless `place` is the leaf's first position.
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

// Returns the sum of `term(i)` for i in 0..n to every thread of the block. All THREADS threads call
// it with the same `n`.
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
            // Like a binary counter: two subtrees of equal size merge into one of twice the size.
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
    // The next sum overwrites `scratch`.
    __syncthreads();
    return total;
}

}  // namespace pairwise
