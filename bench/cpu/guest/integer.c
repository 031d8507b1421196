/* CoreMark's kinds of work: linked lists, matrices, a state machine over text, and a CRC over what they give. */
#include "guest.h"

#define NODES 300
#define SIZE 24
#define ROUNDS 2000

static uint16_t crc16(uint16_t crc, uint16_t value) {
  for (int bit = 0; bit < 16; bit++) {
    int carry = (crc ^ value) & 1;
    crc >>= 1;
    value >>= 1;
    if (carry) crc ^= 0xa001;
  }
  return crc;
}

struct node {
  struct node *next;
  int16_t key;
  int16_t order;
};
static struct node nodes[NODES];

static struct node *reversed(struct node *list) {
  struct node *result = 0;
  while (list) {
    struct node *next = list->next;
    list->next = result;
    result = list;
    list = next;
  }
  return result;
}

static int by_key(const struct node *a, const struct node *b) { return a->key - b->key; }
static int by_order(const struct node *a, const struct node *b) { return a->order - b->order; }

/* Merge sort, bottom up. */
static struct node *sorted(struct node *list, int (*compare)(const struct node *, const struct node *)) {
  for (int run = 1;; run *= 2) {
    struct node *rest = list, *head = 0, **tail = &head;
    int merges = 0;
    while (rest) {
      struct node *a = rest, *b = rest;
      int left = 0, right = run;
      merges++;
      while (b && left < run) b = b->next, left++;
      while (left > 0 || (right > 0 && b)) {
        struct node *least;
        if (left > 0 && (right == 0 || !b || compare(a, b) <= 0)) least = a, a = a->next, left--;
        else least = b, b = b->next, right--;
        *tail = least;
        tail = &least->next;
      }
      rest = b;
    }
    *tail = 0;
    list = head;
    if (merges <= 1) return list;
  }
}

static uint16_t lists(uint32_t *seed) {
  for (int i = 0; i < NODES; i++) {
    nodes[i].key = (int16_t)next_random(seed);
    nodes[i].order = (int16_t)i;
    nodes[i].next = i + 1 < NODES ? &nodes[i + 1] : 0;
  }
  uint16_t crc = 0;
  struct node *list = sorted(reversed(nodes), by_key);
  for (int wanted = 0; wanted < 24; wanted++) {
    int at = 0;
    const struct node *found = list;
    while (found && (found->order & 0x7f) != wanted) found = found->next, at++;
    crc = crc16(crc, (uint16_t)(found ? at : -1));
  }
  list = sorted(list, by_order);
  for (const struct node *node = list; node; node = node->next) crc = crc16(crc, (uint16_t)node->key);
  return crc;
}

static int16_t a[SIZE][SIZE], b[SIZE][SIZE];
static int32_t product[SIZE][SIZE];

static uint16_t matrices(uint32_t *seed) {
  for (int i = 0; i < SIZE; i++) {
    for (int j = 0; j < SIZE; j++) a[i][j] = (int16_t)next_random(seed), b[i][j] = (int16_t)next_random(seed);
  }
  uint16_t crc = 0;
  for (int shift = 0; shift < 3; shift++) {
    for (int i = 0; i < SIZE; i++) {
      for (int j = 0; j < SIZE; j++) {
        int32_t sum = 0;
        for (int k = 0; k < SIZE; k++) {
          int32_t term = a[i][k] * b[k][j];
          sum += shift == 2 ? ((term >> 2) & 0xf) * ((term >> 5) & 0x7f) : term >> shift;
        }
        product[i][j] = sum;
      }
    }
    int32_t above = 0, last = 0;
    for (int i = 0; i < SIZE; i++) {
      for (int j = 0; j < SIZE; j++) {
        above += product[i][j] > last ? 10 : 1;
        last = product[i][j];
        a[i][j] = (int16_t)(a[i][j] + 3);
      }
    }
    crc = crc16(crc, (uint16_t)above);
  }
  return crc;
}

enum state { START, SIGN, INTEGER, POINT, FRACTION, EXPONENT, DIGITS, INVALID, STATES };

static enum state step(enum state state, char c) {
  int digit = c >= '0' && c <= '9';
  switch (state) {
    case START:
      return digit ? INTEGER : c == '+' || c == '-' ? SIGN : c == '.' ? POINT : INVALID;
    case SIGN:
      return digit ? INTEGER : c == '.' ? POINT : INVALID;
    case INTEGER:
      return digit ? INTEGER : c == '.' ? FRACTION : c == 'e' ? EXPONENT : INVALID;
    case POINT:
    case FRACTION:
      return digit ? FRACTION : c == 'e' ? EXPONENT : INVALID;
    case EXPONENT:
      return digit || c == '-' ? DIGITS : INVALID;
    case DIGITS:
      return digit ? DIGITS : INVALID;
    default:
      return INVALID;
  }
}

static uint16_t states(uint32_t *seed) {
  static const char *const words[] = {"5012",   "1234",   "-874",   "+122",     "35.54400", ".1234500", "-110.700",
                                      "+0.644", "5.500e3", "-.123e-2", "-87e+832", "+0.6e-12", "T0.3e-1F", "-T.T++Tq"};
  uint32_t counts[STATES] = {0};
  uint16_t crc = 0;
  for (int i = 0; i < 120; i++) {
    enum state state = START;
    for (const char *c = words[next_random(seed) % 14]; *c && state != INVALID; c++) {
      state = step(state, *c);
      counts[state]++;
    }
    crc = crc16(crc, (uint16_t)state);
  }
  for (int i = 0; i < STATES; i++) crc = crc16(crc, (uint16_t)counts[i]);
  return crc;
}

uint64_t workload(void) {
  uint32_t seed = 1;
  uint64_t sum = 0;
  for (int round = 0; round < ROUNDS; round++) {
    sum = mix(sum, lists(&seed));
    sum = mix(sum, matrices(&seed));
    sum = mix(sum, states(&seed));
  }
  return sum;
}
