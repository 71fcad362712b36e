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
    use criterion::{Criterion, Throughput};
    use half::bf16;
    use toedit::device::{Matrix, Queue};
    use toedit::edit::{EditConfig, Outcome, Rule, Sampler};
    use toedit::ops::edit::{Batch, Classes, Edit, Origin, ROOM};
    use toedit::ops::head::Scores;

    use super::{SAMPLERS, VOCABULARY};
    use crate::common::{arms, samples};

    const ROWS: usize = 8192;
    const HIDDEN: usize = 2048;
    const TEMPERATURE: f64 = 1.5;

    pub fn bench(criterion: &mut Criterion) {
        for queue in
            arms::devices().into_iter().filter(|queue| matches!(queue.device(), toedit::Device::Cuda(_)))
        {
            bench_on(criterion, &queue).expect("a working GPU");
        }
    }

    fn bench_on(criterion: &mut Criterion, queue: &Queue) -> toedit::Result<()> {
        let hidden: Matrix<bf16> = arms::upload(queue, HIDDEN, &samples::values::<bf16>(1, ROWS * HIDDEN));
        let weight: Matrix<bf16> =
            arms::upload(queue, HIDDEN, &samples::values::<bf16>(2, VOCABULARY * HIDDEN));
        let targets = queue.upload(&samples::ids(3, ROWS, VOCABULARY))?;
        let mut classes = Classes::new(queue, VOCABULARY, 1)?;
        classes.add(queue, |_| true)?;

        let mut group = criterion.benchmark_group("edit");
        group.throughput(Throughput::Elements(ROWS as u64));
        for sampler in SAMPLERS.map(Some).into_iter().chain([None]) {
            let tempered = (sampler == Some(Sampler::Rejection)).then_some(TEMPERATURE as f32);
            let scores = Scores::new(queue, ROWS, VOCABULARY, false, tempered)?;
            let batch = Batch {
                hidden: hidden.view(),
                weight: weight.view(),
                targets: targets.view(),
                scores: &scores,
            };
            let config = EditConfig::from_rules(vec!["p>=0:resample".parse::<Rule>()?]);
            let config = config.with_sampler(sampler.unwrap_or_default())?.with_temperature(TEMPERATURE)?;
            let edit = Edit::new(queue, &config, VOCABULARY, ROWS, ROOM)?;
            let run = || {
                scores.score(queue, batch.hidden, batch.weight, batch.targets)?;
                if sampler.is_some() {
                    edit.launch(queue, &batch, &origins(), &classes)?;
                }
                queue.synchronize()
            };
            run()?;
            if sampler.is_some() {
                let outcomes = edit.read(queue, &queue.mark()?, ROWS)?;
                let drawn =
                    outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Drawn { .. })).count();
                assert_eq!(drawn, ROWS.div_ceil(10));
            }
            let name = sampler.map_or("the head alone".to_owned(), |sampler| format!("{sampler:?}"));
            group.bench_function(format!("head and edit/{name}"), |bencher| {
                bencher.iter(|| run().expect("a working GPU"));
            });
        }
        Ok(())
    }

    /// A tenth of the rows may be edited.
    fn origins() -> Vec<Origin> {
        let origin = |row: usize| Origin {
            stream: row as u64,
            position: 0,
            class: 0,
            editable: row.is_multiple_of(10),
            droppable: true,
        };
        (0..ROWS).map(origin).collect()
    }
}
