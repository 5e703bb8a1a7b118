/* SPDX-License-Identifier: Apache-2.0 */
/* Integer rows: eight kernels that between them lean on loads, branches, calls and table jumps. */
#include <string.h>

#include "rows.h"

#define CRC_BYTES (1u << 20)
#define SORT_N 65536u
#define HASH_SLOTS (1u << 17)
#define HASH_KEYS 90000u
#define LIST_NODES 8192u
#define LIST_LAPS 32u
#define FIB_N 27u
#define CODE_LEN 64u
#define CODE_LAPS 4000u
#define LZ_BYTES (128u << 10)
#define LZ_HASH_BITS 13
#define LZ_CHAIN 4
#define SCAN_BYTES (4u << 20)

/* Words of a small vocabulary, so that there are matches to find and lines to count. */
static void fill_text(uint8_t *out, size_t len)
{
    uint64_t seed = 77, word;
    size_t at = 0;

    while (at < len) {
        word = rows_random(&seed) % 500 * UINT64_C(0x9e3779b97f4a7c15);
        for (unsigned n = 2 + (word >> 60); n > 0 && at < len; n--, word >>= 5)
            out[at++] = (uint8_t)('a' + word % 26);
        if (at < len)
            out[at++] = rows_random(&seed) % 11 == 0 ? '\n' : ' ';
    }
}

static void crc_init(struct row_env *env)
{
    uint32_t *table = (uint32_t *)env->arena;
    uint64_t seed = 1;

    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++)
            c = c >> 1 ^ (c & 1 ? 0xedb88320u : 0);
        table[i] = c;
    }
    for (size_t i = 0; i < CRC_BYTES; i++)
        env->arena[4096 + i] = (uint8_t)rows_random(&seed);
}

static uint64_t crc_run(struct row_env *env)
{
    const uint32_t *table = (const uint32_t *)env->arena;
    const uint8_t *p = env->arena + 4096;
    uint32_t c = 0xffffffff;

    for (size_t i = 0; i < CRC_BYTES; i++)
        c = table[(c ^ p[i]) & 0xff] ^ c >> 8;
    return ~c;
}

static void sort_before(struct row_env *env)
{
    int32_t *a = (int32_t *)env->arena;
    uint64_t seed = 2;

    for (unsigned i = 0; i < SORT_N; i++)
        a[i] = (int32_t)rows_random(&seed);
}

static void quicksort(int32_t *a, long lo, long hi)
{
    while (lo < hi) {
        int32_t pivot = a[lo + (hi - lo) / 2];
        long i = lo, j = hi;
        while (i <= j) {
            while (a[i] < pivot)
                i++;
            while (a[j] > pivot)
                j--;
            if (i <= j) {
                int32_t t = a[i];
                a[i++] = a[j];
                a[j--] = t;
            }
        }
        quicksort(a, lo, j);
        lo = i;
    }
}

static uint64_t sort_run(struct row_env *env)
{
    int32_t *a = (int32_t *)env->arena;

    quicksort(a, 0, SORT_N - 1);
    return (uint32_t)a[0] ^ (uint64_t)(uint32_t)a[SORT_N / 2] << 20 ^
           (uint64_t)(uint32_t)a[SORT_N - 1] << 32;
}

static void hash_before(struct row_env *env)
{
    memset(env->arena, 0, HASH_SLOTS * 8);
}

static uint64_t hash_run(struct row_env *env)
{
    uint64_t *slots = (uint64_t *)env->arena, seed = 3, probes = 0;

    for (unsigned n = 0; n < HASH_KEYS; n++) {
        uint64_t key = rows_random(&seed) | 1, at = key >> 40 & (HASH_SLOTS - 1);
        while (slots[at] != 0 && slots[at] != key) {
            at = (at + 1) & (HASH_SLOTS - 1);
            probes++;
        }
        slots[at] = key;
    }
    return probes;
}

struct list_node {
    struct list_node *next;
    uint64_t value;
};

static void list_init(struct row_env *env)
{
    struct list_node *nodes = (struct list_node *)env->arena;
    uint32_t *order = (uint32_t *)(env->arena + (1u << 20));
    uint64_t seed = 4;

    for (uint32_t i = 0; i < LIST_NODES; i++)
        order[i] = i;
    for (uint32_t i = LIST_NODES - 1; i > 0; i--) {
        uint32_t j = (uint32_t)(rows_random(&seed) % (i + 1)), t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    for (uint32_t i = 0; i < LIST_NODES; i++) {
        nodes[order[i]].next = i + 1 < LIST_NODES ? &nodes[order[i + 1]] : NULL;
        nodes[order[i]].value = i;
    }
}

static uint64_t list_run(struct row_env *env)
{
    const struct list_node *nodes = (const struct list_node *)env->arena;
    const uint32_t *order = (const uint32_t *)(env->arena + (1u << 20));
    uint64_t sum = 0;

    for (unsigned lap = 0; lap < LIST_LAPS; lap++)
        for (const struct list_node *n = &nodes[order[0]]; n; n = n->next)
            sum = sum * 3 + n->value;
    return sum;
}

/* A call and a return for each number, not the loop that the compiler would make of most. */
__attribute__((noipa, optimize("no-optimize-sibling-calls", "no-tree-tail-merge",
                               "no-inline-functions"))) static uint64_t
fib(unsigned n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static uint64_t fib_run(struct row_env *env)
{
    return fib(FIB_N);
}

enum {
    OP_ADD,
    OP_SUB,
    OP_XOR,
    OP_SHL,
    OP_SHR,
    OP_LOAD,
    OP_STORE,
    OP_MOVI,
    OP_SKIP,
    OP_MUL,
    OP_END,
    OP_COUNT
};

static void code_init(struct row_env *env)
{
    uint64_t seed = 5;

    memset(env->arena, 0, 8192);
    for (unsigned i = 0; i + 2 < CODE_LEN; i++) {
        env->arena[4 * i] = (uint8_t)(rows_random(&seed) % OP_END);
        for (unsigned k = 1; k < 4; k++)
            env->arena[4 * i + k] = (uint8_t)(rows_random(&seed) & 15);
    }
    env->arena[4 * (CODE_LEN - 2)] = env->arena[4 * (CODE_LEN - 1)] = OP_END;
}

static uint64_t code_run(struct row_env *env)
{
    const uint8_t *code = env->arena;
    uint64_t *memory = (uint64_t *)(env->arena + 4096), r[16] = {1, 2, 3, 5, 7, 11, 13};

    memset(memory, 0, 16 * sizeof *memory);
    for (unsigned lap = 0; lap < CODE_LAPS; lap++) {
        for (const uint8_t *pc = code;; pc += 4) {
            switch (pc[0]) {
            case OP_ADD:
                r[pc[1]] = r[pc[2]] + r[pc[3]];
                continue;
            case OP_SUB:
                r[pc[1]] = r[pc[2]] - r[pc[3]];
                continue;
            case OP_XOR:
                r[pc[1]] ^= r[pc[2]];
                continue;
            case OP_SHL:
                r[pc[1]] = r[pc[2]] << (pc[3] & 7);
                continue;
            case OP_SHR:
                r[pc[1]] = r[pc[2]] >> (pc[3] & 7);
                continue;
            case OP_LOAD:
                r[pc[1]] = memory[r[pc[2]] & 15];
                continue;
            case OP_STORE:
                memory[r[pc[1]] & 15] = r[pc[2]];
                continue;
            case OP_MOVI:
                r[pc[1]] = (uint64_t)pc[2] << 4 | pc[3];
                continue;
            case OP_SKIP:
                pc += r[pc[1]] & 1 ? 4 : 0;
                continue;
            case OP_MUL:
                r[pc[1]] = r[pc[2]] * (r[pc[3]] | 1);
                continue;
            }
            break;
        }
        r[lap & 15] += lap;
    }
    for (unsigned i = 1; i < 16; i++)
        r[0] = r[0] * 31 + r[i];
    return r[0];
}

static void lz_init(struct row_env *env)
{
    fill_text(env->arena, LZ_BYTES + 16);
}

/* The longest match in the last few positions with the same hash of four bytes, greedily taken. */
static uint64_t lz_run(struct row_env *env)
{
    const uint8_t *text = env->arena;
    int32_t *head = (int32_t *)(env->arena + (1u << 20)),
            *chain = (int32_t *)(env->arena + (2u << 20));
    uint64_t matched = 0, count = 0;

    memset(head, 0xff, sizeof *head << LZ_HASH_BITS);
    for (int32_t at = 0; at < (int32_t)LZ_BYTES;) {
        uint32_t four, best = 0;
        memcpy(&four, text + at, 4);
        uint32_t h = four * 2654435761u >> (32 - LZ_HASH_BITS);
        int32_t from = head[h];
        for (int tries = 0; from >= 0 && tries < LZ_CHAIN; tries++, from = chain[from]) {
            uint32_t len = 0;
            while (len < 255 && at + (int32_t)len < (int32_t)LZ_BYTES &&
                   text[from + (int32_t)len] == text[at + (int32_t)len])
                len++;
            best = len > best ? len : best;
        }
        chain[at] = head[h];
        head[h] = at;
        matched += best >= 4 ? best : 0;
        count += best >= 4;
        at += best >= 4 ? (int32_t)best : 1;
    }
    return matched << 24 | count;
}

static void scan_init(struct row_env *env)
{
    fill_text(env->arena, SCAN_BYTES);
}

static uint64_t scan_run(struct row_env *env)
{
    const uint8_t *p = env->arena;
    uint32_t lines = 0, words = 0, in_word = 0;

    for (size_t i = 0; i < SCAN_BYTES; i++) {
        uint32_t letter = p[i] > ' ';
        lines += p[i] == '\n';
        words += letter & ~in_word;
        in_word = letter;
    }
    return (uint64_t)lines << 32 | words;
}

const struct row rows_int[] = {
    {"crc32 (table) 1 MiB", 1, crc_init, NULL, crc_run},
    {"quicksort 64k", 1, NULL, sort_before, sort_run},
    {"hash insert", 1, NULL, hash_before, hash_run},
    {"linked list", 1, list_init, NULL, list_run},
    {"fib(27)", 1, NULL, NULL, fib_run},
    {"bytecode switch loop", 1, code_init, NULL, code_run},
    {"LZ match finder", 1, lz_init, NULL, lz_run},
    {"byte scan 4 MiB", 1, scan_init, NULL, scan_run},
    {0},
};
