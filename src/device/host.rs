//! The CPU as a device: memory of the host, and no kernels: ops run their loops on it where they would launch.
#![allow(unsafe_code)]

use std::cell::RefCell;
#[cfg(kernels)]
use std::ffi::c_void;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytemuck::{Pod, Zeroable};

#[cfg(kernels)]
use super::Device;
use super::driver::{Address, Driver, Mark, Memory};
#[cfg(kernels)]
use super::driver::{Grid, Kernel};
use super::{Rows, View};
use crate::{Error, Result};

/// The unit of allocation: buffers start on a cache line.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(256))]
struct Line([u8; 256]);

/// The owner of a buffer's memory: no box, which would claim to be the only way to what views lead to as well.
struct Lines(*mut [Line]);

// SAFETY: it owns plain bytes, and does nothing but free them.
unsafe impl Send for Lines {}
// SAFETY: as above; nothing is done through a shared reference.
unsafe impl Sync for Lines {}

impl Drop for Lines {
    fn drop(&mut self) {
        // SAFETY: comes from `Box::into_raw` and is dropped once. No view is left, for views borrow the buffer that this
        // belongs to.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

/// The host's memory, of which one op at a time has hold.
#[derive(Default)]
pub(super) struct Host {
    turn: Mutex<()>,
}

impl Host {
    fn access(&self) -> Access<'_> {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        Access { _turn: turn, queue: 0, borrows: RefCell::default() }
    }
}

impl Driver for Host {
    /// Zeros; pages are touched only when written.
    fn alloc(&self, bytes: usize) -> Result<Memory> {
        let lines = bytemuck::allocation::try_zeroed_slice_box::<Line>(bytes.div_ceil(size_of::<Line>()))
            .map_err(|()| Error::OutOfMemory { bytes })?;
        let lines = Lines(Box::into_raw(lines));
        // Views carry the address alone.
        let address = Address(lines.0.expose_provenance() as u64);
        Ok(Memory { address, owner: Box::new(lines) })
    }

    fn upload(&self, to: Address, bytes: &[u8]) -> Result<()> {
        self.access().bytes_mut(to, bytes.len()).copy_from_slice(bytes);
        Ok(())
    }

    fn download(&self, _: &Mark, from: Address, out: &mut [u8]) -> Result<()> {
        out.copy_from_slice(self.access().bytes(from, out.len()));
        Ok(())
    }

    fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<()> {
        let access = self.access();
        access.bytes_mut(to, bytes).copy_from_slice(access.bytes(from, bytes));
        Ok(())
    }

    fn fill(&self, to: Address, byte: u8, bytes: usize) -> Result<()> {
        self.access().bytes_mut(to, bytes).fill(byte);
        Ok(())
    }

    fn host(&self) -> Option<Access<'_>> {
        Some(self.access())
    }

    #[cfg(kernels)]
    fn launch(&self, kernel: &'static Kernel, _: Grid, _: &mut [*mut c_void]) -> Result<()> {
        Err(Device::Cpu.error(format!("{:?} is a kernel: this op has no loops for the host", kernel.name)))
    }

    fn mark(&self) -> Result<Mark> {
        Ok(Mark(Box::new(())))
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }
}

/// One op's hold of the memory. What it is given to write overlaps nothing else that it is given.
pub(crate) struct Access<'q> {
    _turn: MutexGuard<'q, ()>,
    /// Whose memory it is.
    queue: u64,
    borrows: RefCell<Vec<Borrow>>,
}

struct Borrow {
    range: Range<u64>,
    exclusive: bool,
}

#[allow(clippy::mut_from_ref, reason = "what is handed out is recorded and never overlaps")]
impl Access<'_> {
    /// For the views of one queue.
    pub(super) fn of(self, queue: u64) -> Self {
        Self { queue, ..self }
    }

    /// From the first element of the first row to the last of the last.
    pub fn read<'a, T: Pod>(&'a self, rows: Rows<'a, T>) -> &'a [T] {
        self.slice(rows.extent())
    }

    /// The same to write, or to change in place.
    ///
    /// # Panics
    /// If any of it is borrowed already.
    pub fn write<'a, T: Pod>(&'a self, rows: Rows<'a, T>) -> &'a mut [T] {
        self.slice_mut(rows.extent())
    }

    /// The elements of a view.
    pub fn slice<'a, T: Pod>(&'a self, view: View<'a, T>) -> &'a [T] {
        // An empty slice of bytes need not be aligned for T.
        if view.is_empty() {
            return &[];
        }
        bytemuck::cast_slice(self.bytes(self.address(view), view.len() * size_of::<T>()))
    }

    /// The elements of a view, to write or to change in place.
    ///
    /// # Panics
    /// As [`Access::write`].
    pub fn slice_mut<'a, T: Pod>(&'a self, view: View<'a, T>) -> &'a mut [T] {
        if view.is_empty() {
            return &mut [];
        }
        bytemuck::cast_slice_mut(self.bytes_mut(self.address(view), view.len() * size_of::<T>()))
    }

    /// Another queue's memory is not this one's turn.
    fn address<T>(&self, view: View<'_, T>) -> Address {
        assert!(view.belongs_to(self.queue), "memory of another queue");
        view.address()
    }

    fn bytes(&self, at: Address, len: usize) -> &[u8] {
        if len == 0 {
            return &[];
        }
        self.borrow(at, len, false);
        // SAFETY: addresses come from views, which a buffer of this host outlives, whose lengths it has checked and whose
        // provenance `alloc` has exposed; the turn keeps other threads away, and the record says that no slice to write
        // overlaps.
        unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(at.0 as usize), len) }
    }

    fn bytes_mut(&self, at: Address, len: usize) -> &mut [u8] {
        if len == 0 {
            return &mut [];
        }
        self.borrow(at, len, true);
        // SAFETY: as above, and the record says that no other slice overlaps.
        unsafe { std::slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut(at.0 as usize), len) }
    }

    fn borrow(&self, at: Address, len: usize, exclusive: bool) {
        let range = at.0..at.0 + len as u64;
        let mut borrows = self.borrows.borrow_mut();
        let overlaps = |other: &Borrow| other.range.start < range.end && range.start < other.range.end;
        let shared = |other: &Borrow| !exclusive && !other.exclusive;
        assert!(!borrows.iter().any(|other| overlaps(other) && !shared(other)), "an op writes what it reads");
        borrows.push(Borrow { range, exclusive });
    }
}
