// Times in nanoseconds, kept to a 128th of themselves, as HdrHistogram does.
#include <stdint.h>
#include <stdio.h>

enum { STEPS = 128, DOUBLINGS = 40 };

struct histogram {
    uint64_t counts[DOUBLINGS * STEPS], total, largest;
};

static inline void note(struct histogram *h, int64_t ns) {
    uint64_t value = ns < 0 ? 0 : ns;
    int shift = 0;
    while (value >> shift >= 2 * STEPS) shift++;
    // The first two rows are exact; each later one doubles.
    uint64_t at = shift == 0 ? value : (uint64_t)(shift + 1) * STEPS + (value >> shift) - STEPS;
    h->counts[at < DOUBLINGS * STEPS ? at : DOUBLINGS * STEPS - 1]++;
    h->total++;
    if (value > h->largest) h->largest = value;
}

// The smallest time that this share of all notes does not exceed, in microseconds.
static inline double at_share(const struct histogram *h, double share) {
    uint64_t wanted = (uint64_t)(share * h->total + 0.9999999), seen = 0;
    for (uint64_t at = 0; at < DOUBLINGS * STEPS; at++) {
        seen += h->counts[at];
        if (seen >= wanted && seen) {
            uint64_t row = at / STEPS, within = at % STEPS;
            uint64_t top = row <= 1 ? at : ((within + STEPS + 1) << (row - 1)) - 1;
            return (top < h->largest ? top : h->largest) / 1e3;
        }
    }
    return 0;
}

static inline void print_histogram(const char *name, const struct histogram *h) {
    printf("\"%s\":{\"count\":%lu,\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"p999\":%.3f,\"max\":%.3f},", name, h->total,
           at_share(h, 0.5), at_share(h, 0.9), at_share(h, 0.99), at_share(h, 0.999), h->largest / 1e3);
}
