//! Plain matrix products by NVIDIA's cuBLASLt, where it is installed.
//!
//! A row's bits must not depend on the batch that it is in. So every call computes [`PRODUCT_ROWS`] rows, by an algorithm
//! that is chosen once for each shape and never splits a sum over k.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::env;
use std::ffi::c_void;
use std::ptr::{from_ref, null_mut};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys::{
    self, cublasLtEpilogue_t as Epilogue, cublasLtMatmulAlgoConfigAttributes_t as Config,
    cublasLtMatmulDescAttributes_t as Attribute, cublasLtMatmulPreferenceAttributes_t as Preference,
    cudaDataType,
};

use super::Allocation;
use super::context::Context;
use super::stream::Stream;
use crate::device::driver::{Operand, PRODUCT_ROWS, Product};
use crate::{Error, Result};

/// Turns the library off: `0`.
const SWITCH: &str = "TOEDIT_CUBLAS";
/// The oldest version used, as `cublasLtGetVersion` tells it: 12.0.
const VERSION: usize = 120_000;
/// What NVIDIA recommends for Hopper.
const WORKSPACE: usize = 32 << 20;
/// Bytes that every row starts on a multiple of.
const ALIGNMENT: u32 = 16;
/// `CUBLAS_OP_T`, which the bindings leave out.
const TRANSPOSE: i32 = 1;
/// Algorithms to choose from: the fastest that does not split k.
const CANDIDATES: usize = 16;

/// All functions of the library that this crate calls. cudarc panics where it misses one.
const FUNCTIONS: [&str; 14] = [
    "cublasLtGetVersion",
    "cublasLtCreate",
    "cublasLtDestroy",
    "cublasLtMatmulDescCreate",
    "cublasLtMatmulDescSetAttribute",
    "cublasLtMatmulDescDestroy",
    "cublasLtMatrixLayoutCreate",
    "cublasLtMatrixLayoutDestroy",
    "cublasLtMatmulPreferenceCreate",
    "cublasLtMatmulPreferenceSetAttribute",
    "cublasLtMatmulPreferenceDestroy",
    "cublasLtMatmulAlgoGetHeuristic",
    "cublasLtMatmulAlgoConfigGetAttribute",
    "cublasLtMatmul",
];

/// The library on one GPU.
pub(super) struct CublasLt {
    context: Arc<Context>,
    handle: sys::cublasLtHandle_t,
    workspace: Allocation,
    plans: Mutex<HashMap<Shape, Option<Plan>>>,
}

// SAFETY: the handle may be used from every thread; what is not safe to share lies in the mutex.
unsafe impl Send for CublasLt {}
// SAFETY: as above.
unsafe impl Sync for CublasLt {}

/// All that the choice of an algorithm may depend on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Shape {
    n: usize,
    k: usize,
    strides: [usize; 3],
    bf16: [bool; 2],
    bias: bool,
}

impl CublasLt {
    /// The library, or none where it is absent, too old or turned off.
    pub fn open(context: &Arc<Context>) -> Result<Option<Self>> {
        if env::var_os(SWITCH).is_some_and(|value| value == "0") || !is_usable() {
            return Ok(None);
        }
        let workspace = Allocation::new(context, WORKSPACE)?;
        let handle = call(context, result::create_handle)?;
        Ok(Some(Self { context: Arc::clone(context), handle, workspace, plans: Mutex::default() }))
    }

    /// Computes a product; not where the library has no algorithm for its shape that keeps a row's bits.
    pub fn run(&self, stream: &Stream, product: &Product) -> Result<bool> {
        if !fits(product) {
            return Ok(false);
        }
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let shape = Shape::of(product);
        let plan = match plans.entry(shape) {
            Entry::Occupied(planned) => planned.into_mut(),
            Entry::Vacant(place) => place.insert(self.plan(&shape)?),
        };
        let Some(plan) = plan else { return Ok(false) };
        if let Some(bias) = product.bias {
            call(&self.context, || {
                plan.description.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias.0)
            })?;
        }
        for row in (0..product.rows).step_by(PRODUCT_ROWS) {
            self.multiply(plan, stream, product, row)?;
        }
        Ok(true)
    }

    /// Computes [`PRODUCT_ROWS`] rows from `row` on. The library counts in columns: Dᵀ = B·Aᵀ.
    fn multiply(&self, plan: &Plan, stream: &Stream, product: &Product, row: usize) -> Result<()> {
        let (alpha, beta) = (1.0f32, if product.accumulate { 1.0f32 } else { 0.0 });
        let d = place(&product.d, row);
        // SAFETY: the operands have room for these rows, as `fits` has checked against what their owners say; the
        // scalars are read before the call returns.
        call(&self.context, || unsafe {
            result::matmul(
                self.handle,
                plan.description.0,
                from_ref(&alpha).cast(),
                from_ref(&beta).cast(),
                place(&product.b, 0),
                plan.b.0,
                place(&product.a, row),
                plan.a.0,
                d,
                plan.d.0,
                d,
                plan.d.0,
                &raw const plan.algorithm,
                self.workspace.address.0 as *mut c_void,
                WORKSPACE,
                stream.handle.cast(),
            )
        })
    }

    /// Chooses the algorithm of a shape, or none.
    fn plan(&self, shape: &Shape) -> Result<Option<Plan>> {
        let Shape { n, k, strides: [a, b, d], bf16: [in_bf16, out_bf16], .. } = *shape;
        let (input, output) = (kind(in_bf16), kind(out_bf16));
        let choose = || {
            let description = Description::new(shape, output)?;
            let a = Layout::new(input, k, PRODUCT_ROWS, a)?;
            let b = Layout::new(input, k, n, b)?;
            let d = Layout::new(output, n, PRODUCT_ROWS, d)?;
            let algorithm = self.algorithm(&description, [&a, &b, &d])?;
            Ok(Plan { description, a, b, d, algorithm })
        };
        match self.context.call(format_args!("cuBLASLt"), || Ok(choose()))? {
            Ok(plan) => Ok(Some(plan)),
            Err(CublasError(sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED)) => Ok(None),
            Err(error) => Err(failed(&self.context, error)),
        }
    }

    /// The fastest algorithm by the library's own estimate that sums over k in one piece.
    fn algorithm(
        &self,
        description: &Description,
        [a, b, d]: [&Layout; 3],
    ) -> Result<Algorithm, CublasError> {
        let preferences = Preferences::new()?;
        // SAFETY: plain data without a value that is invalid; entries past `count` are not read.
        let mut found: [sys::cublasLtMatmulHeuristicResult_t; CANDIDATES] = unsafe { std::mem::zeroed() };
        let mut count = 0;
        // SAFETY: all handles live; the array has room for as many as are asked for.
        unsafe {
            sys::cublasLtMatmulAlgoGetHeuristic(
                self.handle,
                description.0,
                b.0,
                a.0,
                d.0,
                d.0,
                preferences.0,
                CANDIDATES as i32,
                found.as_mut_ptr(),
                &raw mut count,
            )
        }
        .result()?;
        let found = found.iter().take(usize::try_from(count).unwrap_or(0));
        let sound = |result: &&sys::cublasLtMatmulHeuristicResult_t| {
            result.state.result().is_ok()
                && result.workspaceSize <= WORKSPACE
                && config(&result.algo, Config::CUBLASLT_ALGO_CONFIG_SPLITK_NUM)
                    .is_ok_and(|splits| splits <= 1)
                && config(&result.algo, Config::CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME) == Ok(0)
        };
        let unsupported = CublasError(sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED);
        found.into_iter().find(sound).map(|result| result.algo).ok_or(unsupported)
    }
}

impl Drop for CublasLt {
    fn drop(&mut self) {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner).clear();
        // SAFETY: created by this, destroyed once, after all work is done.
        if let Err(error) = call(&self.context, || unsafe { result::destroy_handle(self.handle) }) {
            tracing::debug!("{error}");
        }
    }
}

type Algorithm = sys::cublasLtMatmulAlgo_t;

/// How a shape is computed.
struct Plan {
    description: Description,
    a: Layout,
    b: Layout,
    d: Layout,
    algorithm: Algorithm,
}

impl Shape {
    fn of(product: &Product) -> Self {
        let Product { a, b, d, n, k, bias, .. } = product;
        Self {
            n: *n,
            k: *k,
            strides: [a.stride, b.stride, d.stride],
            bf16: [a.bf16, d.bf16],
            bias: bias.is_some(),
        }
    }
}

/// The operation: operands, epilogue.
struct Description(sys::cublasLtMatmulDesc_t);

impl Description {
    fn new(shape: &Shape, output: cudaDataType) -> Result<Self, CublasError> {
        // Products of f32 stay in f32; those of bf16 are summed in f32.
        let sums = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let mut description = Self(result::create_matmul_desc(sums, cudaDataType::CUDA_R_32F)?);
        description.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &TRANSPOSE)?;
        if shape.bias {
            description.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &Epilogue::CUBLASLT_EPILOGUE_BIAS)?;
            description.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &output)?;
        }
        Ok(description)
    }

    fn set<T>(&mut self, attribute: Attribute, value: &T) -> Result<(), CublasError> {
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
struct Layout(sys::cublasLtMatrixLayout_t);

impl Layout {
    fn new(kind: cudaDataType, rows: usize, columns: usize, stride: usize) -> Result<Self, CublasError> {
        result::create_matrix_layout(kind, rows as u64, columns as u64, stride as i64).map(Self)
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: created by this, destroyed once.
        destroyed(unsafe { result::destroy_matrix_layout(self.0) });
    }
}

/// What algorithms may be chosen.
struct Preferences(sys::cublasLtMatmulPreference_t);

impl Preferences {
    fn new() -> Result<Self, CublasError> {
        let mut preferences = Self(result::create_matmul_pref()?);
        preferences.set(Preference::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &WORKSPACE)?;
        preferences.set(Preference::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &0u32)?;
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

/// Whether the library is there, new enough and whole.
fn is_usable() -> bool {
    // SAFETY: loading NVIDIA's library runs its initialisers, which is what it is made for.
    if !unsafe { sys::is_culib_present() } {
        return false;
    }
    // SAFETY: as above; the symbols are looked up, not called.
    let has =
        |function: &&str| unsafe { sys::culib().get::<unsafe extern "C" fn()>(function.as_bytes()) }.is_ok();
    // SAFETY: the function is there and takes nothing.
    FUNCTIONS.iter().all(has) && unsafe { sys::cublasLtGetVersion() } >= VERSION
}

/// Whether whole blocks of rows fit the operands, and all rows start on a multiple of [`ALIGNMENT`] bytes.
fn fits(product: &Product) -> bool {
    let Product { a, b, d, n, bias, .. } = product;
    let aligned = |operand: &&Operand| {
        let bytes = operand.stride * element(operand.bf16);
        bytes.is_multiple_of(ALIGNMENT as usize) && operand.start.0.is_multiple_of(u64::from(ALIGNMENT))
    };
    let whole = |operand: &&Operand| {
        operand.capacity >= product.rows && operand.capacity.is_multiple_of(PRODUCT_ROWS)
    };
    [a, b, d].iter().all(aligned)
        && [a, d].iter().all(whole)
        && b.capacity >= *n
        && a.bf16 == b.bf16
        && bias.is_none_or(|bias| bias.0.is_multiple_of(u64::from(ALIGNMENT)))
}

/// The address of a row.
fn place(operand: &Operand, row: usize) -> *mut c_void {
    operand.start.offset(row * operand.stride * element(operand.bf16)).0 as *mut c_void
}

fn element(bf16: bool) -> usize {
    if bf16 { 2 } else { 4 }
}

fn kind(bf16: bool) -> cudaDataType {
    if bf16 { cudaDataType::CUDA_R_16BF } else { cudaDataType::CUDA_R_32F }
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

/// Calls the library with the context current.
fn call<T>(context: &Context, call: impl FnOnce() -> Result<T, CublasError>) -> Result<T> {
    context.call(format_args!("cuBLASLt"), || Ok(call()))?.map_err(|error| failed(context, error))
}

fn failed(context: &Context, error: CublasError) -> Error {
    context.name().error(format_args!("cuBLASLt: {error}: set {SWITCH}=0 to do without it"))
}

fn destroyed(result: Result<(), CublasError>) {
    if let Err(error) = result {
        tracing::debug!("cuBLASLt: {error}");
    }
}
