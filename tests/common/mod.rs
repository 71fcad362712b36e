//! What the test binaries share: golden numbers, oracles, random operands, and comparisons that NaN cannot pass.
#![allow(dead_code)]

pub mod arms;
pub mod chi_square;
pub mod devices;
pub mod editing;
pub mod folders;
pub mod oracle;
pub mod oracle_attention;
pub mod oracle_rows;
pub mod samples;
pub mod tolerance;

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;

use safetensors::SafeTensors;

/// The folder with the files of tests and benches: the source tree, or where binaries that were moved find its copy.
pub fn root() -> PathBuf {
    env::var_os("TOEDIT_ROOT").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()).into()
}

/// The golden families.
pub const FAMILIES: [&str; 10] =
    ["gpt2", "llama", "llama-tied", "llama3-rope", "mistral", "qwen2", "qwen3", "olmo", "olmo2", "gpt-neox"];

/// One family's model folder and what transformers computed with it.
pub struct Golden {
    pub folder: PathBuf,
    ids: Vec<Vec<u32>>,
    /// A prompt of 8 tokens and the 16 most likely ones behind it.
    pub greedy: Vec<u32>,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Golden {
    pub fn load(family: &str) -> Self {
        let folder = root().join("tests/data/golden").join(family);
        let bytes = std::fs::read(folder.join("expect.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let words = |name: &str| -> Vec<[u8; 4]> {
            file.tensor(name).unwrap().data().chunks_exact(4).map(|word| word.try_into().unwrap()).collect()
        };
        let width = file.tensor("input_ids").unwrap().shape()[1];
        let ids = |name| words(name).into_iter().map(u32::from_le_bytes).collect::<Vec<u32>>();
        let tensors = ["logits", "logprobs", "entropy"].map(|name| {
            let shape = file.tensor(name).unwrap().shape().to_vec();
            (name.to_owned(), (shape, words(name).into_iter().map(f32::from_le_bytes).collect()))
        });
        let greedy = ids("greedy");
        let ids = ids("input_ids").chunks_exact(width).map(<[u32]>::to_vec).collect();
        Self { folder, ids, greedy, tensors: tensors.into() }
    }

    pub fn documents(&self) -> Vec<&[u32]> {
        self.ids.iter().map(Vec::as_slice).collect()
    }

    /// Row `row` of a tensor whose first dimension is the batch.
    pub fn row(&self, name: &str, row: usize) -> &[f32] {
        let (shape, data) = &self.tensors[name];
        let len = shape[1..].iter().product::<usize>();
        &data[row * len..][..len]
    }

    pub fn logits(&self, row: usize, position: usize) -> &[f32] {
        let vocabulary = self.tensors["logits"].0[2];
        &self.row("logits", row)[position * vocabulary..][..vocabulary]
    }
}

/// Fails on NaN, on a difference above `limit`, and on different lengths.
pub fn assert_close(what: &str, ours: &[f32], theirs: &[f32], limit: f32) {
    assert_eq!(ours.len(), theirs.len(), "{what}: lengths");
    for (index, (a, b)) in ours.iter().zip(theirs).enumerate() {
        let error = (a - b).abs();
        assert!(error <= limit, "{what}[{index}]: {a} against {b}, off by {error}");
    }
}
