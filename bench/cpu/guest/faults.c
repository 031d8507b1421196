/*
 * Page faults from ring 3: a program touches pages that the kernel maps one by one when they are first touched, some
 * read-only first; now and then a system call takes them all away.
 */
#include "user.h"

#define PAGES 512
#define ROUNDS 1500
/* Where the pages are mapped: 1 GiB and above, which start.S leaves free. */
#define WINDOW ((volatile uint64_t *)0x40000000)

static uint64_t directory[512] __attribute__((aligned(4096)));
static uint64_t table[512] __attribute__((aligned(4096)));
static uint64_t result, faults;

int page_fault(uint64_t address, uint64_t error) {
  uint64_t page = (address - (uintptr_t)WINDOW) >> 12;
  if (page >= PAGES || !(error & 4)) return 0;
  faults++;
  /* A first read maps for reading; a write makes it writable. */
  table[page] = ((uintptr_t)FREE_MEMORY + 0x100000 + (page << 12)) | (error & 2 ? 7 : 5);
  asm volatile("invlpg (%0)" ::"r"(address) : "memory");
  return 1;
}

uint64_t system_call(uint64_t a, uint64_t b, uint64_t c, uint64_t number) {
  (void)a, (void)b, (void)c, (void)number;
  for (int i = 0; i < PAGES; i++) table[i] = 0;
  uint64_t root;
  asm volatile("mov %%cr3, %0; mov %0, %%cr3" : "=r"(root)::"memory");
  return 0;
}

static void user(void) {
  uint64_t sum = 0;
  for (uint64_t round = 0; round < ROUNDS; round++) {
    for (int page = 0; page < PAGES; page++) {
      volatile uint64_t *at = WINDOW + page * 512 + (page & 511);
      if (page % 4 == 0) sum = mix(sum, *at);
      *at = sum + round + (uint64_t)page;
    }
    for (int page = 0; page < PAGES; page++) sum = mix(sum, WINDOW[page * 512 + (page & 511)]);
    call_system(1, 0, 0);
  }
  result = sum;
  call_system(0, 0, 0);
}

void prepare(void) {
  prepare_user();
  uint64_t *pointers = (uint64_t *)(pml4[0] & ~0xfffull);
  pointers[1] = (uintptr_t)directory | 7;
  directory[0] = (uintptr_t)table | 7;
}
uint64_t workload(void) {
  run_user(user, FREE_MEMORY + 65536);
  return mix(result, faults);
}
