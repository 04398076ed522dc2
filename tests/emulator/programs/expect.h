/* What every test program here shares: EXPECT a result of a call, and a kernel of its own. */
#ifndef TEST_EXPECT_H
#define TEST_EXPECT_H
#include "cuda_driver.h"

#include <stdio.h>

static int failures;

static const char *result_name(CUresult result) {
  const char *name = NULL;
  cuGetErrorName(result, &name);
  return name != NULL ? name : "?";
}

static void expect(CUresult got, CUresult wanted, const char *call, int line) {
  if (got != wanted) {
    printf("line %d: %s: %s instead of %s\n", line, call, result_name(got), result_name(wanted));
    ++failures;
  }
}

#define EXPECT(wanted, call) expect(call, wanted, #call, __LINE__)
#define OK(call) EXPECT(0, call)
#define TRUE(condition)                                         \
  do {                                                          \
    if (!(condition)) {                                         \
      printf("line %d: not so: %s\n", __LINE__, #condition);    \
      ++failures;                                               \
    }                                                           \
  } while (0)

/* add(u32 *p, u32 n): p[i] += n for one block; `scale` is a variable of the module. */
static const char ptx[] =
    ".version 8.0\n.target sm_80\n.address_size 64\n.visible .global .align 4 .u32 scale = 7;\n"
    ".visible .entry add(.param .u64 p, .param .u32 n)\n{\n"
    ".reg .b64 %rd<4>; .reg .b32 %r<4>;\n"
    "ld.param.u64 %rd1, [p]; ld.param.u32 %r1, [n]; mov.u32 %r2, %tid.x;\n"
    "mul.wide.u32 %rd2, %r2, 4; add.s64 %rd3, %rd1, %rd2;\n"
    "ld.global.u32 %r3, [%rd3];\nadd.u32 %r3, %r3, %r1;\nst.global.u32 [%rd3], %r3;\nret;\n}\n"
    ".visible .entry nothing() { ret; }\n";

#endif
