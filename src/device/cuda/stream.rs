//! Queues of work on a GPU, points in them, and host memory that the GPU reads and writes by itself.
#![allow(unsafe_code)]

use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use cudarc::driver::result::{self, DriverError, event, stream};
use cudarc::driver::sys::{self, CUresult};

use super::context::Context;
use crate::{Error, Result};

/// Work in order.
pub(super) struct Stream {
    context: Arc<Context>,
    pub handle: sys::CUstream,
}

// SAFETY: CUDA's streams may be used from every thread.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

impl Stream {
    pub fn new(context: &Arc<Context>) -> Result<Self> {
        let handle = context
            .call(format_args!("creating a stream"), || stream::create(stream::StreamKind::NonBlocking))?;
        Ok(Self { context: Arc::clone(context), handle })
    }

    /// The point behind all work so far.
    pub fn record(&self) -> Result<Event> {
        let event = Event::new(&self.context)?;
        // SAFETY: both are of the same context and live.
        self.context.call(format_args!("recording an event"), || unsafe {
            event::record(event.handle, self.handle)
        })?;
        Ok(event)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: created by this, destroyed once; CUDA finishes the work first.
        self.context.release(|| unsafe { stream::destroy(self.handle) });
    }
}

/// A point in a stream.
pub(super) struct Event {
    context: Arc<Context>,
    handle: sys::CUevent,
}

// SAFETY: CUDA's events may be used from every thread.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    /// One that waiting threads sleep on: batches take milliseconds, and the host has other work for its cores.
    fn new(context: &Arc<Context>) -> Result<Self> {
        let flags = sys::CUevent_flags::CU_EVENT_BLOCKING_SYNC as u32
            | sys::CUevent_flags::CU_EVENT_DISABLE_TIMING as u32;
        let mut handle = null_mut();
        // SAFETY: writes one handle.
        context.call(format_args!("creating an event"), || unsafe {
            sys::cuEventCreate(&raw mut handle, flags).result()
        })?;
        Ok(Self { context: Arc::clone(context), handle })
    }

    /// Whether the stream has come here; tells what went wrong in its work.
    pub fn has_passed(&self) -> Result<bool> {
        // SAFETY: the event is live.
        let query = || match unsafe { event::query(self.handle) } {
            Err(DriverError(CUresult::CUDA_ERROR_NOT_READY)) => Ok(false),
            result => result.map(|()| true),
        };
        self.context.call(format_args!("asking for the device's progress"), query)
    }

    /// Waits on the host until the stream has come here; tells what went wrong in its work.
    pub fn synchronize(&self) -> Result<()> {
        // SAFETY: the event is live.
        self.context
            .call(format_args!("waiting for the device"), || unsafe { event::synchronize(self.handle) })
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: created by this, destroyed once; CUDA keeps what streams still wait on.
        self.context.release(|| unsafe { event::destroy(self.handle) });
    }
}

/// Host memory that the GPU copies from and to without the CPU.
pub(super) struct Pinned {
    context: Arc<Context>,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: plain memory that this owns.
unsafe impl Send for Pinned {}

impl Pinned {
    pub fn new(context: &Arc<Context>, len: usize) -> Result<Self> {
        let refused =
            || context.name().error(format_args!("cannot pin {len} bytes of host memory: see ulimit -l"));
        // SAFETY: allocates; the memory is set below before anything reads it.
        let start =
            context.call(format_args!("pinning host memory"), || unsafe { result::malloc_host(len, 0) });
        let start =
            start.map_err(|error| if let Error::OutOfMemory { .. } = error { refused() } else { error })?;
        let start = NonNull::new(start.cast::<u8>()).ok_or_else(refused)?;
        // SAFETY: `len` bytes were just allocated there.
        unsafe { start.write_bytes(0, len) };
        Ok(Self { context: Arc::clone(context), start, len })
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// The bytes. None of them may be under way to or from the GPU.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: allocated with this length and set; borrowed mutably through `self`.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: allocated by this, freed once; its users wait for copies under way before they drop it.
        self.context.release(|| unsafe { result::free_host(self.start.as_ptr().cast()) });
    }
}
