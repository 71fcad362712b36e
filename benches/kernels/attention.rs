//! One document's attention, nine heads in groups of three; the throughput is in tokens.

use criterion::{BatchSize, Criterion, Throughput};
use half::bf16;
use toedit::ops::attention::{Attention, QUERIES, Scratch};
use toedit::tensor::{Element, PANEL};

use crate::common::{oracle, samples, tolerance};

const ATTENTION: Attention = Attention { heads: 9, kv_heads: 3, head_dim: 64, scale: 0.125 };

pub fn bench(criterion: &mut Criterion) {
    for tokens in [128, 1024] {
        bench_type::<f32>(criterion, tokens);
        bench_type::<bf16>(criterion, tokens);
    }
}

fn bench_type<E: Element>(criterion: &mut Criterion, tokens: usize) {
    let q = samples::values::<E>(1, tokens * ATTENTION.q_len());
    let kv = samples::values::<E>(2, tokens * 2 * ATTENTION.kv_len());
    let (queries, rows) = (samples::elements::<E>(&q), samples::elements::<E>(&kv));
    let mut blocks = vec![E::from_f32(0.0); tokens.div_ceil(PANEL) * ATTENTION.block_len()];
    let mut scratch = Scratch::new(&ATTENTION, tokens);
    // As in a forward pass: keys and values are packed, then every row attends.
    let mut forward = |q: &mut [E]| {
        let blocks_of_rows = rows.chunks(PANEL * 2 * ATTENTION.kv_len());
        for (rows, block) in blocks_of_rows.zip(blocks.chunks_exact_mut(ATTENTION.block_len())) {
            ATTENTION.pack(rows, block);
        }
        for (index, q) in q.chunks_mut(QUERIES * ATTENTION.q_len()).enumerate() {
            ATTENTION.forward(q, index * QUERIES, &blocks, &mut scratch);
        }
    };
    let mut outputs = queries.clone();
    forward(&mut outputs);
    let limit = tolerance::stored::<E>(tokens.max(ATTENTION.head_dim), 2);
    let outputs = outputs.into_iter().map(E::to_f32);
    tolerance::assert_within("attention", outputs, &oracle::attention(&ATTENTION, &q, &kv), limit);

    let mut group = criterion.benchmark_group("attention");
    group.throughput(Throughput::Elements(tokens as u64));
    group.bench_function(format!("{}/{tokens}", E::NAME), |bencher| {
        bencher.iter_batched_ref(|| queries.clone(), |q| forward(q), BatchSize::LargeInput);
    });
}
