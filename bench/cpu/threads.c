/*
 * What the host has for two busy threads against one: milliseconds and a sum, for `threads 1 ROUNDS` and `threads 2 ROUNDS`.
 *
 * The work is of the kind of guest/processors.c (loads, products, sums, a choice, stores over 64 KiB), but of eight sums that do
 * not wait for each other, so that it is bound by how much a core does at a time, as the software processor's compiled code
 * is. A loop whose turns wait for each other leaves a core's units idle, and does not notice who else is on the core.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define LANES 8
#define WORDS 1024

static uint64_t memory[2][WORDS][LANES], sums[2];
static volatile int go;
static int rounds;

/* One word of a lane, without a branch: a wrong guess would make the lanes wait. */
#define STEP(lane)                                                                                                      \
  do {                                                                                                                 \
    uint64_t word = words[i][lane] * 5 + (sum##lane >> 3);                                                              \
    words[i][lane] = word;                                                                                             \
    sum##lane += word & -((word >> 2) & 1);                                                                            \
  } while (0)

__attribute__((noinline, optimize("no-tree-vectorize"))) static uint64_t work(uint64_t (*words)[LANES]) {
  const uint64_t odd = 0x9e3779b97f4a7c15;
  uint64_t sum0 = odd, sum1 = odd * 3, sum2 = odd * 5, sum3 = odd * 7;
  uint64_t sum4 = odd * 9, sum5 = odd * 11, sum6 = odd * 13, sum7 = odd * 15;
  for (int round = 0; round < rounds; round++) {
    for (int i = 0; i < WORDS; i++) {
      STEP(0); STEP(1); STEP(2); STEP(3); STEP(4); STEP(5); STEP(6); STEP(7);
    }
  }
  return sum0 ^ sum1 ^ sum2 ^ sum3 ^ sum4 ^ sum5 ^ sum6 ^ sum7;
}

static void *second(void *nothing) {
  go = 1;
  while (go != 2) __builtin_ia32_pause();
  sums[1] = work(memory[1]);
  return nothing;
}

static double now_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1e3 + time.tv_nsec / 1e6;
}

int main(int count, char **arguments) {
  if (count != 3) return 1;
  int threads = atoi(arguments[1]);
  rounds = atoi(arguments[2]);
  pthread_t thread;
  if (threads > 1) {
    if (pthread_create(&thread, NULL, second, NULL) != 0) return 1;
    while (go != 1) __builtin_ia32_pause();
  }
  double start = now_ms();
  go = 2;
  sums[0] = work(memory[0]);
  if (threads > 1) pthread_join(thread, NULL);
  double end = now_ms();
  if (threads > 1 && sums[0] != sums[1]) return 1;
  printf("%f %016llx\n", end - start, (unsigned long long)sums[0]);
}
