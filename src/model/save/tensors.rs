//! Safetensors files, written as a stream.
//!
//! Layout: the header's length (u64, little endian), the header (JSON, padded with spaces to 8 bytes), the data of one
//! tensor after the other.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use half::bf16;
use serde_json::{Map, Value, json};

use super::SaveFolder;
use crate::model::{Dtype, layout::Parameter};
use crate::{Error, Result};

/// Values converted at a time.
const CHUNK: usize = 1 << 14;
/// Bytes to write at a time.
const BUFFER: usize = 1 << 20;

/// Takes the values of one tensor, in as many pieces as suits.
pub struct TensorSink<'a> {
    file: &'a mut BufWriter<File>,
    path: &'a Path,
    tensor: &'a Parameter,
    dtype: Dtype,
    written: usize,
}

impl TensorSink<'_> {
    /// Appends values, rounded to the file's type.
    ///
    /// # Errors
    /// NaN or infinity, with the element's index; the system's.
    ///
    /// # Panics
    /// If there are more than the tensor's shape has.
    pub fn write(&mut self, values: &[f32]) -> Result<()> {
        assert!(
            self.written + values.len() <= self.tensor.elements(),
            "too many values for {:?}",
            self.tensor
        );
        let mut bytes = Vec::with_capacity(CHUNK.min(values.len()) * 4);
        for chunk in values.chunks(CHUNK) {
            self.check_finite(chunk)?;
            bytes.clear();
            match self.dtype {
                Dtype::F32 => bytes.extend(chunk.iter().flat_map(|value| value.to_le_bytes())),
                Dtype::Bf16 => {
                    bytes.extend(chunk.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()));
                }
            }
            self.file.write_all(&bytes).map_err(|error| Error::io(self.path, error))?;
            self.written += chunk.len();
        }
        Ok(())
    }

    fn check_finite(&self, chunk: &[f32]) -> Result<()> {
        // The largest f32 values are infinite in bf16.
        let stored = |value: f32| match self.dtype {
            Dtype::F32 => value,
            Dtype::Bf16 => bf16::from_f32(value).to_f32(),
        };
        let Some(at) = chunk.iter().position(|value| !stored(*value).is_finite()) else { return Ok(()) };
        let reason = format!("element {} is {}, expected finite numbers", self.written + at, chunk[at]);
        Err(Error::Tensor { path: self.path.to_owned(), tensor: self.tensor.name.clone(), reason })
    }
}

impl SaveFolder {
    /// Writes any tensors into one safetensors file, durably; as [`SaveFolder::model`], without a limit.
    ///
    /// # Errors
    /// As [`SaveFolder::model`].
    ///
    /// # Panics
    /// As [`SaveFolder::model`].
    pub fn tensors(
        &self,
        name: &str,
        dtype: Dtype,
        tensors: &[Parameter],
        mut fill: impl FnMut(usize, &mut TensorSink) -> Result<()>,
    ) -> Result<()> {
        let path = self.new_path(name);
        let at_path = |error| Error::io(&path, error);
        let mut file = BufWriter::with_capacity(BUFFER, File::create_new(&path).map_err(at_path)?);
        file.write_all(&header(dtype, tensors)).map_err(at_path)?;
        for (index, tensor) in tensors.iter().enumerate() {
            let mut sink = TensorSink { file: &mut file, path: &path, tensor, dtype, written: 0 };
            fill(index, &mut sink)?;
            assert_eq!(sink.written, tensor.elements(), "too few values for {tensor:?}");
        }
        let file = file.into_inner().map_err(|error| at_path(error.into_error()))?;
        file.sync_all().map_err(at_path)
    }
}

/// Bytes of a tensor's data.
pub(super) fn byte_len(dtype: Dtype, tensor: &Parameter) -> u64 {
    let width = match dtype {
        Dtype::F32 => 4,
        Dtype::Bf16 => 2,
    };
    tensor.elements() as u64 * width
}

/// The header with its length. The data begins at a multiple of 8, so that it can be mapped.
fn header(dtype: Dtype, tensors: &[Parameter]) -> Vec<u8> {
    let name = match dtype {
        Dtype::F32 => "F32",
        Dtype::Bf16 => "BF16",
    };
    let mut start = 0;
    let mut entry = |tensor: &Parameter| {
        let end = start + byte_len(dtype, tensor);
        let entry = json!({ "dtype": name, "shape": tensor.shape, "data_offsets": [start, end] });
        start = end;
        (tensor.name.clone(), entry)
    };
    let mut entries: Map<String, Value> = tensors.iter().map(&mut entry).collect();
    // transformers asks what wrote a file before it loads it.
    entries.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut json = Value::Object(entries).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    [&(json.len() as u64).to_le_bytes(), &json[..]].concat()
}
