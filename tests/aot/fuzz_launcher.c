/* Calls one entry of a bundle with many argument structs and writes down what happened, for a model in Python to judge.
 *
 *   fuzz_launcher random <seed> <count> <file>     values drawn from the good lists, now and then from the bad ones
 *   fuzz_launcher product 0 0 <file>               every combination of the good values
 *
 * What needs no model is checked here: a call that fails launches nothing, query and launch agree, faults of the driver come back as
 * TEXPR_E_DRIVER, modules never leak. Objects lie in allocations of exactly their size, so that ASan sees every stray access.
 * Compiled with -DSYMBOL=<entry> -DHEADER=<"name.h">; the fields and their values come from the generated fuzz_config.h. */
#include HEADER
#include "fake_driver.h"
#include "fuzz_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)
#define NAME(suffix) JOIN(SYMBOL, suffix)

#define REQUIRE(condition) \
  do { \
    if (!(condition)) { \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      exit(1); \
    } \
  } while (0)

struct outcome {
  NAME(_args) args;
  uint64_t workspace, workspace_bytes;
  NAME(_info) info;
  texpr_error query_error, launch_error;
  int32_t launches, reserved;
  struct fake_launch launch[FUZZ_LAUNCHES];
};

static NAME(_ctx) *ctx;
static NAME(_args) *args;
static NAME(_info) *info;
static texpr_error *error;

static uint64_t random_state;
static uint64_t draw(uint64_t bound) {
  random_state ^= random_state >> 12;
  random_state ^= random_state << 25;
  random_state ^= random_state >> 27;
  return (random_state * 0x2545f4914f6cdd1du >> 16) % bound;
}

static void set_field(const struct fuzz_field *field, int64_t value) {
  memcpy((unsigned char *)args + field->offset, &value, field->bytes); /* little-endian hosts only */
}

static void choose_randomly(uint64_t *workspace, uint64_t *workspace_bytes) {
  size_t index;
  const uint64_t bad_field = draw(4) == 0 ? draw(FUZZ_FIELDS) : FUZZ_FIELDS;
  const uint64_t worse_field = draw(8) == 0 ? draw(FUZZ_FIELDS) : FUZZ_FIELDS;
  for (index = 0; index < FUZZ_FIELDS; ++index) {
    const struct fuzz_field *field = &fuzz_fields[index];
    if (field->bad_count != 0 && (index == bad_field || index == worse_field))
      set_field(field, field->bad[draw(field->bad_count)]);
    else
      set_field(field, field->good[draw(field->good_count)]);
  }
  *workspace = draw(8) != 0 ? (uint64_t)1 << 50 : draw(2) != 0 ? ((uint64_t)1 << 50) + 128 : draw(2) != 0 ? 0 : (uint64_t)1 << 40;
  *workspace_bytes = draw(8) != 0 ? (uint64_t)1 << 40 : draw(1 << 20);
}

static int choose_in_turn(uint64_t number) {
  size_t index;
  for (index = 0; index < FUZZ_FIELDS; ++index) {
    set_field(&fuzz_fields[index], fuzz_fields[index].good[number % fuzz_fields[index].good_count]);
    number /= fuzz_fields[index].good_count;
  }
  return number == 0;
}

static void init(const texpr_driver *driver) {
  REQUIRE(NAME(_init)(ctx, driver, error) == TEXPR_OK);
  REQUIRE(error->status == TEXPR_OK);
}

/* Each driver call of init, then of close, fails once: nothing stays loaded, nothing works afterwards, a clean retry does. */
static void inject_faults(void) {
  texpr_driver driver;
  int at, calls;
  fake_reset();
  fake_table(&driver);
  init(&driver);
  calls = fake.calls;
  REQUIRE(calls > 10 && fake.modules > 0 && fake.functions_loaded == fake.modules);
  REQUIRE(NAME(_close)(ctx, error) == TEXPR_OK && fake.modules == 0);
  for (at = 1; at <= calls; ++at) {
    fake_reset();
    fake.fail_at = at;
    fake.fail_result = 719;
    REQUIRE(NAME(_init)(ctx, &driver, error) == TEXPR_E_DRIVER);
    REQUIRE(error->status == TEXPR_E_DRIVER && error->cuda_result == 719);
    REQUIRE(fake.modules == 0);
    memset(args, 0, sizeof *args);
    args->struct_size = sizeof *args;
    args->abi_version = TEXPR_ABI_VERSION;
    REQUIRE(NAME(_launch)(ctx, NULL, args, NULL, 0, error) == TEXPR_E_NOT_INITIALISED);
    REQUIRE(NAME(_close)(ctx, error) == TEXPR_E_NOT_INITIALISED);
    fake.fail_at = 0;
    init(&driver);
    fake.fail_at = fake.calls + 1 + at % 3; /* context query, capture query, first unload */
    REQUIRE(NAME(_close)(ctx, error) == TEXPR_E_DRIVER && error->cuda_result == 719);
    if (at % 3 != 2) REQUIRE(NAME(_close)(ctx, error) == TEXPR_OK);
    REQUIRE(fake.modules == 0 && fake.mistakes == 0);
  }
}

static void call_once(struct outcome *out, uint64_t workspace, uint64_t workspace_bytes, int fault) {
  uint32_t index, expected = 0, kernels = 0;
  int query_status, launch_status;
  memset(info, 0xaa, sizeof *info);
  info->struct_size = sizeof *info;
  info->abi_version = TEXPR_ABI_VERSION;
  memset(error, 0xaa, sizeof *error);
  fake.calls = fake.launches = 0;
  query_status = NAME(_query)(ctx, args, info, error);
  REQUIRE(query_status == error->status);
  REQUIRE(fake.calls == 0);
  out->query_error = *error;
  out->info = *info;
  out->info.variant_name = NULL;
  if (query_status == TEXPR_OK) {
    for (index = 0; index < info->launches; ++index) expected += info->grid[index] != 0;
  }

  memset(error, 0xaa, sizeof *error);
  fake.fail_at = fault;
  fake.fail_result = 700;
  launch_status = NAME(_launch)(ctx, &random_state, args, (void *)(uintptr_t)workspace, (size_t)workspace_bytes, error);
  fake.fail_at = 0;
  REQUIRE(launch_status == error->status);
  REQUIRE(fake.mistakes == 0);
  if (fault != 0 && fake.calls >= fault) {
    REQUIRE(launch_status == TEXPR_E_DRIVER && error->cuda_result == 700 && fake.launches < fault);
    fake.calls = fake.launches = 0;
    launch_status = NAME(_launch)(ctx, &random_state, args, (void *)(uintptr_t)workspace, (size_t)workspace_bytes, error);
  }
  if (launch_status == TEXPR_OK) {
    REQUIRE(query_status == TEXPR_OK);
    for (index = 0; index < (uint32_t)fake.launches; ++index) kernels += fake.launch[index].image >= 0;
    REQUIRE(kernels == expected && fake.calls == 1 + fake.launches);
  } else {
    REQUIRE(fake.launches == 0 && fake.calls == 1);
    REQUIRE(query_status == launch_status || query_status == TEXPR_OK);
  }
  for (index = 0; index < (uint32_t)fake.launches; ++index) {
    REQUIRE(fake.launch[index].stream == &random_state);
    fake.launch[index].stream = NULL;
  }
  memcpy(&out->args, args, sizeof *args);
  out->launch_error = *error;
  out->workspace = workspace;
  out->workspace_bytes = workspace_bytes;
  out->launches = fake.launches;
  memcpy(out->launch, fake.launch, sizeof out->launch);
}

int main(int argc, char **argv) {
  texpr_driver driver;
  struct outcome out;
  uint64_t number, count, workspace = (uint64_t)1 << 50, workspace_bytes = (uint64_t)1 << 50;
  FILE *file;
  int drawn;
  REQUIRE(argc == 5);
  drawn = strcmp(argv[1], "random") == 0;
  random_state = (uint64_t)strtoul(argv[2], NULL, 10) * 2 + 1;
  count = (uint64_t)strtoul(argv[3], NULL, 10);
  ctx = (NAME(_ctx) *)malloc(sizeof *ctx);
  args = (NAME(_args) *)malloc(sizeof *args);
  info = (NAME(_info) *)malloc(sizeof *info);
  error = (texpr_error *)malloc(sizeof *error);
  file = fopen(argv[4], "wb");
  REQUIRE(ctx != NULL && args != NULL && info != NULL && error != NULL && file != NULL);
  memset(&out, 0, sizeof out);

  inject_faults();
  fake_reset();
  fake_table(&driver);
  init(&driver);
  memset(args, 0, sizeof *args);
  args->struct_size = sizeof *args;
  args->abi_version = TEXPR_ABI_VERSION;
  for (number = 0; !drawn || number < count; ++number) {
    if (drawn)
      choose_randomly(&workspace, &workspace_bytes);
    else if (!choose_in_turn(number))
      break;
    call_once(&out, workspace, workspace_bytes, drawn && draw(8) == 0 ? 1 + (int)draw(3) : 0);
    REQUIRE(fwrite(&out, sizeof out, 1, file) == 1);
  }
  REQUIRE(NAME(_close)(ctx, error) == TEXPR_OK && fake.modules == 0 && fake.mistakes == 0);
  REQUIRE(fclose(file) == 0);
  free(error);
  free(info);
  free(args);
  free(ctx);
  return 0;
}
