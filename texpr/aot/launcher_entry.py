"""C text of one entry: its state, init and close, and the public query and launch around check and the variants."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from texpr.aot.abi import max_launches, tensors
from texpr.aot.c_entry import EntryContext
from texpr.aot.c_expr import c_condition
from texpr.aot.c_names import comment
from texpr.aot.ir import KernelSource, TensorMap
from texpr.aot.launcher_check import check_text
from texpr.aot.launcher_variant import effective_guard, variant_function_name, variant_text
from texpr.math.expr import TRUE
from texpr.targets import TARGETS


def entry_text(
    c: EntryContext, kernels: Mapping[str, KernelSource], images: Mapping[tuple[str, str], int]
) -> list[str]:
    """All functions of an entry. ``images`` gives the row of the bundle's image table for (kernel, target).

    ValueError if no variant has all its kernels for any target.
    """
    variants = [[*variant_text(c, variant, kernels), ""] for variant in c.entry.variants]
    return [
        *_state(c),
        "",
        *_target_choice(c, images),
        "",
        *_image_table(c, images),
        "",
        *_init(c, kernels),
        "",
        *_close(c),
        "",
        *check_text(c),
        "",
        *_call_struct(c),
        "",
        *[line for text in variants for line in text],
        *_run(c, kernels),
        "",
        *_query(c),
        "",
        *_launch(c),
    ]


def usable_targets(c: EntryContext, images: Mapping[tuple[str, str], int]) -> tuple[str, ...]:
    """Targets for which at least one variant has an image of every kernel it launches."""
    return tuple(
        target
        for target in c.targets
        if any(
            target in variant.targets and all((launch.kernel, target) in images for launch in variant.launches)
            for variant in c.entry.variants
        )
    )


def served_capabilities(targets: Sequence[str]) -> dict[int, str]:
    """Which of ``targets`` serves a GPU of each capability: its own, else the newest older one of its family.

    Cubins for exact targets (``a`` suffix, 8.7, 11.0) run on that capability alone, and those GPUs run nothing else
    (CUDA C++ Programming Guide, "Binary Compatibility"). Capabilities TExpr does not know are not served.
    """
    served: dict[int, str] = {}
    for gpu in TARGETS.values():
        candidates = [
            TARGETS[name]
            for name in targets
            if name == gpu.name
            or (
                not gpu.exact
                and not TARGETS[name].exact
                and TARGETS[name].major == gpu.major
                and TARGETS[name].minor < gpu.minor
            )
        ]
        if candidates:
            served[gpu.capability] = max(candidates, key=lambda target: target.capability).name
    return served


def _state(c: EntryContext) -> list[str]:
    kernels, variants = len(c.kernels), len(c.entry.variants)
    digest = hashlib.sha256(f"{c.bundle} {c.symbol} {kernels} {variants}".encode()).hexdigest()
    return [
        f"/* ---- {c.symbol} ---- */",
        "",
        f"/* What {c.symbol}_ctx holds. Kernels, in this order: {comment(', '.join(c.kernels))}. */",
        f"struct {c.symbol}_state {{",
        f"  struct {c.bundle}_device device;",
        f"  void *functions[{kernels}]; /* null: not loaded, no variant for this GPU launches it */",
        f"  void *modules[{kernels}];",
        f"  int32_t images[{kernels}]; /* rows of {c.bundle}_images */",
        f"  unsigned char available[{variants}]; /* which variants this GPU can run */",
        "};",
        f"typedef char {c.symbol}_state_fits[sizeof(struct {c.symbol}_state) <= sizeof({c.symbol}_ctx) ? 1 : -1];",
        f"static const uint64_t {c.symbol}_magic = (uint64_t)0x{digest[:8]} << 32 | 0x{digest[8:16]};",
    ]


def _target_choice(c: EntryContext, images: Mapping[tuple[str, str], int]) -> list[str]:
    usable = usable_targets(c, images)
    if not usable:
        raise ValueError(f"{c.symbol}: no variant has a cubin of every kernel it launches for any target")
    lines = [
        "/* The images that serve a GPU: those built for it, else for an older one of its family; -1: none. */",
        f"static int {c.symbol}_target(int capability) {{",
        "  switch (capability) {",
    ]
    for capability, target in sorted(served_capabilities(usable).items()):
        lines.append(f"    case {capability}: return {c.targets.index(target)}; /* {target} */")
    return [*lines, "    default: return -1;", "  }", "}"]


def _image_table(c: EntryContext, images: Mapping[tuple[str, str], int]) -> list[str]:
    rows: list[str] = []
    for target in c.targets:
        row = ", ".join(str(images.get((kernel, target), -1)) for kernel in c.kernels)
        comma = "" if target == c.targets[-1] else ","
        rows.append(f"  {{{row}}}{comma} /* {target} */")
    return [
        "/* The image of each kernel for each target; -1: none. */",
        f"static const int32_t {c.symbol}_image_rows[{len(c.targets)}][{len(c.kernels)}] = {{",
        *rows,
        "};",
    ]


def _init(c: EntryContext, sources: Mapping[str, KernelSource]) -> list[str]:
    kernels = len(c.kernels)
    launches = [launch for variant in c.entry.variants for launch in variant.launches]
    fills = any(launch.fills for launch in launches)
    maps = any(isinstance(param.value, TensorMap) for launch in launches for param in sources[launch.kernel].params)
    lines = [
        f"texpr_status {c.symbol}_init({c.symbol}_ctx *ctx, const texpr_driver *driver, texpr_error *error) {{",
        f"  struct {c.symbol}_state state;",
        f"  unsigned char fits[{kernels}], needed[{kernels}];",
        "  texpr_status status;",
        "  int kernel, variants = 0;",
        f"  {c.bundle}_clear(error);",
        f"  if (ctx == NULL) return {c.bundle}_fail(error, TEXPR_E_NULL, -1);",
        "  memset(ctx, 0, sizeof *ctx);",
        "  memset(&state, 0, sizeof state);",
        "  memset(needed, 0, sizeof needed);",
        f"  status = {c.bundle}_attach(&state.device, driver, {int(fills)}, {int(maps)}, error);",
        "  if (status != TEXPR_OK) return status;",
        f"  state.device.target = {c.symbol}_target(state.device.capability);",
        f"  if (state.device.target < 0) return {c.bundle}_fail(error, TEXPR_E_NO_KERNEL_IMAGE, -1);",
        "",
        "  /* Kernels whose images fit this GPU, the variants that makes available, the kernels those need. */",
        f"  for (kernel = 0; kernel < {kernels}; ++kernel) {{",
        f"    const int32_t row = {c.symbol}_image_rows[state.device.target][kernel];",
        "    state.images[kernel] = row;",
        f"    fits[kernel] = row >= 0 && {c.bundle}_images[row].shared_bytes <= (uint32_t)state.device.shared_limit;",
        "  }",
    ]
    for index, variant in enumerate(c.entry.variants):
        used = sorted({c.kernels.index(launch.kernel) for launch in variant.launches})
        listed = [c.targets.index(target) for target in c.targets if target in variant.targets]
        if len(listed) == len(c.targets):
            where = ""
        elif listed:
            where = "(" + " || ".join(f"state.device.target == {number}" for number in listed) + ") && "
        else:
            where = "0 && "
        condition = where + " && ".join(f"fits[{kernel}]" for kernel in used)
        setters = " = ".join(f"needed[{kernel}]" for kernel in used)
        lines += [
            f"  if ({condition}) {{ /* {comment(variant.name)} */",
            f"    state.available[{index}] = {setters} = 1;",
            "    ++variants;",
            "  }",
        ]
    return [
        *lines,
        f"  if (variants == 0) return {c.bundle}_fail(error, TEXPR_E_NO_KERNEL_IMAGE, -1);",
        "",
        f"  for (kernel = 0; kernel < {kernels} && status == TEXPR_OK; ++kernel) {{",
        "    if (!needed[kernel]) continue;",
        f"    status = {c.bundle}_load(&state.device.driver, &{c.bundle}_images[state.images[kernel]],",
        "        &state.modules[kernel], &state.functions[kernel], error);",
        "  }",
        "  if (status != TEXPR_OK) {",
        f"    (void){c.bundle}_unload(&state.device.driver, state.modules, {kernels});",
        "    return status;",
        "  }",
        f"  state.device.magic = {c.symbol}_magic;",
        "  memcpy(ctx, &state, sizeof state);",
        "  return TEXPR_OK;",
        "}",
    ]


def _close(c: EntryContext) -> list[str]:
    return [
        f"texpr_status {c.symbol}_close({c.symbol}_ctx *ctx, texpr_error *error) {{",
        f"  struct {c.symbol}_state state;",
        "  texpr_status status;",
        "  int detached;",
        f"  {c.bundle}_clear(error);",
        f"  if (ctx == NULL) return {c.bundle}_fail(error, TEXPR_E_NULL, -1);",
        "  memcpy(&state, ctx, sizeof state);",
        f"  if (state.device.magic != {c.symbol}_magic) return {c.bundle}_fail(error, TEXPR_E_NOT_INITIALISED, -1);",
        f"  status = {c.bundle}_detach(&state.device, state.modules, {len(c.kernels)}, &detached, error);",
        "  if (detached) memset(ctx, 0, sizeof *ctx);",
        "  return status;",
        "}",
    ]


def _call_struct(c: EntryContext) -> list[str]:
    return [
        "/* One call of query (info is set) or launch. */",
        f"struct {c.symbol}_call {{",
        f"  const struct {c.symbol}_state *state;",
        f"  const {c.symbol}_args *args;",
        f"  {c.symbol}_info *info;",
        "  void *stream;",
        "  void *workspace;",
        "  size_t workspace_bytes;",
        "  texpr_error *error;",
        f"  struct {c.symbol}_numbers n;",
        f"  struct {c.symbol}_memory m;",
        "};",
    ]


def _run(c: EntryContext, kernels: Mapping[str, KernelSource]) -> list[str]:
    """Checks the call and hands it to the first variant whose guard holds."""
    body: list[str] = []
    for index, variant in enumerate(c.entry.variants):
        guard = effective_guard(c, variant, kernels)
        condition = c_condition(guard, c.checked)
        call = f"return {variant_function_name(c, variant)}(call);"
        body.append(f"  /* {comment(variant.name)}: {comment(str(guard)) if guard is not TRUE else 'always'} */")
        if condition.checked:
            body += [
                f"  if (call->state->available[{index}]) {{",
                f"    const int holds = {condition.text};",
                f"    if (overflow) return {c.bundle}_fail(call->error, TEXPR_E_RANGE, -1);",
                f"    if (holds) {call}",
                "  }",
            ]
        elif condition.value is None:
            body.append(f"  if (call->state->available[{index}] && ({condition.text})) {call}")
        else:
            body.append(f"  if (call->state->available[{index}]{'' if condition.value else ' && 0'}) {call}")
    text = "\n".join(body)
    outputs = [f"call->m.{c.names[tensor.name]}.bytes == 0" for tensor in tensors(c.entry) if tensor.output]
    return [
        f"static texpr_status {c.symbol}_run(struct {c.symbol}_call *call) {{",
        *([f"  const struct {c.symbol}_numbers *n = &call->n;"] if "n->" in text else []),
        *([f"  const struct {c.symbol}_memory *m = &call->m;"] if "m->" in text else []),
        *(["  int overflow = 0;"] if "overflow" in text else []),
        f"  const texpr_status status = {c.symbol}_check(call->args, &call->n, &call->m, call->error);",
        "  if (status != TEXPR_OK) return status;",
        f"  if ({' && '.join(outputs)}) return TEXPR_OK; /* nothing to compute */",
        "",
        *body,
        f"  return {c.bundle}_fail(call->error, TEXPR_E_NO_VARIANT, -1);",
        "}",
    ]


def _prologue(c: EntryContext) -> list[str]:
    """What query and launch check before anything else. The state is copied: a context object is words of no
    particular type.
    """
    return [
        "  if (args->struct_size != sizeof *args || args->abi_version != TEXPR_ABI_VERSION) {",
        f"    return {c.bundle}_fail(error, TEXPR_E_ABI, -1);",
        "  }",
        "  memcpy(&state, ctx, sizeof state);",
        f"  if (state.device.magic != {c.symbol}_magic) return {c.bundle}_fail(error, TEXPR_E_NOT_INITIALISED, -1);",
        "  call.state = &state;",
        "  call.args = args;",
        "  call.error = error;",
        "  call.n.sms = state.device.sms;",
    ]


def _query(c: EntryContext) -> list[str]:
    return [
        f"texpr_status {c.symbol}_query(const {c.symbol}_ctx *ctx, const {c.symbol}_args *args, {c.symbol}_info *info,",
        "    texpr_error *error) {",
        f"  struct {c.symbol}_state state;",
        f"  struct {c.symbol}_call call;",
        "  int launch;",
        f"  {c.bundle}_clear(error);",
        f"  if (ctx == NULL || args == NULL || info == NULL) return {c.bundle}_fail(error, TEXPR_E_NULL, -1);",
        "  if (info->struct_size != sizeof *info || info->abi_version != TEXPR_ABI_VERSION) {",
        f"    return {c.bundle}_fail(error, TEXPR_E_ABI, -1);",
        "  }",
        *_prologue(c),
        "  info->variant = -1;",
        '  info->variant_name = "nothing to do";',
        "  info->launches = 0;",
        "  info->workspace_bytes = 0;",
        f"  for (launch = 0; launch < {max_launches(c.entry)}; ++launch) {{",
        "    info->grid[launch] = info->block[launch] = info->shared_bytes[launch] = 0;",
        "  }",
        "  call.info = info;",
        "  call.stream = NULL;",
        "  call.workspace = NULL;",
        "  call.workspace_bytes = 0;",
        f"  return {c.symbol}_run(&call);",
        "}",
    ]


def _launch(c: EntryContext) -> list[str]:
    return [
        f"texpr_status {c.symbol}_launch(const {c.symbol}_ctx *ctx, void *stream, const {c.symbol}_args *args,",
        "    void *workspace, size_t workspace_bytes, texpr_error *error) {",
        f"  struct {c.symbol}_state state;",
        f"  struct {c.symbol}_call call;",
        "  void *current = NULL;",
        "  int result;",
        f"  {c.bundle}_clear(error);",
        f"  if (ctx == NULL || args == NULL) return {c.bundle}_fail(error, TEXPR_E_NULL, -1);",
        *_prologue(c),
        "  call.info = NULL;",
        "  call.stream = stream;",
        "  call.workspace = workspace;",
        "  call.workspace_bytes = workspace_bytes;",
        "  result = state.device.driver.ctx_get_current(&current);",
        f"  if (result != 0) return {c.bundle}_driver_failed(error, result);",
        f"  if (current != state.device.context) return {c.bundle}_fail(error, TEXPR_E_WRONG_CONTEXT, -1);",
        f"  return {c.symbol}_run(&call);",
        "}",
    ]
