/* What a workload sees: a program of one workload links with start.S and runtime.c. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* The workload: what comes before the measured part, and that part, which returns a checksum. */
void prepare(void);
uint64_t workload(void);

/* Page faults of a workload: returns whether it has mapped something. */
int page_fault(uint64_t address, uint64_t error);

/* Memory that no program text or data reaches: 96 MiB from here on. */
#define FREE_MEMORY ((uint8_t *)0x2000000)

void fail(const char *why) __attribute__((noreturn));

/* Runs `function` on the second processor; `join_second` waits for its end. */
void start_second(void (*function)(void));
void join_second(void);

extern uint64_t pml4[], low_directory[];
extern uint8_t kernel_stack_top[];

static inline uint32_t next_random(uint32_t *seed) {
  *seed = *seed * 1664525 + 1013904223;
  return *seed >> 8;
}
static inline uint64_t mix(uint64_t sum, uint64_t value) {
  sum = (sum ^ value) * 0x9e3779b97f4a7c15;
  return sum ^ sum >> 29;
}
