//! What a device must be able to do.

use std::any::Any;
#[cfg(kernels)]
use std::ffi::{CStr, c_void};

use super::Layout;
use super::host::Access;
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
pub struct Mark(
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "the emulator never waits"))]
    pub(super)  Box<dyn Any + Send + Sync>,
);

/// Device memory, given back on drop.
pub(super) struct Memory {
    pub address: Address,
    /// Frees it.
    #[expect(dead_code, reason = "dropped, never read")]
    pub owner: Box<dyn Any + Send + Sync>,
}

/// The extent of a launch. Only this crate makes one, so only its ops call kernels, which trust their arguments.
#[cfg(kernels)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Blocks along x, y and z.
    pub(crate) blocks: [u32; 3],
    /// Threads of a block, a multiple of 32.
    pub(crate) threads: u32,
    /// Bytes of shared memory of a block.
    pub(crate) shared: u32,
}

/// A kernel as the build found it.
#[cfg(kernels)]
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

/// Rows of a product, but for one over rows ([`Layout::Tn`]), that a library computes at a time: where its inputs and outputs
/// have room for a multiple of it, every row is computed in a block of the same shape and has the same bits in every batch.
pub const PRODUCT_ROWS: usize = 4096;

/// D = A·B + bias, A and B as the layout has them: a product that a vendor's library may compute in a kernel's place.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "the emulator has no library"))]
pub(super) struct Product {
    /// What A and B are.
    pub layout: Layout,
    /// A: [m, k], or [k, m].
    pub a: Operand,
    /// B: [n, k], or [k, n], of A's type.
    pub b: Operand,
    /// D: [m, n]; f32, or of A's type.
    pub d: Operand,
    /// Rows of D to compute; but for [`Layout::Tn`], those behind, up to the next multiple of [`PRODUCT_ROWS`], may be
    /// computed too.
    pub m: usize,
    /// Columns of D.
    pub n: usize,
    /// What is summed over.
    pub k: usize,
    /// [n], of D's type.
    pub bias: Option<Address>,
    /// Add to D.
    pub accumulate: bool,
}

/// A matrix of a [`Product`], in rows.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "the emulator has no library"))]
pub(super) struct Operand {
    /// Where it starts.
    pub start: Address,
    /// Rows that it has room for.
    pub capacity: usize,
    /// Elements from one row to the next.
    pub stride: usize,
    /// Whether the elements are bf16; f32 if not.
    pub bf16: bool,
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
    /// Copies within the device; the two do not overlap.
    fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<()>;
    /// Sets bytes.
    fn fill(&self, to: Address, byte: u8, bytes: usize) -> Result<()>;
    /// The memory itself where it is the host's; then ops run their loops, and there are no kernels to launch.
    fn host(&self) -> Option<Access<'_>> {
        None
    }
    /// Runs a kernel; `arguments` point at the values of its parameters.
    #[cfg(kernels)]
    fn launch(&self, kernel: &'static Kernel, grid: Grid, arguments: &mut [*mut c_void]) -> Result<()>;
    /// Computes a product by a library where one is present that keeps a row's bits; whether it does depends on the shapes
    /// and the room, not on the rows.
    fn product(&self, _: &Product) -> Result<bool> {
        Ok(false)
    }
    /// Rows that the library computes at a time, for whose multiple buffers must have room; 1 where there is no library.
    fn product_rows(&self) -> usize {
        1
    }
    /// The point behind all work so far.
    fn mark(&self) -> Result<Mark>;
    /// Waits for all work and tells what went wrong in it.
    fn synchronize(&self) -> Result<()>;
}
