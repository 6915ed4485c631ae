// What each key's object is made of, as in origin/body.go: MiB number b of a key is 1 MiB of one table, from the offset
// mix(hash(key) + b).
#include <stdint.h>
#include <string.h>

enum { MIB = 1 << 20 };

static unsigned char table[2 * MIB];

static inline uint64_t mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static inline uint64_t hash(const char *key) {
    uint64_t h = 14695981039346656037u;
    while (*key) h = (h ^ (unsigned char)*key++) * 1099511628211u;
    return h;
}

static inline void table_fill(void) {
    for (uint64_t i = 0; i < MIB / 8; i++) {
        uint64_t word = mix(i);
        memcpy(table + 8 * i, &word, 8);
    }
    memcpy(table + MIB, table, MIB);
}

// The bytes at this place of an object, good up to the next MiB.
static inline const unsigned char *body_at(uint64_t seed, uint64_t at) {
    return table + mix(seed + at / MIB) % MIB + at % MIB;
}
