/* Convolutions in which every victim has weights of its own.

All of them are one product: sums over a table of places in two arrays, of which one is read in vectors. Nothing is
gathered into patches, and a window may be as odd as it likes. What lies in a vector depends on how many victims there
are: of many, one number of each; of few, one number of each channel, or a row of pixels. A sum's terms come in the same
order in all of them, so that a victim's numbers do not depend on who else is there, to the last bit.

library.py compiles this for the processor at hand; REAL is float or double, INTEGER an integer as wide. Arrays are
PyTorch's and contiguous: images [victims * batch, channels, height, width]; a victim's own weights [outputs, inputs,
kernel height, kernel width], `each` numbers from one victim to the next. A function returns 0, or 1 where it finds no
memory. */

#include "vectors.h"
#include <stdlib.h>
#include <string.h>
#if defined(__FMA__) || defined(__AVX512F__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__) || defined(__aarch64__)
#define REGISTERS 32
#else
#define REGISTERS 16
#endif

typedef REAL lanes __attribute__((vector_size(BYTES)));

/* a b + c, rounded once where the processor can: said, since compilers that are free to fuse do so here and not there,
   and a victim's last bit would depend on the tile that it is in. */
INLINE lanes fused(const lanes a, const lanes b, const lanes c) {
#define SINGLE (sizeof(REAL) == 4)
#if defined(__AVX512F__)
    return SINGLE ? (lanes)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c)
                  : (lanes)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined(__FMA__)
    return SINGLE ? (lanes)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c)
                  : (lanes)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#elif defined(__aarch64__)
    return SINGLE ? (lanes)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b)
                  : (lanes)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
#else
    return a * b + c;
#endif
}

typedef struct {
    int64_t first, last, batch;     /* victims first to last - 1, images of each */
    int64_t inputs, height, width;  /* of an image that goes in */
    int64_t outputs, rows, columns; /* of one that comes out */
    int64_t kernel[2], stride[2], padding[2];
    int64_t each, bias_each; /* 0: all victims have the same bias */
    int64_t vector;          /* what lies in one: */
} Layer;

enum { VICTIMS, CHANNELS, PIXELS }; /* PIXELS: on the way back alone */

int64_t vector_bytes(void) { return BYTES; }

static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t vectors(int64_t numbers) { return (numbers + LANES - 1) / LANES; }
static int64_t pixels(const Layer *l) { return l->inputs * l->height * l->width; }
static int64_t places(const Layer *l) { return l->rows * l->columns; }
static int64_t window(const Layer *l) { return l->kernel[0] * l->kernel[1]; }
static int64_t weights(const Layer *l) { return l->outputs * l->inputs * window(l); }

/* Victims that are done at once. */
static int64_t step(const Layer *l) { return l->vector == VICTIMS ? LANES : 1; }

/* ---- memory of a call ---- */

typedef struct {
    lanes *all, *next;
} Memory;

static int reserve(Memory *m, int64_t count) {
    m->all = m->next = aligned_alloc(BYTES, most(count, 1) * BYTES);
    return !m->all;
}
static void *take(Memory *m, int64_t count) {
    m->next += count;
    return m->next - count;
}
static int64_t vectors_of_table(int64_t count) { return (count * (int64_t)sizeof(int64_t) + BYTES - 1) / BYTES; }

/* ---- the product ---- */

/* sums[i, j] += sum over t of left[i, t] right[j, t], for each lane; the left one may be the same for all lanes */
typedef struct {
    lanes *sums;
    int64_t rows, row_step, columns, column_step;
    const REAL *number; /* the left one, or, where it is NULL, */
    const lanes *left;
    int64_t left_step;
    const REAL *right; /* vectors, not aligned; its steps and places are in numbers */
    int64_t right_step;
    int64_t count;
    const int64_t *left_at, *right_at;
} Product;

INLINE void tile(const int I, const int J, const int same, const Product *x, int64_t i0, int64_t j0) {
    lanes sum[8][5];
    lanes *sums = x->sums + i0 * x->row_step + j0 * x->column_step;
    const REAL *number = same ? x->number + i0 * x->left_step : NULL;
    const lanes *left = same ? NULL : x->left + i0 * x->left_step;
    const REAL *right = x->right + j0 * x->right_step;
    for (int i = 0; i < I; i++)
        for (int j = 0; j < J; j++) sum[i][j] = sums[i * x->row_step + j * x->column_step];
    for (int64_t t = 0; t < x->count; t++) {
        const int64_t at = x->left_at[t];
        const REAL *from = right + x->right_at[t];
        lanes seen[5];
        for (int j = 0; j < J; j++) memcpy(seen + j, from + j * x->right_step, BYTES);
        for (int i = 0; i < I; i++) {
            const lanes by = same ? (lanes){0} + number[at + i * x->left_step] : left[at + i * x->left_step];
            for (int j = 0; j < J; j++) sum[i][j] = fused(by, seen[j], sum[i][j]);
        }
    }
    for (int i = 0; i < I; i++)
        for (int j = 0; j < J; j++) sums[i * x->row_step + j * x->column_step] = sum[i][j];
}

INLINE void tiles(const int I, const int same, const Product *x, int64_t *i) {
    for (; *i + I <= x->rows; *i += I) {
        int64_t j = 0;
        if (REGISTERS == 32 && x->columns % 5 == 0)
            for (; j < x->columns; j += 5) tile(I, 5, same, x, *i, j);
        if (REGISTERS == 32)
            for (; j + 4 <= x->columns; j += 4) tile(I, 4, same, x, *i, j);
        for (; j + 2 <= x->columns; j += 2) tile(I, 2, same, x, *i, j);
        for (; j < x->columns; j++) tile(I, 1, same, x, *i, j);
    }
}

INLINE void add(const int same, const Product *x) {
    int64_t i = 0;
    if (x->columns == 1)
        for (; i + 8 <= x->rows; i += 8) tile(8, 1, same, x, i, 0);
    tiles(4, same, x, &i);
    tiles(2, same, x, &i);
    tiles(1, same, x, &i);
}

static void add_product(const Product *x) {
    if (x->number)
        add(1, x);
    else
        add(0, x);
}

/* ---- from rows of numbers, `each` apart, to the lanes of vectors, and back ---- */

#ifdef __clang__
INLINE void transpose(lanes *square) {
    lanes turned[LANES];
    for (int64_t i = 0; i < LANES; i++)
        for (int64_t j = 0; j < LANES; j++) turned[j][i] = square[i][j];
    memcpy(square, turned, sizeof turned);
}
#else
typedef INTEGER positions __attribute__((vector_size(BYTES)));
INLINE void transpose(lanes *square) {
#pragma GCC unroll 4
    for (int64_t step = 1; step < LANES; step *= 2) {
        positions low, high;
        for (int64_t j = 0; j < LANES; j++) {
            low[j] = j & step ? LANES + j - step : j;
            high[j] = j & step ? LANES + j : j + step;
        }
#pragma GCC unroll 16
        for (int64_t i = 0; i < LANES; i++)
            if (!(i & step)) {
                const lanes a = square[i], b = square[i + step];
                square[i] = __builtin_shuffle(a, b, low);
                square[i + step] = __builtin_shuffle(a, b, high);
            }
    }
}
#endif

/* Up to LANES rows; the lanes beyond are zero. */
static void load(const REAL *from, int64_t each, int64_t rows, int64_t count, lanes *to) {
    int64_t k = 0;
    for (; k + LANES <= count; k += LANES) {
        lanes square[LANES];
        for (int64_t i = 0; i < LANES; i++) {
            square[i] = (lanes){0};
            if (i < rows) memcpy(square + i, from + i * each + k, BYTES);
        }
        transpose(square);
        memcpy(to + k, square, sizeof square);
    }
    for (; k < count; k++) {
        to[k] = (lanes){0};
        for (int64_t i = 0; i < rows; i++) to[k][i] = from[i * each + k];
    }
}

/* `less`, which lies as `to` does, is subtracted, if there is one. */
static void store(const lanes *from, int64_t count, const REAL *less, REAL *to, int64_t each, int64_t rows) {
    int64_t k = 0;
    for (; k + LANES <= count; k += LANES) {
        lanes square[LANES];
        memcpy(square, from + k, sizeof square);
        transpose(square);
        for (int64_t i = 0; i < LANES && i < rows; i++) {
            lanes by = {0};
            if (less) memcpy(&by, less + i * each + k, BYTES);
            by = square[i] - by;
            memcpy(to + i * each + k, &by, BYTES);
        }
    }
    for (; k < count; k++)
        for (int64_t i = 0; i < rows; i++) to[i * each + k] = from[k][i] - (less ? less[i * each + k] : 0);
}

/* All rows, in blocks of LANES, which lie `block` vectors apart. */
static void load_all(const REAL *from, int64_t each, int64_t rows, int64_t count, lanes *to, int64_t block) {
    for (int64_t i = 0; i < rows; i += LANES)
        load(from + i * each, each, least(LANES, rows - i), count, to + i / LANES * block);
}
static void store_all(const lanes *from, int64_t block, int64_t count, const REAL *less, REAL *to, int64_t each,
                      int64_t rows) {
    for (int64_t i = 0; i < rows; i += LANES)
        store(from + i / LANES * block, count, less ? less + i * each : NULL, to + i * each, each,
              least(LANES, rows - i));
}

/* ---- images within zeros ---- */

typedef struct {
    int64_t row, plane, origin; /* from one row to the next, from one channel to the next, to the first pixel */
    int64_t channels, height, width;
    int64_t unit; /* numbers in a pixel: of many victims, or of one */
    REAL *numbers;
    lanes *flat;
} Frame;

static int64_t vectors_of_frame(const Frame *f) {
    const int64_t all = f->channels * f->plane;
    return f->unit == 1 ? vectors(all) + 1 : all + f->channels * f->height * f->width; /* one that a row runs into */
}

static void make_frame(Memory *m, Frame *f) {
    const int64_t all = f->unit == 1 ? vectors(f->channels * f->plane) + 1 : f->channels * f->plane;
    f->numbers = take(m, all);
    f->flat = take(m, f->unit == 1 ? 0 : f->channels * f->height * f->width);
    memset(f->numbers, 0, all * BYTES);
}

/* Image `b` of victim `v`, or of up to LANES victims from it on. */
static void load_framed(const Layer *l, const REAL *images, int64_t v, int64_t b, const Frame *f) {
    const int64_t size = f->channels * f->height * f->width, each = l->batch * size;
    const REAL *from = images + v * each + b * size;
    if (f->unit > 1) load(from, each, least(LANES, l->last - v), size, f->flat);
    for (int64_t c = 0; c < f->channels; c++)
        for (int64_t y = 0; y < f->height; y++) {
            const int64_t at = (c * f->height + y) * f->width;
            memcpy(f->numbers + (f->origin + c * f->plane + y * f->row) * f->unit,
                   f->unit > 1 ? (const REAL *)(f->flat + at) : from + at, f->width * f->unit * sizeof(REAL));
        }
}

/* An image as the convolution's window sees it. */
static Frame padded(const Layer *l) {
    const int64_t row = l->width + 2 * l->padding[1];
    const Frame f = {row, (l->height + 2 * l->padding[0]) * row, l->padding[0] * row + l->padding[1],
                     l->inputs, l->height, l->width, step(l), NULL, NULL};
    return f;
}

/* An output's gradient as every pixel of the input sees it. */
static Frame surrounded(const Layer *l) {
    const int64_t in[2] = {l->height, l->width}, size[2] = {l->rows, l->columns};
    int64_t before[2], whole[2];
    for (int i = 0; i < 2; i++) {
        before[i] = (l->kernel[i] - 1) / l->stride[i];
        whole[i] = before[i] + most(size[i], (in[i] - 1 + l->padding[i]) / l->stride[i] + 1);
    }
    const Frame f = {whole[1], whole[0] * whole[1], before[0] * whole[1] + before[1],
                     l->outputs, l->rows, l->columns, step(l), NULL, NULL};
    return f;
}

/* ---- forward ---- */

/* out = bias + t convolved with `shared` + a convolved with each victim's `own`; t and shared, a and own, and bias may
   be NULL */
int convolve(const Layer *l, const REAL *t, const REAL *shared, const REAL *a, const REAL *own, const REAL *bias,
             REAL *out) {
    const int64_t taps = l->inputs * window(l), out_size = l->outputs * places(l), blocks = vectors(l->outputs);
    const int by_channel = l->vector == CHANNELS;
    const int64_t sums_size = by_channel ? blocks * places(l) : out_size;
    const int64_t weight_size = by_channel ? blocks * taps : weights(l);
    Frame f = padded(l);
    Memory m;
    if (reserve(&m, vectors_of_frame(&f) + sums_size + 2 * weight_size + l->outputs + 2 * vectors_of_table(taps)))
        return 1;
    make_frame(&m, &f);
    lanes *sums = take(&m, sums_size), *weight[2] = {take(&m, weight_size), take(&m, weight_size)};
    lanes *level = take(&m, l->outputs);
    int64_t *tap = take(&m, vectors_of_table(taps)), *image_at = take(&m, vectors_of_table(taps)), n = 0;
    for (int64_t c = 0; c < l->inputs; c++)
        for (int64_t i = 0; i < l->kernel[0]; i++)
            for (int64_t j = 0; j < l->kernel[1]; j++, n++) {
                image_at[n] = (c * f.plane + i * f.row + j) * f.unit;
                tap[n] = by_channel ? n * LANES : n;
            }
    memset(level, 0, l->outputs * BYTES);
    if (shared && by_channel) load_all(shared, taps, l->outputs, taps, weight[1], taps);
    for (int64_t v = l->first; v < l->last; v += step(l)) {
        const int64_t victims = least(LANES, l->last - v);
        if (own && by_channel) load_all(own + v * l->each, taps, l->outputs, taps, weight[0], taps);
        if (own && !by_channel) load(own + v * l->each, l->each, victims, weights(l), weight[0]);
        if (bias && by_channel) load_all(bias + v * l->bias_each, 1, l->outputs, 1, level, 1);
        if (bias && !by_channel) load(bias + v * l->bias_each, l->bias_each, victims, l->outputs, level);
        for (int64_t b = 0; b < l->batch; b++) {
            for (int64_t q = 0; q < sums_size; q++) sums[q] = level[q / places(l)];
            for (int of_t = 0; of_t < 2; of_t++) {
                const REAL *from = of_t ? t : a;
                if (!from) continue;
                load_framed(l, from, v, b, &f);
                for (int64_t y = 0; y < l->rows; y++) {
                    const REAL *image = f.numbers + y * l->stride[0] * f.row * f.unit;
                    const Product of_victims = {sums + y * l->columns, l->outputs, places(l), l->columns, 1,
                                                of_t ? shared : NULL, weight[0], taps,
                                                image, l->stride[1] * LANES, taps, tap, image_at};
                    const Product of_channels = {sums + y * l->columns, l->columns, 1, blocks, places(l),
                                                 image, NULL, l->stride[1],
                                                 (REAL *)weight[of_t], taps * LANES, taps, image_at, tap};
                    add_product(by_channel ? &of_channels : &of_victims);
                }
            }
            REAL *to = out + (v * l->batch + b) * out_size;
            if (by_channel)
                store_all(sums, places(l), places(l), NULL, to, places(l), l->outputs);
            else
                store(sums, out_size, NULL, to, l->batch * out_size, victims);
        }
    }
    free(m.all);
    return 0;
}

/* ---- backward ---- */

/* The least number of which, plus the padding, the remainder by the stride is `phase`. */
static int64_t first_of(int64_t phase, int64_t padding, int64_t stride) {
    return ((phase - padding) % stride + stride) % stride;
}

/* out = what those two convolutions' outputs have for gradients, dt and d, with respect to their inputs. Pixels of a
   row between which lies a multiple of the stride, a `phase`, are reached by the same taps of the kernel. */
int pull_back(const Layer *l, const REAL *dt, const REAL *shared, const REAL *d, const REAL *own, REAL *out) {
    const int by_victim = l->vector == VICTIMS, by_channel = l->vector == CHANNELS;
    const int64_t area = l->height * l->width, most_taps = l->outputs * window(l);
    const int64_t widest = (l->width + l->stride[1] - 1) / l->stride[1]; /* pixels of a phase */
    const int64_t blocks = vectors(by_channel ? l->inputs : widest);
    const int64_t row = blocks * l->stride[1]; /* vectors of pixels */
    const int64_t sums_size = by_victim ? pixels(l) : by_channel ? blocks * area : l->inputs * l->height * row;
    const int64_t weight_size = by_victim ? weights(l) : by_channel ? blocks * most_taps : 0;
    Frame f = surrounded(l);
    Memory m;
    if (reserve(&m, vectors_of_frame(&f) + sums_size + 2 * weight_size + 2 * vectors_of_table(most_taps))) return 1;
    make_frame(&m, &f);
    lanes *sums = take(&m, sums_size), *weight[2] = {take(&m, weight_size), take(&m, weight_size)};
    int64_t *tap = take(&m, vectors_of_table(most_taps)), *image_at = take(&m, vectors_of_table(most_taps));
    for (int64_t v = l->first; v < l->last; v += step(l)) {
        const int64_t victims = least(LANES, l->last - v);
        const REAL *weights_of[2] = {own ? own + v * l->each : NULL, shared};
        if (own && by_victim) load(weights_of[0], l->each, victims, weights(l), weight[0]);
        for (int of_t = 0; by_channel && of_t < 2; of_t++)
            for (int64_t o = 0; weights_of[of_t] && (!of_t || v == l->first) && o < l->outputs; o++)
                load_all(weights_of[of_t] + o * l->inputs * window(l), window(l), l->inputs, window(l),
                         weight[of_t] + o * window(l), most_taps);
        for (int64_t b = 0; b < l->batch; b++) {
            memset(sums, 0, sums_size * BYTES);
            for (int of_t = 0; of_t < 2; of_t++) {
                const REAL *from = of_t ? dt : d;
                if (!from) continue;
                load_framed(l, from, v, b, &f);
                for (int64_t phase = 0; phase < l->stride[0] * l->stride[1]; phase++) {
                    const int64_t down = phase / l->stride[1], right = phase % l->stride[1];
                    const int64_t filter = (by_channel ? LANES : l->inputs) * window(l);
                    int64_t n = 0;
                    for (int64_t o = 0; o < l->outputs; o++)
                        for (int64_t i = down; i < l->kernel[0]; i += l->stride[0])
                            for (int64_t j = right; j < l->kernel[1]; j += l->stride[1]) {
                                image_at[n] = (o * f.plane - i / l->stride[0] * f.row - j / l->stride[1]) * f.unit;
                                tap[n++] = o * filter + (i * l->kernel[1] + j) * (by_channel ? LANES : 1);
                            }
                    const int64_t x = first_of(right, l->padding[1], l->stride[1]);
                    const int64_t across = (l->width - x + l->stride[1] - 1) / l->stride[1];
                    for (int64_t y = first_of(down, l->padding[0], l->stride[0]); y < l->height; y += l->stride[0]) {
                        const REAL *image = f.numbers + (f.origin + (y + l->padding[0]) / l->stride[0] * f.row +
                                                         (x + l->padding[1]) / l->stride[1]) * f.unit;
                        const Product of_victims = {sums + y * l->width + x, l->inputs, area, across, l->stride[1],
                                                    of_t ? shared : NULL, weight[0], window(l),
                                                    image, LANES, n, tap, image_at};
                        const Product of_channels = {sums + y * l->width + x, across, l->stride[1], blocks, area,
                                                     image, NULL, 1,
                                                     (REAL *)weight[of_t], most_taps * LANES, n, image_at, tap};
                        const Product of_pixels = {sums + y * row + x * blocks, l->inputs, l->height * row, blocks, 1,
                                                   weights_of[of_t], NULL, window(l),
                                                   image, LANES, n, tap, image_at};
                        if (across > 0) add_product(by_victim ? &of_victims : by_channel ? &of_channels : &of_pixels);
                    }
                }
            }
            REAL *to = out + (v * l->batch + b) * pixels(l);
            if (by_victim)
                store(sums, pixels(l), NULL, to, l->batch * pixels(l), victims);
            else if (by_channel)
                store_all(sums, area, area, NULL, to, area, l->inputs);
            else
                for (int64_t q = 0; q < l->inputs * l->height; q++)
                    for (int64_t phase = 0; phase < l->stride[1]; phase++) {
                        const REAL *found = (REAL *)(sums + q * row + phase * blocks);
                        for (int64_t x = phase; x < l->width; x += l->stride[1]) to[q * l->width + x] = *found++;
                    }
        }
    }
    free(m.all);
    return 0;
}

/* ---- by the weights ---- */

/* out = the gradients with respect to each victim's weights, from a, which went in, and d, with respect to the outputs,
   less the target, if there is one; both `each` from one victim to the next */
int by_weight(const Layer *l, const REAL *a, const REAL *d, const REAL *target, REAL *out) {
    const int64_t taps = l->inputs * window(l), out_size = l->outputs * places(l), blocks = vectors(l->outputs);
    const int by_channel = l->vector == CHANNELS;
    const int64_t sums_size = by_channel ? blocks * taps : weights(l);
    const int64_t d_size = by_channel ? blocks * places(l) : out_size;
    Frame f = padded(l);
    Memory m;
    if (reserve(&m, vectors_of_frame(&f) + sums_size + d_size + 2 * vectors_of_table(places(l)))) return 1;
    make_frame(&m, &f);
    lanes *sums = take(&m, sums_size), *gradient = take(&m, d_size);
    int64_t *place = take(&m, vectors_of_table(places(l))), *image_at = take(&m, vectors_of_table(places(l)));
    for (int64_t n = 0; n < places(l); n++) {
        image_at[n] = (n / l->columns * l->stride[0] * f.row + n % l->columns * l->stride[1]) * f.unit;
        place[n] = by_channel ? n * LANES : n;
    }
    for (int64_t v = l->first; v < l->last; v += step(l)) {
        const int64_t victims = least(LANES, l->last - v);
        memset(sums, 0, sums_size * BYTES);
        for (int64_t b = 0; b < l->batch; b++) {
            const REAL *from = d + (v * l->batch + b) * out_size;
            load_framed(l, a, v, b, &f);
            if (by_channel)
                load_all(from, places(l), l->outputs, places(l), gradient, places(l));
            else
                load(from, l->batch * out_size, victims, out_size, gradient);
            for (int64_t n = 0; n < taps; n += l->kernel[1]) { /* a row of the window, in one channel */
                const REAL *image =
                    f.numbers + (n / window(l) * f.plane + n % window(l) / l->kernel[1] * f.row) * f.unit;
                const Product of_victims = {sums + n, l->outputs, taps, l->kernel[1], 1,
                                            NULL, gradient, places(l),
                                            image, LANES, places(l), place, image_at};
                const Product of_channels = {sums + n, l->kernel[1], 1, blocks, taps,
                                             image, NULL, 1,
                                             (REAL *)gradient, places(l) * LANES, places(l), image_at, place};
                add_product(by_channel ? &of_channels : &of_victims);
            }
        }
        if (by_channel)
            store_all(sums, taps, taps, target ? target + v * l->each : NULL, out + v * l->each, taps, l->outputs);
        else
            store(sums, weights(l), target ? target + v * l->each : NULL, out + v * l->each, l->each, victims);
    }
    free(m.all);
    return 0;
}
