//! The choice of the next token from a row of logits on one thread; on a GPU, from the rows of a batch. The throughput is
//! in rows.

use criterion::{Criterion, Throughput};
use toedit::ops::draw::largest;
use toedit::ops::sample::{Sampling, sample};
use toedit::random::{Purpose, Stream, Uniform};

use crate::common::samples;

const VOCABULARY: usize = 49_152;

pub fn bench(criterion: &mut Criterion) {
    let logits = logits(1);
    let best = largest(&logits, 50);
    let mut group = criterion.benchmark_group("sample");
    group.throughput(Throughput::Elements(1));
    for (name, sampling) in samplings() {
        let at = |position| sample(&sampling, &logits, random(position)).expect("finite logits");
        match sampling {
            Sampling { top_k: 50, .. } => assert!(best.iter().any(|candidate| candidate.id == at(0))),
            _ => assert!(!sampling.is_greedy() || best[0].id == at(0)),
        }
        group.bench_function(name, |bencher| {
            let mut position = 0;
            bencher.iter(|| {
                position += 1;
                at(position)
            });
        });
    }
    group.finish();
    #[cfg(feature = "cuda")]
    device::bench(criterion);
}

fn samplings() -> [(&'static str, Sampling); 5] {
    let all = Sampling::default();
    [
        ("greedy", Sampling::greedy()),
        ("all", all),
        ("top-k 50", Sampling { top_k: 50, ..all }),
        ("top-p 0.95", Sampling { top_p: 0.95, ..all }),
        ("min-p 0.05", Sampling { min_p: 0.05, ..all }),
    ]
}

fn logits(seed: u32) -> Vec<f32> {
    samples::values::<f32>(seed, VOCABULARY).into_iter().map(|x| 8.0 * x).collect()
}

fn random(position: u32) -> Uniform {
    Stream::new(1, 2, Purpose::Generate, 0).expect("a small number").draw(position, 0)
}

#[cfg(feature = "cuda")]
mod device {
    use toedit::device::Rows;
    use toedit::ops::sample::Sampler;

    use super::*;
    use crate::gpu;

    const ROWS: usize = 64;

    pub fn bench(criterion: &mut Criterion) {
        let rows: Vec<_> = (1..=ROWS as u32).map(logits).collect();
        let randoms: Vec<_> = (0..ROWS as u32).map(random).collect();
        for queue in gpu::devices() {
            let buffer = queue.upload(&rows.concat()).expect("a working GPU");
            let logits = Rows { data: buffer.view(), rows: ROWS, width: VOCABULARY, stride: VOCABULARY };
            let sampler = Sampler::new(&queue, ROWS, 0).expect("a working GPU");
            let mut group = criterion.benchmark_group(format!("sample/{}", queue.device()));
            group.throughput(Throughput::Elements(ROWS as u64));
            for (name, sampling) in samplings() {
                let draw = || sampler.draw(&queue, &sampling, logits, &randoms);
                draw().expect("a working GPU");
                let expected: Vec<_> =
                    rows.iter().zip(&randoms).map(|(row, random)| sample(&sampling, row, *random)).collect();
                assert_eq!(sampler.read(&queue, ROWS).expect("a working GPU"), expected, "{name}");
                group.bench_function(name, |bencher| gpu::time(bencher, &queue, draw));
            }
        }
    }
}
