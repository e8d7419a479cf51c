// Level of a whole signal, which the analysis of its frames depends on, like
// src/front_end/utterance/centred.rs. Samples are single precision, so their squares fit into
// double precision without scaling.

// Mean of each signal in the CPU's order. `found[2 r]` is the index of the first sample that is not
// finite (the maximum integer if there is none); `found[2 r + 1]` is 1 if any sample differs from
// the first. One block per recording.
extern "C" __global__ void __launch_bounds__(pairwise::THREADS)
    signal_level(double *mean, unsigned long long *found, const float *x,
                 const unsigned long long *starts) {
    __shared__ pairwise::Scratch scratch;
    __shared__ unsigned long long not_finite;
    __shared__ unsigned differ;
    const unsigned recording = blockIdx.x;
    x += starts[recording];
    const unsigned long long n = starts[recording + 1] - starts[recording];
    if (threadIdx.x == 0) {
        not_finite = ~0ull;
        differ = 0;
    }
    __syncthreads();
    unsigned long long mine = ~0ull;
    unsigned differs = 0;
    for (unsigned long long i = threadIdx.x; i < n; i += blockDim.x) {
        // Zero only for finite samples.
        const bool finite = x[i] - x[i] == 0.0f;
        mine = !finite && i < mine ? i : mine;
        differs |= x[i] != x[0];
    }
    if (mine != ~0ull)
        atomicMin(&not_finite, mine);
    if (differs != 0)
        atomicMax(&differ, 1u);
    const double sum =
        pairwise::sum(scratch, n, [=](unsigned long long i) { return (double)x[i]; });
    if (threadIdx.x == 0) {
        mean[recording] = sum / (double)n;
        found[2 * recording] = not_finite;
        found[2 * recording + 1] = differ;
    }
}
