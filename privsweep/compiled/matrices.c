/* Products with every victim's own matrix, from both sides, which read it once: there are many, and each is large.

library.py compiles this for the processor at hand; REAL is float or double. Arrays are PyTorch's and contiguous. */

#include "vectors.h"
#include <string.h>

typedef REAL lanes __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
enum { ROWS = 8 }; /* of a matrix that are gone through at once */

/* Of `rows` rows m: m a into `out`, and m^T d is added to `back`. */
INLINE void through(const REAL *m, const REAL *a, const REAL *d, REAL *out, REAL *back, const int rows, int64_t columns) {
    lanes sum[ROWS];
    REAL rest[ROWS];
    int64_t i = 0;
    for (int r = 0; r < rows; r++) sum[r] = (lanes){0}, rest[r] = 0;
    for (; i + LANES <= columns; i += LANES) {
        const lanes x = *(const lanes *)(a + i);
        lanes y = *(lanes *)(back + i);
        for (int r = 0; r < rows; r++) {
            const lanes entries = *(const lanes *)(m + r * columns + i);
            sum[r] += entries * x;
            y += d[r] * entries;
        }
        *(lanes *)(back + i) = y;
    }
    for (; i < columns; i++)
        for (int r = 0; r < rows; r++) {
            rest[r] += m[r * columns + i] * a[i];
            back[i] += d[r] * m[r * columns + i];
        }
    for (int r = 0; r < rows; r++) {
        for (int64_t k = 0; k < LANES; k++) rest[r] += sum[r][k];
        out[r] = rest[r];
    }
}

/* For the victims `first` to `last` - 1: M a into `out` [V, rows] and M^T d into `back` [V, columns], of matrices
   [V, rows, columns], a [V, columns] and d [V, rows]. */
void both(
    const REAL *matrices, const REAL *a, const REAL *d, REAL *out, REAL *back, int64_t first, int64_t last, int64_t rows,
    int64_t columns
) {
    for (int64_t v = first; v < last; v++) {
        const REAL *m = matrices + v * rows * columns, *x = a + v * columns, *y = d + v * rows;
        REAL *up = out + v * rows, *down = back + v * columns;
        memset(down, 0, columns * sizeof(REAL));
        int64_t r = 0;
        for (; r + ROWS <= rows; r += ROWS) through(m + r * columns, x, y + r, up + r, down, ROWS, columns);
        for (; r < rows; r++) through(m + r * columns, x, y + r, up + r, down, 1, columns);
    }
}
