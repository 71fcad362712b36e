//! The kernels on the host: the emulator of `kernels/emu` behind the driver's trait.
//!
//! Memory is filled with NaN and surrounded by guards: NaN too, so that what is read past a buffer shows in results; checked
//! after every launch; and out of bounds for AddressSanitizer where the kernels are built with it.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytemuck::{Pod, Zeroable};

use super::Device;
use super::driver::{Address, Driver, Grid, Kernel, Mark, Memory};
use crate::{Error, Result};

unsafe extern "C" {
    /// Runs all blocks of a kernel; null, or what went wrong, valid until this thread's next call.
    fn toedit_emulate(
        name: *const c_char,
        entry: unsafe extern "C" fn(*mut *mut c_void),
        grid: *const u32,
        threads: u32,
        shared: usize,
        arguments: *mut *mut c_void,
        reversed: i32,
    ) -> *const c_char;
    /// Lets AddressSanitizer stop kernels that touch these bytes; nothing where they are built without.
    fn toedit_forbid(at: *const c_void, bytes: usize);
    /// Takes it back.
    fn toedit_allow(at: *const c_void, bytes: usize);
}

/// In which order the threads of a block run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// From the first to the last.
    Ascending,
    /// From the last to the first.
    Descending,
    /// Once in either order; a launch whose results differ by one bit fails: threads race in it.
    Both,
}

/// Bytes before each allocation; as many, up to 255 more, lie behind.
const GUARD: usize = size_of::<Line>();
/// What guards hold, over and over: NaN in every floating-point type, but not the NaN of fresh memory.
const GUARD_BYTES: [u8; 2] = [0xF5, 0xFF];
/// What fresh memory holds: NaN in every floating-point type.
const FRESH_BYTE: u8 = 0xFF;

/// The unit of allocation, so that buffers start where CUDA's would.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(256))]
struct Line([u8; 256]);

/// A host allocation with its guards.
struct Block {
    lines: Vec<Line>,
    bytes: usize,
}

impl Block {
    fn new(bytes: usize) -> Result<Self> {
        let count = bytes.div_ceil(size_of::<Line>()) + 2;
        let mut lines = Vec::new();
        lines.try_reserve_exact(count).map_err(|_| Error::OutOfMemory { bytes })?;
        lines.resize(count, Line(bytemuck::cast([GUARD_BYTES; 128])));
        let mut block = Self { lines, bytes };
        block.data_mut().fill(FRESH_BYTE);
        block.forbid_guards();
        Ok(block)
    }

    fn address(&self) -> Address {
        Address(self.data().as_ptr() as u64)
    }

    fn data(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[GUARD..][..self.bytes]
    }

    fn data_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[GUARD..][..self.bytes]
    }

    /// What lies before and behind the data.
    fn guards(&self) -> [&[u8]; 2] {
        let (before, rest) = bytemuck::cast_slice(&self.lines).split_at(GUARD);
        [before, &rest[self.bytes..]]
    }

    fn forbid_guards(&self) {
        // SAFETY: the bytes are this block's; they stay what they are.
        self.guards().iter().for_each(|guard| unsafe { toedit_forbid(guard.as_ptr().cast(), guard.len()) });
    }

    fn allow_guards(&self) {
        // SAFETY: as above.
        self.guards().iter().for_each(|guard| unsafe { toedit_allow(guard.as_ptr().cast(), guard.len()) });
    }

    /// Whether no byte around the data has changed.
    fn is_intact(&self) -> bool {
        self.allow_guards();
        let [before, behind] = self.guards();
        let holds = |bytes: &[u8], first: usize| {
            bytes.iter().zip(first..).all(|(byte, index)| *byte == GUARD_BYTES[index % 2])
        };
        let intact = holds(before, 0) && holds(behind, self.bytes);
        self.forbid_guards();
        intact
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.allow_guards();
    }
}

/// All memory of one emulator, by address.
#[derive(Default)]
struct Blocks(BTreeMap<u64, Block>);

impl Blocks {
    /// `bytes` bytes from `address` on, inside one allocation.
    fn slice(&mut self, address: Address, bytes: usize) -> Result<&mut [u8]> {
        let found = self.0.range_mut(..=address.0).next_back();
        let inside = found.and_then(|(start, block)| {
            let offset = usize::try_from(address.0 - start).ok()?;
            block.data_mut().get_mut(offset..offset.checked_add(bytes)?)
        });
        inside.ok_or_else(|| {
            Device::Emulator.error(format!("{bytes} bytes at {address:?} lie outside every buffer"))
        })
    }

    fn contents(&self) -> Vec<Vec<u8>> {
        self.0.values().map(|block| block.data().to_vec()).collect()
    }

    fn restore(&mut self, contents: &[Vec<u8>]) {
        self.0.values_mut().zip(contents).for_each(|(block, old)| block.data_mut().copy_from_slice(old));
    }
}

/// Frees a block on drop.
struct Owner {
    blocks: Arc<Mutex<Blocks>>,
    address: Address,
}

impl Drop for Owner {
    fn drop(&mut self) {
        lock(&self.blocks).0.remove(&self.address.0);
    }
}

/// A device on the host. Work is done by the time that a call returns.
pub(super) struct Emulator {
    schedule: Schedule,
    blocks: Arc<Mutex<Blocks>>,
}

impl Emulator {
    pub fn new(schedule: Schedule) -> Self {
        Self { schedule, blocks: Arc::default() }
    }

    fn run(&self, kernel: &Kernel, grid: Grid, arguments: &mut [*mut c_void], reversed: bool) -> Result<()> {
        let Grid { blocks, threads, shared } = grid;
        // SAFETY: the entry is that of the kernel whose typed launcher made the arguments, one pointer to a live value
        // for each parameter, buffers among them of this emulator's. Only ops launch; they check that buffers are as
        // large as the kernel needs, and name the indices in buffers that they trust.
        let message = unsafe {
            toedit_emulate(
                kernel.name.as_ptr(),
                kernel.entry,
                blocks.as_ptr(),
                threads,
                shared as usize,
                arguments.as_mut_ptr(),
                i32::from(reversed),
            )
        };
        if message.is_null() {
            return Ok(());
        }
        // SAFETY: a message is a C string that lives until this thread's next launch.
        Err(Device::Emulator.error(unsafe { CStr::from_ptr(message) }.to_string_lossy()))
    }

    /// Runs a kernel in both orders from the same memory, and compares what they leave.
    fn run_twice(
        &self,
        blocks: &mut Blocks,
        kernel: &Kernel,
        grid: Grid,
        arguments: &mut [*mut c_void],
    ) -> Result<()> {
        let before = blocks.contents();
        self.run(kernel, grid, arguments, false)?;
        let ascending = blocks.contents();
        blocks.restore(&before);
        self.run(kernel, grid, arguments, true)?;
        if blocks.contents() == ascending {
            return Ok(());
        }
        let reason = "threads race: two schedules of a block give different results";
        Err(Device::Emulator.error(format!("{}: {reason}", kernel.name.to_string_lossy())))
    }
}

impl Driver for Emulator {
    fn alloc(&self, bytes: usize) -> Result<Memory> {
        let block = Block::new(bytes)?;
        let address = block.address();
        lock(&self.blocks).0.insert(address.0, block);
        Ok(Memory { address, owner: Box::new(Owner { blocks: Arc::clone(&self.blocks), address }) })
    }

    fn upload(&self, to: Address, bytes: &[u8]) -> Result<()> {
        lock(&self.blocks).slice(to, bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    fn download(&self, _: &Mark, from: Address, out: &mut [u8]) -> Result<()> {
        out.copy_from_slice(lock(&self.blocks).slice(from, out.len())?);
        Ok(())
    }

    fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<()> {
        let blocks = &mut *lock(&self.blocks);
        let values = blocks.slice(from, bytes)?.to_vec();
        blocks.slice(to, bytes)?.copy_from_slice(&values);
        Ok(())
    }

    fn fill(&self, to: Address, byte: u8, bytes: usize) -> Result<()> {
        lock(&self.blocks).slice(to, bytes)?.fill(byte);
        Ok(())
    }

    fn launch(&self, kernel: &'static Kernel, grid: Grid, arguments: &mut [*mut c_void]) -> Result<()> {
        let blocks = &mut *lock(&self.blocks);
        match self.schedule {
            Schedule::Ascending => self.run(kernel, grid, arguments, false)?,
            Schedule::Descending => self.run(kernel, grid, arguments, true)?,
            Schedule::Both => self.run_twice(blocks, kernel, grid, arguments)?,
        }
        if blocks.0.values().all(Block::is_intact) {
            return Ok(());
        }
        Err(Device::Emulator.error(format!("{}: wrote past a buffer", kernel.name.to_string_lossy())))
    }

    fn mark(&self) -> Result<Mark> {
        Ok(Mark(Box::new(())))
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }
}

fn lock(blocks: &Mutex<Blocks>) -> MutexGuard<'_, Blocks> {
    blocks.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every number that starts in a guard.
    fn numbers<T: bytemuck::AnyBitPattern>(guard: &[u8]) -> Vec<T> {
        guard.windows(size_of::<T>()).step_by(2).map(bytemuck::pod_read_unaligned).collect()
    }

    #[test]
    fn what_lies_past_a_buffer_is_not_a_number() {
        for bytes in [0, 2, 6, 254, 256, 258, 1000] {
            let block = Block::new(bytes).unwrap();
            block.allow_guards();
            for guard in block.guards() {
                assert!(guard.len() >= 256 && !guard.chunks(2).any(|bytes| bytes == [FRESH_BYTE; 2]));
                assert!(numbers::<half::bf16>(guard).into_iter().all(half::bf16::is_nan), "{bytes}");
                assert!(numbers::<f32>(guard).into_iter().all(f32::is_nan), "{bytes}");
                assert!(numbers::<f64>(guard).into_iter().all(f64::is_nan), "{bytes}");
            }
        }
    }

    #[test]
    fn every_write_around_a_buffer_is_noticed() {
        for bytes in [0, 1, 255, 256, 257] {
            let mut block = Block::new(bytes).unwrap();
            block.data_mut().fill(0);
            assert!(block.is_intact());
            block.allow_guards();
            for index in (0..GUARD).chain(GUARD + bytes..block.lines.len() * GUARD) {
                let all: &mut [u8] = bytemuck::cast_slice_mut(&mut block.lines);
                let old = std::mem::replace(&mut all[index], 0);
                assert!(!block.is_intact(), "{bytes} bytes: {index}");
                block.allow_guards();
                bytemuck::cast_slice_mut::<_, u8>(&mut block.lines)[index] = old;
            }
            assert!(block.is_intact());
        }
    }
}
