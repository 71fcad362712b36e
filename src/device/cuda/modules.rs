//! The kernels' machine code: all files are loaded as a GPU is opened, so that a plan of its memory finds them there.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::CStr;
use std::ptr::null_mut;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::result::{function, module};
use cudarc::driver::sys::{self, CUfunction_attribute, CUresult};

use super::context::Context;
use crate::device::driver::Kernel;
use crate::{Error, Result};

/// Dynamic shared memory that a block gets without asking.
const DEFAULT_SHARED: u32 = 48 << 10;

/// The loaded files and the kernels that have been looked up in them.
pub(super) struct Modules {
    context: Arc<Context>,
    /// In the order of their images.
    modules: Vec<Module>,
    functions: Mutex<HashMap<&'static CStr, Function>>,
}

/// A handle in a loaded module, and how much dynamic shared memory it may have.
struct Function {
    handle: sys::CUfunction,
    shared: u32,
}

// SAFETY: CUDA's handles may be used from every thread.
unsafe impl Send for Function {}

impl Modules {
    /// Loads the files' machine code.
    pub fn load(context: &Arc<Context>, images: &[&[u8]]) -> Result<Self> {
        let modules = images.iter().map(|image| Module::load(context, image)).collect::<Result<_>>()?;
        Ok(Self { context: Arc::clone(context), modules, functions: Mutex::default() })
    }

    /// The kernel, allowed at least this much shared memory. The handle is valid while this lives.
    pub fn function(&self, kernel: &Kernel, shared: u32) -> Result<sys::CUfunction> {
        let functions = &mut *self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        let function = match functions.entry(kernel.name) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(place) => {
                let handle = self.modules[kernel.module].function(kernel.name)?;
                place.insert(Function { handle, shared: DEFAULT_SHARED })
            }
        };
        if shared > function.shared {
            self.allow(function.handle, kernel.name, shared)?;
            function.shared = shared;
        }
        Ok(function.handle)
    }

    fn allow(&self, handle: sys::CUfunction, name: &CStr, shared: u32) -> Result<()> {
        let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        let action = format_args!("{shared} bytes of shared memory for {}", name.to_string_lossy());
        let Ok(shared) = i32::try_from(shared) else {
            return Err(self.context.error(action, CUresult::CUDA_ERROR_INVALID_VALUE));
        };
        // SAFETY: the function's module stays loaded while this lives.
        self.context.call(action, || unsafe { function::set_function_attribute(handle, attribute, shared) })
    }
}

/// A loaded file.
struct Module {
    context: Arc<Context>,
    handle: sys::CUmodule,
}

// SAFETY: CUDA's handles may be used from every thread.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

impl Module {
    fn load(context: &Arc<Context>, image: &[u8]) -> Result<Self> {
        // A fatbin holds 64-bit numbers; bytes embedded in a program may start anywhere.
        let mut words = vec![0u64; image.len().div_ceil(size_of::<u64>())];
        bytemuck::cast_slice_mut(&mut words)[..image.len()].copy_from_slice(image);
        // SAFETY: the image is what nvcc wrote, whole; CUDA copies it.
        let handle = context
            .call(format_args!("loading the kernels"), || unsafe { module::load_data(words.as_ptr().cast()) })
            .map_err(|error| match error {
                Error::OutOfMemory { .. } => Error::OutOfMemory { bytes: image.len() },
                other => other,
            })?;
        Ok(Self { context: Arc::clone(context), handle })
    }

    fn function(&self, name: &CStr) -> Result<sys::CUfunction> {
        let mut handle = null_mut();
        // SAFETY: writes one handle; the module is loaded.
        self.context.call(format_args!("finding the kernel {}", name.to_string_lossy()), || unsafe {
            sys::cuModuleGetFunction(&raw mut handle, self.handle, name.as_ptr()).result()
        })?;
        Ok(handle)
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: loaded by this, unloaded once, after all work is done.
        self.context.release(|| unsafe { module::unload(self.handle) });
    }
}
