//! NVIDIA GPUs, through CUDA's driver interface. The driver's library is loaded when a GPU is opened, so one binary runs
//! with and without one.
#![allow(unsafe_code)]

mod context;
mod cublaslt;
mod modules;
mod staging;
mod status;
mod stream;

use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::result;

use self::context::Context;
pub(super) use self::context::has_driver;
use self::cublaslt::CublasLt;
use self::modules::Modules;
use self::staging::{Landing, Ring};
use self::stream::{Event, Stream};
use super::driver::{Address, Driver, Grid, Kernel, Mark, Memory, PRODUCT_ROWS, Product};
use super::kernels::FATBINS;
use crate::{Error, Result};

/// Whether the GPU of an ordinal can be used.
pub(super) fn check(ordinal: usize) -> Result<()> {
    Context::open(ordinal).map(drop)
}

/// A GPU with one stream for all its work and one for copies back.
pub(super) struct Cuda {
    context: Arc<Context>,
    compute: Stream,
    uploads: Mutex<Ring>,
    downloads: Mutex<Landing>,
    modules: Modules,
    /// NVIDIA's matrix products, where the library is installed.
    products: Option<CublasLt>,
}

impl Cuda {
    /// Opens the GPU of an ordinal.
    pub fn open(ordinal: usize) -> Result<Self> {
        let context = Arc::new(Context::open(ordinal)?);
        Ok(Self {
            compute: Stream::new(&context)?,
            uploads: Mutex::new(Ring::new(&context)?),
            downloads: Mutex::new(Landing::new(&context)?),
            modules: Modules::load(&context, FATBINS)?,
            products: products(&context)?,
            context,
        })
    }
}

impl Driver for Cuda {
    fn alloc(&self, bytes: usize) -> Result<Memory> {
        let allocation = Allocation::new(&self.context, bytes)?;
        Ok(Memory { address: allocation.address, owner: Box::new(allocation) })
    }

    fn upload(&self, to: Address, bytes: &[u8]) -> Result<()> {
        lock(&self.uploads).upload(&self.compute, to, bytes)
    }

    fn download(&self, after: &Mark, from: Address, out: &mut [u8]) -> Result<()> {
        let event = after.0.downcast_ref::<Event>();
        let event = event.ok_or_else(|| self.context.name().error("a mark of another device"))?;
        // This may take long, and meanwhile other threads may read what is ready.
        event.synchronize()?;
        lock(&self.downloads).download(from, out)
    }

    fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<()> {
        // SAFETY: the memory is the caller's, who holds both buffers; a queue takes its own memory only.
        self.context.call(format_args!("copying memory"), || unsafe {
            result::memcpy_dtod_async(to.0, from.0, bytes, self.compute.handle)
        })
    }

    fn fill(&self, to: Address, byte: u8, bytes: usize) -> Result<()> {
        // SAFETY: the memory is the caller's, who holds its buffer; a queue takes its own memory only.
        self.context.call(format_args!("filling memory"), || unsafe {
            result::memset_d8_async(to.0, byte, bytes, self.compute.handle)
        })
    }

    fn launch(&self, kernel: &'static Kernel, grid: Grid, arguments: &mut [*mut c_void]) -> Result<()> {
        let function = self.modules.function(kernel, grid.shared)?;
        let [x, y, z] = grid.blocks;
        // SAFETY: the arguments were made by the kernel's typed launcher, one pointer to a live value for each parameter,
        // buffers among them of this GPU's; CUDA copies the values. Only ops launch; they check that buffers are as large
        // as the kernel needs, and name the indices in buffers that they trust.
        self.context.call(format_args!("{}", kernel.name.to_string_lossy()), || unsafe {
            result::launch_kernel(
                function,
                (x, y, z),
                (grid.threads, 1, 1),
                grid.shared,
                self.compute.handle,
                arguments,
            )
        })
    }

    fn product_rows(&self) -> usize {
        if self.products.is_some() { PRODUCT_ROWS } else { 1 }
    }

    fn mark(&self) -> Result<Mark> {
        Ok(Mark(Box::new(self.compute.record()?)))
    }

    fn synchronize(&self) -> Result<()> {
        self.compute.record()?.synchronize()
    }

    fn product(&self, product: &Product) -> Result<bool> {
        self.products.as_ref().map_or(Ok(false), |products| products.run(&self.compute, product))
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // The pinned memory and the modules go next: no work may be left that uses them.
        if let Err(error) = self.synchronize() {
            tracing::debug!("{error}");
        }
    }
}

/// The library of products where it can be used: the kernels do without it.
fn products(context: &Arc<Context>) -> Result<Option<CublasLt>> {
    match CublasLt::open(context) {
        Err(error @ Error::DeviceLost { .. }) => Err(error),
        Err(error) => {
            tracing::warn!(
                "{}: products by own kernels, as cuBLASLt cannot be used: {error}",
                context.name()
            );
            Ok(None)
        }
        Ok(Some(library)) => {
            tracing::info!("{}: products by cuBLASLt {}", context.name(), library.version());
            Ok(Some(library))
        }
        absent => absent,
    }
}

/// Device memory, freed on drop.
struct Allocation {
    context: Arc<Context>,
    address: Address,
}

impl Allocation {
    fn new(context: &Arc<Context>, bytes: usize) -> Result<Self> {
        // CUDA refuses to allocate nothing.
        let size = bytes.max(1);
        // SAFETY: allocates; nothing reads what the memory holds before it is written.
        let address =
            context.call(format_args!("allocating memory"), || unsafe { result::malloc_sync(size) });
        let address = address.map_err(|error| match error {
            Error::OutOfMemory { .. } => {
                tracing::debug!(
                    "{}: no room for {bytes} bytes; free and in all: {:?}",
                    context.name(),
                    result::mem_get_info().ok()
                );
                Error::OutOfMemory { bytes }
            }
            other => other,
        })?;
        Ok(Self { context: Arc::clone(context), address: Address(address) })
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: allocated by this, freed once; CUDA waits for work under way before it frees.
        self.context.release(|| unsafe { result::free_sync(self.address.0) });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
