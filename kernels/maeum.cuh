// Common declarations, prepended to every .cu file.
//
// Multiply-adds are fused only by explicit `fmaf`; compilers are told not to contract others, so
// that a source gives the same bits on every machine.
#pragma once

#ifndef DYNAMIC_SHARED
// Shared memory whose size is set by the launch.
#define DYNAMIC_SHARED(type, name)                                                                 \
    extern __shared__ __align__(16) unsigned char dynamic_shared_memory[];                         \
    type *name = reinterpret_cast<type *>(dynamic_shared_memory)
#endif

#define DEVICE static __device__ __forceinline__
#define EVERY_LANE 0xffffffffu

// Index of this thread in a one-dimensional launch, and number of threads.
DEVICE unsigned first_element() { return blockIdx.x * blockDim.x + threadIdx.x; }
DEVICE unsigned element_step() { return gridDim.x * blockDim.x; }

DEVICE float warp_sum(float x) {
    for (unsigned bits = 16; bits > 0; bits >>= 1)
        x += __shfl_xor_sync(EVERY_LANE, x, bits);
    return x;
}

DEVICE float warp_max(float x) {
    for (unsigned bits = 16; bits > 0; bits >>= 1)
        x = fmaxf(x, __shfl_xor_sync(EVERY_LANE, x, bits));
    return x;
}

// Functions of src/nn/cpu/math.rs: fused multiply-adds and bit operations, with the same bits
// everywhere.

// `exp(x)` within 1 ULP: range reduction by ln 2 in two parts, then the Taylor polynomial.
DEVICE float precise_exp(float x) {
    const float round = 12582912.0f; // 1.5 * 2^23
    x = x > 89.0f ? 89.0f : x;
    x = x < -105.0f ? -105.0f : x;
    float n = fmaf(x, 1.44269504088896341f, round) - round;
    float r = fmaf(-n, 0.6933594f, x);
    r = fmaf(-n, -2.1219444e-4f, r);
    float p = fmaf(r, 1.0f / 5040.0f, 1.0f / 720.0f);
    p = fmaf(r, p, 1.0f / 120.0f);
    p = fmaf(r, p, 1.0f / 24.0f);
    p = fmaf(r, p, 1.0f / 6.0f);
    p = fmaf(r, p, 0.5f);
    p = fmaf(r, p, 1.0f);
    p = fmaf(r, p, 1.0f);
    int power = (int)n, half = power >> 1;
    return p * __int_as_float((half + 127) << 23) * __int_as_float((power - half + 127) << 23);
}

DEVICE float relu(float x) { return x > 0.0f ? x : 0.0f; }

DEVICE float precise_sigmoid(float x) { return 1.0f / (1.0f + precise_exp(-x)); }

DEVICE float hard_sigmoid(float x) { return fminf(fmaxf(0.2f * x + 0.5f, 0.0f), 1.0f); }

// Below 0.625 the polynomial of Cephes' tanhf (Moshier), above it `1 - 2 / (exp(2x) + 1)`.
DEVICE float precise_tanh(float x) {
    float z = x * x;
    float p = fmaf(z, -5.7049887e-3f, 2.063909e-2f);
    p = fmaf(z, p, -5.3739715e-2f);
    p = fmaf(z, p, 1.3331442e-1f);
    p = fmaf(z, p, -3.333328e-1f);
    float small = fmaf(p * z, x, x);
    float large = 1.0f - 2.0f / (precise_exp(2.0f * fabsf(x)) + 1.0f);
    return fabsf(x) < 0.625f ? small : copysignf(large, x);
}

DEVICE double softplus(double x) { return fmax(x, 0.0) + log1p(exp(-fabs(x))); }

// Kinds of activation; softmax needs rows and is handled separately.
enum ActivationKind {
    LINEAR,
    RELU,
    RELU_WITH,
    THRESHOLDED_RELU,
    LEAKY_RELU,
    ELU,
    SELU,
    SIGMOID,
    HARD_SIGMOID,
    TANH,
    SOFTPLUS,
    SOFTSIGN,
    EXPONENTIAL,
    SWISH,
    GELU,
    MISH,
    SOFTMAX,
    HARD_SIGMOID_6
};

// An activation function and its parameters, in the order of `Activation` in src/nn/layers/activation.rs.
struct Activation {
    unsigned kind;
    float a, b, c;
};

DEVICE float activated(Activation f, float x) {
    switch (f.kind) {
    case RELU:
        return relu(x);
    case RELU_WITH: // a: limit, b: slope, c: threshold
        return x >= f.a ? f.a : x >= f.c ? x : f.b * (x - f.c);
    case THRESHOLDED_RELU:
        return x > f.a ? x : 0.0f;
    case LEAKY_RELU:
        return x > 0.0f ? x : f.a * x;
    case ELU:
        return x > 0.0f ? x : (float)((double)f.a * expm1((double)x));
    case SELU:
        return (float)(1.0507009873554805 *
                       (x > 0.0f ? (double)x : 1.6732632423543772 * expm1((double)x)));
    case SIGMOID:
        return precise_sigmoid(x);
    case HARD_SIGMOID:
        return hard_sigmoid(x);
    case HARD_SIGMOID_6:
        return fminf(fmaxf(x + 3.0f, 0.0f), 6.0f) / 6.0f;
    case TANH:
        return precise_tanh(x);
    case SOFTPLUS:
        return (float)softplus(x);
    case SOFTSIGN:
        return x / (1.0f + fabsf(x));
    case EXPONENTIAL:
        return precise_exp(x);
    case SWISH:
        return x * precise_sigmoid(x);
    case GELU:
        return (float)(0.5 * (double)x * erfc(-(double)x * 0.70710678118654752440));
    case MISH:
        return (float)((double)x * tanh(softplus(x)));
    default:
        return x;
    }
}
