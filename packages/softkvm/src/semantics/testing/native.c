/*
 * Runs single instructions natively in 64-bit ring 3 code on given registers, and tells what became of them. Records are
 * read from stdin: code, an FXSAVE image, the upper halves of ymm registers, general registers by their encoding, flags,
 * memory. To stdout for each: the exception's vector (1, #DB, when the instruction completed: it runs with the trap flag
 * set), and the same again. A processor without AVX ignores the upper halves.
 *
 * A test begins in a signal handler, which changes the interrupted context, and ends in the next, which restores it.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

enum { CODE = 0x40000, DATA = 0x42000, DATA_BYTES = 256, STACK = 0x42800 };
/* What of an FXSAVE image is state: the rest is the kernel's. */
enum { FX_BYTES = 416, FX_AREA = 512, XSTATE_X87_SSE = 3, XSTATE_AVX = 4 };
/* In the frame: what the kernel says the area holds, its header, and behind that AVX (standard format). */
enum { FRAME_FEATURES = 472, XSTATE_BV = 512, UPPER = 576, UPPER_BYTES = 256 };

static struct __attribute__((packed)) {
  uint32_t length;
  uint8_t code[16], fx[FX_AREA], upper[UPPER_BYTES];
  uint64_t gpr[16], flags;
  uint8_t data[DATA_BYTES];
} test;
static struct __attribute__((packed)) {
  uint32_t vector;
  uint8_t fx[FX_AREA], upper[UPPER_BYTES];
  uint64_t gpr[16], flags;
  uint8_t data[DATA_BYTES];
} outcome;

static const int registers[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                  REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
static gregset_t before;
static uint8_t fx_before[FX_AREA];
static volatile int running;

static int has_avx(const uint8_t *fx) { return *(const uint64_t *)(fx + FRAME_FEATURES) & XSTATE_AVX; }

static void on_exception(int signal, siginfo_t *info, void *context) {
  mcontext_t *machine = &((ucontext_t *)context)->uc_mcontext;
  greg_t *now = machine->gregs;
  uint8_t *fx = (uint8_t *)machine->fpregs;
  if (running) {
    outcome.vector = now[REG_TRAPNO];
    memcpy(outcome.fx, fx, FX_AREA);
    memset(outcome.upper, 0, UPPER_BYTES);
    /* Without its bit a component is in its initial state: zeros. */
    if (has_avx(fx) && *(uint64_t *)(fx + XSTATE_BV) & XSTATE_AVX) memcpy(outcome.upper, fx + UPPER, UPPER_BYTES);
    for (int i = 0; i < 16; i++) outcome.gpr[i] = now[registers[i]];
    outcome.flags = now[REG_EFL];
    memcpy(outcome.data, (void *)DATA, DATA_BYTES);
    memcpy(now, before, sizeof(before));
    memcpy(fx, fx_before, FX_BYTES);
    running = 0;
    return;
  }
  memcpy(before, now, sizeof(before));
  memcpy(fx_before, fx, FX_BYTES);
  memcpy((void *)DATA, test.data, DATA_BYTES);
  memcpy(fx, test.fx, FX_BYTES);
  /* The header of the XSAVE area says which parts of it are loaded. */
  *(uint64_t *)(fx + XSTATE_BV) |= XSTATE_X87_SSE;
  if (has_avx(fx)) {
    memcpy(fx + UPPER, test.upper, UPPER_BYTES);
    *(uint64_t *)(fx + XSTATE_BV) |= XSTATE_AVX;
  }
  for (int i = 0; i < 16; i++) now[registers[i]] = test.gpr[i];
  now[REG_RSP] = STACK;
  now[REG_RIP] = CODE;
  now[REG_EFL] = test.flags | 0x102;
  running = 1;
}

int main(void) {
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
  uint8_t *page = mmap((void *)CODE, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, flags, -1, 0);
  void *data = mmap((void *)DATA, 4096, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (page != (void *)CODE || data != (void *)DATA) return perror("mmap"), 1;
  stack_t stack = {.ss_sp = malloc(1 << 18), .ss_size = 1 << 18};
  sigaltstack(&stack, NULL);
  struct sigaction action = {.sa_sigaction = on_exception, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
  int signals[] = {SIGILL, SIGSEGV, SIGTRAP, SIGBUS, SIGFPE};
  for (unsigned i = 0; i < sizeof(signals) / sizeof(*signals); i++) sigaction(signals[i], &action, NULL);
  while (fread(&test, sizeof(test), 1, stdin) == 1) {
    memset(page, 0x90, 64);
    memcpy(page, test.code, test.length);
    __asm__ volatile("int3" ::: "memory");
    fwrite(&outcome, sizeof(outcome), 1, stdout);
  }
  return 0;
}
