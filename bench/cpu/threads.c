/* The work of guest/processors.c in threads of the host: milliseconds and the sum, for `threads 1` and `threads 2`. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "guest/busy.h"

static uint64_t memory[2][WORDS], sums[2];
static volatile int go;

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
  int threads = count > 1 ? atoi(arguments[1]) : 1;
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
  printf("%f %016llx\n", end - start, (unsigned long long)(sums[0] + sums[threads > 1]));
}
