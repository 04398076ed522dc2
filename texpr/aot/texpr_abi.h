/* texpr_abi.h: what every TExpr bundle shares. Plain C89; also valid C++98. No CUDA headers needed.
 *
 * A bundle never links libcuda, allocates, prints, exits or keeps global state. It reaches the driver through the table below, which
 * <name>_driver_open() fills from libcuda.so.1, or which the host fills itself (that is also how it is tested).
 */
#ifndef TEXPR_ABI_H
#define TEXPR_ABI_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TEXPR_ABI_VERSION 1u

/* Statuses. 0 is success; every failure is negative and distinct. A CUresult is never returned; it is in texpr_error.cuda_result. */
typedef int32_t texpr_status;
#define TEXPR_OK 0
#define TEXPR_E_NULL (-1)             /* a required pointer is null                       (argument) */
#define TEXPR_E_ABI (-2)              /* struct_size or abi_version does not match */
#define TEXPR_E_DIM (-3)              /* a dim is negative or larger than supported       (argument = index of the dim) */
#define TEXPR_E_REQUIRE (-4)          /* a require= condition of the algorithm fails      (argument = index of the condition) */
#define TEXPR_E_MISALIGNED (-5)       /* a pointer is not aligned to its element size     (argument) */
#define TEXPR_E_OVERLAP (-6)          /* an output overlaps another tensor, or the workspace (argument, other; other = -1: the workspace) */
#define TEXPR_E_RANGE (-7)            /* sizes overflow the index arithmetic of the chosen variant */
#define TEXPR_E_SCALAR (-8)           /* an integer scalar is outside its declared range  (argument) */
#define TEXPR_E_STRIDE (-9)           /* a stride is negative or smaller than the row     (argument) */
#define TEXPR_E_WORKSPACE (-10)       /* workspace is null or too small                   (needed = bytes) */
#define TEXPR_E_WORKSPACE_ALIGN (-11) /* workspace is not 256-byte aligned */
#define TEXPR_E_NO_VARIANT (-12)      /* no variant's guard holds for these arguments on this GPU */
#define TEXPR_E_NO_KERNEL_IMAGE (-13) /* no cubin for this GPU; <name>_architectures() lists what is inside (capability = the GPU's) */
#define TEXPR_E_WRONG_CONTEXT (-14)   /* the current context is not the one init was called in */
#define TEXPR_E_NOT_INITIALISED (-15) /* init did not succeed on this ctx, or close was called */
#define TEXPR_E_CAPTURING (-16)       /* init or close during stream capture */
#define TEXPR_E_NO_DRIVER (-17)       /* libcuda.so.1 or one of its entry points is missing */
#define TEXPR_E_DRIVER (-18)          /* a driver call failed                             (cuda_result) */
#define TEXPR_E_RESOURCES (-19)       /* the loaded kernel's resources differ from the manifest */
#define TEXPR_E_OLD_DRIVER (-20)      /* the driver is older than the cubins need         (needed and other = CUDA versions
                                         as of cuDriverGetVersion: the least that loads them, the driver's) */

/* Details of a failure; every field is 0 or -1 when it says nothing. */
typedef struct texpr_error {
  int32_t status;
  int32_t cuda_result; /* CUresult of the failing driver call */
  int32_t argument;    /* index in the argument order of the signature, or as said beside the status; -1 if none */
  int32_t other;       /* second argument of an overlap; -1 if none */
  int32_t dim;         /* dim of that argument; -1 if none */
  int32_t capability;  /* the GPU's major * 10 + minor */
  uint64_t needed;     /* bytes of workspace needed, or as said beside the status */
} texpr_error;

/* Laid out like CUlaunchConfig (CUDA 12 and 13). */
typedef struct texpr_launch_config {
  unsigned int grid_x, grid_y, grid_z;
  unsigned int block_x, block_y, block_z;
  unsigned int shared_bytes;
  void *stream;
  void *attributes;
  unsigned int attribute_count;
} texpr_launch_config;

/* The driver functions a bundle calls; signatures and meaning as in the CUDA driver API, int = CUresult.
 * Later versions only append: a bundle takes the part of a table that struct_size covers, and what lies behind it as null. */
typedef struct texpr_driver {
  uint32_t struct_size;
  uint32_t abi_version;
  int (*ctx_get_current)(void **context);                                     /* cuCtxGetCurrent */
  int (*ctx_get_device)(int *device);                                         /* cuCtxGetDevice */
  int (*device_get_attribute)(int *value, int attribute, int device);         /* cuDeviceGetAttribute */
  int (*stream_is_capturing)(void *stream, int *status);                      /* cuStreamIsCapturing */
  int (*module_load_data)(void **module, const void *image);                  /* cuModuleLoadData */
  int (*module_unload)(void *module);                                         /* cuModuleUnload */
  int (*module_get_function)(void **function, void *module, const char *name); /* cuModuleGetFunction */
  int (*func_get_attribute)(int *value, int attribute, void *function);       /* cuFuncGetAttribute */
  int (*func_set_attribute)(void *function, int attribute, int value);        /* cuFuncSetAttribute */
  int (*func_load)(void *function);                                           /* cuFuncLoad; may be null (driver < 12.4) */
  int (*launch_kernel_ex)(const texpr_launch_config *config, void *function, void **params, void **extra); /* cuLaunchKernelEx */
  /* May be null unless the bundle fills memory: init then says TEXPR_E_NO_DRIVER. */
  int (*memset_d8_async)(uint64_t address, unsigned char value, size_t count, void *stream);   /* cuMemsetD8Async */
  int (*memset_d16_async)(uint64_t address, unsigned short value, size_t count, void *stream); /* cuMemsetD16Async */
  int (*memset_d32_async)(uint64_t address, unsigned int value, size_t count, void *stream);   /* cuMemsetD32Async */
  int (*driver_get_version)(int *version); /* cuDriverGetVersion; may be null: then no driver is refused as too old */
  /* cuTensorMapEncodeTiled; may be null unless the bundle passes tensor maps: init then says TEXPR_E_NO_DRIVER. */
  int (*tensor_map_encode_tiled)(void *map, int type, uint32_t rank, void *address, const uint64_t *dims, const uint64_t *strides,
                                 const uint32_t *box, const uint32_t *element_strides, int interleave, int swizzle,
                                 int promotion, int fill);
} texpr_driver;

#ifdef __cplusplus
}
#endif
#endif
