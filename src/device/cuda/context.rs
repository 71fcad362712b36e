//! A GPU: found, checked and opened; and the way that every call to it takes.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::fmt;
use std::panic::catch_unwind;
use std::sync::OnceLock;

use cudarc::driver::result::{self, DriverError, ctx, device, primary_ctx};
use cudarc::driver::sys::{self, CUdevice_attribute, CUresult};

use super::status::{explain, is_fatal};
use crate::device::Device;
use crate::{Error, Result};

/// The oldest GPUs that the kernels run on (Ampere).
const CAPABILITY: (c_int, c_int) = (8, 0);

/// The first drivers that read a fatbin compressed for size: those of CUDA 12.4.
const COMPRESSED: c_int = 12_040;

/// What `cuDriverGetVersion` must say at least: CUDA runs machine code of a later minor version, but not of a later major
/// one.
const DRIVER: c_int = match c_int::from_str_radix(env!("TOEDIT_CUDA_MAJOR"), 10) {
    Ok(major) if major * 1000 > COMPRESSED => major * 1000,
    Ok(_) => COMPRESSED,
    Err(_) => panic!("the build gives a number"),
};

/// All functions of the driver that this crate calls. cudarc panics where it misses one.
const FUNCTIONS: [&str; 29] = [
    "cuInit",
    "cuDriverGetVersion",
    "cuDeviceGetCount",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxSetCurrent",
    "cuMemGetInfo_v2",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuMemHostAlloc",
    "cuMemFreeHost",
    "cuMemsetD8Async",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyDtoDAsync_v2",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuEventCreate",
    "cuEventRecord",
    "cuEventQuery",
    "cuEventSynchronize",
    "cuEventDestroy_v2",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuModuleGetFunction",
    "cuFuncSetAttribute",
    "cuLaunchKernel",
];

/// A GPU's primary context, the one that all libraries of a process share.
pub(super) struct Context {
    name: Device,
    device: sys::CUdevice,
    handle: sys::CUcontext,
    /// Why nothing runs any more, once that is so.
    lost: OnceLock<String>,
}

// SAFETY: CUDA's contexts may be used from every thread; each call first makes this one current on its thread.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// Opens the GPU of this ordinal among those that the process may see.
    pub fn open(ordinal: usize) -> Result<Self> {
        let name = Device::Cuda(ordinal);
        // The checks below leave cudarc no reason to panic that is known; a driver may be broken in other ways.
        catch_unwind(|| Self::connect(name, ordinal)).unwrap_or_else(|_| {
            Err(name.error("the NVIDIA driver's library is broken: install the driver again"))
        })
    }

    fn connect(name: Device, ordinal: usize) -> Result<Self> {
        check_library(name)?;
        let told = |e: DriverError| name.error(explain(e.0));
        result::init().map_err(told)?;
        check_driver(name, driver_version().map_err(told)?)?;
        let device = find(name, ordinal)?;
        let capability = capability(device).map_err(told)?;
        check_capability(name, capability)?;
        // SAFETY: the device was just found by its ordinal.
        let handle = unsafe { primary_ctx::retain(device) }.map_err(told)?;
        tracing::debug!("{name}: compute capability {}.{}", capability.0, capability.1);
        Ok(Self { name, device, handle, lost: OnceLock::new() })
    }

    /// Calls CUDA with this context current. After an error that CUDA does not recover from, every call returns that
    /// error at once.
    pub fn call<T>(
        &self,
        action: fmt::Arguments<'_>,
        call: impl FnOnce() -> Result<T, DriverError>,
    ) -> Result<T> {
        if let Some(reason) = self.lost.get() {
            return Err(self.lost(reason));
        }
        // SAFETY: the context lives until this is dropped.
        let made_current = unsafe { ctx::set_current(self.handle) };
        made_current.and_then(|()| call()).map_err(|DriverError(code)| self.error(action, code))
    }

    /// Calls CUDA to give something back. Nothing can be done where that fails, as it does once the context is lost.
    pub fn release(&self, call: impl FnOnce() -> Result<(), DriverError>) {
        if let Err(error) = self.call(format_args!("giving back"), call) {
            tracing::debug!("{error}");
        }
    }

    /// The error of this device for a code.
    pub fn error(&self, action: fmt::Arguments<'_>, code: CUresult) -> Error {
        if is_fatal(code) {
            return self.lost(self.lost.get_or_init(|| format!("{action}: {}", explain(code))));
        }
        match code {
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::OutOfMemory { bytes: 0 },
            _ => self.name.error(format_args!("{action}: {}", explain(code))),
        }
    }

    /// The device's name to the user.
    pub fn name(&self) -> Device {
        self.name
    }

    fn lost(&self, reason: &str) -> Error {
        Error::DeviceLost { device: self.name.to_string(), reason: reason.to_owned() }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once when this was made; whatever lives in the context holds a reference to this.
        if let Err(DriverError(code)) = unsafe { primary_ctx::release(self.device) } {
            tracing::debug!("{}: {}", self.name, explain(code));
        }
    }
}

/// Whether the driver's library is there.
pub fn has_driver() -> bool {
    // SAFETY: loading NVIDIA's library runs its initialisers, which is what it is made for.
    unsafe { sys::is_culib_present() }
}

/// Whether the driver's library is there with all that this crate needs of it.
fn check_library(name: Device) -> Result<()> {
    if !has_driver() {
        return Err(name.error("no NVIDIA driver found (libcuda.so.1): install one, or use --device cpu"));
    }
    // SAFETY: as above: the library is present.
    let library = unsafe { sys::culib() };
    // SAFETY: the symbols are looked up, not called.
    let missing =
        |function: &&&str| unsafe { library.get::<unsafe extern "C" fn()>(function.as_bytes()) }.is_err();
    match FUNCTIONS.iter().find(missing) {
        None => Ok(()),
        Some(function) => Err(name.error(format_args!(
            "the NVIDIA driver has no function `{function}`: it is too old; update it, or use --device cpu"
        ))),
    }
}

/// The CUDA version that the driver supports: 1000 × major + 10 × minor.
fn driver_version() -> Result<c_int, DriverError> {
    let mut version = 0;
    // SAFETY: writes one integer.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result()?;
    Ok(version)
}

fn check_driver(name: Device, version: c_int) -> Result<()> {
    if version >= DRIVER {
        return Ok(());
    }
    let written = |version: c_int| format!("{}.{}", version / 1000, version % 1000 / 10);
    Err(name.error(format_args!(
        "the NVIDIA driver supports CUDA {}, the kernels need {}: update the driver, or use --device cpu",
        written(version),
        written(DRIVER)
    )))
}

fn find(name: Device, ordinal: usize) -> Result<sys::CUdevice> {
    let told = |e: DriverError| name.error(explain(e.0));
    let count = device::get_count().map_err(told)?;
    if count < 1 {
        return Err(name.error(explain(CUresult::CUDA_ERROR_NO_DEVICE)));
    }
    match c_int::try_from(ordinal) {
        Ok(ordinal) if ordinal < count => device::get(ordinal).map_err(told),
        _ => Err(name.error(format_args!("the last GPU that the driver shows is cuda:{}", count - 1))),
    }
}

fn capability(device: sys::CUdevice) -> Result<(c_int, c_int), DriverError> {
    // SAFETY: the device was found by its ordinal.
    let attribute = |attribute| unsafe { device::get_attribute(device, attribute) };
    Ok((
        attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    ))
}

fn check_capability(name: Device, (major, minor): (c_int, c_int)) -> Result<()> {
    if (major, minor) >= CAPABILITY {
        return Ok(());
    }
    let (least, _) = CAPABILITY;
    Err(name.error(format_args!(
        "its compute capability is {major}.{minor}, the kernels need {least}.0 (Ampere) or later: use --device cpu"
    )))
}
