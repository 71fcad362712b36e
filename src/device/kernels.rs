//! The kernels' typed launchers, generated from their signatures.
#![allow(unsafe_code)]

use std::ffi::c_void;

use half::bf16;

use super::driver::{Grid, Kernel};
use super::{Queue, View};
use crate::tensor::Element;
use crate::{Error, Result};

/// Keeps other crates from implementing [`Kernels`], whose methods are handed what only this crate may launch with.
mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::bf16 {}
}

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// A count as the kernels take it.
fn int(count: usize) -> Result<i32> {
    i32::try_from(count)
        .map_err(|_| Error::Usage(format!("{count} elements: a kernel counts up to {}", i32::MAX)))
}

/// A pointer to an argument's value.
fn erase<T>(value: &T) -> *mut c_void {
    std::ptr::from_ref(value).cast_mut().cast()
}
