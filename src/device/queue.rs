//! A device with its work in order.

#[cfg(kernels)]
use std::ffi::c_void;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytemuck::Pod;
use half::bf16;

use super::driver::{Address, Driver, Mark, Operand, Product};
#[cfg(kernels)]
use super::driver::{Grid, Kernel};
use super::host::{Access, Host};
use super::{Buffer, Device, Layout, Rows, View};
use crate::tensor::Element;
use crate::{Error, Result};

/// A device with its work in the order of the calls. Clones share it.
///
/// On the host, an op does its work within its call, on the caller's rayon pool, and has hold of the queue until it is
/// done; other threads' ops wait. An op that waits for its own tasks may pick up any other task of the pool: one that
/// called an op of the same queue would wait for the op beneath it for ever. So call ops of one host queue from outside
/// of the pool, not from tasks that run side by side within it.
///
/// ```
/// use toedit::device::{Device, Queue};
/// let queue = Queue::open(Device::Cpu)?;
/// let buffer = queue.upload(&[1.0f32, 2.0])?;
/// assert_eq!(queue.download(buffer.view())?, [1.0, 2.0]);
/// # Ok::<(), toedit::Error>(())
/// ```
#[derive(Clone)]
pub struct Queue {
    device: Device,
    /// Tells memory of different queues apart; never 0.
    id: u64,
    driver: Arc<dyn Driver>,
}

/// The two arms of an op.
pub(crate) enum Arm<'q> {
    /// Loops over the host's memory.
    Host(Access<'q>),
    /// Launches.
    #[cfg(kernels)]
    Kernels,
}

impl Queue {
    /// Opens a device.
    ///
    /// # Errors
    /// [`Error::Device`] where this build has no kernels for it, or the machine no such device.
    pub fn open(device: Device) -> Result<Self> {
        match device {
            Device::Cpu => Ok(Self::new(device, Host::default())),
            #[cfg(feature = "cuda")]
            Device::Cuda(ordinal) => Ok(Self::new(device, super::cuda::Cuda::open(ordinal)?)),
            #[cfg(feature = "emulator")]
            Device::Emulator => Ok(Self::emulator(super::Schedule::Ascending)),
            #[allow(unreachable_patterns)]
            _ => Err(device.not_built_in()),
        }
    }

    /// The emulator, running the threads of a block in a given order.
    #[cfg(feature = "emulator")]
    pub fn emulator(schedule: super::Schedule) -> Self {
        Self::new(Device::Emulator, super::emulator::Emulator::new(schedule))
    }

    fn new(device: Device, driver: impl Driver + 'static) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self { device, id: NEXT.fetch_add(1, Relaxed), driver: Arc::new(driver) }
    }

    /// The device.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Room for `len` elements; what they hold is undefined, NaN on the emulator.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] where the device has no room.
    pub fn alloc<T: Pod>(&self, len: usize) -> Result<Buffer<T>> {
        let bytes = len.checked_mul(size_of::<T>()).ok_or(Error::OutOfMemory { bytes: usize::MAX })?;
        Ok(Buffer { memory: self.driver.alloc(bytes)?, len, queue: self.id, element: PhantomData })
    }

    /// A buffer that holds `values`.
    ///
    /// # Errors
    /// As [`Queue::alloc`], and what went wrong on the device before.
    pub fn upload<T: Pod>(&self, values: &[T]) -> Result<Buffer<T>> {
        let buffer = self.alloc(values.len())?;
        self.write(buffer.view(), values)?;
        Ok(buffer)
    }

    /// Copies `values` to the start of `to`; they may change once this returns.
    ///
    /// # Errors
    /// What went wrong on the device before.
    ///
    /// # Panics
    /// If there are more values than room, or `to` is another queue's.
    pub fn write<T: Pod>(&self, to: View<'_, T>, values: &[T]) -> Result<()> {
        let to = to.slice(0..values.len());
        if values.is_empty() {
            Ok(())
        } else {
            self.driver.upload(self.address(to), bytemuck::cast_slice(values))
        }
    }

    /// Waits for all work so far and copies `from` to the host.
    ///
    /// # Errors
    /// What went wrong on the device.
    ///
    /// # Panics
    /// If `from` is another queue's.
    pub fn download<T: Pod>(&self, from: View<'_, T>) -> Result<Vec<T>> {
        let mut values = vec![T::zeroed(); from.len()];
        self.read(&self.mark()?, from, &mut values)?;
        Ok(values)
    }

    /// Waits for `after`, not for later work, and fills `values` from the start of `from`.
    ///
    /// # Errors
    /// What went wrong on the device before.
    ///
    /// # Panics
    /// If there are more values than `from` has, or it is another queue's.
    pub fn read<T: Pod>(&self, after: &Mark, from: View<'_, T>, values: &mut [T]) -> Result<()> {
        let from = from.slice(0..values.len());
        if values.is_empty() {
            return Ok(());
        }
        self.driver.download(after, self.address(from), bytemuck::cast_slice_mut(values))
    }

    /// Copies `from` to `to`.
    ///
    /// # Errors
    /// What went wrong on the device before.
    ///
    /// # Panics
    /// If their lengths differ, they overlap, or either is another queue's.
    pub fn copy<T: Pod>(&self, from: View<'_, T>, to: View<'_, T>) -> Result<()> {
        assert_eq!(from.len(), to.len(), "elements of a copy");
        let (start, end) = (self.address(from), self.address(to));
        let bytes = from.len() * size_of::<T>();
        assert!(start.0.abs_diff(end.0) >= bytes as u64, "a copy onto itself");
        if bytes == 0 { Ok(()) } else { self.driver.copy(end, start, bytes) }
    }

    /// Sets every byte of `to`.
    ///
    /// # Errors
    /// What went wrong on the device before.
    ///
    /// # Panics
    /// If `to` is another queue's.
    pub fn fill<T: Pod>(&self, to: View<'_, T>, byte: u8) -> Result<()> {
        if to.is_empty() {
            Ok(())
        } else {
            self.driver.fill(self.address(to), byte, to.len() * size_of::<T>())
        }
    }

    /// The point behind all work so far.
    ///
    /// # Errors
    /// What went wrong on the device before.
    pub fn mark(&self) -> Result<Mark> {
        self.driver.mark()
    }

    /// Waits for all work.
    ///
    /// # Errors
    /// What went wrong in it.
    pub fn synchronize(&self) -> Result<()> {
        self.driver.synchronize()
    }

    /// Rows that inputs and outputs of products should have room for, so that [`Queue::product`] takes `rows` of them.
    pub fn capacity(&self, rows: usize) -> usize {
        rows.next_multiple_of(self.driver.product_rows())
    }

    /// out = a·b + bias, or the same added to `out`, by the vendor's library; an empty `bias` adds nothing.
    ///
    /// False, and nothing done, where there is no such library or it does not take these shapes. [`Layout::Nt`] and
    /// [`Layout::Nn`] it takes where `a` and `out` have room for a multiple of [`PRODUCT_ROWS`](super::PRODUCT_ROWS) rows,
    /// whatever their number, and then may overwrite rows of `out` up to the next multiple. Of [`Layout::Tn`] it sums all
    /// rows and overwrites nothing else.
    ///
    /// # Errors
    /// What went wrong on the device before.
    ///
    /// # Panics
    /// If the shapes do not fit, or an operand is another queue's.
    pub fn product<T: Element, D: Element>(
        &self,
        layout: Layout,
        a: Rows<'_, T>,
        b: Rows<'_, T>,
        bias: View<'_, D>,
        out: Rows<'_, D>,
        accumulate: bool,
    ) -> Result<bool> {
        let [m, n, k] = layout.sizes(a, b, out);
        assert!(bias.is_empty() || bias.len() == out.width, "{} biases", bias.len());
        self.driver.product(&Product {
            layout,
            a: self.operand(a),
            b: self.operand(b),
            d: self.operand(out),
            m,
            n,
            k,
            bias: (!bias.is_empty()).then(|| self.address(bias)),
            accumulate,
        })
    }

    /// How ops do their work here.
    pub(crate) fn arm(&self) -> Arm<'_> {
        match self.driver.host() {
            Some(host) => Arm::Host(host.of(self.id)),
            #[cfg(kernels)]
            None => Arm::Kernels,
            #[cfg(not(kernels))]
            None => unreachable!("no other device is built in"),
        }
    }

    /// Runs a kernel; one without blocks does nothing.
    #[cfg(kernels)]
    pub(super) fn launch(
        &self,
        kernel: &'static Kernel,
        grid: Grid,
        arguments: &mut [*mut c_void],
    ) -> Result<()> {
        if grid.blocks.contains(&0) { Ok(()) } else { self.driver.launch(kernel, grid, arguments) }
    }

    /// Where this queue's work finds what it is given.
    ///
    /// # Panics
    /// If it is another queue's: work may reach it after it is freed, or never.
    pub(super) fn address<T>(&self, view: View<'_, T>) -> Address {
        assert!(view.belongs_to(self.id), "memory of another queue");
        view.address()
    }

    fn operand<T>(&self, rows: Rows<'_, T>) -> Operand {
        rows.check();
        let Rows { data, width, stride, .. } = rows;
        Operand {
            start: self.address(data),
            capacity: (data.len() + stride).saturating_sub(width).checked_div(stride).unwrap_or(0),
            stride,
            bf16: size_of::<T>() == size_of::<bf16>(),
        }
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("device", &self.device).finish_non_exhaustive()
    }
}
