/* SPDX-License-Identifier: Apache-2.0 */
/* Floating point rows: scalar and packed double. */
#include <emmintrin.h>
#include <math.h>
#include <string.h>

#include "rows.h"

#define BODIES 5
#define STEPS 20000
#define MAT 128

struct body {
    double x[3], v[3], mass;
};

static void nbody_before(struct row_env *env)
{
    struct body *b = (struct body *)env->arena;
    uint64_t seed = 6;

    for (int i = 0; i < BODIES; i++) {
        for (int k = 0; k < 3; k++) {
            b[i].x[k] = (double)(int)(rows_random(&seed) % 2000) / 100 - 10 + 5 * i;
            b[i].v[k] = (double)(int)(rows_random(&seed) % 200) / 1000 - 0.1;
        }
        b[i].mass = i == 0 ? 40 : 0.01 * i;
    }
}

static void nbody_step(struct body *b, double dt)
{
    for (int i = 0; i < BODIES; i++) {
        for (int j = i + 1; j < BODIES; j++) {
            double dx = b[i].x[0] - b[j].x[0], dy = b[i].x[1] - b[j].x[1],
                   dz = b[i].x[2] - b[j].x[2];
            double d2 = dx * dx + dy * dy + dz * dz + 0.01, mag = dt / (d2 * sqrt(d2));
            b[i].v[0] -= dx * b[j].mass * mag;
            b[i].v[1] -= dy * b[j].mass * mag;
            b[i].v[2] -= dz * b[j].mass * mag;
            b[j].v[0] += dx * b[i].mass * mag;
            b[j].v[1] += dy * b[i].mass * mag;
            b[j].v[2] += dz * b[i].mass * mag;
        }
    }
    for (int i = 0; i < BODIES; i++)
        for (int k = 0; k < 3; k++)
            b[i].x[k] += dt * b[i].v[k];
}

static uint64_t nbody_run(struct row_env *env)
{
    struct body *b = (struct body *)env->arena;
    uint64_t bits, sum = 0;

    for (int i = 0; i < STEPS; i++)
        nbody_step(b, 0.001);
    for (int i = 0; i < BODIES; i++) {
        memcpy(&bits, &b[i].x[0], 8);
        sum = sum * 31 + bits;
    }
    return sum;
}

static void matmul_init(struct row_env *env)
{
    double *a = (double *)env->arena;
    uint64_t seed = 7;

    for (int i = 0; i < 2 * MAT * MAT; i++)
        a[i] = (double)(int)(rows_random(&seed) % 1000) / 64;
}

/* c = a * b, two columns at a time: load, mulpd, addpd, store, as a compiler vectorises it. */
static uint64_t matmul_run(struct row_env *env)
{
    const double *a = (const double *)env->arena, *b = a + MAT * MAT;
    double *c = (double *)env->arena + 2 * MAT * MAT;
    uint64_t bits, sum = 0;

    memset(c, 0, MAT * MAT * sizeof *c);
    for (int i = 0; i < MAT; i++) {
        for (int k = 0; k < MAT; k++) {
            __m128d s = _mm_set1_pd(a[i * MAT + k]);
            for (int j = 0; j < MAT; j += 2) {
                __m128d p = _mm_mul_pd(s, _mm_load_pd(&b[k * MAT + j]));
                _mm_store_pd(&c[i * MAT + j], _mm_add_pd(_mm_load_pd(&c[i * MAT + j]), p));
            }
        }
    }
    for (int i = 0; i < MAT; i++) {
        memcpy(&bits, &c[i * MAT + i], 8);
        sum = sum * 31 + bits;
    }
    return sum;
}

const struct row rows_fp[] = {
    {"n-body (scalar double)", 1, NULL, nbody_before, nbody_run},
    {"matmul (packed double)", 1, matmul_init, NULL, matmul_run},
    {0},
};
