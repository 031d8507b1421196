/* System calls from ring 3 that do next to nothing. */
#include "user.h"

#define CALLS 1500000

static uint64_t table[64], result;

uint64_t system_call(uint64_t a, uint64_t b, uint64_t c, uint64_t number) {
  (void)c;
  switch (number) {
    case 1: return table[a & 63];
    case 2: return table[a & 63] += b;
    default: return (uint64_t)-38;
  }
}

static void user(void) {
  uint64_t sum = 0;
  for (uint64_t i = 0; i < CALLS; i++) sum = mix(sum, call_system(1 + i % 3, i, sum));
  result = sum;
  call_system(0, 0, 0);
}

void prepare(void) { prepare_user(); }
uint64_t workload(void) {
  run_user(user, FREE_MEMORY + 65536);
  return result;
}
