/* An interpreter's loop: bytecode, a switch over some twenty operations, a stack. It counts primes and sorts. */
#include "guest.h"

enum op { PUSH, LOAD, STORE, GET, PUT, ADD, SUB, MUL, REM, AND, XOR, SHIFT, LESS, EQUAL, NOT, DUP, DROP, SWAP, JUMP, JUMPZ, END };

static int32_t memory[8192];

__attribute__((noinline)) static int32_t interpret(const int16_t *code) {
  int32_t stack[32], variables[16] = {0}, *top = stack;
  for (const int16_t *at = code;;) {
    switch ((enum op)*at++) {
      case PUSH: *++top = *at++; break;
      case LOAD: *++top = variables[*at++]; break;
      case STORE: variables[*at++] = *top--; break;
      case GET: *top = memory[*top & 8191]; break;
      case PUT: memory[top[0] & 8191] = top[-1]; top -= 2; break;
      case ADD: top[-1] += top[0]; top--; break;
      case SUB: top[-1] -= top[0]; top--; break;
      case MUL: top[-1] *= top[0]; top--; break;
      case REM: top[-1] %= top[0]; top--; break;
      case AND: top[-1] &= top[0]; top--; break;
      case XOR: top[-1] ^= top[0]; top--; break;
      case SHIFT: top[-1] = (int32_t)((uint32_t)top[-1] >> (top[0] & 31)); top--; break;
      case LESS: top[-1] = top[-1] < top[0]; top--; break;
      case EQUAL: top[-1] = top[-1] == top[0]; top--; break;
      case NOT: *top = !*top; break;
      case DUP: top[1] = top[0]; top++; break;
      case DROP: top--; break;
      case SWAP: { int32_t value = top[0]; top[0] = top[-1]; top[-1] = value; break; }
      case JUMP: at = code + *at; break;
      case JUMPZ: { int16_t to = *at++; if (!*top--) at = code + to; break; }
      case END: return *top;
    }
  }
}

/* A sieve over 8000 numbers, then a sum over what is left that a generator steers. */
static const int16_t program[] = {
    /*  0 */ PUSH, 2, STORE, 0,
    /*  4 */ LOAD, 0, PUSH, 8000, LESS, JUMPZ, 49,
    /* 11 */ LOAD, 0, GET, PUSH, 1, EQUAL, NOT, JUMPZ, 40,
    /* 20 */ LOAD, 0, DUP, ADD, STORE, 1,
    /* 26 */ LOAD, 1, PUSH, 8000, LESS, JUMPZ, 40,
    /* 33 */ PUSH, 1, LOAD, 1, PUT, JUMP, 59,
    /* 40 */ LOAD, 0, PUSH, 1, ADD, STORE, 0, JUMP, 4,
    /* 49 */ PUSH, 0, STORE, 2, PUSH, 0, STORE, 3, JUMP, 68,
    /* 59 */ LOAD, 1, LOAD, 0, ADD, STORE, 1, JUMP, 26,
    /* 68 */ LOAD, 3, PUSH, 8000, LESS, JUMPZ, 106,
    /* 75 */ LOAD, 3, GET, JUMPZ, 90,
    /* 80 */ LOAD, 2, PUSH, 13, XOR, PUSH, 1, SHIFT, JUMP, 95,
    /* 90 */ LOAD, 2, LOAD, 3, ADD,
    /* 95 */ STORE, 2, LOAD, 3, PUSH, 1, ADD, STORE, 3, JUMP, 68,
    /* 106 */ LOAD, 2, END};

uint64_t workload(void) {
  uint64_t sum = 0;
  for (int round = 0; round < 200; round++) {
    for (int i = 0; i < 8192; i++) memory[i] = 0;
    sum = mix(sum, (uint64_t)interpret(program));
  }
  return sum;
}
