// Fake quantization and GPTQ's column loop for CPUs. bitlaw.formats in plain torch says what comes out, bit for bit.
//
// Every arithmetic operation is rounded on its own: build without contraction to fused multiply-adds and without
// -ffast-math.

#include "cpu_elements.hpp"

namespace {

enum RuleKind : int32_t { ABSMAX, MINMAX, MINMAX_AWQ, E8M0_FLOOR, E8M0_CEIL, E8M0_EVEN, E8M0_RCEIL, TWO_LEVEL };
enum Number : int32_t { FLOAT32, BFLOAT16, FLOAT16 };

// ---- Scale rules.

// x >= 0 rounded to numbers with so many mantissa bits, subnormal below 2^least: adding 2^(e + 23 - mantissa bits)
// leaves no bits below the spacing 2^(e - mantissa bits), and float32's own rounding is half even.
inline float rounded(float x, int32_t mantissa_bits, int32_t least) {
    const int32_t exponent = std::max(as<int32_t>(x) & INFINITE, least + 127 << 23);
    const float spacer = as<float>(exponent + (23 - mantissa_bits << 23));
    return x + spacer - spacer;
}

// x >= 0, finite, in a type; what the type cannot hold becomes infinite.
inline float stored(float x, int32_t number) {
    if (number == FLOAT32) return x;
    if (number == BFLOAT16) {
        const int32_t bits = as<int32_t>(x);
        return as<float>(bits + 0x7FFF + (bits >> 16 & 1) >> 16 << 16);
    }
    return x < 65520.0f ? rounded(x, 10, -14) : std::numeric_limits<float>::infinity();
}

// What a rule looks at: the bits of the largest magnitude (those of NaN are above all) and, for MinMax, the ends.
struct Range {
    int32_t amax = 0;
    float low = 0, high = 0;
};

// The most of all lanes: of the halves, of their halves, and so on.
template <class Lane, int N = LANES, class T> inline Lane most_of(T x) {
    if constexpr (N == 1) {
        return as<Lane>(x);
    } else {
        typedef Lane Half __attribute__((vector_size(sizeof(Lane) * N / 2)));
        struct Halves {
            Half a, b;
        };
        const Halves h = as<Halves>(x);
        return most_of<Lane, N / 2>(h.a > h.b ? h.a : h.b);
    }
}

template <bool ENDS> inline Range range_of(const float *w, int64_t n) {
    I amax{};
    V low = splat(w[0]), high = low;
    for (int64_t i = 0; i < n; i += LANES) {
        const V x = load_some(w + i, n - i, w[0]);
        amax = most(amax, (I)x & MAGNITUDE);
        if (ENDS) low = least(low, x), high = most(high, x);
    }
    Range range;
    range.amax = most_of<int32_t>(amax);
    if (ENDS) range.low = -most_of<float>(-low), range.high = most_of<float>(high);
    return range;
}

// step is NaN for a block that becomes NaN; inverse is 1 / step where that is exact, else 0.
struct Step {
    float step, inverse, zero;
};

__attribute__((always_inline)) inline float stored_step(float step, const Spec &spec) {
    if (!(step <= std::numeric_limits<float>::max())) return NOT_A_NUMBER;
    const float tiny = spec.number == FLOAT32 ? 0x1p-149f : spec.number == FLOAT16 ? 0x1p-24f : 0x1p-133f;
    const float held = std::max(stored(step, spec.number), tiny);
    return held * spec.top <= std::numeric_limits<float>::max() ? held : NOT_A_NUMBER;
}

__attribute__((always_inline)) inline Step power_of_two(int32_t amax, const Spec &spec) {
    int32_t bits = spec.rule == E8M0_RCEIL ? as<int32_t>(as<float>(amax) / spec.top) : amax;
    if (spec.rule == E8M0_EVEN) bits += 1 << 22 - spec.rule_mantissa_bits;
    int32_t field = bits >> 23;
    if (spec.rule == E8M0_CEIL || spec.rule == E8M0_RCEIL) field += (bits & 0x7FFFFF) > (field ? 0 : 1 << 22);
    if (spec.rule != E8M0_RCEIL) field -= spec.emax;
    const int32_t exponent = std::clamp(field, 0, 254) - spec.shift;
    // 2^(254 - exponent) has the exponent field 254 - exponent, which ends at 254; 2^-127 is bit 22 of a subnormal.
    const float step = as<float>(exponent > 0 ? exponent << 23 : 1 << 22 + exponent);
    const float inverse = exponent < 0 ? 0 : as<float>(exponent < 254 ? 254 - exponent << 23 : 1 << 22);
    return {step, inverse, 0};
}

__attribute__((always_inline)) inline Step step_of(const Range &range, const Spec &spec) {
    if (range.amax >= INFINITE) return {NOT_A_NUMBER, 0, 0};
    const float amax = as<float>(range.amax);
    switch (spec.rule) {
    case ABSMAX:
        return {stored_step(std::max(amax, spec.least) / spec.divisor, spec), 0, 0};
    case MINMAX:
    case MINMAX_AWQ: {
        const bool awq = spec.rule == MINMAX_AWQ;
        const float low = awq ? range.low : std::min(range.low, 0.0f);
        const float high = awq ? range.high : std::max(range.high, 0.0f);
        const float step = stored_step(std::max(high - low, spec.least) / spec.divisor, spec);
        const float zero = std::clamp(-__builtin_rintf(low / step), 0.0f, spec.divisor);
        return {step, 0, zero};
    }
    case TWO_LEVEL: {
        const float share = std::min(amax / spec.top / spec.matrix_scale, 448.0f);  // 0 / 0 counts as 0
        const float scale = share == share ? rounded(share, 3, -6) : 0.0f;
        return {std::max(scale, 0x1p-9f) * spec.matrix_scale, 0, 0};
    }
    default:
        return power_of_two(range.amax, spec);
    }
}

// ---- Fake quantization.

template <bool MULTIPLY, class Element> inline V fake(V x, const Element &element, V step, V by) {
    return element.round(MULTIPLY ? x * by : x / by) * step;
}

template <bool MULTIPLY, class Element>
inline void fake_block(const float *w, float *out, int64_t n, const Element &element, float step, float by) {
    const V steps = splat(step), bys = splat(by);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) store(out + i, fake<MULTIPLY>(load<V>(w + i), element, steps, bys));
    if (i < n) store_some(out + i, fake<MULTIPLY>(load_some(w + i, n - i, 0), element, steps, bys), n - i);
}

template <class Element>
inline void fake_block(const float *w, float *out, int64_t n, const Element &element, const Step &s) {
    if (s.step != s.step)
        std::fill_n(out, n, NOT_A_NUMBER);
    else if (s.inverse)
        fake_block<true>(w, out, n, element.less(splat(s.zero)), s.step, s.inverse);
    else
        fake_block<false>(w, out, n, element.less(splat(s.zero)), s.step, s.step);
}


// A matrix with rows of any distance whose entries follow each other.
struct Matrix {
    char *data;
    int64_t columns, stride;
    int32_t number;
    char *row(int64_t r) const { return data + r * stride * (number == FLOAT32 ? 4 : 2); }

    // The row as float32: itself, or a copy in scratch.
    const float *read(int64_t r, float *scratch) const {
        if (number == FLOAT32) return reinterpret_cast<const float *>(row(r));
        for (int64_t i = 0; i < columns; i += LANES) {
            H h{};
            std::memcpy(&h, row(r) + 2 * i, 2 * std::min<int64_t>(LANES, columns - i));
            store_some(scratch + i, number == FLOAT16 ? from_half(h) : from_bfloat(h), columns - i);
        }
        return scratch;
    }
    void write(int64_t r, const float *from) const {
        for (int64_t i = 0; i < columns; i += LANES) {
            const V x = load_some(from + i, columns - i, 0);
            store_some(row(r) + 2 * i, number == FLOAT16 ? to_half(x) : to_bfloat(x), columns - i);
        }
    }
};

template <bool ENDS, class Element>
void fake_matrix(const Spec &spec, const Element &element, const Matrix &in, const Matrix &out, int64_t rows,
                 int64_t block) {
    std::vector<float> scratch(2 * in.columns);
    float *first = scratch.data(), *second = first + in.columns;
    Range whole;
    for (int64_t r = 0; !block && r < rows; ++r) {
        const Range range = range_of<ENDS>(in.read(r, first), in.columns);
        whole.amax = std::max(whole.amax, range.amax);
        whole.low = r ? std::min(whole.low, range.low) : range.low;
        whole.high = r ? std::max(whole.high, range.high) : range.high;
    }
    const Step common = block ? Step{} : step_of(whole, spec);
    for (int64_t r = 0; r < rows; ++r) {
        const float *w = in.read(r, first);
        float *q = out.number == FLOAT32 ? reinterpret_cast<float *>(out.row(r)) : second;
        if (!block) fake_block(w, q, in.columns, element, common);
        for (int64_t i = 0; block && i < in.columns; i += block) {
            const int64_t n = std::min(block, in.columns - i);
            fake_block(w + i, q + i, n, element, step_of(range_of<ENDS>(w + i, n), spec));
        }
        if (out.number != FLOAT32) out.write(r, q);
    }
}

// ---- GPTQ: the columns of a group, one after the other, for all rows.

struct Columns {
    const float *w;       // (n, rows)
    const float *upper;   // (n, n), transposed: a column of U is a row here
    const float *steps, *zeros, *means;  // (groups, rows)
    const int64_t *group; // (n,)
    int8_t *codes;        // (n, rows)
    float *errors;        // (n, rows)
    int64_t n, rows;
};

template <class Element>
void gptq_tile(const Element &element, const Columns &c, int64_t r, int64_t count, float *tile) {
    for (int64_t k = 0; k < c.n; ++k) {
        V w = load_some(c.w + k * c.rows + r, count, 0);
        for (int64_t j = 0; j < k; ++j) w -= load<V>(tile + j * LANES) * c.upper[k * c.n + j];
        const int64_t g = c.group[k] * c.rows + r;
        const V step = load_some(c.steps + g, count, 1), zero = c.zeros ? load_some(c.zeros + g, count, 0) : V{};
        V x = (c.means ? w - load_some(c.means + g, count, 0) : w) / step;
        // NaN gets the code 0 of an integer, which means -zero.
        const V nearest = element.less(zero).round(x == x ? x : 0.0f - zero);
        V q = nearest * step;
        if (c.means) q += load_some(c.means + g, count, 0);
        V error = (w - q) / c.upper[k * c.n + k];
        error = (I)absolute(error) >= INFINITE ? V{} : error;
        store(tile + k * LANES, error);
        store_some(c.errors + k * c.rows + r, error, count);
        const I code = element.code(x == x ? x : V{}, nearest) + __builtin_convertvector(zero, I);
        store_some(c.codes + k * c.rows + r, __builtin_convertvector(code, B), count);
    }
}

}  // namespace

extern "C" {

// Write w (rows, columns) rounded to the format to out, which may be w. block 0 is one block for the matrix.
void bitlaw_fake_quantize(const Spec *spec, void *w, int64_t w_stride, int32_t w_number, void *out, int64_t out_stride,
                          int32_t out_number, int64_t rows, int64_t columns, int64_t block) {
    const Matrix from{static_cast<char *>(w), columns, w_stride, w_number};
    const Matrix to{static_cast<char *>(out), columns, out_stride, out_number};
    with_element(*spec, [&](const auto &element) {
        if (spec->rule == MINMAX || spec->rule == MINMAX_AWQ)
            fake_matrix<true>(*spec, element, from, to, rows, block);
        else
            fake_matrix<false>(*spec, element, from, to, rows, block);
    });
}

// Write the weights that codes (rows, columns) mean to out: (values[code] - zero) * step + mean. Zeros and means may be
// null. Steps, zeros and means: (rows, blocks); block 0 is one block for the matrix.
void bitlaw_dequantize(const float *values, const uint8_t *codes, const float *steps, const float *zeros,
                       const float *means, void *out, int64_t out_stride, int32_t out_number, int64_t rows,
                       int64_t columns, int64_t block) {
    const Matrix to{static_cast<char *>(out), columns, out_stride, out_number};
    const int64_t width = block ? block : columns, blocks = (columns + width - 1) / width;
    std::vector<float> scratch(columns);
    for (int64_t r = 0; r < rows; ++r) {
        const uint8_t *code = codes + r * columns;
        float *q = out_number == FLOAT32 ? reinterpret_cast<float *>(to.row(r)) : scratch.data();
        for (int64_t b = 0; b < blocks; ++b) {
            const int64_t g = block ? r * blocks + b : 0, stop = std::min(columns, (b + 1) * width);
            const float step = steps[g], zero = zeros ? zeros[g] : 0, mean = means ? means[g] : 0;
            for (int64_t i = b * width; i < stop; ++i) {
                const float x = (zeros ? values[code[i]] - zero : values[code[i]]) * step;
                q[i] = means ? x + mean : x;
            }
        }
        if (out_number != FLOAT32) to.write(r, q);
    }
}

// Round the columns of a group; see bitlaw.formats.kernels.gptq_block.
void bitlaw_gptq(const Spec *spec, const float *w, const float *upper, const float *steps, const float *zeros,
                 const float *means, const int64_t *group, int8_t *codes, float *errors, int64_t n, int64_t rows) {
    const Columns columns{w, upper, steps, zeros, means, group, codes, errors, n, rows};
    std::vector<float> tile(n * LANES);
    with_element(*spec, [&](const auto &element) {
        for (int64_t r = 0; r < rows; r += LANES) gptq_tile(element, columns, r, rows - r, tile.data());
    });
}

}  // extern "C"
