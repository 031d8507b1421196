/* Ring 3: see user.S. */
#pragma once
#include "guest.h"

void run_user(void (*function)(void), uint8_t *stack_top);

/* The workload's system calls but 0, which ends the run. */
uint64_t system_call(uint64_t a, uint64_t b, uint64_t c, uint64_t number);

extern uint8_t syscall_entry[], per_processor[];

static inline void write_msr(uint32_t number, uint64_t value) {
  asm volatile("wrmsr" ::"c"(number), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

static inline void prepare_user(void) {
  write_msr(0xc0000081, 0x0010000800000000); /* STAR: SYSRET to 18 and 20, SYSCALL to 8 and 10 */
  write_msr(0xc0000082, (uintptr_t)syscall_entry);
  write_msr(0xc0000084, 0x700);
  write_msr(0xc0000102, (uintptr_t)per_processor);
}

static inline uint64_t call_system(uint64_t number, uint64_t a, uint64_t b) {
  uint64_t result;
  asm volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b) : "rcx", "r11", "memory");
  return result;
}
