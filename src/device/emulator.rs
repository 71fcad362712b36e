//! The kernels on the host: the emulator of `kernels/emu` behind the driver's trait.
//!
//! Memory is filled with NaN and surrounded by guard bytes, which are checked after every launch.
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

/// Bytes before and behind each allocation.
const GUARD: usize = 256;
/// What guards hold.
const GUARD_BYTE: u8 = 0xA5;
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
        lines.resize(count, Line([GUARD_BYTE; 256]));
        let mut block = Self { lines, bytes };
        block.data_mut().fill(FRESH_BYTE);
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

    /// Whether no byte around the data has changed.
    fn is_intact(&self) -> bool {
        let all: &[u8] = bytemuck::cast_slice(&self.lines);
        let (before, rest) = all.split_at(GUARD);
        before.iter().chain(&rest[self.bytes..]).all(|byte| *byte == GUARD_BYTE)
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
