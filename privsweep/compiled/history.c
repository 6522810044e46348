/* The direction of L-BFGS for many victims, each with a history of its own that no cache holds beside the others'.

A victim is done before the next, so that its history comes from memory once and is gone through again from a cache.
library.py compiles this for the processor at hand; REAL is float or double. Arrays are PyTorch's and contiguous. */

#include "vectors.h"
#include <stdlib.h>

typedef REAL lanes __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
enum { PAIRS = 4 }; /* that are gone through at once */

/* <row, a> and, where there is a b, <row, b>, of `count` rows. */
INLINE void products(
    const REAL *const *rows, const REAL *a, const REAL *b, double *with_a, double *with_b, const int count, int64_t dim
) {
    lanes sum[PAIRS], other[PAIRS];
    int64_t i = 0;
    for (int k = 0; k < count; k++) sum[k] = other[k] = (lanes){0};
    for (; i + LANES <= dim; i += LANES) {
        const lanes x = *(const lanes *)(a + i);
        const lanes y = b ? *(const lanes *)(b + i) : x;
        for (int k = 0; k < count; k++) {
            const lanes entries = *(const lanes *)(rows[k] + i);
            sum[k] += entries * x;
            if (b) other[k] += entries * y;
        }
    }
    for (int k = 0; k < count; k++) {
        double left = 0, right = 0;
        for (int64_t n = 0; n < LANES; n++) left += sum[k][n], right += other[k][n];
        for (int64_t n = i; n < dim; n++) left += rows[k][n] * a[n], right += b ? rows[k][n] * b[n] : 0;
        with_a[k] = left;
        if (b) with_b[k] = right;
    }
}

/* to += sum over k of factor[k] row k */
INLINE void add(const REAL *const *rows, const double *factor, REAL *to, const int count, int64_t dim) {
    REAL by[PAIRS];
    int64_t i = 0;
    for (int k = 0; k < count; k++) by[k] = (REAL)factor[k];
    for (; i + LANES <= dim; i += LANES) {
        lanes y = *(lanes *)(to + i);
        for (int k = 0; k < count; k++) y += by[k] * *(const lanes *)(rows[k] + i);
        *(lanes *)(to + i) = y;
    }
    for (; i < dim; i++)
        for (int k = 0; k < count; k++) to[i] += by[k] * rows[k][i];
}

static void all_products(
    const REAL *const *rows, const REAL *a, const REAL *b, double *with_a, double *with_b, int64_t used, int64_t dim
) {
    int64_t t = 0;
    for (; t + PAIRS <= used; t += PAIRS) products(rows + t, a, b, with_a + t, b ? with_b + t : 0, PAIRS, dim);
    for (; t < used; t++) products(rows + t, a, b, with_a + t, b ? with_b + t : 0, 1, dim);
}

static void add_all(const REAL *const *rows, const double *factor, REAL *to, int64_t used, int64_t dim) {
    int64_t t = 0;
    for (; t + PAIRS <= used; t += PAIRS) add(rows + t, factor + t, to, PAIRS, dim);
    for (; t < used; t++) add(rows + t, factor + t, to, 1, dim);
}

typedef struct {
    const REAL *steps, *changes;   /* [V, size, dim] */
    const int64_t *order;          /* [V, used]: slots from the oldest pair to the newest */
    double *triangle;              /* [V, size, size]: <s_i, y_j> for i up to j, by age; the identity beyond */
    const int64_t *last;           /* [V]: the newest pair's place by age, */
    const uint8_t *keep;           /* [V]: where it was stored */
    const REAL *gamma, *g, *change; /* [V], [V, dim], [V, dim] */
    REAL *out;                     /* [V, dim]: minus the inverse Hessian's product with g */
    int64_t size, used, dim;
} History;

/* Of the victims `first` to `last` - 1; 0, or 1 where there is no memory. */
int directions(const History *h, int64_t first, int64_t last) {
    const int64_t used = h->used, dim = h->dim;
    const REAL **rows = malloc(2 * used * sizeof(REAL *));
    double *a = malloc(3 * used * sizeof(double)), *b = a + used, *column = b + used;
    if (!rows || !a) {
        free(rows), free(a);
        return 1;
    }
    const REAL **s = rows, **y = rows + used;
    for (int64_t v = first; v < last; v++) {
        double *r = h->triangle + v * h->size * h->size;
        const REAL *g = h->g + v * dim;
        REAL *out = h->out + v * dim;
        for (int64_t t = 0; t < used; t++) {
            const int64_t slot = h->order[v * used + t];
            s[t] = h->steps + (v * h->size + slot) * dim;
            y[t] = h->changes + (v * h->size + slot) * dim;
        }
        all_products(s, g, h->change + v * dim, a, column, used, dim);
        if (h->keep[v])
            for (int64_t t = 0; t < used; t++) r[t * h->size + h->last[v]] = column[t];
        for (int64_t i = used - 1; i >= 0; i--) { /* R a = S g */
            for (int64_t j = i + 1; j < used; j++) a[i] -= r[i * h->size + j] * a[j];
            a[i] /= r[i * h->size + i];
        }
        for (int64_t i = 0; i < dim; i++) out[i] = 0;
        add_all(y, a, out, used, dim);
        for (int64_t i = 0; i < dim; i++) out[i] = h->gamma[v] * (g[i] - out[i]);
        all_products(y, out, 0, b, 0, used, dim);
        for (int64_t i = 0; i < used; i++) b[i] = r[i * h->size + i] * a[i] - b[i];
        for (int64_t j = 0; j < used; j++) { /* R^T c = D a - Y r */
            b[j] /= r[j * h->size + j];
            for (int64_t i = j + 1; i < used; i++) b[i] -= r[j * h->size + i] * b[j];
        }
        add_all(s, b, out, used, dim);
        for (int64_t i = 0; i < dim; i++) out[i] = -out[i];
    }
    free(rows), free(a);
    return 0;
}
