/* 5 MiB of code that runs once: blocks of random instructions, each ending in a jump to the next. */
#include "guest.h"

#define BYTES (5 << 20)
#define DATA (FREE_MEMORY + (16 << 20))

static uint8_t *out;
static uint32_t seed = 21;

static void put(int count, uint64_t bytes) {
  for (int i = 0; i < count; i++) *out++ = (uint8_t)(bytes >> i * 8);
}
/* Of rax rcx rdx rsi rdi r8 to r13: not the stack, not rbx, which points to data. */
static int any_register(void) {
  static const uint8_t registers[] = {0, 1, 2, 6, 7, 8, 9, 10, 11, 12, 13};
  return registers[next_random(&seed) % sizeof registers];
}
static void rex(int wide, int reg, int rm) { put(1, (uint64_t)(0x40 | wide << 3 | (reg >> 3) << 2 | rm >> 3)); }
static void registers(int opcode) {
  int reg = any_register(), rm = any_register();
  rex((int)next_random(&seed) & 1, reg, rm);
  if (opcode > 0xff) put(1, 0x0f);
  put(2, (uint64_t)((opcode & 0xff) | (0xc0 | (reg & 7) << 3 | (rm & 7)) << 8));
}
/* With [rbx + disp32]. */
static void memory(int opcode) {
  int reg = any_register();
  rex(1, reg, 3);
  put(2, (uint64_t)(opcode | (0x83 | (reg & 7) << 3) << 8));
  put(4, next_random(&seed) & 0xfff8);
}
static void immediate(int extension) {
  int rm = any_register();
  rex(1, 0, rm);
  if (next_random(&seed) & 1) put(3, (uint64_t)(0x83 | (0xc0 | extension << 3 | (rm & 7)) << 8 | (next_random(&seed) & 0x7f) << 16));
  else {
    put(2, (uint64_t)(0x81 | (0xc0 | extension << 3 | (rm & 7)) << 8));
    put(4, next_random(&seed));
  }
}

static void instruction(void) {
  static const uint16_t binary[] = {0x01, 0x29, 0x21, 0x09, 0x31, 0x39, 0x85, 0x89, 0x11, 0x1b6};
  switch (next_random(&seed) % 10) {
    case 0: case 1: case 2: registers(binary[next_random(&seed) % 10]); break;
    case 3: memory(0x8b); break;
    case 4: memory(0x89); break;
    case 5: memory((int)(0x03 | (next_random(&seed) & 7) << 3)); break;
    case 6: immediate((int)next_random(&seed) & 7); break;
    case 7: { /* shl by 1: of no other count OF is defined, which later conditions read */
      int rm = any_register();
      rex(1, 0, rm);
      put(2, (uint64_t)(0xd1 | (0xc0 | 4 << 3 | (rm & 7)) << 8));
      break;
    }
    case 8: registers(0x100 | 0x40 | (int)(next_random(&seed) & 15)); break; /* CMOVcc */
    default: { /* lea reg, [rm + disp8] */
      int reg = any_register(), rm = any_register();
      rex(1, reg, rm);
      put(2, (uint64_t)(0x8d | (0x40 | (reg & 7) << 3 | (rm & 7)) << 8));
      if ((rm & 7) == 4) put(1, 0x24);
      put(1, next_random(&seed) & 0xff);
    }
  }
}

void prepare(void) {
  out = FREE_MEMORY;
  put(1, 0x53); /* push rbx */
  put(2, 0x5441); /* push r12 */
  put(2, 0x5541);
  put(3, 0xfb8948); /* mov rbx, rdi */
  while (out < FREE_MEMORY + BYTES) {
    for (uint32_t count = 4 + next_random(&seed) % 8; count > 0; count--) instruction();
    /* Over a few bytes that never run, or a condition that leads to the same place. */
    uint32_t gap = next_random(&seed) % 2 ? 0 : 3;
    if (gap) put(2, 0xeb | gap << 8);
    else put(2, 0x70 | (next_random(&seed) & 15));
    put((int)gap, 0xcccccc);
  }
  put(2, 0x5d41);
  put(2, 0x5c41);
  put(2, 0xc35b);
}

uint64_t workload(void) {
  uint64_t sum;
  asm volatile("call *%1"
               : "=a"(sum)
               : "r"(FREE_MEMORY), "D"(DATA), "a"(1), "c"(2), "d"(3), "S"(4)
               : "r8", "r9", "r10", "r11", "memory", "cc");
  for (int i = 0; i < 8192; i++) sum = mix(sum, ((uint64_t *)DATA)[i]);
  return sum;
}
