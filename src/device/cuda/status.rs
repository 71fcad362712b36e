//! What CUDA's error codes mean to a user.

use cudarc::driver::sys::CUresult;

/// Whether nothing more can run in this process after `code`: CUDA answers every later call with it.
pub(super) fn is_fatal(code: CUresult) -> bool {
    matches!(
        code,
        CUresult::CUDA_ERROR_DEINITIALIZED
            | CUresult::CUDA_ERROR_ECC_UNCORRECTABLE
            | CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE
            | CUresult::CUDA_ERROR_CONTAINED
            | CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
            | CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
            | CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED
            | CUresult::CUDA_ERROR_ASSERT
            | CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR
            | CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION
            | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
            | CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE
            | CUresult::CUDA_ERROR_INVALID_PC
            | CUresult::CUDA_ERROR_LAUNCH_FAILED
            | CUresult::CUDA_ERROR_EXTERNAL_DEVICE
            | CUresult::CUDA_ERROR_UNKNOWN
    )
}

/// The code's name and number, and what to do about it where something can be done.
pub(super) fn explain(code: CUresult) -> String {
    let known = format!("{code:?} ({})", code as u32);
    match advice(code) {
        Some(advice) => format!("{advice} [{known}]"),
        None => known,
    }
}

fn advice(code: CUresult) -> Option<&'static str> {
    Some(match code {
        CUresult::CUDA_ERROR_NO_DEVICE => {
            "the NVIDIA driver finds no GPU: look at nvidia-smi and CUDA_VISIBLE_DEVICES, or use --device cpu"
        }
        CUresult::CUDA_ERROR_STUB_LIBRARY => {
            "libcuda is the CUDA toolkit's stub, not a driver: take its folder out of LD_LIBRARY_PATH"
        }
        CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => {
            "the driver's library and its kernel module are of two versions: restart the machine"
        }
        CUresult::CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE => {
            "the CUDA compatibility package does not support this GPU: take its folder out of LD_LIBRARY_PATH"
        }
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => "the GPU has no room: nvidia-smi tells which processes fill it",
        CUresult::CUDA_ERROR_SYSTEM_NOT_READY => "the GPU is not ready: look at the system's fabric manager",
        CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE => {
            "another process holds the GPU for itself: choose another, or wait"
        }
        CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU | CUresult::CUDA_ERROR_INVALID_IMAGE => {
            "this build has no kernels for the GPU: build with its architecture in TOEDIT_CUDA_ARCHS"
        }
        CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION
        | CUresult::CUDA_ERROR_JIT_COMPILER_NOT_FOUND
        | CUresult::CUDA_ERROR_JIT_COMPILATION_DISABLED => {
            "the driver cannot compile the kernels for this GPU: update the driver, \
             or build with the GPU's architecture in TOEDIT_CUDA_ARCHS"
        }
        CUresult::CUDA_ERROR_ECC_UNCORRECTABLE | CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE => {
            "the GPU reports a fault of its hardware: run again on another one"
        }
        CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
        | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
        | CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION
        | CUresult::CUDA_ERROR_LAUNCH_FAILED => {
            "a kernel failed: run again, and if it fails again with CUDA_LAUNCH_BLOCKING=1, which names the kernel, \
             please report it"
        }
        _ => return None,
    })
}
