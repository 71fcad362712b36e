//! Copies between host and device by way of pinned memory, so that neither waits for the other.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use cudarc::driver::result;

use super::context::Context;
use super::stream::{Event, Pinned, Stream};
use crate::Result;
use crate::device::driver::Address;

/// Bytes on their way to the device: enough that uploads of a few batches never wait.
const RING: usize = 16 << 20;
/// The largest single copy to the device, so that filling the ring and emptying it overlap.
const PIECE: usize = RING / 4;
/// Copies under way at most: each holds an event, and every reservation looks at all of them.
const COPIES: usize = 64;
/// Pieces start on a multiple of this many bytes, as copies by the GPU are fastest.
const ALIGNMENT: usize = 256;
/// Bytes on their way back at a time: results are a few bytes per token.
const LANDING: usize = 4 << 20;

/// A ring of pinned memory. Each piece is reused once the copy that reads it is done.
pub(super) struct Ring {
    context: Arc<Context>,
    memory: Pinned,
    /// Where the next piece goes.
    next: usize,
    /// Pieces under way, the oldest first, and the points behind their copies.
    busy: VecDeque<(Range<usize>, Event)>,
}

impl Ring {
    pub fn new(context: &Arc<Context>) -> Result<Self> {
        Ok(Self {
            context: Arc::clone(context),
            memory: Pinned::new(context, RING)?,
            next: 0,
            busy: VecDeque::new(),
        })
    }

    /// Copies `bytes` to the device in the stream's order.
    pub fn upload(&mut self, stream: &Stream, mut to: Address, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks(PIECE) {
            let range = self.reserve(piece.len())?;
            let staged = &mut self.memory.bytes_mut()[range.clone()];
            staged.copy_from_slice(piece);
            let staged = &*staged;
            // SAFETY: the ring outlives the copy: its piece is not written before the event below has passed.
            self.context.call(format_args!("copying to the device"), || unsafe {
                result::memcpy_htod_async(to.0, staged, stream.handle)
            })?;
            self.busy.push_back((range, stream.record()?));
            to = to.offset(piece.len());
        }
        Ok(())
    }

    /// Room for a piece; waits for older copies where the ring is full of them.
    fn reserve(&mut self, len: usize) -> Result<Range<usize>> {
        while let Some((_, event)) = self.busy.front()
            && event.has_passed()?
        {
            self.busy.pop_front();
        }
        let start = if self.next + len <= self.memory.len() { self.next } else { 0 };
        let range = start..start + len;
        let overlaps = |busy: &Range<usize>| busy.start < range.end && range.start < busy.end;
        while self.busy.len() >= COPIES || self.busy.iter().any(|(busy, _)| overlaps(busy)) {
            if let Some((_, event)) = self.busy.pop_front() {
                event.synchronize()?;
            }
        }
        self.next = range.end.next_multiple_of(ALIGNMENT);
        Ok(range)
    }
}

/// Where results land, by a stream of its own: later work of the device goes on meanwhile.
pub(super) struct Landing {
    context: Arc<Context>,
    memory: Pinned,
    stream: Stream,
}

impl Landing {
    pub fn new(context: &Arc<Context>) -> Result<Self> {
        let (memory, stream) = (Pinned::new(context, LANDING)?, Stream::new(context)?);
        Ok(Self { context: Arc::clone(context), memory, stream })
    }

    /// Copies from the device what is there already, whatever other streams do.
    pub fn download(&mut self, mut from: Address, out: &mut [u8]) -> Result<()> {
        for piece in out.chunks_mut(LANDING) {
            let landed = &mut self.memory.bytes_mut()[..piece.len()];
            // SAFETY: nothing touches the memory before the wait below has ended.
            self.context.call(format_args!("copying from the device"), || unsafe {
                result::memcpy_dtoh_async(landed, from.0, self.stream.handle)
            })?;
            self.stream.record()?.synchronize()?;
            piece.copy_from_slice(&self.memory.bytes_mut()[..piece.len()]);
            from = from.offset(piece.len());
        }
        Ok(())
    }
}
