//! Device memory with a type and a length.

use std::any::TypeId;
use std::marker::PhantomData;
use std::ops::Range;

use super::driver::{Address, Memory};

/// An array on a device, freed on drop.
pub struct Buffer<T> {
    pub(super) memory: Memory,
    pub(super) len: usize,
    /// The queue that it belongs to.
    pub(super) queue: u64,
    pub(super) element: PhantomData<T>,
}

impl<T> Buffer<T> {
    /// The number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of it.
    pub fn view(&self) -> View<'_, T> {
        View { address: self.memory.address, len: self.len, queue: self.queue, element: PhantomData }
    }
}

/// Part of a [`Buffer`], to read or to write: a queue's work is in order, so nothing races.
pub struct View<'a, T> {
    address: Address,
    len: usize,
    queue: u64,
    element: PhantomData<&'a T>,
}

impl<T> Clone for View<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for View<'_, T> {}

impl<'a, T> View<'a, T> {
    /// The null pointer, for parameters that may be missing.
    pub fn none() -> Self {
        Self { address: Address(0), len: 0, queue: 0, element: PhantomData }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements of `range`.
    ///
    /// # Panics
    /// If the range exceeds the view.
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {} elements", self.len);
        let address = self.address.offset(range.start * size_of::<T>());
        Self { address, len: range.len(), ..*self }
    }

    /// Whether work of this queue may use it: it lies in the queue's memory, or nowhere.
    pub(super) fn belongs_to(&self, queue: u64) -> bool {
        [0, queue].contains(&self.queue)
    }

    /// The same elements under their type's other name; none where the types differ.
    pub fn same<U: 'static>(self) -> Option<View<'a, U>>
    where
        T: 'static,
    {
        let View { address, len, queue, .. } = self;
        (TypeId::of::<T>() == TypeId::of::<U>()).then_some(View { address, len, queue, element: PhantomData })
    }

    /// Where it starts.
    pub fn address(&self) -> Address {
        self.address
    }
}

/// The view of what may be missing.
impl<'a, T> From<Option<&'a Buffer<T>>> for View<'a, T> {
    fn from(buffer: Option<&'a Buffer<T>>) -> Self {
        buffer.map_or(Self::none(), Buffer::view)
    }
}
