//! Plain matrix products by NVIDIA's cuBLASLt, where it is installed.
//!
//! A row's bits must not depend on the batch that it is in. So every call computes [`PRODUCT_ROWS`] rows, by an algorithm
//! that is chosen once for each shape and never splits a sum over k. The library promises no more than that; what it does
//! on a GPU, `tests/cuda/rows.rs` finds out. Gradients of weights are sums over the rows of a batch, so there is no such
//! promise to keep: a call computes all of one, and may split its sum, if its parts are added in the same order in every run.
//!
//! The price is latency: a text of 20 tokens costs as much as [`PRODUCT_ROWS`]. Where single texts are scored as they
//! come, rather than corpora, the kernels are faster: set `TOEDIT_CUBLAS=0`.
#![allow(unsafe_code)]

mod algorithm;
mod descriptors;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::env;
use std::ffi::c_void;
use std::fmt;
use std::ptr::from_ref;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys::{self, cublasLtMatmulDescAttributes_t as Attribute, cudaDataType};

use self::algorithm::{Algorithm, Choice, is_sound, reductions};
use self::descriptors::{Columns, Description, Preferences};
use super::Allocation;
use super::context::Context;
use super::stream::Stream;
use crate::device::Layout;
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
/// Algorithms to choose from: the fastest that keeps its bits.
const CANDIDATES: usize = 16;
/// Plans that are kept. A model has tens of shapes, but gradients of weights have one for every size of a batch.
const PLANS: usize = 1024;

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
    layout: Layout,
    /// Rows that a call computes.
    m: usize,
    n: usize,
    k: usize,
    strides: [usize; 3],
    bf16: [bool; 2],
    bias: bool,
    /// Whether the operands have room for the call's rows, and start where the library wants it.
    fits: bool,
}

impl CublasLt {
    /// The library, or none where it is absent, too old or turned off.
    pub fn open(context: &Arc<Context>) -> Result<Option<Self>> {
        if let Some(reason) = unusable() {
            tracing::info!("{}: products by own kernels: {reason}", context.name());
            return Ok(None);
        }
        let workspace = Allocation::new(context, WORKSPACE)?;
        let handle = call(context, result::create_handle)?;
        Ok(Some(Self { context: Arc::clone(context), handle, workspace, plans: Mutex::default() }))
    }

    /// The version of the library.
    pub fn version(&self) -> usize {
        version()
    }

    /// Computes a product; not where the library has no algorithm for its shape that keeps a row's bits.
    pub fn run(&self, stream: &Stream, product: &Product) -> Result<bool> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let shape = Shape::of(product);
        if plans.len() >= PLANS && !plans.contains_key(&shape) {
            // A shape that comes again gets the same plan again.
            plans.clear();
        }
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
        for row in (0..product.m).step_by(shape.m) {
            self.multiply(plan, stream, product, row)?;
        }
        Ok(true)
    }

    /// Computes the rows of D of one call from `row` on. Its rows of A are the same, or, of a transposed A, all: there is but
    /// one call, from row 0 on.
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

    /// Chooses the algorithm of a shape, or none, and says which.
    fn plan(&self, shape: &Shape) -> Result<Option<Plan>> {
        let own = |reason: &str| tracing::debug!("{shape}: own kernel: {reason}");
        if !shape.fits {
            own("nothing to sum, no room for whole blocks of rows, or rows that do not start on 16 bytes");
            return Ok(None);
        }
        match self.context.call(format_args!("cuBLASLt"), || Ok(self.choose(shape)))? {
            Ok(Some(plan)) => {
                tracing::debug!("{shape}: cuBLASLt's algorithm {}", Choice(&plan.algorithm));
                Ok(Some(plan))
            }
            Ok(None) => {
                own("cuBLASLt has no algorithm that keeps its bits");
                Ok(None)
            }
            // The library may fail for a shape; an error of the GPU itself shows in the kernel's call.
            Err(error) => {
                tracing::warn!("{shape}: own kernel, as cuBLASLt fails: {error}");
                Ok(None)
            }
        }
    }

    fn choose(&self, shape: &Shape) -> Result<Option<Plan>, CublasError> {
        let Shape { layout, m, n, k, strides: [a, b, d], bf16: [in_bf16, out_bf16], .. } = *shape;
        let (input, output) = (kind(in_bf16), kind(out_bf16));
        let description = Description::new(layout, output, shape.bias)?;
        let [a_rows, b_rows] = match layout {
            Layout::Nt => [(m, k), (n, k)],
            Layout::Nn => [(m, k), (k, n)],
            Layout::Tn => [(k, m), (k, n)],
        };
        let a = Columns::new(input, a_rows, a)?;
        let b = Columns::new(input, b_rows, b)?;
        let d = Columns::new(output, (m, n), d)?;
        let found = match self.algorithms(layout, &description, [&a, &b, &d]) {
            Err(CublasError(sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED)) => Vec::new(),
            result => result?,
        };
        let algorithm = found.iter().copied().find(|algorithm| is_sound(algorithm, layout));
        if algorithm.is_none() && !found.is_empty() {
            let refused: Vec<_> = found.iter().map(|algorithm| Choice(algorithm).to_string()).collect();
            tracing::warn!(
                "{shape}: own kernel, as none of cuBLASLt's algorithms looks as if it kept its bits: {}",
                refused.join("; ")
            );
        }
        Ok(algorithm.map(|algorithm| Plan { description, a, b, d, algorithm }))
    }

    /// Algorithms that the workspace is enough for, the fastest by the library's own estimate first.
    fn algorithms(
        &self,
        layout: Layout,
        description: &Description,
        [a, b, d]: [&Columns; 3],
    ) -> Result<Vec<Algorithm>, CublasError> {
        let preferences = Preferences::new(reductions(layout))?;
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
        let usable = |result: &&sys::cublasLtMatmulHeuristicResult_t| {
            result.state.result().is_ok() && result.workspaceSize <= WORKSPACE
        };
        Ok(found.filter(usable).map(|result| result.algo).collect())
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

/// How a shape is computed.
struct Plan {
    description: Description,
    a: Columns,
    b: Columns,
    d: Columns,
    algorithm: Algorithm,
}

impl Shape {
    fn of(product: &Product) -> Self {
        let Product { layout, a, b, d, m, n, k, bias, .. } = *product;
        Self {
            layout,
            m: if layout == Layout::Tn { m } else { PRODUCT_ROWS },
            n,
            k,
            strides: [a.stride, b.stride, d.stride],
            bf16: [a.bf16, d.bf16],
            bias: bias.is_some(),
            fits: fits(product),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [input, output] = self.bf16.map(|bf16| if bf16 { "bf16" } else { "f32" });
        let bias = if self.bias { " with bias" } else { "" };
        let Self { layout, m, n, k, .. } = self;
        write!(f, "products {layout:?} of {input}, [{m}, {n}] over {k}, to {output}{bias}")
    }
}

/// Why the library cannot be used: it must be wanted, there, whole and new enough.
fn unusable() -> Option<String> {
    if env::var_os(SWITCH).is_some_and(|value| value == "0") {
        return Some(format!("{SWITCH} is 0"));
    }
    // SAFETY: loading NVIDIA's library runs its initialisers, which is what it is made for.
    if !unsafe { sys::is_culib_present() } {
        return Some("libcublasLt is not installed where libraries are looked for".to_owned());
    }
    // SAFETY: as above; the symbols are looked up, not called.
    let missing = |function: &&&str| {
        unsafe { sys::culib().get::<unsafe extern "C" fn()>(function.as_bytes()) }.is_err()
    };
    if let Some(function) = FUNCTIONS.iter().find(missing) {
        return Some(format!("libcublasLt has no function `{function}`"));
    }
    let version = version();
    (version < VERSION).then(|| format!("libcublasLt is of version {version}, and {VERSION} is needed"))
}

/// The library's version.
fn version() -> usize {
    // SAFETY: callers know that the function is there; it takes nothing.
    unsafe { sys::cublasLtGetVersion() }
}

/// Whether the rows of calls fit the operands, and all rows start on a multiple of [`ALIGNMENT`] bytes.
fn fits(product: &Product) -> bool {
    let Product { layout, a, b, d, m, n, k, bias, .. } = product;
    let aligned = |operand: &&Operand| {
        let bytes = operand.stride * element(operand.bf16);
        bytes.is_multiple_of(ALIGNMENT as usize) && operand.start.0.is_multiple_of(u64::from(ALIGNMENT))
    };
    let whole = |operand: &Operand| operand.capacity >= *m && operand.capacity.is_multiple_of(PRODUCT_ROWS);
    let room = match layout {
        Layout::Nt => whole(a) && whole(d) && b.capacity >= *n,
        Layout::Nn => whole(a) && whole(d) && b.capacity >= *k,
        Layout::Tn => *m > 0 && a.capacity >= *k && b.capacity >= *k && d.capacity >= *m,
    };
    room && *n > 0
        && *k > 0
        && [a, b, d].iter().all(aligned)
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

/// Calls the library with the context current.
fn call<T>(context: &Context, call: impl FnOnce() -> Result<T, CublasError>) -> Result<T> {
    context.call(format_args!("cuBLASLt"), || Ok(call()))?.map_err(|error| failed(context, error))
}

fn failed(context: &Context, error: CublasError) -> Error {
    context.name().error(format_args!("cuBLASLt: {error}: set {SWITCH}=0 to do without it"))
}
