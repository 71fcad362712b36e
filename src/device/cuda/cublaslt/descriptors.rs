//! The library's descriptions of a product, freed on drop.
#![allow(unsafe_code)]

use std::ptr::from_ref;

use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys::{
    self, cublasLtEpilogue_t as Epilogue, cublasLtMatmulDescAttributes_t as Attribute,
    cublasLtMatmulPreferenceAttributes_t as Preference, cudaDataType,
};

use super::{ALIGNMENT, WORKSPACE};
use crate::device::Layout;

/// `CUBLAS_OP_T`, which the bindings leave out.
const TRANSPOSE: i32 = 1;

/// The operation: operands, epilogue.
pub(super) struct Description(pub sys::cublasLtMatmulDesc_t);

impl Description {
    /// Sums in f32; adds a bias of the output's type if there is one. In columns, which the library counts in, a matrix is
    /// what its transpose is in rows: Dᵀ = Bᵀ·Aᵀ, so its first operand is our B and its second our A.
    pub fn new(layout: Layout, output: cudaDataType, bias: bool) -> Result<Self, CublasError> {
        // Products of f32 stay in f32; those of bf16 are summed in f32.
        let sums = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let mut description = Self(result::create_matmul_desc(sums, cudaDataType::CUDA_R_32F)?);
        match layout {
            Layout::Nt => description.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &TRANSPOSE)?,
            Layout::Nn => {}
            Layout::Tn => description.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSB, &TRANSPOSE)?,
        }
        if bias {
            description.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &Epilogue::CUBLASLT_EPILOGUE_BIAS)?;
            description.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &output)?;
        }
        Ok(description)
    }

    pub fn set<T>(&mut self, attribute: Attribute, value: &T) -> Result<(), CublasError> {
        // SAFETY: the description lives; the library copies the value.
        unsafe {
            result::set_matmul_desc_attribute(self.0, attribute, from_ref(value).cast(), size_of::<T>())
        }
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: created by this, destroyed once.
        destroyed(unsafe { result::destroy_matmul_desc(self.0) });
    }
}

/// A matrix as the library sees it: columns, each of them a row of ours.
pub(super) struct Columns(pub sys::cublasLtMatrixLayout_t);

impl Columns {
    /// Of `rows` rows of ours, `stride` apart, with `width` elements each.
    pub fn new(
        kind: cudaDataType,
        (rows, width): (usize, usize),
        stride: usize,
    ) -> Result<Self, CublasError> {
        result::create_matrix_layout(kind, width as u64, rows as u64, stride as i64).map(Self)
    }
}

impl Drop for Columns {
    fn drop(&mut self) {
        // SAFETY: created by this, destroyed once.
        destroyed(unsafe { result::destroy_matrix_layout(self.0) });
    }
}

/// What algorithms may be chosen.
pub(super) struct Preferences(pub sys::cublasLtMatmulPreference_t);

impl Preferences {
    /// Of algorithms that need no more than the workspace, and no other `reductions` than these.
    pub fn new(reductions: u32) -> Result<Self, CublasError> {
        let mut preferences = Self(result::create_matmul_pref()?);
        preferences.set(Preference::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &WORKSPACE)?;
        preferences.set(Preference::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions)?;
        for operand in [
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        ] {
            preferences.set(operand, &ALIGNMENT)?;
        }
        Ok(preferences)
    }

    fn set<T>(&mut self, attribute: Preference, value: &T) -> Result<(), CublasError> {
        // SAFETY: the preferences live; the library copies the value.
        unsafe {
            result::set_matmul_pref_attribute(self.0, attribute, from_ref(value).cast(), size_of::<T>())
        }
    }
}

impl Drop for Preferences {
    fn drop(&mut self) {
        // SAFETY: created by this, destroyed once.
        destroyed(unsafe { result::destroy_matmul_pref(self.0) });
    }
}

fn destroyed(result: Result<(), CublasError>) {
    if let Err(error) = result {
        tracing::debug!("cuBLASLt: {error}");
    }
}
