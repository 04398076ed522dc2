// The launcher of the bundle `affine` from Rust: the driver and the launcher are linked, no crate is needed.
use std::ffi::c_void;
use std::ptr::null_mut;

#[repr(C)]
struct Args {
    struct_size: u32,
    abi_version: u32,
    x: *const c_void,
    b: *const c_void,
    a: f32,
    y: *mut c_void,
    m: i64,
    k: i64,
    x_stride_0: i64,
}

#[link(name = "cuda")]
extern "C" {
    fn cuInit(flags: u32) -> i32;
    fn cuDevicePrimaryCtxRetain(context: *mut *mut c_void, device: i32) -> i32;
    fn cuCtxSetCurrent(context: *mut c_void) -> i32;
    fn cuMemAlloc_v2(address: *mut u64, bytes: usize) -> i32;
    fn cuMemcpyHtoD_v2(to: u64, from: *const c_void, bytes: usize) -> i32;
    fn cuMemcpyDtoH_v2(to: *mut c_void, from: u64, bytes: usize) -> i32;
    fn cuMemFree_v2(address: u64) -> i32;
    fn cuStreamCreate(stream: *mut *mut c_void, flags: u32) -> i32;
    fn cuStreamSynchronize(stream: *mut c_void) -> i32;
}

#[link(name = "affine")]
extern "C" {
    fn affine_driver_open(driver: *mut c_void, error: *mut c_void) -> i32;
    fn affine_init(ctx: *mut c_void, driver: *const c_void, error: *mut c_void) -> i32;
    fn affine_launch(ctx: *const c_void, stream: *mut c_void, args: *const Args, workspace: *mut c_void, bytes: usize,
                     error: *mut c_void) -> i32;
    fn affine_close(ctx: *mut c_void, error: *mut c_void) -> i32;
}

fn check(result: i32, what: &str) {
    if result != 0 {
        println!("{what}: {result}");
        std::process::exit(4);
    }
}

fn device(values: &[f32]) -> u64 {
    let mut address = 0;
    unsafe {
        check(cuMemAlloc_v2(&mut address, 4 * values.len()), "cuMemAlloc");
        check(cuMemcpyHtoD_v2(address, values.as_ptr().cast(), 4 * values.len()), "cuMemcpyHtoD");
    }
    address
}

fn main() {
    let (m, k) = (5usize, 700usize);
    let short = if std::env::args().nth(1).as_deref() == Some("short") { k } else { 0 };
    let x: Vec<f32> = (0..m * k).map(|i| (i % 64) as f32).collect();
    let b: Vec<f32> = (0..k).map(|j| (j % 8) as f32).collect();
    let mut y = vec![0f32; m * k];
    let mut driver = [0u64; 64];
    let mut ctx = [0u64; 64];
    let mut context = null_mut();
    let mut stream = null_mut();
    unsafe {
        check(cuInit(0), "cuInit");
        check(cuDevicePrimaryCtxRetain(&mut context, 0), "cuDevicePrimaryCtxRetain");
        check(cuCtxSetCurrent(context), "cuCtxSetCurrent");
        check(cuStreamCreate(&mut stream, 1), "cuStreamCreate");
        check(affine_driver_open(driver.as_mut_ptr().cast(), null_mut()), "affine_driver_open");
        check(affine_init(ctx.as_mut_ptr().cast(), driver.as_ptr().cast(), null_mut()), "affine_init");
        let (dx, db) = (device(&x), device(&b));
        let dy = device(&y[..m * k - short]);
        let args = Args {
            struct_size: std::mem::size_of::<Args>() as u32, abi_version: 1, x: dx as *const c_void,
            b: db as *const c_void, a: 0.5, y: dy as *mut c_void, m: m as i64, k: k as i64, x_stride_0: k as i64,
        };
        check(affine_launch(ctx.as_ptr().cast(), stream, &args, null_mut(), 0, null_mut()), "affine_launch");
        check(cuStreamSynchronize(stream), "cuStreamSynchronize");
        check(cuMemcpyDtoH_v2(y.as_mut_ptr().cast(), dy, 4 * y.len()), "cuMemcpyDtoH");
        check(affine_close(ctx.as_mut_ptr().cast(), null_mut()), "affine_close");
        check(cuMemFree_v2(dx) | cuMemFree_v2(db) | cuMemFree_v2(dy), "cuMemFree");
    }
    let wrong = (0..m * k).filter(|&i| y[i] != x[i] * 0.5 + b[i % k]).count();
    println!("{wrong} wrong");
    std::process::exit((wrong != 0) as i32);
}
