//! The forward pass over packs: a document's hidden states have the same bits alone and among a thousand others.

use half::bf16;
use toedit::model::{Checkpoint, Config, Pack, Transformer, Weights};
use toedit::tensor::Element;

use crate::common::{root, samples, tolerance};

const LONGEST: usize = 150;

fn transformer<E: Element>(family: &str) -> Transformer<E> {
    let folder = root().join("tests/data/golden").join(family);
    let config = Config::from_file(&folder.join("config.json")).unwrap();
    let weights = Weights::load(&config, &Checkpoint::open(&folder, false).unwrap()).unwrap();
    Transformer::new(config, weights)
}

fn pack(documents: &[&[u32]]) -> Pack {
    let mut pack = Pack { cu_seqlens: vec![0], ..Pack::default() };
    for document in documents {
        pack.ids.extend(*document);
        pack.cu_seqlens.push(pack.ids.len());
    }
    pack.rows = (0..pack.ids.len()).collect();
    pack
}

/// The hidden states of all rows, one document after the other.
fn hidden<E: Element>(transformer: &Transformer<E>, documents: &[&[u32]]) -> Vec<f32> {
    let pack = pack(documents);
    // A document takes at least one block of keys, for which a workspace has room every 16 tokens.
    let tokens = pack.ids.len().max(16 * documents.len() + LONGEST).next_multiple_of(32) * 2;
    let mut workspace = transformer.workspace(tokens, LONGEST);
    transformer.forward(&pack, &mut workspace);
    let d = transformer.config().hidden_size;
    let rows = workspace.hidden(transformer.config(), pack.rows.len());
    let kept = rows.data.chunks_exact(rows.stride).take(rows.rows).flat_map(|row| &row[..d]);
    kept.map(|value| value.to_f32()).collect()
}

fn same_alone_and_together<E: Element>(family: &str, lengths: &[usize]) {
    let transformer = transformer::<E>(family);
    let total: usize = lengths.iter().sum();
    let ids = samples::ids(1, total, transformer.config().vocab_size);
    let mut rest = &ids[..];
    let documents: Vec<&[u32]> = lengths.iter().map(|length| rest.split_off(..*length).unwrap()).collect();
    let together = hidden(&transformer, &documents);
    assert!(together.iter().all(|x| x.is_finite()));
    let mut alone = Vec::new();
    documents.iter().for_each(|document| alone.extend(hidden(&transformer, &[document])));
    tolerance::assert_same_bits(&format!("{family} {}", E::NAME), &together, &alone);
}

#[test]
fn documents_of_one_token() {
    for family in ["gpt2", "llama", "gpt-neox"] {
        same_alone_and_together::<f32>(family, &[1]);
        same_alone_and_together::<f32>(family, &[1; 13]);
        same_alone_and_together::<bf16>(family, &[1; 121]);
    }
}

#[test]
fn a_thousand_documents() {
    let lengths: Vec<usize> = samples::ids(2, 1000, 9).iter().map(|length| 1 + *length as usize).collect();
    for family in ["gpt2", "llama", "olmo2"] {
        same_alone_and_together::<f32>(family, &lengths);
        same_alone_and_together::<bf16>(family, &lengths);
    }
}

/// Documents that end just before, at and after the borders of tiles, panels and blocks.
#[test]
fn documents_across_blocks() {
    let lengths = [119, 1, 120, 121, 11, 12, 13, 31, 32, 33, 24, 25, 2, 150, 1];
    for family in ["llama", "qwen3", "olmo2", "gpt-neox"] {
        same_alone_and_together::<f32>(family, &lengths);
        same_alone_and_together::<bf16>(family, &lengths);
    }
}
