//! One document's attention on the CPU, nine heads in groups of three, in tokens; that of a step of training there; and a
//! pack's on a GPU. The latter two count floating-point operations below the diagonal.

use criterion::{BatchSize, Criterion, Throughput};
use half::bf16;
use toedit::device::{Device, Queue};
use toedit::ops::attention::{Attention, QUERIES, Scratch};
use toedit::tensor::{Element, PANEL};

use crate::common::{oracle, samples, tolerance};

const ATTENTION: Attention = Attention { heads: 9, kv_heads: 3, head_dim: 64, scale: 0.125 };

/// Of a model of 10 million parameters.
const TRAINING: Attention = Attention { heads: 8, kv_heads: 8, head_dim: 32, scale: 0.176_776_7 };

pub fn bench(criterion: &mut Criterion) {
    for tokens in [128, 1024] {
        bench_type::<f32>(criterion, tokens);
        bench_type::<bf16>(criterion, tokens);
    }
    training::bench(criterion, &Queue::open(Device::Cpu).unwrap(), TRAINING, 1024, 256);
    #[cfg(feature = "cuda")]
    device::bench(criterion);
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
            ATTENTION.pack(rows, 0, block);
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

/// Forward with the logarithms of the sums, and backward.
mod training {
    use toedit::Result;
    use toedit::device::Kernels;
    use toedit::ops::attention::Tiles;

    use super::*;
    use crate::common::arms;
    use crate::common::oracle_attention::attention_backward;

    /// Tokens of the document whose gradients are compared.
    const CHECKED: usize = 129;

    pub fn bench(
        criterion: &mut Criterion,
        queue: &Queue,
        attention: Attention,
        tokens: usize,
        length: usize,
    ) {
        bench_type::<f32>(criterion, queue, attention, tokens, length);
        bench_type::<bf16>(criterion, queue, attention, tokens, length);
    }

    fn bench_type<E: Kernels>(
        criterion: &mut Criterion,
        queue: &Queue,
        attention: Attention,
        tokens: usize,
        length: usize,
    ) {
        let (q_len, width) = (attention.q_len(), attention.q_len() + 2 * attention.kv_len());
        let (rows, gradients) =
            (samples::values::<E>(3, tokens * width), samples::values::<E>(4, tokens * q_len));
        let (qkv, dout) =
            (arms::upload::<E>(queue, width, &rows), arms::upload::<E>(queue, q_len, &gradients));
        let (out, dqkv) = (arms::output::<E>(queue, tokens, q_len), arms::output::<E>(queue, tokens, width));
        let sums = || queue.alloc::<f32>(tokens * attention.heads).unwrap();
        let (lse, delta, mut tiles) = (sums(), sums(), Tiles::new(queue, tokens).unwrap());
        let forward = |tiles: &Tiles| attention.forward_on(queue, out.view(), lse.view(), qkv.view(), tiles);
        let backward = |tiles: &Tiles| {
            let (dqkv, dout, out, qkv) = (dqkv.view(), dout.view(), out.view(), qkv.view());
            attention.backward_on(queue, dqkv, dout, out, lse.view(), qkv, delta.view(), tiles)
        };

        tiles.write::<E>(queue, &attention, &[0, CHECKED]).unwrap();
        forward(&tiles).and_then(|()| backward(&tiles)).unwrap();
        let (q, kv): (Vec<_>, Vec<_>) =
            rows.chunks_exact(width).take(CHECKED).map(|row| row.split_at(q_len)).unzip();
        let expected =
            attention_backward(&attention, &q.concat(), &kv.concat(), &gradients[..CHECKED * q_len]);
        let expected: Vec<_> = expected
            .dq
            .chunks_exact(q_len)
            .zip(expected.dkv.chunks_exact(width - q_len))
            .flat_map(|(q, kv)| [q, kv].concat())
            .collect();
        let limit = tolerance::stored::<E>(CHECKED.max(attention.head_dim), 3);
        tolerance::assert_within("gradients", dqkv.first(CHECKED).read(queue).unwrap(), &expected, limit);

        let cu_seqlens: Vec<usize> = (0..=tokens).step_by(length).collect();
        tiles.write::<E>(queue, &attention, &cu_seqlens).unwrap();
        // Products of 2·D operations for each pair of a token and one that it sees: two forward, five backward.
        let pairs = (tokens / length * length * (length + 1) / 2 * q_len) as u64;
        let mut group = criterion.benchmark_group(format!("attention_training/{}", queue.device()));
        let mut time = |name: &str, products: u64, launch: &dyn Fn(&Tiles) -> Result<()>| {
            group.throughput(Throughput::Elements(2 * products * pairs));
            let name = format!("{}/{}/{length}/{name}", E::NAME, attention.head_dim);
            group.bench_function(name, |bencher| {
                bencher.iter(|| launch(&tiles).and_then(|()| queue.synchronize()).unwrap());
            });
        };
        time("forward", 2, &forward);
        time("backward", 5, &backward);
    }
}

#[cfg(feature = "cuda")]
mod device {
    use toedit::device::{Kernels, View};
    use toedit::ops::attention::Tiles;

    use super::*;
    use crate::common::arms;
    use crate::gpu::{self, SHAPES};

    /// Rows whose outputs are compared: what comes later changes no bit of them.
    const CHECKED: usize = 200;

    pub fn bench(criterion: &mut Criterion) {
        let shapes = &SHAPES.attention;
        for queue in gpu::devices() {
            for &head_dim in &shapes.head_dims {
                let attention = Attention {
                    heads: shapes.width / head_dim,
                    kv_heads: shapes.kv_heads,
                    head_dim,
                    scale: 1.0 / (head_dim as f32).sqrt(),
                };
                for &length in &shapes.lengths {
                    bench_type::<bf16>(criterion, &queue, attention, length);
                    bench_type::<f32>(criterion, &queue, attention, length);
                    training::bench(criterion, &queue, attention, shapes.tokens, length);
                }
            }
        }
    }

    fn bench_type<E: Kernels>(criterion: &mut Criterion, queue: &Queue, attention: Attention, length: usize) {
        let (tokens, q_len, kv_len) = (SHAPES.attention.tokens, attention.q_len(), attention.kv_len());
        let rows = samples::values::<E>(3, tokens * (q_len + 2 * kv_len));
        let cu_seqlens: Vec<usize> = (0..=tokens).step_by(length).collect();
        let mut tiles = Tiles::new(queue, tokens).unwrap();
        tiles.write::<E>(queue, &attention, &cu_seqlens).unwrap();
        let qkv = arms::upload::<E>(queue, q_len + 2 * kv_len, &rows);
        let out = arms::output::<E>(queue, tokens, q_len);
        let forward = || attention.forward_on(queue, out.view(), View::none(), qkv.view(), &tiles);

        forward().unwrap();
        let checked = CHECKED.min(length);
        let (q, kv): (Vec<_>, Vec<_>) =
            rows.chunks_exact(q_len + 2 * kv_len).take(checked).map(|row| row.split_at(q_len)).unzip();
        let expected = oracle::attention(&attention, &q.concat(), &kv.concat());
        let outputs = out.first(checked).read(queue).unwrap();
        let limit = tolerance::stored::<E>(checked.max(attention.head_dim), 2);
        tolerance::assert_within("attention", outputs, &expected, limit);

        // Two products of 2·D operations for each pair of a token and one that it sees.
        let pairs = tokens / length * length * (length + 1) / 2;
        let mut group = criterion.benchmark_group(format!("attention/{}", queue.device()));
        group.throughput(Throughput::Elements((4 * pairs * q_len) as u64));
        group.bench_function(format!("{}/{}/{length}", E::NAME, attention.head_dim), |bencher| {
            gpu::time(bencher, queue, forward);
        });
    }
}
