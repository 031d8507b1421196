/* Calls and returns, deep and many: Ackermann's function, Fibonacci's, queens on a board, a tree. */
#include "guest.h"

#define NOINLINE __attribute__((noinline, optimize("no-optimize-sibling-calls", "no-inline", "no-ipa-cp", "no-ipa-sra")))

NOINLINE static int ackermann(int m, int n) {
  if (m == 0) return n + 1;
  if (n == 0) return ackermann(m - 1, 1);
  return ackermann(m - 1, ackermann(m, n - 1));
}
NOINLINE static uint64_t fibonacci(int n) { return n < 2 ? (uint64_t)n : fibonacci(n - 1) + fibonacci(n - 2); }
NOINLINE static int queens(int row, unsigned columns, unsigned left, unsigned right) {
  if (row == 0) return 1;
  int count = 0;
  for (unsigned place = 1; place < 1u << 9; place <<= 1) {
    if ((columns | left | right) & place) continue;
    count += queens(row - 1, columns | place, (left | place) << 1, (right | place) >> 1);
  }
  return count;
}

struct tree {
  struct tree *left, *right;
  uint32_t key;
};
static struct tree pool[4096];

static uint32_t used;
NOINLINE static struct tree *inserted(struct tree *tree, uint32_t key) {
  if (!tree) {
    pool[used] = (struct tree){0, 0, key};
    return &pool[used++];
  }
  if (key < tree->key) tree->left = inserted(tree->left, key);
  else tree->right = inserted(tree->right, key);
  return tree;
}
NOINLINE static uint64_t walk(const struct tree *tree, uint64_t sum) {
  return tree ? walk(tree->right, mix(walk(tree->left, sum), tree->key)) : sum;
}

uint64_t workload(void) {
  uint64_t sum = 0;
  uint32_t seed = 11;
  for (int round = 0; round < 30; round++) {
    sum = mix(sum, (uint64_t)ackermann(2, 500 + round));
    sum = mix(sum, fibonacci(27));
    sum = mix(sum, (uint64_t)queens(9, 0, 0, 0));
    used = 0;
    struct tree *tree = 0;
    for (int i = 0; i < 4000; i++) tree = inserted(tree, next_random(&seed));
    for (int i = 0; i < 10; i++) sum = walk(tree, sum);
  }
  return sum;
}
