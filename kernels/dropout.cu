// Dropout at inference, with the decisions of src/nn/dropout.rs.

// Ten rounds of Philox4x32 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
DEVICE uint4 philox4x32(uint4 counter, uint2 key) {
    for (int round = 0; round < 10; round++) {
        unsigned a_high = __umulhi(0xD2511F53u, counter.x), a_low = 0xD2511F53u * counter.x;
        unsigned b_high = __umulhi(0xCD9E8D57u, counter.z), b_low = 0xCD9E8D57u * counter.z;
        counter = {b_high ^ counter.y ^ key.x, b_low, a_high ^ counter.w ^ key.y, a_low};
        key.x += 0x9E3779B9u;
        key.y += 0xBB67AE85u;
    }
    return counter;
}

// Decisions of a row: element `e` has the decision of unit `e / (pixels * channels) * channels + e
// % channels`.
struct Units {
    unsigned row, units, pixels, channels;
};

DEVICE unsigned unit_of(Units u, unsigned e) {
    return e / (u.pixels * u.channels) * u.channels + e % u.channels;
}

struct Draws {
    unsigned seed_low, seed_high, layer, first, draws;
    float rate, kept;
};

// `y = x * factor`; row `r` of `y` is draw `first + r % draws` of row `r / copies` of `x`.
extern "C" __global__ void dropout(const float *__restrict__ x, float *__restrict__ y, Units units,
                                   Draws how, unsigned copies, unsigned count) {
    for (unsigned i = first_element(); i < count; i += element_step()) {
        unsigned row = i / units.row, e = i % units.row, unit = unit_of(units, e);
        uint4 words = philox4x32({unit / 4, how.layer, how.first + row % how.draws, 0},
                                 {how.seed_low, how.seed_high});
        unsigned k = unit % 4;
        unsigned word = k == 0 ? words.x : k == 1 ? words.y : k == 2 ? words.z : words.w;
        float uniform = (float)(word >> 8) * (1.0f / 16777216.0f);
        float factor = uniform >= how.rate ? how.kept : 0.0f;
        y[i] = x[(size_t)(row / copies) * units.row + e] * factor;
    }
}

// `y = x * factor` with given factors, one per row of `y` and unit.
extern "C" __global__ void mask(const float *__restrict__ x, const float *__restrict__ factors,
                                float *__restrict__ y, Units units, unsigned copies,
                                unsigned count) {
    for (unsigned i = first_element(); i < count; i += element_step()) {
        unsigned row = i / units.row, e = i % units.row;
        float factor = factors[(size_t)row * units.units + unit_of(units, e)];
        y[i] = x[(size_t)(row / copies) * units.row + e] * factor;
    }
}
