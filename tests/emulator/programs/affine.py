"""The launcher of the bundle `affine` from Python, with ctypes alone: affine.py LIBAFFINE [short]."""

import ctypes
import sys

M, K = 5, 700


class Args(ctypes.Structure):
    _fields_ = (
        ("struct_size", ctypes.c_uint32), ("abi_version", ctypes.c_uint32), ("x", ctypes.c_uint64),
        ("b", ctypes.c_uint64), ("a", ctypes.c_float), ("y", ctypes.c_uint64), ("M", ctypes.c_int64),
        ("K", ctypes.c_int64), ("x_stride_0", ctypes.c_int64),
    )  # fmt: skip


def check(result: int, what: str) -> None:
    if result != 0:
        print(f"{what}: {result}")
        sys.exit(4)


def main() -> int:
    cuda = ctypes.CDLL("libcuda.so.1")
    launcher = ctypes.CDLL(sys.argv[1])
    short = K if sys.argv[2:] == ["short"] else 0
    context, address = ctypes.c_void_p(), ctypes.c_uint64()
    check(cuda.cuInit(0), "cuInit")
    check(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0), "cuDevicePrimaryCtxRetain")
    check(cuda.cuCtxSetCurrent(context), "cuCtxSetCurrent")

    def device(values: "ctypes.Array[ctypes.c_float]") -> int:
        size = ctypes.c_size_t(ctypes.sizeof(values))
        check(cuda.cuMemAlloc_v2(ctypes.byref(address), size), "cuMemAlloc")
        check(cuda.cuMemcpyHtoD_v2(address, values, size), "cuMemcpyHtoD")
        return address.value

    x = (ctypes.c_float * (M * K))(*(i % 64 for i in range(M * K)))
    b = (ctypes.c_float * K)(*(j % 8 for j in range(K)))
    y = (ctypes.c_float * (M * K))()
    driver, ctx, error = ((ctypes.c_uint64 * 64)() for _ in range(3))
    check(launcher.affine_driver_open(driver, error), "affine_driver_open")
    check(launcher.affine_init(ctx, driver, error), "affine_init")
    out = device((ctypes.c_float * (M * K - short))())
    args = Args(ctypes.sizeof(Args), 1, device(x), device(b), 0.5, out, M, K, K)
    check(launcher.affine_launch(ctx, None, ctypes.byref(args), None, ctypes.c_size_t(0), error), "affine_launch")
    check(cuda.cuMemcpyDtoH_v2(y, ctypes.c_uint64(out), ctypes.c_size_t(ctypes.sizeof(y))), "cuMemcpyDtoH")
    wrong = sum(y[i] != x[i] * 0.5 + b[i % K] for i in range(M * K))
    print(f"{wrong} wrong")
    return int(wrong != 0)


sys.exit(main())
