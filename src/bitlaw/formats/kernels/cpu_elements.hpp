// Elements: round() gives the nearest value of x, in units of the step; code() its code. x is no NaN.

#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#if defined(__AVX512F__) && !defined(BITLAW_GENERIC)
#define BITLAW_AVX512
#include <immintrin.h>
#endif

#include "cpu_vectors.hpp"

// A format's element and scale rule; the same fields in the same order as Spec in cpu.py.
struct Spec {
    int32_t element, low, high;                // integers: the ends
    int32_t bits, mantissa_bits, bias;         // minifloats
    float largest;                             //
    int32_t count;                             // codebooks: entries, and the count - 1 bounds between them
    const float *values, *bounds;              //
    int32_t rule, number;                      // the scale's type
    float divisor, top, least, matrix_scale;   //
    int32_t emax, rule_mantissa_bits, shift;   // of E8M0
};

namespace {

enum ElementKind : int32_t { INTEGER, MINIFLOAT, CODEBOOK };

struct Integer {
    V low, high;
    // Numbers up to 2^22 have no fraction once 1.5 * 2^23 is added; a zero comes out positive.
    V round(V x) const { return most(least(x, high), low) + 0x1.8p23f - 0x1.8p23f; }
    I code(V, V value) const { return __builtin_convertvector(value, I); }
    // For zero points: round() gives the code less the zero point.
    Integer less(V zero) const { return {low - zero, high - zero}; }
};

struct Minifloat {
    int32_t bits, mantissa_bits, bias;
    float largest;
    V round(V x) const {
        const V magnitude = least(absolute(x), splat(largest));
        const I exponent = most((I)magnitude & INFINITE, I{} + (128 - bias << 23));
        const V spacer = (V)(exponent + (23 - mantissa_bits << 23));
        const V nearest = magnitude + spacer - spacer;
        return x < 0.0f ? 0.0f - nearest : nearest;
    }
    I code(V, V value) const {
        const I magnitude = (I)absolute(value);
        const I normal = (magnitude >> 23 - mantissa_bits) - (127 - bias << mantissa_bits);
        const V scaled = (V)magnitude * as<float>(126 + mantissa_bits + bias << 23);
        const I subnormal = __builtin_convertvector(scaled, I);
        const I code = magnitude < (128 - bias << 23) ? subnormal : normal;
        return value < 0.0f ? code | (1 << bits - 1) : code;
    }
    Minifloat less(V) const { return *this; }
};

// Up to N entries: a chain of selects. Bounds that are not there are infinite.
template <int N> struct Chain {
    float bounds[N - 1], values[N];
    explicit Chain(const Spec &spec) {
        std::fill_n(bounds, N - 1, std::numeric_limits<float>::infinity());
        std::copy_n(spec.bounds, spec.count - 1, bounds);
        std::fill_n(std::copy_n(spec.values, spec.count, values), N - spec.count, 0.0f);
    }
    V round(V x) const {
        V value = splat(values[0]);
#pragma GCC unroll 16
        for (int i = 0; i < N - 1; ++i) value = x > bounds[i] ? splat(values[i + 1]) : value;
        return value;
    }
    I code(V x, V) const {
        I code{};
        for (int i = 0; i < N - 1; ++i) code -= (I)(x > bounds[i]);
        return code;
    }
    const Chain &less(V) const { return *this; }
};

#ifdef BITLAW_AVX512
// Up to 16 entries that fit into a register: a search in four steps.
struct Register {
    V bounds, values;
    static V share(V table, I at) { return (V)_mm512_permutexvar_ps((__m512i)at, (__m512)table); }
    explicit Register(const Spec &spec) {
        const Chain<16> chain(spec);
        bounds = load_some(chain.bounds, 15, std::numeric_limits<float>::infinity());
        values = load<V>(chain.values);
    }
    I code(V x, V) const {
        I code = (I)(x > bounds[7]) & 8;
        for (int step = 4; step; step >>= 1) code += (I)(x > share(bounds, code + (step - 1))) & step;
        return code;
    }
    V round(V x) const { return share(values, code(x, x)); }
    const Register &less(V) const { return *this; }
};
#endif

// Any number of entries up to 256. A table of the top bits of x (sign, exponent, some of the mantissa) has the code of
// the smallest x with these bits, and the bound that comes next. Where a place has more bounds, a search goes on there.
struct Table {
    struct Place {
        float bound, values[2];
        int32_t code;
    };
    static constexpr int32_t MOST = 1 << 14;
    int32_t first, last, shift, rounds, count;
    float bounds[512], values[257];
    std::vector<Place> places;

    explicit Table(const Spec &spec) : count(spec.count - 1) {
        std::fill_n(std::copy_n(spec.bounds, count, bounds), 512 - count, std::numeric_limits<float>::infinity());
        *std::copy_n(spec.values, count + 1, values) = 0;
        int32_t small = INFINITE, large = 0;
        for (int i = 0; i < count; ++i) {
            const int32_t magnitude = as<int32_t>(bounds[i]) & MAGNITUDE;
            if (magnitude) small = std::min(small, magnitude), large = std::max(large, magnitude);
        }
        small = std::min(small, large);
        // The coarsest table with one bound a place at most, so that it stays in the first cache.
        shift = 23;
        do --shift, fill(small, large);
        while (rounds > 1 && shift > 8 && 4 * ((large >> shift) - (small >> shift) + 1) <= MOST);
    }

    void fill(int32_t small, int32_t large) {
        first = small >> shift, last = large >> shift;
        const int32_t half = last - first + 1;
        places.resize(2 * half);
        int32_t code = 0, fullest = 0;
        const auto count_below = [&](float x) {
            while (code < count && bounds[code] < x) ++code;
            return code;
        };
        // From the smallest x to the largest: the negative places, outermost first, then the others.
        for (int32_t i = -half; i < half; ++i) {
            const int32_t place = i < 0 ? -1 - i : i;
            const float inner = as<float>(place ? first + place << shift : 0);
            const float outer = as<float>(place + 1 < half ? (first + place + 1 << shift) - 1 : INFINITE);
            const int32_t from = count_below(i < 0 ? -outer : inner);
            places[i < 0 ? half + place : place] = {bounds[from], {values[from], values[from + 1]}, from};
            fullest = std::max(fullest, count_below(i < 0 ? -inner : outer) - from);
        }
        for (rounds = 0; (1 << rounds) - 1 < fullest;) ++rounds;
    }

    I place(V x) const {
        const I magnitude = least(most(((I)x & MAGNITUDE) >> shift, I{} + first), I{} + last) - first;
        return magnitude + ((I)x >> 31 & last - first + 1);
    }
    int32_t search(const Place &place, float x) const {
        int32_t code = place.code;
        for (int step = 1 << rounds >> 1; step; step >>= 1) code += x > bounds[code + step - 1] ? step : 0;
        return code;
    }
    I code(V x, V) const {
        const I at = place(x);
        int32_t codes[LANES];
        for (int l = 0; l < LANES; ++l) codes[l] = search(places[at[l]], x[l]);
        return load<I>(codes);
    }
    V round(V x) const {
        int32_t at[LANES];
        float numbers[LANES], nearest[LANES];
        store(at, place(x)), store(numbers, x);
        for (int l = 0; l < LANES; ++l) {
            const Place &p = places[at[l]];
            nearest[l] = rounds < 2 ? p.values[numbers[l] > p.bound] : values[search(p, numbers[l])];
        }
        return load<V>(nearest);
    }
    const Table &less(V) const { return *this; }
};

// Call f with the element of spec.
template <class F> void with_element(const Spec &spec, F f) {
    if (spec.element == INTEGER) return f(Integer{splat(float(spec.low)), splat(float(spec.high))});
    if (spec.element == MINIFLOAT) return f(Minifloat{spec.bits, spec.mantissa_bits, spec.bias, spec.largest});
#ifdef BITLAW_AVX512
    if (spec.count <= 16) return f(Register(spec));
#endif
    if (spec.count <= 4) return f(Chain<4>(spec));
    if (spec.count <= 8) return f(Chain<8>(spec));
    if (spec.count <= 16) return f(Chain<16>(spec));
    f(Table(spec));
}

}  // namespace
