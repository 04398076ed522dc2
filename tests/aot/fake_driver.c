#include "fake_driver.h"

#include <string.h>

enum { FAKE_MODULES = 64, INVALID_VALUE = 1, INVALID_IMAGE = 200, NO_BINARY_FOR_GPU = 209, INVALID_HANDLE = 400, NOT_FOUND = 500 };

struct fake_state fake;

/* A module and its function share a slot: the kernels under test are one to a module. */
static struct fake_slot {
  int image, loaded;
  unsigned int shared_limit;
} slots[FAKE_MODULES];

static int enter(void) {
  if (!fake.recording) return 0;
  ++fake.calls;
  return fake.fail_at != 0 && fake.calls == fake.fail_at ? fake.fail_result : 0;
}

static int mistake(int result) {
  ++fake.mistakes;
  return result;
}

static struct fake_slot *slot_of(void *handle) {
  const size_t offset = (size_t)((char *)handle - (char *)slots);
  if (handle == NULL || offset >= sizeof slots || offset % sizeof slots[0] != 0) return NULL;
  return slots[offset / sizeof slots[0]].loaded ? (struct fake_slot *)handle : NULL;
}

static int ctx_get_current(void **context) {
  const int failed = enter();
  if (failed) return failed;
  *context = fake.context;
  return 0;
}

static int ctx_get_device(int *device) {
  const int failed = enter();
  if (failed) return failed;
  *device = 3;
  return 0;
}

static int device_get_attribute(int *value, int attribute, int device) {
  const int failed = enter();
  if (failed) return failed;
  if (device != 3) return mistake(INVALID_VALUE);
  switch (attribute) {
    case 16: *value = fake.sms; return 0;
    case 75: *value = fake.capability / 10; return 0;
    case 76: *value = fake.capability % 10; return 0;
    case 97: *value = fake.shared_limit; return 0;
    default: return mistake(INVALID_VALUE);
  }
}

static int stream_is_capturing(void *stream, int *status) {
  const int failed = enter();
  if (failed) return failed;
  if (stream != NULL) return mistake(INVALID_VALUE);
  *status = fake.capturing;
  return 0;
}

/* Binary compatibility as the CUDA programming guide states it: never to or from an exact target. */
static int runs_here(const struct fake_image *image) {
  if (image->capability == fake.capability) return 1;
  return !image->exact && fake.capability != 87 && image->capability / 10 == fake.capability / 10 && image->capability < fake.capability;
}

static int module_load_data(void **module, const void *image) {
  int row, index;
  const int failed = enter();
  if (failed) return failed;
  for (row = 0; row < fake_image_count && memcmp(fake_images[row].digest, image, 32) != 0; ++row) {
  }
  if (row == fake_image_count) return mistake(INVALID_IMAGE);
  if (!runs_here(&fake_images[row])) return mistake(NO_BINARY_FOR_GPU);
  for (index = 0; slots[index].loaded; ++index) {
  }
  slots[index].loaded = 1;
  slots[index].image = row;
  slots[index].shared_limit = 48 * 1024;
  ++fake.modules;
  fake.images_loaded |= 1 << row;
  *module = &slots[index];
  return 0;
}

static int module_unload(void *module) {
  const int failed = enter();
  struct fake_slot *slot = slot_of(module);
  if (slot == NULL) return mistake(INVALID_HANDLE);
  slot->loaded = 0; /* also when the call reports a failure: an earlier launch's error, say */
  --fake.modules;
  return failed;
}

static int module_get_function(void **function, void *module, const char *name) {
  const int failed = enter();
  struct fake_slot *slot = slot_of(module);
  if (failed) return failed;
  if (slot == NULL) return mistake(INVALID_HANDLE);
  if (strcmp(fake_images[slot->image].kernel, name) != 0) return mistake(NOT_FOUND);
  *function = slot;
  return 0;
}

static int func_get_attribute(int *value, int attribute, void *function) {
  const int failed = enter();
  const struct fake_slot *slot = slot_of(function);
  if (failed) return failed;
  if (slot == NULL) return mistake(INVALID_HANDLE);
  switch (attribute) {
    case 0: *value = (int)fake_images[slot->image].threads + fake.threads_off; return 0;
    case 3: *value = fake_images[slot->image].stack_bytes + fake.local_bytes_off; return 0;
    case 4: *value = fake_images[slot->image].registers + fake.registers_off; return 0;
    default: return mistake(INVALID_VALUE);
  }
}

static int func_set_attribute(void *function, int attribute, int value) {
  const int failed = enter();
  struct fake_slot *slot = slot_of(function);
  if (failed) return failed;
  if (slot == NULL) return mistake(INVALID_HANDLE);
  if (attribute != 8 || value < 0 || value > fake.shared_limit) return mistake(INVALID_VALUE);
  slot->shared_limit = (unsigned int)value;
  return 0;
}

static int func_load(void *function) {
  const int failed = enter();
  if (failed) return failed;
  if (slot_of(function) == NULL) return mistake(INVALID_HANDLE);
  ++fake.functions_loaded;
  return 0;
}

static int launch_kernel_ex(const texpr_launch_config *config, void *function, void **params, void **extra) {
  const int failed = enter();
  const struct fake_slot *slot = slot_of(function);
  const struct fake_image *image;
  struct fake_launch *record;
  int index;
  if (!fake.recording || failed) return failed;
  if (slot == NULL) return mistake(INVALID_HANDLE);
  image = &fake_images[slot->image];
  if (config->grid_x == 0 || config->grid_x > 0x7fffffffu || config->grid_y != 1 || config->grid_z != 1) return mistake(INVALID_VALUE);
  if (config->block_x != image->threads || config->block_y != 1 || config->block_z != 1) return mistake(INVALID_VALUE);
  if (config->shared_bytes != image->shared_bytes || config->shared_bytes > slot->shared_limit) return mistake(INVALID_VALUE);
  const uint32_t *attribute = (const uint32_t *)config->attributes; /* of 18 words; those that a launcher knows */
  if (attribute == NULL && config->attribute_count != 0) return mistake(INVALID_VALUE);
  if (extra != NULL) return mistake(INVALID_VALUE);
  uint32_t cluster = 1;
  for (index = 0; index < (int)config->attribute_count; ++index, attribute += 18) {
    if (attribute[0] == 6 && attribute[2] == 1) {
      ++fake.early_launches;
    } else if (attribute[0] == 4 && attribute[2] > 1 && attribute[3] == 1 && attribute[4] == 1) {
      cluster = attribute[2];
      if (config->grid_x % cluster != 0) return mistake(INVALID_VALUE);
    } else {
      return mistake(INVALID_VALUE);
    }
  }
  if (fake.launches == FAKE_MAX_LAUNCHES) return mistake(INVALID_VALUE);
  record = &fake.launch[fake.launches++];
  memset(record, 0, sizeof *record);
  record->image = slot->image;
  record->grid = config->grid_x;
  record->block = config->block_x;
  record->cluster = cluster;
  record->shared_bytes = config->shared_bytes;
  record->stream = config->stream;
  for (index = 0; index < image->param_count; ++index) {
    memcpy(record->params + record->param_bytes, params[index], (size_t)image->param_bytes[index]);
    record->param_bytes += (uint32_t)image->param_bytes[index];
  }
  return 0;
}

static int fill(uint64_t address, uint64_t value, size_t count, void *stream, unsigned int bits) {
  const int failed = enter();
  const uint64_t numbers[3] = {address, value, count};
  struct fake_launch *record;
  if (!fake.recording || failed) return failed;
  if (address == 0 || address % (bits / 8) != 0 || count == 0) return mistake(INVALID_VALUE);
  if (fake.launches == FAKE_MAX_LAUNCHES) return mistake(INVALID_VALUE);
  record = &fake.launch[fake.launches++];
  memset(record, 0, sizeof *record);
  record->image = -1;
  record->block = bits;
  record->stream = stream;
  record->param_bytes = sizeof numbers;
  memcpy(record->params, numbers, sizeof numbers);
  return 0;
}

static int memset_d8_async(uint64_t address, unsigned char value, size_t count, void *stream) {
  return fill(address, value, count, stream, 8);
}
static int memset_d16_async(uint64_t address, unsigned short value, size_t count, void *stream) {
  return fill(address, value, count, stream, 16);
}
static int memset_d32_async(uint64_t address, unsigned int value, size_t count, void *stream) {
  return fill(address, value, count, stream, 32);
}

void fake_reset(void) {
  static int the_context;
  memset(&fake, 0, sizeof fake);
  memset(slots, 0, sizeof slots);
  fake.capability = 80;
  fake.sms = 108;
  fake.shared_limit = 163 * 1024;
  fake.recording = 1;
  fake.driver_version = 13000;
  fake.context = &the_context;
}

static int driver_get_version(int *version) {
  const int failed = enter();
  if (failed) return failed;
  *version = fake.driver_version;
  return 0;
}

/* Not a real map: what it was made of, in the order of the arguments. */
static int tensor_map_encode_tiled(void *map, int type, uint32_t rank, void *address, const uint64_t *dims, const uint64_t *strides,
                                   const uint32_t *box, const uint32_t *element_strides, int interleave, int swizzle,
                                   int promotion, int fill) {
  const int failed = enter();
  uint64_t words[16] = {0};
  uint32_t dim;
  if (failed) return failed;
  if (map == NULL || (uintptr_t)map % 64 != 0 || rank < 1 || rank > 5 || interleave != 0 || fill != 0) return mistake(INVALID_VALUE);
  words[0] = (uint64_t)(uintptr_t)address;
  words[1] = (uint64_t)1 << 21 | (uint64_t)type << 8 | (uint64_t)rank;
  words[2] = (uint64_t)swizzle << 8 | (uint64_t)promotion;
  for (dim = 0; dim < rank; ++dim) {
    if (dims[dim] < 1 || dims[dim] > (uint64_t)1 << 32 || box[dim] < 1 || box[dim] > 256 || element_strides[dim] != 1) {
      return mistake(INVALID_VALUE);
    }
    words[3 + dim] = dims[dim] << 16 | box[dim];
    if (dim + 1 < rank) words[8 + dim] = strides[dim];
  }
  memcpy(map, words, sizeof words);
  return 0;
}

void fake_table(texpr_driver *driver) {
  memset(driver, 0, sizeof *driver);
  driver->struct_size = sizeof *driver;
  driver->abi_version = TEXPR_ABI_VERSION;
  driver->ctx_get_current = ctx_get_current;
  driver->ctx_get_device = ctx_get_device;
  driver->device_get_attribute = device_get_attribute;
  driver->stream_is_capturing = stream_is_capturing;
  driver->module_load_data = module_load_data;
  driver->module_unload = module_unload;
  driver->module_get_function = module_get_function;
  driver->func_get_attribute = func_get_attribute;
  driver->func_set_attribute = func_set_attribute;
  driver->func_load = func_load;
  driver->launch_kernel_ex = launch_kernel_ex;
  driver->memset_d8_async = memset_d8_async;
  driver->memset_d16_async = memset_d16_async;
  driver->memset_d32_async = memset_d32_async;
  driver->driver_get_version = driver_get_version;
  driver->tensor_map_encode_tiled = tensor_map_encode_tiled;
}
