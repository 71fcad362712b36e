//! A small model whose probabilities spread over 0 to 1, and documents that are likely and unlikely to it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use toedit::random::{Purpose, Stream};
use toedit::{Dtype, Model, Scorer};

use crate::common::editing::packed;
use crate::common::root;

/// Ids of the model.
pub const VOCABULARY: u32 = 257;
/// Tokens of a document of [`SHARP`].
pub const LENGTH: usize = 40;
const DOCUMENTS: usize = 48;
/// Factor on the logits of the reference model, which are nearly flat.
const SHARPNESS: f32 = 12.0;

/// The model with its documents.
pub struct Sharp {
    pub model: Model,
    pub documents: Vec<Vec<u32>>,
}

/// Made once.
pub static SHARP: LazyLock<Sharp> = LazyLock::new(|| {
    let model = sharpened(&root().join("tests/data/golden/llama"));
    let documents = write_documents(&model);
    Sharp { model, documents }
});

/// The model of a folder with its head scaled.
fn sharpened(folder: &Path) -> Model {
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let scaled: Vec<u8> = tensors
        .tensor("lm_head.weight")
        .unwrap()
        .data()
        .chunks_exact(4)
        .flat_map(|word| (f32::from_le_bytes(word.try_into().unwrap()) * SHARPNESS).to_le_bytes())
        .collect();
    let mut views: BTreeMap<String, TensorView> = tensors.tensors().into_iter().collect();
    let head = &views["lm_head.weight"];
    let head = TensorView::new(head.dtype(), head.shape().to_vec(), &scaled).unwrap();
    views.insert("lm_head.weight".into(), head);
    let target = tempfile::tempdir().unwrap();
    fs::copy(folder.join("config.json"), target.path().join("config.json")).unwrap();
    fs::write(target.path().join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    Model::load(target.path(), Dtype::F32).unwrap()
}

/// Each token is one of the four most likely, often the first, or any at all.
fn write_documents(model: &Model) -> Vec<Vec<u32>> {
    let config = toedit::ScoreConfig { top_k: 4, ..packed(model, 1024) };
    let scorer = Scorer::new(model, config).unwrap();
    let mut documents: Vec<Vec<u32>> = (0..DOCUMENTS as u32).map(|first| vec![first * 5]).collect();
    while documents[0].len() < LENGTH {
        // The token in the place to be filled plays no part in what is likely there.
        documents.iter_mut().for_each(|ids| ids.push(0));
        let scores = scorer.score(&documents.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        for ((ids, scores), stream) in documents.iter_mut().zip(scores).zip(0..) {
            let random = Stream::new(0, stream, Purpose::Generate, 0).unwrap().draw(ids.len() as u32, 0);
            let top = &scores.top[scores.top.len() - 4..];
            *ids.last_mut().unwrap() = match (random.first * 10.0) as usize {
                0..6 => top[0].0,
                rank @ 6..9 => top[rank - 5].0,
                _ => (random.second * f64::from(VOCABULARY)) as u32,
            };
        }
    }
    documents
}

#[test]
fn probabilities_spread() {
    let documents: Vec<&[u32]> = SHARP.documents.iter().map(Vec::as_slice).collect();
    let scores = Scorer::new(&SHARP.model, packed(&SHARP.model, 1024)).unwrap().score(&documents).unwrap();
    let mut counts = [0; 10];
    for logprob in scores.iter().flat_map(|scores| &scores.logprobs) {
        counts[((logprob.exp() * 10.0) as usize).min(9)] += 1;
    }
    assert!(counts.iter().all(|count| *count > 10), "{counts:?}");
}
