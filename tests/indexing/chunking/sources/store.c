/* Copyright 2024 The Authors. */

#include <stdio.h>
#include "store.h"

#define LIMIT 10
#define MAX(a, b) \
  ((a) > (b) ? (a) : (b))

struct entry {
  char *key;
  char *value;
};

typedef struct {
  int size;
} cursor_t;

static int load(const char *path)
{
  return path != NULL;
}

/* Opens a store. */
struct store *
store_open(const char *path,
           int mode)
{
  load(path);
  return NULL;
}

#ifdef HAVE_MMAP
static void *map_file(int file)
{
  return NULL;
}
#endif
