// Vectors of 16 floats, in the vector types of GCC and Clang, which any instruction set gets compiled for.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

namespace {

constexpr int LANES = 16;
typedef float V __attribute__((vector_size(4 * LANES)));
typedef int32_t I __attribute__((vector_size(4 * LANES)));
typedef uint16_t H __attribute__((vector_size(2 * LANES)));
typedef int8_t B __attribute__((vector_size(LANES)));

constexpr int32_t MAGNITUDE = INT32_MAX, INFINITE = 0x7F800000;
constexpr float NOT_A_NUMBER = std::numeric_limits<float>::quiet_NaN();

template <class T, class S> inline T as(S s) {
    static_assert(sizeof(T) == sizeof(S));
    T t;
    std::memcpy(&t, &s, sizeof t);
    return t;
}

inline V splat(float x) { return x - V{}; }  // x + 0 would lose the sign of a negative zero
inline V absolute(V x) { return (V)((I)x & MAGNITUDE); }
inline V least(V a, V b) { return a < b ? a : b; }
inline V most(V a, V b) { return a > b ? a : b; }
inline I least(I a, I b) { return a < b ? a : b; }
inline I most(I a, I b) { return a > b ? a : b; }

template <class T> inline T load(const void *from) {
    T t;
    std::memcpy(&t, from, sizeof t);
    return t;
}

template <class T> inline void store(void *to, T t) { std::memcpy(to, &t, sizeof t); }

// The first n of 16 floats; the others get fill.
inline V load_some(const float *from, int64_t n, float fill) {
    if (n >= LANES) return load<V>(from);
    float lanes[LANES];
    std::fill_n(lanes, LANES, fill);
    std::memcpy(lanes, from, n * sizeof(float));
    return load<V>(lanes);
}

template <class T> inline void store_some(void *to, T t, int64_t n) {
    std::memcpy(to, &t, std::min<int64_t>(n, LANES) * (sizeof(T) / LANES));
}

// ---- 16-bit numbers, by bits: half even, NaN stays NaN.

inline V from_half(H h) {
    const I bits = __builtin_convertvector(h, I);
    const I magnitude = (bits & 0x7FFF) << 13;
    // Half's numbers times 2^-112, subnormals included, are float32's with the same bits.
    const I value = (I)((V)magnitude * 0x1p112f);
    return (V)((magnitude >= 0x7C00 << 13 ? magnitude | INFINITE : value) | (bits & 0x8000) << 16);
}

inline H to_half(V x) {
    const I magnitude = (I)x & MAGNITUDE;
    const I normal = (magnitude + 0xFFF + (magnitude >> 13 & 1) - (112 << 23)) >> 13;
    // The last place of 1/2 is 2^-24, half's smallest step.
    const I subnormal = (I)((V)magnitude + 0.5f) - as<int32_t>(0.5f);
    I bits = magnitude < 113 << 23 ? subnormal : normal;
    bits = magnitude >= as<int32_t>(65520.0f) ? I{} + 0x7C00 : bits;
    bits = magnitude > INFINITE ? I{} + 0x7E00 : bits;
    return __builtin_convertvector(bits | ((I)x >> 16 & 0x8000), H);
}

inline V from_bfloat(H h) { return (V)(__builtin_convertvector(h, I) << 16); }

inline H to_bfloat(V x) {
    const I bits = (I)x + 0x7FFF + ((I)x >> 16 & 1);
    const I magnitude = (I)x & MAGNITUDE;
    return __builtin_convertvector((magnitude > INFINITE ? I{} + (0x7FC0 << 16) : bits) >> 16 & 0xFFFF, H);
}

}  // namespace
