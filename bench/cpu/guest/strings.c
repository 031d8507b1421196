/* The same work as loops.c by string instructions, in the lengths that programs use: short, a page, long. */
#include "guest.h"

static void movsb(void *to, const void *from, size_t count) {
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count)::"memory");
}
static void movsq(void *to, const void *from, size_t count) {
  asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count)::"memory");
}
static void stosb(void *to, int value, size_t count) {
  asm volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(value) : "memory");
}
static void stosq(void *to, uint64_t value, size_t count) {
  asm volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(value) : "memory");
}
static size_t scasb(const char *text) {
  size_t count = (size_t)-1;
  asm volatile("repne scasb" : "+D"(text), "+c"(count) : "a"(0) : "memory", "cc");
  return ~count - 1;
}

uint64_t workload(void) {
  static const size_t lengths[] = {24, 200, 4096, 300000};
  uint64_t sum = 0;
  uint8_t *a = FREE_MEMORY, *b = FREE_MEMORY + (2 << 20) + 64;
  for (int kind = 0; kind < 4; kind++) {
    size_t length = lengths[kind];
    size_t rounds = (20 << 20) / (length + 200);
    for (size_t round = 0; round < rounds; round++) {
      size_t offset = round % 61;
      stosb(a + offset, (int)(round | 1), length - 1);
      a[offset + length - 1] = 0;
      movsb(b, a + offset, length);
      sum = mix(sum, scasb((char *)b));
      stosq(a, round, length / 8);
      movsq(b + 8, a, length / 8);
      sum = mix(sum, ((uint64_t *)b)[length / 16]);
    }
  }
  return sum;
}
