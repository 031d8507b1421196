/* Work on as many processors as PROCESSORS says, each with memory of its own, ROUNDS times through it. */
#include "guest.h"

#define WORDS 8192

static uint64_t memory[2][WORDS], sums[2];

__attribute__((noinline)) static uint64_t work(uint64_t *words) {
  uint64_t sum = 0;
  for (int round = 0; round < ROUNDS; round++) {
    for (int i = 0; i < WORDS; i++) {
      words[i] = words[i] * 5 + (sum >> 3);
      if (words[i] & 4) sum += words[i];
      else sum ^= (uint64_t)i;
    }
  }
  return sum;
}

static void second(void) { sums[1] = work(memory[1]); }

static volatile int go;
static void second_waits(void) {
  go = 1;
  while (go != 2) asm volatile("pause");
  second();
}

void prepare(void) {
  if (PROCESSORS < 2) return;
  start_second(second_waits);
  while (go != 1) asm volatile("pause");
}

uint64_t workload(void) {
  go = 2;
  sums[0] = work(memory[0]);
  if (PROCESSORS > 1) join_second();
  return sums[0] + (PROCESSORS > 1 ? sums[1] : sums[0]);
}
