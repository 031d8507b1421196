/* Work on as many processors as PROCESSORS says, each with memory of its own. */
#include "guest.h"
#include "busy.h"

static uint64_t memory[2][WORDS], sums[2];

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
