//! What the library tells of its algorithms.
#![allow(unsafe_code)]

use std::fmt;
use std::ptr::null_mut;

use cudarc::cublaslt::result::CublasError;
use cudarc::cublaslt::sys::{self, cublasLtMatmulAlgoConfigAttributes_t as Config};

use crate::device::Layout;

pub(super) type Algorithm = sys::cublasLtMatmulAlgo_t;

/// `CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE`: the parts of a sum over k lie side by side in the workspace, in f32, and are
/// added in one order.
const SIDE_BY_SIDE: u32 = 2;

/// The ways to add up the parts of a sum over k that a product may use, a bit each; none where a row's bits must not depend
/// on the batch.
pub(super) fn reductions(layout: Layout) -> u32 {
    if layout == Layout::Tn { SIDE_BY_SIDE } else { 0 }
}

/// Whether an algorithm adds in no other way than those, as far as the library tells.
pub(super) fn is_sound(algorithm: &Algorithm, layout: Layout) -> bool {
    let splits = config(algorithm, Config::CUBLASLT_ALGO_CONFIG_SPLITK_NUM);
    match config(algorithm, Config::CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME) {
        Ok(0) => splits.is_ok_and(|splits| splits <= 1),
        Ok(reduction) => reduction == reductions(layout),
        Err(_) => false,
    }
}

/// What an algorithm is configured by, for those who look into a choice.
pub(super) struct Choice<'a>(pub &'a Algorithm);

impl fmt::Display for Choice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (separator, name, attribute) in [
            ("", "id", Config::CUBLASLT_ALGO_CONFIG_ID),
            (", ", "tile", Config::CUBLASLT_ALGO_CONFIG_TILE_ID),
            (", ", "splits", Config::CUBLASLT_ALGO_CONFIG_SPLITK_NUM),
            (", ", "reduction", Config::CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME),
        ] {
            match config(self.0, attribute) {
                Ok(value) => write!(f, "{separator}{name} {}", value as i32)?,
                Err(error) => write!(f, "{separator}{name} unknown ({error})")?,
            }
        }
        Ok(())
    }
}

/// A number that an algorithm is configured by.
fn config(algorithm: &Algorithm, attribute: Config) -> Result<u32, CublasError> {
    let mut value = 0u32;
    // SAFETY: writes four bytes; the last pointer may be null.
    unsafe {
        let to = (&raw mut value).cast();
        sys::cublasLtMatmulAlgoConfigGetAttribute(algorithm, attribute, to, size_of::<u32>(), null_mut())
    }
    .result()?;
    Ok(value)
}
