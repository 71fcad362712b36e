//! The operations that models and editing are made of, one file each.

pub mod draw;
