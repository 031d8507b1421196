/* Double arithmetic with SSE2, vectors and scalars: matrix product, bodies under gravity, a polynomial, conversions. */
#include "guest.h"

#define SIZE 64
#define BODIES 16

static double a[SIZE][SIZE], b[SIZE][SIZE], c[SIZE][SIZE];

static double product(void) {
  for (int i = 0; i < SIZE; i++) {
    for (int j = 0; j < SIZE; j++) c[i][j] = 0;
    for (int k = 0; k < SIZE; k++) {
      for (int j = 0; j < SIZE; j++) c[i][j] += a[i][k] * b[k][j];
    }
  }
  return c[5][7] + c[SIZE - 1][3];
}

static double position[BODIES][3], velocity[BODIES][3];

static double bodies(void) {
  for (int i = 0; i < BODIES; i++) {
    for (int j = 0; j < BODIES; j++) {
      if (i == j) continue;
      double d[3], square = 0.01;
      for (int k = 0; k < 3; k++) d[k] = position[j][k] - position[i][k], square += d[k] * d[k];
      double force = 0.001 / (square * __builtin_sqrt(square));
      for (int k = 0; k < 3; k++) velocity[i][k] += d[k] * force;
    }
  }
  for (int i = 0; i < BODIES; i++) {
    for (int k = 0; k < 3; k++) position[i][k] += velocity[i][k];
  }
  return position[3][1];
}

static double polynomial(void) {
  double sum = 0;
  for (int i = 0; i < 2000; i++) {
    double x = i * 0.001;
    sum += ((((x * 0.1 - 0.3) * x + 0.7) * x - 1.1) * x + 2.0) / (1.0 + x);
  }
  return sum;
}

static double conversions(void) {
  double sum = 0;
  for (int i = 0; i < 2000; i++) {
    double x = i * 1.37 - 500;
    int whole = (int)x;
    float narrow = (float)x;
    sum += x > sum ? whole : (double)narrow * 0.5;
  }
  return sum;
}

uint64_t workload(void) {
  uint32_t seed = 3;
  for (int i = 0; i < SIZE; i++) {
    for (int j = 0; j < SIZE; j++) a[i][j] = next_random(&seed) * 1e-6, b[i][j] = next_random(&seed) * 1e-6;
  }
  for (int i = 0; i < BODIES; i++) {
    for (int k = 0; k < 3; k++) position[i][k] = next_random(&seed) * 1e-6;
  }
  uint64_t sum = 0;
  for (int round = 0; round < 150; round++) {
    union {
      double value;
      uint64_t bits;
    } results[] = {{product()}, {bodies()}, {polynomial()}, {conversions()}};
    for (int i = 0; i < 4; i++) sum = mix(sum, results[i].bits);
    a[round % SIZE][1] += 0.5;
  }
  return sum;
}
