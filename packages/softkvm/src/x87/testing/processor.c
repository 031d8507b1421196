/*
 * Runs single x87 instructions on the processor: reads cases from standard input, writes outcomes of the same layout.
 * Code and memory operand lie at fixed low addresses, so that instruction and data pointers are comparable.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define CODE ((uint8_t *)0x100000)
#define DATA ((uint8_t *)0x200000)

struct record {
	uint16_t fcw, fsw;
	uint8_t ftw;
	/* In: bytes of code. Out: the signal, or 0. */
	uint8_t length;
	uint16_t fop;
	uint8_t code[8];
	uint8_t st[8][10];
	uint8_t memory[112];
	uint64_t rax, rflags, fip, fdp;
	uint8_t unused[16];
};
_Static_assert(sizeof(struct record) == 256, "the TypeScript side has this layout, too");

static uint8_t image[512] __attribute__((aligned(64)));
static uint8_t result[512] __attribute__((aligned(64)));
static uint64_t rax, rflags;
static volatile int caught;
extern char recover[];

static void on_signal(int number, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	struct _libc_fpstate *fp = uc->uc_mcontext.fpregs;
	if (uc->uc_mcontext.gregs[REG_RIP] < 0x100000 || uc->uc_mcontext.gregs[REG_RIP] > 0x200000) _exit(9);
	caught = number;
	memcpy(result, fp, 512);
	rax = uc->uc_mcontext.gregs[REG_RAX];
	rflags = uc->uc_mcontext.gregs[REG_EFL];
	fp->cwd = 0x37f;
	fp->swd = 0;
	fp->ftw = 0;
	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)recover;
}

static void execute(void)
{
	uint64_t code = (uint64_t)CODE, data = (uint64_t)DATA;
	caught = 0;
	__asm__ volatile("sub $136, %%rsp\n"
			 "push %%rbp\n"
			 "mov %%rsp, %%rbp\n"
			 "fxrstor64 image(%%rip)\n"
			 "mov rax(%%rip), %%rax\n"
			 "push rflags(%%rip)\n"
			 "popf\n"
			 "call *%%rsi\n"
			 "pushf\n"
			 "pop rflags(%%rip)\n"
			 "mov %%rax, rax(%%rip)\n"
			 "fxsave64 result(%%rip)\n"
			 ".globl recover\nrecover:\n"
			 "mov %%rbp, %%rsp\n"
			 "pop %%rbp\n"
			 "add $136, %%rsp\n"
			 "fninit\n"
			 "cld\n"
			 : "+S"(code), "+D"(data)
			 :
			 : "rax", "rcx", "rdx", "memory", "cc");
}

int main(void)
{
	static struct record record;
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER };
	sigaction(SIGFPE, &action, 0);
	sigaction(SIGILL, &action, 0);
	sigaction(SIGSEGV, &action, 0);
	int protection = PROT_READ | PROT_WRITE | PROT_EXEC, flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
	if (mmap(CODE, 4096, protection, flags, -1, 0) != CODE || mmap(DATA, 4096, protection, flags, -1, 0) != DATA)
		return 2;
	while (fread(&record, sizeof record, 1, stdin) == 1) {
		memset(image, 0, sizeof image);
		memcpy(image + 0, &record.fcw, 2);
		memcpy(image + 2, &record.fsw, 2);
		image[4] = record.ftw;
		memcpy(image + 6, &record.fop, 2);
		memcpy(image + 8, &record.fip, 8);
		memcpy(image + 16, &record.fdp, 8);
		memcpy(image + 24, "\x80\x1f\0\0\xff\xff\0\0", 8);
		for (int i = 0; i < 8; i++) memcpy(image + 32 + i * 16, record.st[i], 10);
		memcpy(CODE, record.code, record.length);
		CODE[record.length] = 0xc3;
		memcpy(DATA, record.memory, sizeof record.memory);
		rax = record.rax;
		rflags = record.rflags;
		execute();
		memcpy(&record.fcw, result, 2);
		memcpy(&record.fsw, result + 2, 2);
		record.ftw = result[4];
		memcpy(&record.fop, result + 6, 2);
		memcpy(&record.fip, result + 8, 8);
		memcpy(&record.fdp, result + 16, 8);
		for (int i = 0; i < 8; i++) memcpy(record.st[i], result + 32 + i * 16, 10);
		record.length = caught;
		memcpy(record.memory, DATA, sizeof record.memory);
		record.rax = rax;
		record.rflags = rflags;
		if (fwrite(&record, sizeof record, 1, stdout) != 1) return 3;
	}
	return 0;
}
