//! Attention of one new token in each of many sequences, over their keys and values in a cache, on a GPU; the throughput
//! is in bytes of these.

use criterion::{Criterion, Throughput};
use half::bf16;
use toedit::device::{Kernels, Queue};
use toedit::ops::attention::Attention;
use toedit::ops::decode::{Place, Places, append_on, attend_on};

use crate::common::{arms, oracle, samples, tolerance};
use crate::gpu::{self, SHAPES};

const SEQUENCES: usize = 64;
/// Rows whose outputs are compared.
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
            }
        }
    }
}

fn bench_type<E: Kernels>(criterion: &mut Criterion, queue: &Queue, attention: Attention, length: usize) {
    let (q_len, kv_len) = (attention.q_len(), 2 * attention.kv_len());
    let rows = samples::values::<E>(3, length * (q_len + kv_len));
    let qkv = arms::upload::<E>(queue, q_len + kv_len, &rows);
    let out = arms::output::<E>(queue, length, q_len);
    let cache = arms::output::<E>(queue, SEQUENCES * length, kv_len);
    let place =
        |slot: usize, position: usize| Place { first: (slot * length) as u32, position: position as u32 };
    let mut places = Places::new(queue, length.max(SEQUENCES)).unwrap();
    for slot in 0..SEQUENCES {
        let all: Vec<_> = (0..length).map(|position| place(slot, position)).collect();
        places.write(queue, &all).unwrap();
        append_on(queue, cache.view(), qkv.view().columns(q_len..q_len + kv_len), &places).unwrap();
    }
    let attend = |rows: usize, places: &Places| {
        attend_on(queue, &attention, out.first(rows), qkv.first(rows), cache.view(), places)
    };

    let checked = CHECKED.min(length);
    let first: Vec<_> = (0..checked).map(|position| place(SEQUENCES - 1, position)).collect();
    places.write(queue, &first).unwrap();
    attend(checked, &places).unwrap();
    let (q, kv): (Vec<_>, Vec<_>) =
        rows.chunks_exact(q_len + kv_len).take(checked).map(|row| row.split_at(q_len)).unzip();
    let expected = oracle::attention(&attention, &q.concat(), &kv.concat());
    let outputs = out.first(checked).read(queue).unwrap();
    let limit = tolerance::stored::<E>(checked.max(attention.head_dim), 1);
    tolerance::assert_within("decode", outputs, &expected, limit);

    let last: Vec<_> = (0..SEQUENCES).map(|slot| place(slot, length - 1)).collect();
    places.write(queue, &last).unwrap();
    let mut group = criterion.benchmark_group(format!("decode/{}", queue.device()));
    group.throughput(Throughput::Bytes((SEQUENCES * length * kv_len * size_of::<E>()) as u64));
    group.bench_function(format!("{}/{}/{length}", E::NAME, attention.head_dim), |bencher| {
        gpu::time(bencher, queue, || attend(SEQUENCES, &places));
    });
}
