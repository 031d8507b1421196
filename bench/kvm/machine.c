/*
 * What the benchmarks are held against: the same small machine in C, by the same requests to the same /dev/kvm.
 *
 *   machine exits N    a machine whose guest writes to a port for ever; prints nanoseconds an exit, over N exits
 *   machine create N   N machines one after the other, each until its first instruction has run; nanoseconds, a line each
 *   machine memory     one machine that has run; prints this process's /proc/self/smaps
 *   machine hold       one machine that is there until the standard input ends; says "ready"
 */

#include <err.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MEMORY (512l << 20)
#define CODE 0x1000
#define WARM_UP 2000

struct machine {
	int kvm, vm, vcpu, page_size;
	uint8_t *memory;
	struct kvm_run *run;
};

static int request(int fd, unsigned long number, void *argument, const char *name)
{
	int result = ioctl(fd, number, argument);
	if (result < 0)
		err(1, "%s", name);
	return result;
}
#define REQUEST(fd, number, argument) request(fd, number, (void *) (argument), #number)

static void *map(size_t length, int flags, int fd)
{
	void *address = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, fd, 0);
	if (address == MAP_FAILED)
		err(1, "mmap");
	return address;
}

static double now_ns(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e9 + time.tv_nsec;
}

static struct machine create(const uint8_t *code, size_t size)
{
	struct machine m;
	m.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (m.kvm < 0)
		err(1, "/dev/kvm");
	if (REQUEST(m.kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		errx(1, "another version of KVM");
	m.memory = map(MEMORY, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1);
	memcpy(m.memory + CODE, code, size);
	m.vm = REQUEST(m.kvm, KVM_CREATE_VM, 0);
	struct kvm_userspace_memory_region region = {.memory_size = MEMORY, .userspace_addr = (uintptr_t) m.memory};
	REQUEST(m.vm, KVM_SET_USER_MEMORY_REGION, &region);
	m.vcpu = REQUEST(m.vm, KVM_CREATE_VCPU, 0);
	m.page_size = REQUEST(m.kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	m.run = map(m.page_size, MAP_SHARED, m.vcpu);

	struct kvm_sregs sregs;
	REQUEST(m.vcpu, KVM_GET_SREGS, &sregs);
	struct kvm_segment data = {.limit = 0xffffffff, .selector = 0x10, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	data.selector = 8;
	data.type = 11;
	sregs.cs = data;
	sregs.cr0 = 0x31;
	REQUEST(m.vcpu, KVM_SET_SREGS, &sregs);
	struct kvm_regs regs;
	REQUEST(m.vcpu, KVM_GET_REGS, &regs);
	regs.rip = CODE;
	regs.rflags = 2;
	REQUEST(m.vcpu, KVM_SET_REGS, &regs);
	return m;
}

static void destroy(struct machine m)
{
	munmap(m.run, m.page_size);
	close(m.vcpu);
	close(m.vm);
	close(m.kvm);
	munmap(m.memory, MEMORY);
}

static void run_until(struct machine *m, unsigned reason)
{
	REQUEST(m->vcpu, KVM_RUN, 0);
	if (m->run->exit_reason != reason)
		errx(1, "exit reason %u instead of %u", m->run->exit_reason, reason);
}

/* Looks at each exit as a monitor must, so that both sides do the same. */
static unsigned port_writes(struct machine *m, long count)
{
	unsigned sum = 0;
	for (long index = 0; index < count; index++) {
		run_until(m, KVM_EXIT_IO);
		if (m->run->io.direction == KVM_EXIT_IO_OUT && m->run->io.port == 0x10)
			sum += *((uint8_t *) m->run + m->run->io.data_offset);
	}
	return sum;
}

static void exits(long count)
{
	/* 1: out %al,$0x10; jmp 1b */
	struct machine m = create((const uint8_t[]) {0xe6, 0x10, 0xeb, 0xfc}, 4);
	volatile unsigned sum = port_writes(&m, WARM_UP);
	double start = now_ns();
	sum += port_writes(&m, count);
	printf("%f\n", (now_ns() - start) / count);
	destroy(m);
}

static void creations(long count)
{
	for (long index = 0; index < count; index++) {
		double start = now_ns();
		struct machine m = create((const uint8_t[]) {0xf4}, 1);
		run_until(&m, KVM_EXIT_HLT);
		printf("%f\n", now_ns() - start);
		destroy(m);
	}
}

static void memory(void)
{
	struct machine m = create((const uint8_t[]) {0xf4}, 1);
	run_until(&m, KVM_EXIT_HLT);
	char line[4096];
	FILE *maps = fopen("/proc/self/smaps", "r");
	while (maps && fgets(line, sizeof line, maps))
		fputs(line, stdout);
	printf("guest %lx\n", (long) m.memory);
	destroy(m);
}

static void hold(void)
{
	struct machine m = create((const uint8_t[]) {0xf4}, 1);
	puts("ready");
	fflush(stdout);
	while (getchar() != EOF)
		;
	destroy(m);
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "exits"))
		exits(atol(argv[2]));
	else if (argc == 3 && !strcmp(argv[1], "create"))
		creations(atol(argv[2]));
	else if (argc == 2 && !strcmp(argv[1], "memory"))
		memory();
	else if (argc == 2 && !strcmp(argv[1], "hold"))
		hold();
	else
		errx(2, "usage: machine exits N | create N | memory | hold");
}
