/* Calls by way of tables of functions, as virtual methods are, and sorting with a comparison by pointer. */
#include "guest.h"

typedef uint64_t (*operation)(uint64_t, uint64_t);

#define OPERATION(name, expression) \
  __attribute__((noinline)) static uint64_t name(uint64_t a, uint64_t b) { return expression; }
OPERATION(add, a + b)
OPERATION(subtract, a - b * 3)
OPERATION(exclude, a ^ b << 5)
OPERATION(turn, (a << 7 | a >> 57) ^ b)
OPERATION(multiply, a * (b | 1))
OPERATION(least, a < b ? a : b + 1)
OPERATION(bits, a + (uint64_t)__builtin_ctzll(b | 1))
OPERATION(half, (a >> 1) + b)
static operation volatile operations[] = {add, subtract, exclude, turn, multiply, least, bits, half};

struct shape {
  const struct methods *methods;
  uint64_t size;
};
struct methods {
  uint64_t (*area)(const struct shape *);
  void (*grow)(struct shape *, uint64_t);
};
static uint64_t square_area(const struct shape *s) { return s->size * s->size; }
static void square_grow(struct shape *s, uint64_t by) { s->size = (s->size + by) & 0xffff; }
static uint64_t circle_area(const struct shape *s) { return s->size * s->size * 22 / 7; }
static void circle_grow(struct shape *s, uint64_t by) { s->size = (s->size * 3 + by) & 0xffff; }
static uint64_t line_area(const struct shape *s) { return s->size; }
static void line_grow(struct shape *s, uint64_t by) { s->size += by; }
static const struct methods kinds[] = {
    {square_area, square_grow}, {circle_area, circle_grow}, {line_area, line_grow}};

uint64_t workload(void) {
  uint32_t seed = 5;
  uint64_t sum = 1;
  static struct shape shapes[64];
  for (int i = 0; i < 64; i++) shapes[i] = (struct shape){&kinds[next_random(&seed) % 3], (uint64_t)i};
  for (int round = 0; round < 300000; round++) {
    for (int i = 0; i < 32; i++) sum = operations[next_random(&seed) & 7](sum, (uint64_t)i);
    for (int i = 0; i < 64; i += 2) {
      struct shape *shape = &shapes[(i + round) & 63];
      sum += shape->methods->area(shape);
      shape->methods->grow(shape, sum & 15);
    }
  }
  return sum;
}
