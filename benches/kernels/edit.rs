//! Drawing a token from a row of logits on one thread; on a GPU, what editing adds to the head where a tenth of the rows
//! is resampled. The throughput is in rows.

use criterion::{Criterion, Throughput};
use toedit::edit::Sampler;
use toedit::ops::draw::{Draw, Row, draw, largest};
use toedit::random::{Purpose, Stream};
use toedit::score::Statistics;

use crate::common::samples;

const VOCABULARY: usize = 49_152;
const SAMPLERS: [Sampler; 5] =
    [Sampler::TopK(8), Sampler::TopK(100), Sampler::TopP(0.95), Sampler::Full, Sampler::Rejection];

pub fn bench(criterion: &mut Criterion) {
    bench_draw(criterion);
    #[cfg(feature = "cuda")]
    device::bench(criterion);
}

fn bench_draw(criterion: &mut Criterion) {
    let logits: Vec<f32> = samples::values::<f32>(1, VOCABULARY).iter().map(|x| 8.0 * x).collect();
    let statistics = statistics(&logits, 7);
    let row = Row { logits: &logits, original: 7, statistics: &statistics };
    let stream = Stream::new(1, 2, Purpose::Edit, 0).expect("a small generation");
    let best = largest(&logits, 8);

    let mut group = criterion.benchmark_group("edit");
    group.throughput(Throughput::Elements(1));
    for sampler in SAMPLERS {
        let at = |position| draw(&sampler, 1.5, row, |_| true, |d| stream.draw(position, d));
        let Draw::Token { id, logit } = at(0) else { panic!("{sampler:?} draws nothing") };
        assert_eq!(logit, logits[id as usize]);
        assert!(sampler != Sampler::TopK(8) || best.iter().any(|candidate| candidate.id == id));
        group.bench_function(format!("draw/{sampler:?}"), |bencher| {
            let mut position = 0;
            bencher.iter(|| {
                position += 1;
                at(position)
            });
        });
    }
}

fn statistics(logits: &[f32], target: usize) -> Statistics {
    let others = || logits.iter().enumerate().filter(|(id, _)| *id != target).map(|(_, &logit)| logit);
    let max = others().fold(f32::NEG_INFINITY, f32::max);
    let rest = others().map(|logit| f64::from(logit - max).exp()).sum::<f64>() as f32;
    Statistics { target: logits[target], max, rest }
}

#[cfg(feature = "cuda")]
mod device {
    use criterion::measurement::WallTime;
    use criterion::{BenchmarkGroup, Criterion, Throughput};
    use half::bf16;
    use toedit::Result;
    use toedit::device::{Buffer, Matrix, Queue};
    use toedit::edit::{EditConfig, Outcome, Rule, Sampler};
    use toedit::ops::edit::{Batch, Classes, Edit, Origin, ROOM};
    use toedit::ops::head::Scores;

    use crate::common::{arms, samples};
    use crate::gpu::{self, SHAPES};

    const SAMPLERS: [Sampler; 4] =
        [Sampler::TopK(64), Sampler::TopP(0.95), Sampler::Full, Sampler::Rejection];
    const TEMPERATURE: f64 = 1.5;

    pub fn bench(criterion: &mut Criterion) {
        for queue in gpu::devices() {
            for &weight in &SHAPES.head.weights {
                let inputs = Inputs::new(&queue, weight).expect("a working GPU");
                let mut group = criterion.benchmark_group(format!("edit/{}", queue.device()));
                group.throughput(Throughput::Elements(SHAPES.head.rows as u64));
                inputs.bench_head(&mut group, &queue).expect("a working GPU");
                for sampler in SAMPLERS {
                    inputs.bench_edit(&mut group, &queue, sampler).expect("a working GPU");
                }
            }
        }
    }

    /// A head and a batch of rows for it.
    struct Inputs {
        hidden: Matrix<bf16>,
        weight: Matrix<bf16>,
        targets: Buffer<u32>,
        classes: Classes,
        origins: Vec<Origin>,
        /// The names of its benches start with it.
        shape: String,
    }

    impl Inputs {
        fn new(queue: &Queue, [vocabulary, width]: [usize; 2]) -> Result<Self> {
            let rows = SHAPES.head.rows;
            let mut classes = Classes::new(queue, vocabulary, 1)?;
            classes.add(queue, |_| true)?;
            Ok(Self {
                hidden: arms::upload(queue, width, &samples::values::<bf16>(1, rows * width)),
                weight: arms::upload(queue, width, &samples::values::<bf16>(2, vocabulary * width)),
                targets: queue.upload(&samples::ids(3, rows, vocabulary))?,
                classes,
                origins: (0..rows).map(origin).collect(),
                shape: format!("bf16/{rows}x{vocabulary}x{width}"),
            })
        }

        fn batch<'a>(&'a self, scores: &'a Scores) -> Batch<'a, bf16> {
            let [hidden, weight] = [self.hidden.view(), self.weight.view()];
            Batch { hidden, weight, targets: self.targets.view(), scores }
        }

        fn bench_head(&self, group: &mut BenchmarkGroup<'_, WallTime>, queue: &Queue) -> Result<()> {
            let scores = Scores::new(queue, self.targets.len(), self.weight.view().rows, false, None)?;
            group.bench_function(format!("{}/head alone", self.shape), |bencher| {
                gpu::time(bencher, queue, || score(queue, &self.batch(&scores)));
            });
            Ok(())
        }

        fn bench_edit(
            &self,
            group: &mut BenchmarkGroup<'_, WallTime>,
            queue: &Queue,
            sampler: Sampler,
        ) -> Result<()> {
            let (rows, vocabulary) = (self.targets.len(), self.weight.view().rows);
            let tempered = (sampler == Sampler::Rejection).then_some(TEMPERATURE as f32);
            let scores = Scores::new(queue, rows, vocabulary, false, tempered)?;
            let config = EditConfig::from_rules(vec!["p>=0:resample".parse::<Rule>()?]);
            let config = config.with_sampler(sampler)?.with_temperature(TEMPERATURE)?;
            let edit = Edit::new(queue, &config, vocabulary, rows, ROOM)?;
            let batch = self.batch(&scores);
            let run = || {
                score(queue, &batch)?;
                edit.launch(queue, &batch, &self.origins, &self.classes)
            };
            run()?;
            let outcomes = edit.read(queue, &queue.mark()?, rows)?;
            let drawn = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Drawn { .. })).count();
            assert_eq!(drawn, rows.div_ceil(10));
            group.bench_function(format!("{}/{sampler:?}", self.shape), |bencher| {
                gpu::time(bencher, queue, run);
            });
            Ok(())
        }
    }

    fn score(queue: &Queue, batch: &Batch<'_, bf16>) -> Result<()> {
        batch.scores.score(queue, batch.hidden, batch.weight, batch.targets)
    }

    /// A tenth of the rows may be edited.
    fn origin(row: usize) -> Origin {
        Origin {
            stream: row as u64,
            position: 0,
            class: 0,
            editable: row.is_multiple_of(10),
            droppable: true,
        }
    }
}
