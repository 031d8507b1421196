/*
 * Around a workload: descriptor tables, exceptions, and what it says to the monitor. It writes to port 0xe9: `<` when the
 * measured part begins, `>` when it has ended, then the checksum as 16 hexadecimal digits and a new line. What goes
 * wrong is `!`, vector, error code, RIP, CR2 and the instruction's bytes. Then it ends by a write to port 0xf4.
 */
#include "guest.h"

#define DEBUG_PORT 0xe9
#define EXIT_PORT 0xf4
#define APIC ((volatile uint32_t *)0xfee00000)
#define TRAMPOLINE 0x8000

extern uint64_t gdt[], exception_stubs[];
extern uint8_t trampoline[], trampoline_end[];
extern volatile uint32_t second_starts;

uint8_t kernel_stack[65536] __attribute__((aligned(16)));
asm(".globl kernel_stack_top\n.set kernel_stack_top, kernel_stack + 65536");

static uint64_t idt[64] __attribute__((aligned(16)));
static uint32_t tss[26];

struct frame {
  uint64_t vector, error, rip, cs, flags, rsp, ss;
};

static void out8(uint16_t port, uint8_t value) { asm volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }
static void out32(uint16_t port, uint32_t value) { asm volatile("outl %0, %1" ::"a"(value), "Nd"(port)); }

static void print_hex(uint64_t value, int digits) {
  for (int shift = digits * 4 - 4; shift >= 0; shift -= 4) out8(DEBUG_PORT, "0123456789abcdef"[value >> shift & 15]);
}

static void end(void) {
  out32(EXIT_PORT, 0);
  for (;;) asm volatile("cli; hlt");
}

void fail(const char *why) {
  out8(DEBUG_PORT, '?');
  for (; *why; why++) out8(DEBUG_PORT, *why);
  out8(DEBUG_PORT, '\n');
  end();
  __builtin_unreachable();
}

void exception(struct frame *frame) {
  uint64_t address;
  asm volatile("mov %%cr2, %0" : "=r"(address));
  if (frame->vector == 14 && page_fault(address, frame->error)) return;
  out8(DEBUG_PORT, '!');
  print_hex(frame->vector, 2);
  print_hex(frame->error, 8);
  print_hex(frame->rip, 16);
  print_hex(address, 16);
  for (int i = 0; i < 15; i++) print_hex(((uint8_t *)frame->rip)[i], 2);
  out8(DEBUG_PORT, '\n');
  end();
}

static void load_tables(void) {
  for (int vector = 0; vector < 32; vector++) {
    uint64_t stub = exception_stubs[vector];
    /* Present, interrupt gate, in code segment 8. */
    idt[vector * 2] = (stub & 0xffff) | 8 << 16 | 0x8eull << 40 | (stub >> 16 & 0xffff) << 48;
    idt[vector * 2 + 1] = stub >> 32;
  }
  struct {
    uint16_t limit;
    uint64_t base;
  } __attribute__((packed)) pointer = {sizeof idt - 1, (uintptr_t)idt};
  asm volatile("lidt %0" ::"m"(pointer));
  tss[1] = (uint32_t)(uintptr_t)kernel_stack_top;
  uint64_t base = (uintptr_t)tss;
  gdt[5] = (sizeof tss - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
  gdt[6] = base >> 32;
  asm volatile("ltr %w0" ::"r"(0x28));
}

static void (*second_function)(void);
static volatile int second_done;

void second_main(void) {
  second_function();
  __atomic_store_n(&second_done, 1, __ATOMIC_RELEASE);
  for (;;) asm volatile("cli; hlt");
}

void start_second(void (*function)(void)) {
  for (int i = 0; &trampoline[i] < trampoline_end; i++) ((uint8_t *)TRAMPOLINE)[i] = trampoline[i];
  second_function = function;
  second_starts = 1;
  APIC[0xf0 / 4] |= 0x100;
  APIC[0x310 / 4] = 1 << 24;
  APIC[0x300 / 4] = 0x4500; /* INIT */
  for (volatile int i = 0; i < 100000; i++) {}
  APIC[0x310 / 4] = 1 << 24;
  APIC[0x300 / 4] = 0x4600 | TRAMPOLINE >> 12; /* start-up */
}

void join_second(void) {
  while (!__atomic_load_n(&second_done, __ATOMIC_ACQUIRE)) asm volatile("pause");
}

__attribute__((weak)) void prepare(void) {}
__attribute__((weak)) int page_fault(uint64_t address, uint64_t error) {
  (void)address, (void)error;
  return 0;
}

/* gcc calls these for structures and loops that look like them. */
void *memcpy(void *to, const void *from, size_t count) {
  void *start = to;
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count)::"memory");
  return start;
}
void *memset(void *to, int value, size_t count) {
  void *start = to;
  asm volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(value) : "memory");
  return start;
}

void runtime_main(void) {
  load_tables();
  prepare();
  out8(DEBUG_PORT, '<');
  uint64_t sum = workload();
  out8(DEBUG_PORT, '>');
  print_hex(sum, 16);
  out8(DEBUG_PORT, '\n');
  end();
}
