/* memcpy, memset and strlen as loops of loads and stores, by bytes and by words. */
#include "guest.h"

#define BYTES (1 << 20)

#define LOOP __attribute__((noinline, optimize("no-tree-loop-distribute-patterns", "no-tree-vectorize", "no-unroll-loops")))

LOOP static void copy_bytes(uint8_t *to, const uint8_t *from, size_t count) {
  for (size_t i = 0; i < count; i++) to[i] = from[i];
}
LOOP static void copy_words(uint64_t *to, const uint64_t *from, size_t count) {
  for (size_t i = 0; i < count; i++) to[i] = from[i];
}
LOOP static void set_bytes(uint8_t *to, uint8_t value, size_t count) {
  for (size_t i = 0; i < count; i++) to[i] = value;
}
LOOP static void set_words(uint64_t *to, uint64_t value, size_t count) {
  for (size_t i = 0; i < count; i++) to[i] = value;
}
LOOP static size_t length(const char *text) {
  const char *at = text;
  while (*at) at++;
  return (size_t)(at - text);
}

uint64_t workload(void) {
  uint8_t *a = FREE_MEMORY, *b = FREE_MEMORY + 2 * BYTES;
  uint64_t sum = 0;
  for (int round = 0; round < 25; round++) {
    set_bytes(a, (uint8_t)(round | 1), BYTES - 1);
    a[BYTES - 1] = 0;
    copy_bytes(b, a, BYTES);
    sum = mix(sum, length((char *)b + round));
    for (int i = 0; i < 4; i++) {
      set_words((uint64_t *)a, 0x0101010101010101u * (unsigned)(round + i), BYTES / 8);
      copy_words((uint64_t *)b, (uint64_t *)a, BYTES / 8);
    }
    sum = mix(sum, ((uint64_t *)b)[round * 100]);
  }
  return sum;
}
