/* What a defence does to every entry of a gradient: noise, as PyTorch's generator draws it, and pruning.

entries.py calls this; numbers are float32, tensors contiguous and given as one list in their order. A function returns 0,
or 1 where it finds no memory. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const float *from; /* what comes in */
    float *to;         /* and goes out */
    int64_t length;
} Part;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static uint32_t most(uint32_t a, uint32_t b) { return a > b ? a : b; }

/* ---- Matsumoto and Nishimura, "Mersenne Twister" (1998), MT19937, as PyTorch seeds it. ---- */

enum { STATE = 624, OFFSET = 397 };

typedef struct {
    uint32_t state[STATE], drawn[STATE];
    int64_t next;
    double kept; /* the other of two normal numbers of double precision */
    int has_kept;
} Generator;

static void seed(Generator *g, uint32_t with) {
    g->state[0] = with;
    for (uint32_t i = 1; i < STATE; i++) {
        const uint32_t before = g->state[i - 1];
        g->state[i] = 1812433253u * (before ^ (before >> 30)) + i;
    }
    g->next = STATE;
    g->has_kept = 0;
}

static inline uint32_t twist(uint32_t high, uint32_t low, uint32_t far) {
    const uint32_t y = (high & 0x80000000u) | (low & 0x7fffffffu);
    return far ^ (y >> 1) ^ (-(y & 1u) & 0x9908b0dfu);
}

static void refill(Generator *g) {
    uint32_t *s = g->state;
    for (int i = 0; i < STATE - OFFSET; i++) s[i] = twist(s[i], s[i + 1], s[i + OFFSET]);
    for (int i = STATE - OFFSET; i < STATE - 1; i++) s[i] = twist(s[i], s[i + 1], s[i - (STATE - OFFSET)]);
    s[STATE - 1] = twist(s[STATE - 1], s[0], s[OFFSET - 1]);
    for (int i = 0; i < STATE; i++) {
        uint32_t y = s[i];
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c5680u;
        y ^= (y << 15) & 0xefc60000u;
        g->drawn[i] = y ^ (y >> 18);
    }
    g->next = 0;
}

/* The next `count` numbers, or as many that nobody sees where `to` is null. */
static void draw(Generator *g, uint32_t *to, int64_t count) {
    while (count > 0) {
        if (g->next == STATE) refill(g);
        const int64_t some = least(count, STATE - g->next);
        if (to) {
            memcpy(to, g->drawn + g->next, some * sizeof *to);
            to += some;
        }
        g->next += some;
        count -= some;
    }
}

/* ---- Normal numbers, by Box and Muller (1958). ---- */

/* The natural logarithm of a number above 0 that is not subnormal, to a unit in the last place or two: of 1 + f with f
   between -0.3 and 0.42, by the powers of f (Moshier, Cephes). */
static inline float logarithm(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint32_t shifted = bits - 0x3f3504f3u; /* the root of a half */
    const float exponent = (float)((int32_t)shifted >> 23);
    bits = (shifted & 0x007fffffu) + 0x3f3504f3u;
    float m;
    memcpy(&m, &bits, sizeof m);
    const float f = m - 1, square = f * f;
    float p = 7.0376836292e-2f;
    p = p * f - 1.1514610310e-1f;
    p = p * f + 1.1676998740e-1f;
    p = p * f - 1.2420140846e-1f;
    p = p * f + 1.4249322787e-1f;
    p = p * f - 1.6668057665e-1f;
    p = p * f + 2.0000714765e-1f;
    p = p * f - 2.4999993993e-1f;
    p = p * f + 3.3333331174e-1f;
    const float rest = p * f * square + exponent * -2.12194440e-4f - 0.5f * square;
    return f + rest + exponent * 0.693359375f;
}

/* Sine and cosine of a whole turn's share in [0, 1): of an angle within an eighth of a turn, by Taylor's polynomials with
   Moshier's coefficients, and which quarter it lies in. */
static inline void turned(float share, float *sine, float *cosine) {
    const int32_t quarter = (int32_t)(share * 4 + 0.5f);
    const float a = (share - (float)quarter * 0.25f) * 6.283185307179586f, square = a * a;
    float s = -1.9515295891e-4f;
    s = s * square + 8.3321608736e-3f;
    s = s * square - 1.6666654611e-1f;
    s = s * square * a + a;
    float c = 2.443315711809948e-5f;
    c = c * square - 1.388731625493765e-3f;
    c = c * square + 4.166664568298827e-2f;
    c = c * square * square - 0.5f * square + 1;
    const float swapped_s = quarter & 1 ? c : s, swapped_c = quarter & 1 ? s : c;
    *sine = quarter & 2 ? -swapped_s : swapped_s;
    *cosine = (quarter + 1) & 2 ? -swapped_c : swapped_c;
}

enum { GROUP = 16, HALF = GROUP / 2, GROUPS = 64 }; /* numbers drawn together, and such groups done at once */

static inline float uniform(uint32_t drawn) { return (float)(drawn & 0xffffffu) * 0x1p-24f; }

/* Adds noise to `groups` groups: the first half of what is drawn for one are radii, the other half angles. */
static void add_groups(Generator *g, const float *from, float *to, int64_t groups, float deviation) {
    uint32_t drawn[GROUP * GROUPS];
    float radius[HALF * GROUPS], angle[HALF * GROUPS], noise[2][HALF * GROUPS];
    for (int64_t done = 0; done < groups; done += GROUPS) {
        const int64_t some = least(GROUPS, groups - done);
        draw(g, drawn, GROUP * some);
        for (int64_t i = 0; i < some; i++)
            for (int j = 0; j < HALF; j++) {
                radius[i * HALF + j] = 1 - uniform(drawn[i * GROUP + j]);
                angle[i * HALF + j] = uniform(drawn[i * GROUP + HALF + j]);
            }
        for (int64_t i = 0; i < HALF * some; i++) {
            const float r = sqrtf(-2 * logarithm(radius[i])) * deviation;
            float sine, cosine;
            turned(angle[i], &sine, &cosine);
            noise[0][i] = r * cosine;
            noise[1][i] = r * sine;
        }
        const float *in = from + done * GROUP;
        float *out = to + done * GROUP;
        for (int64_t i = 0; i < some; i++)
            for (int half = 0; half < 2; half++)
                for (int j = 0; j < HALF; j++) {
                    const int64_t at = i * GROUP + half * HALF + j;
                    out[at] = in[at] + noise[half][i * HALF + j];
                }
    }
}

static double uniform_double(Generator *g) {
    uint32_t two[2];
    draw(g, two, 2);
    return (double)((((uint64_t)two[0] << 32) | two[1]) & ((1ull << 53) - 1)) * 0x1p-53;
}

static double normal_double(Generator *g) {
    if (g->has_kept) {
        g->has_kept = 0;
        return g->kept;
    }
    const double angle = 2 * 3.14159265358979323846 * uniform_double(g), u = uniform_double(g);
    const double radius = sqrt(-2 * log1p(-u));
    g->kept = radius * sin(angle);
    g->has_kept = 1;
    return radius * cos(angle);
}

/* Every part with normal noise added: the numbers that PyTorch's generator, seeded so, gives for tensors of these
   lengths in their order. Few numbers it draws with double precision, one by one; of others in groups of 16, and where
   some are left over, the last 16 anew. */
int add_normal(const Part *parts, int64_t count, double deviation, uint32_t with) {
    Generator *g = malloc(sizeof *g);
    if (!g) return 1;
    seed(g, with);
    for (const Part *p = parts; p < parts + count; p++) {
        if (p->length < GROUP) {
            for (int64_t i = 0; i < p->length; i++) p->to[i] = p->from[i] + (float)(normal_double(g) * deviation);
            continue;
        }
        const int64_t groups = p->length / GROUP, over = p->length % GROUP, last = p->length - GROUP;
        add_groups(g, p->from, p->to, groups, (float)deviation);
        if (over) {
            draw(g, NULL, over);
            add_groups(g, p->from + last, p->to + last, 1, (float)deviation);
        }
    }
    free(g);
    return 0;
}

/* ---- Pruning. ---- */

enum { MAGNITUDE, LARGEST, VALUE }; /* the least magnitudes go, the largest, or the lowest values */
enum { SAMPLE = 1 << 16, CHUNK = 1 << 5 };

/* A whole number by which entries are ordered; those with the least go first, and what is no number last. */
static inline uint32_t key(float x, int by) {
    uint32_t bits;
    const float unsigned_zero = x + 0.0f;
    memcpy(&bits, &unsigned_zero, sizeof bits);
    const uint32_t magnitude = bits & 0x7fffffffu;
    const uint32_t last = (uint32_t)((int32_t)(0x7f800000u - magnitude) >> 31); /* all bits beyond infinity */
    if (by == VALUE) return (bits >> 31 ? ~bits : bits | 0x80000000u) | last;
    return (by == LARGEST ? 0x7fffffffu - magnitude : magnitude) | last;
}

/* The `rank`-th smallest of them, from 0 on, digit by digit. */
static uint32_t ranked(const uint32_t *keys, int64_t count, int64_t rank) {
    uint32_t found = 0, settled = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        int64_t frequency[256] = {0};
        for (int64_t i = 0; i < count; i++)
            if ((keys[i] & settled) == found) frequency[(keys[i] >> shift) & 255]++;
        uint32_t digit = 0;
        for (; rank >= frequency[digit]; digit++) rank -= frequency[digit];
        found |= digit << shift;
        settled |= 255u << shift;
    }
    return found;
}

typedef struct {
    uint32_t low, high;  /* keys below go, keys above stay, and of those between */
    uint32_t *keys;      /* these are what they are */
    float **places;      /* and where */
    int64_t below, held; /* how many there are */
} Window;

/* The least key of an entry that a closer look can change: to prune a zero changes nothing. */
static uint32_t first(int by) { return by == MAGNITUDE; }

/* Into `w`, which keys to look at closely: around where the bound lies in a sample, or all. */
static void open_window(Window *w, const Part *parts, int64_t count, int64_t total, int64_t pruned, int by) {
    const int64_t stride = total / SAMPLE | 1; /* odd, so that rows are not met at the same place again and again */
    int64_t taken = 0, at = 0;
    w->low = first(by), w->high = UINT32_MAX;
    if (total < 4 * SAMPLE) return;
    for (const Part *p = parts; p < parts + count; p++) {
        for (; at < p->length; at += stride) w->keys[taken++] = key(p->from[at], by);
        at -= p->length;
    }
    const double share = (double)pruned / (double)total;
    const int64_t middle = (int64_t)(share * (double)taken), margin = (int64_t)(4 * sqrt(share * (1 - share) * taken)) + 2;
    if (middle > margin) w->low = most(w->low, ranked(w->keys, taken, middle - margin));
    if (middle + margin < taken) w->high = ranked(w->keys, taken, middle + margin);
}

/* Zeros below the window; from it on all that was there, and a list of what is within. */
static inline __attribute__((always_inline)) void sift(Window *w, const Part *parts, int64_t count, int by) {
    w->below = w->held = 0;
    for (const Part *p = parts; p < parts + count; p++)
        for (int64_t start = 0; start < p->length; start += CHUNK) {
            const int some = (int)least(CHUNK, p->length - start);
            const float *from = p->from + start;
            float *to = p->to + start;
            uint32_t keys[CHUNK], below = 0, within = 0;
            for (int i = 0; i < some; i++) {
                const uint32_t k = keys[i] = key(from[i], by);
                to[i] = k < w->low ? 0.0f : from[i];
                below += k < w->low;
                within += (k >= w->low) & (k <= w->high);
            }
            w->below += below;
            for (int i = 0; within && i < some; i++)
                if (keys[i] >= w->low && keys[i] <= w->high) {
                    w->keys[w->held] = keys[i];
                    w->places[w->held++] = to + i;
                    within--;
                }
        }
}

static void sifted(Window *w, const Part *parts, int64_t count, int by) {
    if (by == MAGNITUDE) sift(w, parts, count, MAGNITUDE);
    else if (by == LARGEST) sift(w, parts, count, LARGEST);
    else sift(w, parts, count, VALUE);
}

/* Every part without the `pruned` entries, at least one, that come first by `by`; of equals the earlier ones. */
int prune(const Part *parts, int64_t count, int64_t pruned, int by) {
    int64_t total = 0;
    for (int64_t i = 0; i < count; i++) total += parts[i].length;
    Window w = {.keys = malloc(total * sizeof(uint32_t)), .places = malloc(total * sizeof(float *))};
    if (!w.keys || !w.places) {
        free(w.keys);
        free(w.places);
        return 1;
    }
    open_window(&w, parts, count, total, pruned, by);
    sifted(&w, parts, count, by);
    if ((w.below > pruned && w.low > first(by)) || w.below + w.held < pruned) { /* the sample misled */
        w.low = first(by), w.high = UINT32_MAX;
        sifted(&w, parts, count, by);
    }
    const int64_t left = pruned - w.below;
    if (left > 0) {
        const uint32_t bound = ranked(w.keys, w.held, left - 1);
        int64_t equals = left;
        for (int64_t i = 0; i < w.held; i++) equals -= w.keys[i] < bound;
        for (int64_t i = 0; i < w.held; i++)
            if (w.keys[i] < bound || (w.keys[i] == bound && equals-- > 0)) *w.places[i] = 0;
    }
    free(w.keys);
    free(w.places);
    return 0;
}
