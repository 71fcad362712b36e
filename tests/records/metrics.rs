//! The JSON lines of a run: at once in the file, cut where a run is resumed.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;
use tempfile::TempDir;
use toedit::train::metrics::{EVALUATIONS, Evaluation, METRICS, Metrics, StepMetrics, read};
use toedit::train::plot;

fn step(step: u64) -> StepMetrics {
    let loss = 1.0 + 8.0 / step as f64;
    StepMetrics { step, loss, learning_rate: 1e-3, gradient_norm: 0.5, tokens_per_second: 1234.5 }
}

fn evaluation(step: u64) -> Evaluation {
    Evaluation { step, loss: 2.5, perplexity: 2.5f64.exp(), tokens: 100 }
}

/// A run of `steps` steps with an evaluation before the first and after every second.
fn run(folder: &Path, steps: u64) {
    let mut metrics = Metrics::create(folder, None).unwrap();
    metrics.evaluation(&evaluation(0)).unwrap();
    go_on(&mut metrics, 1, steps);
}

fn go_on(metrics: &mut Metrics, first: u64, last: u64) {
    for number in first..=last {
        metrics.step(&step(number)).unwrap();
        if number % 2 == 0 {
            metrics.evaluation(&evaluation(number)).unwrap();
        }
    }
}

fn files(folder: &Path) -> [Vec<u8>; 2] {
    [METRICS, EVALUATIONS].map(|name| fs::read(folder.join(name)).unwrap())
}

#[test]
fn a_step_is_a_line() {
    let folder = TempDir::new().unwrap();
    run(folder.path(), 3);
    let text = fs::read_to_string(folder.path().join(METRICS)).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    for (line, number) in lines.iter().zip(1..) {
        assert_eq!(line["step"], number);
        for name in ["loss", "learning_rate", "gradient_norm", "tokens_per_second"] {
            assert!(line[name].is_f64(), "{line}");
        }
        assert_eq!(line.as_object().unwrap().len(), 5);
    }
    let steps: Vec<StepMetrics> = read(&folder.path().join(METRICS)).unwrap().collect();
    assert_eq!(steps, [step(1), step(2), step(3)]);
    let evaluations: Vec<Evaluation> = read(&folder.path().join(EVALUATIONS)).unwrap().collect();
    assert_eq!(evaluations.iter().map(|line| line.step).collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn a_new_run_keeps_nothing() {
    let folder = TempDir::new().unwrap();
    run(folder.path(), 9);
    run(folder.path(), 2);
    assert_eq!(read::<StepMetrics>(&folder.path().join(METRICS)).unwrap().count(), 2);
    assert_eq!(read::<Evaluation>(&folder.path().join(EVALUATIONS)).unwrap().count(), 2);
}

#[test]
fn what_is_not_finite_does_not_end_the_file() {
    let folder = TempDir::new().unwrap();
    let mut metrics = Metrics::create(folder.path(), Some(folder.path())).unwrap();
    metrics.step(&StepMetrics { gradient_norm: f64::INFINITY, ..step(1) }).unwrap();
    metrics.step(&step(2)).unwrap();
    metrics.sync().unwrap();
    let steps: Vec<StepMetrics> = read(&folder.path().join(METRICS)).unwrap().collect();
    assert!(steps[0].gradient_norm.is_nan() && steps[1] == step(2));
}

#[test]
fn a_missing_file_has_no_lines() {
    let folder = TempDir::new().unwrap();
    assert_eq!(read::<StepMetrics>(&folder.path().join(METRICS)).unwrap().count(), 0);
    plot::write(folder.path()).unwrap();
    assert!(!folder.path().join(plot::PLOT).exists());
}

#[test]
fn the_plot_shows_the_records() {
    let folder = TempDir::new().unwrap();
    run(folder.path(), 50);
    plot::write(folder.path()).unwrap();
    let svg = fs::read_to_string(folder.path().join(plot::PLOT)).unwrap();
    for part in ["<svg", "each step", "smoothed", "held out", "optimizer step"] {
        assert!(svg.contains(part), "{part}");
    }
    plot::write(folder.path()).unwrap();
    assert_eq!(fs::read_to_string(folder.path().join(plot::PLOT)).unwrap(), svg);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Killed after any byte of either file and resumed from any checkpoint, the files become those of one run.
    #[test]
    fn a_resumed_run_leaves_the_files_of_one_run(
        checkpoint in 0..7u64, beyond in 0..5u64, lost in 0..200usize, garbage in "[\\x00-\\x7f]{0,20}",
    ) {
        let [whole, resumed] = [TempDir::new().unwrap(), TempDir::new().unwrap()];
        run(whole.path(), 12);
        run(resumed.path(), checkpoint);
        let durable = files(resumed.path());
        run(resumed.path(), checkpoint + beyond);
        for (name, durable) in [METRICS, EVALUATIONS].into_iter().zip(durable) {
            let path = resumed.path().join(name);
            let mut bytes = fs::read(&path).unwrap();
            bytes.truncate(durable.len().max(bytes.len().saturating_sub(lost)));
            bytes.extend(garbage.bytes());
            fs::write(&path, bytes).unwrap();
        }
        let mut metrics = Metrics::resume(resumed.path(), None, checkpoint).unwrap();
        go_on(&mut metrics, checkpoint + 1, 12);
        prop_assert_eq!(files(resumed.path()), files(whole.path()));
    }
}
