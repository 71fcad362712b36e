//! What a device must be able to do.

use std::any::Any;
use std::ffi::{CStr, c_void};

use crate::Result;

/// A place in a device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Address(pub u64);

impl Address {
    /// `bytes` further on.
    pub(super) fn offset(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64)
    }
}

/// A point in a queue's work, to wait for.
pub struct Mark(pub(super) Box<dyn Any + Send + Sync>);

/// Device memory, given back on drop.
pub(super) struct Memory {
    pub address: Address,
    /// Frees it.
    pub owner: Box<dyn Any + Send + Sync>,
}

/// The extent of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Blocks along x, y and z.
    pub blocks: [u32; 3],
    /// Threads of a block, a multiple of 32.
    pub threads: u32,
    /// Bytes of shared memory of a block.
    pub shared: u32,
}

/// A kernel as the build found it.
pub struct Kernel {
    /// The exported name.
    pub name: &'static CStr,
    /// The file that it lies in, an index of `kernels::FATBINS`.
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "the emulator has no modules"))]
    pub module: usize,
    /// Its host build.
    #[cfg(feature = "emulator")]
    pub entry: unsafe extern "C" fn(arguments: *mut *mut c_void),
}

/// A device with one queue of work: everything happens in the order of the calls, and only [`Driver::download`] and
/// [`Driver::synchronize`] wait for it.
pub(super) trait Driver: Send + Sync {
    /// `bytes` bytes on a multiple of 256; what they hold is undefined.
    fn alloc(&self, bytes: usize) -> Result<Memory>;
    /// Copies to the device. `bytes` may change once this returns.
    fn upload(&self, to: Address, bytes: &[u8]) -> Result<()>;
    /// Waits for `after`, not for later work, and copies from the device.
    fn download(&self, after: &Mark, from: Address, out: &mut [u8]) -> Result<()>;
    /// Sets bytes.
    fn fill(&self, to: Address, byte: u8, bytes: usize) -> Result<()>;
    /// Runs a kernel; `arguments` point at the values of its parameters.
    fn launch(&self, kernel: &'static Kernel, grid: Grid, arguments: &mut [*mut c_void]) -> Result<()>;
    /// The point behind all work so far.
    fn mark(&self) -> Result<Mark>;
    /// Waits for all work and tells what went wrong in it.
    fn synchronize(&self) -> Result<()>;
}
