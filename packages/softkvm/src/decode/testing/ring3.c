/*
 * Runs single instructions natively in ring 3, in 16-, 32- and 64-bit code segments, and tells which exception each
 * raised. A record is read from stdin: the code's bits, how many bytes of the instruction there are, which register to set
 * (255: none) to what, and 15 bytes of instruction. The bytes are put at the end of a page that nothing follows, and run
 * with the trap flag set: an instruction that completes raises #DB (1). Written to stdout for each: the exception's vector,
 * and whether it was the fetch of a byte after the page for this instruction.
 *
 * A test begins in a signal handler, which changes the interrupted context, and ends in the next, which restores it.
 */
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { CODE = 0x40000, CODE_END = 0x41000, DATA = 0x42000, STACK = 0x42800 };
enum { ARCH_SET_FS = 0x1002, ARCH_GET_FS = 0x1003 };

static struct __attribute__((packed)) {
  uint8_t bits, length, reg, value, bytes[15];
} test;
static struct __attribute__((packed)) {
  uint8_t vector, ran_out;
} outcome;

static const int registers[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                  REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
static gregset_t before;
static unsigned long fs_base;
static volatile int running;

/* libc's wrapper touches thread-local storage, which a test may have moved. */
static void arch_prctl(long code, unsigned long address) {
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(SYS_arch_prctl), "D"(code), "S"(address) : "rcx", "r11", "memory");
}

static void on_exception(int signal, siginfo_t *info, void *context) {
  arch_prctl(ARCH_SET_FS, fs_base);
  greg_t *now = ((ucontext_t *)context)->uc_mcontext.gregs;
  if (running) {
    outcome.vector = now[REG_TRAPNO];
    outcome.ran_out = now[REG_TRAPNO] == 14 && (now[REG_ERR] & 16) && now[REG_CR2] == CODE_END &&
                      now[REG_RIP] == CODE_END - test.length;
    memcpy(now, before, sizeof(before));
    running = 0;
    return;
  }
  memcpy(before, now, sizeof(before));
  for (int i = 0; i < 16; i++) now[registers[i]] = 0;
  /* No system call has this number. */
  now[REG_RAX] = 0x7fff;
  now[REG_RSP] = STACK;
  if (test.reg < 16) now[registers[test.reg]] = test.value;
  now[REG_RIP] = CODE_END - test.length;
  now[REG_EFL] = 0x102;
  /* Linux's user segments; the 16-bit one is the first of the LDT. */
  unsigned long cs = test.bits == 64 ? 0x33 : test.bits == 32 ? 0x23 : 0x07;
  now[REG_CSGSFS] = (now[REG_CSGSFS] & 0x0000ffffffff0000L) | cs | 0x002b000000000000L;
  running = 1;
}

int main(void) {
  arch_prctl(ARCH_GET_FS, (unsigned long)&fs_base);
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
  uint8_t *page = mmap((void *)CODE, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, flags, -1, 0);
  void *data = mmap((void *)DATA, 4096, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (page != (void *)CODE || data != (void *)DATA) return perror("mmap"), 1;
  struct user_desc code16 = {.limit = 0xfffff, .contents = 2, .limit_in_pages = 1, .useable = 1};
  if (syscall(SYS_modify_ldt, 1, &code16, sizeof(code16)) != 0) return perror("modify_ldt"), 1;
  stack_t stack = {.ss_sp = malloc(1 << 18), .ss_size = 1 << 18};
  sigaltstack(&stack, NULL);
  struct sigaction action = {.sa_sigaction = on_exception, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
  int signals[] = {SIGILL, SIGSEGV, SIGTRAP, SIGBUS, SIGFPE};
  for (unsigned i = 0; i < sizeof(signals) / sizeof(*signals); i++) sigaction(signals[i], &action, NULL);
  while (fread(&test, sizeof(test), 1, stdin) == 1) {
    memset(page, 0x90, 4096);
    memcpy(page + 4096 - test.length, test.bytes, test.length);
    __asm__ volatile("int3" ::: "memory");
    fwrite(&outcome, sizeof(outcome), 1, stdout);
  }
  fflush(stdout);
  /* Without libc's cleanup, which trusts state that a test may have changed. */
  _exit(0);
}
