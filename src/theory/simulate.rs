//! The recursion and the estimator, run on drawn data.

use std::f64::consts::TAU;

use rayon::prelude::*;
use serde::Serialize;

use super::closed_form;
use super::least_squares::Design;
use super::schedule::{Mask, Schedule};
use crate::mean::Mean;
use crate::random::{Purpose, Stream, uniform};
use crate::{Error, Result};

/// Repetitions that are summed up together: fixed, so that no sum depends on the number of threads.
const BLOCK: u64 = 16;
/// Of the features' matrix: positions of random numbers have 32 bits.
const MAX_ENTRIES: usize = 1 << 30;

/// What is simulated.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TheoryConfig {
    /// T: samples that each model is fitted to.
    pub samples: usize,
    /// d: features of a sample.
    pub dimension: usize,
    /// σ: standard deviation of the labels' noise.
    pub noise: f64,
    /// Models, the first of them fitted to human labels: one more than there are masks.
    pub generations: usize,
    /// Runs with data of their own, at least two.
    pub repetitions: u64,
    /// Seed of all that is random.
    pub seed: u64,
    /// The masks of each run. The collapse is simulated beside them.
    pub schedules: Vec<Schedule>,
}

impl Default for TheoryConfig {
    /// Ten masks of a tenth of the rows, 100 samples for each feature.
    fn default() -> Self {
        let schedule = |mask| Schedule { mask, share: 0.1, ratio: 0.5 };
        Self {
            samples: 2000,
            dimension: 20,
            noise: 1.0,
            generations: 11,
            repetitions: 1000,
            seed: 0,
            schedules: Mask::ALL[..4].iter().copied().map(schedule).collect(),
        }
    }
}

impl TheoryConfig {
    /// V = σ²d/(T−d−1): the error of a model fitted to human labels, on average over the features too.
    pub fn unit(&self) -> f64 {
        self.noise * self.noise * self.dimension as f64 / (self.samples - self.dimension - 1) as f64
    }

    /// Checks the ranges, and that disjoint masks fit the rows.
    ///
    /// # Errors
    /// [`Error::Usage`] naming what is out of range.
    pub fn validate(&self) -> Result<()> {
        let Self { samples, dimension, .. } = *self;
        // With fewer samples the error has no variance, so that standard errors would mean nothing.
        let is_sized = dimension >= 1 && samples.checked_sub(dimension).is_some_and(|rest| rest >= 4);
        let is_stored = samples.checked_mul(dimension).is_some_and(|entries| entries <= MAX_ENTRIES);
        if !is_sized || !is_stored {
            return usage(format!(
                "{samples} samples of {dimension} features: expected at least 1 feature, at least 4 samples more than \
                 features, and at most {MAX_ENTRIES} numbers in all"
            ));
        }
        // Its square must be a number too.
        if !(1e-100..1e100).contains(&self.noise) {
            return usage(format!("noise {}: expected a number from 1e-100 to 1e100", self.noise));
        }
        let most = Stream::MAX_GENERATION as usize;
        if !(1..=most).contains(&self.generations) || self.repetitions < 2 {
            return usage(format!("expected from 1 to {most} generations and at least 2 repetitions"));
        }
        self.schedules.iter().try_for_each(|schedule| self.validate_schedule(schedule))
    }

    fn validate_schedule(&self, &Schedule { mask, share, ratio }: &Schedule) -> Result<()> {
        if !(share > 0.0 && share <= 1.0) {
            return usage(format!("masks of a share of {share}: expected a number above 0 and at most 1"));
        }
        if mask == Mask::Geometric && !(ratio > 0.0 && ratio < 1.0) {
            return usage(format!("ratio {ratio}: expected a number above 0 and below 1"));
        }
        let masks = self.generations - 1;
        if mask == Mask::Disjoint && share * masks as f64 > 1.0 + 1e-9 {
            return usage(format!(
                "{masks} disjoint masks, each of a share of {share}, are more than all rows: lower the share or the \
                 generations"
            ));
        }
        Ok(())
    }
}

fn usage(reason: String) -> Result<()> {
    Err(Error::Usage(reason))
}

/// One number of a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// n of the model w_n, from 1.
    pub generation: usize,
    /// ‖w_n − w*‖², the mean over the repetitions.
    pub error: f64,
    /// Of that mean.
    pub standard_error: f64,
    /// What the formula gives.
    pub closed_form: f64,
}

/// What came of a schedule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// The masks.
    pub schedule: Schedule,
    /// The share of the rows that each mask has, after rounding to whole rows.
    pub shares: Vec<f64>,
    /// The recursion as it is written, beside formulas for T ≫ d; that of the collapse is exact.
    pub recursion: Vec<Figure>,
    /// The estimator of Theorem 1's proof, beside V(1 + Σ mᵢ), which is exact.
    pub estimator: Vec<Figure>,
}

/// The result of [`simulate`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Simulation {
    /// V.
    pub unit: f64,
    /// In the order of the configuration, the collapse last.
    pub outcomes: Vec<Outcome>,
}

/// Runs all repetitions on the current thread pool. Results are a pure function of the configuration, whatever the threads,
/// and those of one schedule do not depend on the others. `watch` is called before each repetition; an error from there ends
/// the run.
///
/// # Errors
/// [`Error::Usage`] as [`TheoryConfig::validate`]; those of `watch`.
pub fn simulate(config: &TheoryConfig, watch: impl Fn() -> Result<()> + Sync) -> Result<Simulation> {
    config.validate()?;
    let is_edit = |schedule: &&Schedule| schedule.mask != Mask::All;
    let mut schedules: Vec<_> = config.schedules.iter().filter(is_edit).copied().collect();
    schedules.push(Schedule::COLLAPSE);
    let block = |first: u64| {
        let mut sums = vec![Mean::default(); 2 * schedules.len() * config.generations];
        for repetition in (first..config.repetitions).take(BLOCK as usize) {
            watch()?;
            let errors = run(config, &schedules, repetition)?;
            sums.iter_mut().zip(errors).for_each(|(sum, error)| sum.push(error));
        }
        Ok(sums)
    };
    let blocks = (0..config.repetitions.div_ceil(BLOCK)).into_par_iter().map(|number| block(number * BLOCK));
    let blocks: Vec<Vec<Mean>> = blocks.collect::<Result<_>>()?;
    let mut sums = vec![Mean::default(); 2 * schedules.len() * config.generations];
    for block in &blocks {
        sums.iter_mut().zip(block).for_each(|(sum, part)| *sum += part);
    }
    let unit = config.unit();
    let series = sums.chunks_exact(2 * config.generations).zip(&schedules);
    let outcomes = series.map(|(sums, schedule)| outcome(config, schedule, sums)).collect();
    Ok(Simulation { unit, outcomes })
}

/// Puts the sums of a schedule, those of the recursion first, beside what they should be.
fn outcome(config: &TheoryConfig, schedule: &Schedule, sums: &[Mean]) -> Outcome {
    let shares: Vec<f64> =
        (0..config.generations - 1).map(|index| schedule.share(index, config.samples)).collect();
    let figures = |sums: &[Mean], formula: Vec<f64>| {
        let figure = |(index, (sum, formula)): (usize, (&Mean, f64))| {
            let measured = sum.value().zip(sum.standard_error());
            let (error, standard_error) = measured.expect("there are at least two repetitions");
            Figure { generation: index + 1, error, standard_error, closed_form: formula * config.unit() }
        };
        sums.iter().zip(formula).enumerate().map(figure).collect()
    };
    let (recursion, estimator) = sums.split_at(config.generations);
    Outcome {
        schedule: *schedule,
        recursion: figures(recursion, closed_form::recursion(schedule.mask, &shares)),
        estimator: figures(estimator, closed_form::estimator(&shares)),
        shares,
    }
}

/// The errors of one repetition: for each schedule those of the recursion by generation, then those of the estimator. All
/// schedules see the same features and the same noise.
fn run(config: &TheoryConfig, schedules: &[Schedule], repetition: u64) -> Result<Vec<f64>> {
    let TheoryConfig { samples, dimension, .. } = *config;
    let stream = |part: usize| Stream::new(config.seed, repetition, Purpose::Simulate, part as u32);
    let mut features = vec![0.0; samples * dimension];
    normals(&stream(0)?, 1.0, &mut features);
    let design = Design::new(features.chunks_exact(samples).map(<[f64]>::to_vec).collect());
    // Any weights will do: the fits err by the same whatever they are.
    let truth = vec![1.0 / (dimension as f64).sqrt(); dimension];
    let mut noise = vec![0.0; samples];
    normals(&stream(1)?, config.noise, &mut noise);
    let mut tracks: Vec<_> = schedules.iter().map(|_| Track::new(&design, &truth, &noise)).collect();
    for generation in 2..=config.generations {
        let stream = stream(generation)?;
        normals(&stream, config.noise, &mut noise);
        for (track, schedule) in tracks.iter_mut().zip(schedules) {
            track.edit(&schedule.rows(generation - 2, samples, &stream), &noise);
        }
    }
    Ok(tracks.into_iter().flat_map(|track| [track.recursion, track.estimator].concat()).collect())
}

/// The run of one schedule.
struct Track<'a> {
    design: &'a Design,
    truth: &'a [f64],
    /// Ỹ_n.
    labels: Vec<f64>,
    /// Their fit's coordinates in Q.
    fit: Vec<f64>,
    /// Those of the fit to E_1 + Σ M_i E_{i+1}.
    noise_fit: Vec<f64>,
    /// ‖w_n − w*‖² so far.
    recursion: Vec<f64>,
    /// ‖X⁺(E_1 + Σ M_i E_{i+1})‖² so far.
    estimator: Vec<f64>,
}

impl<'a> Track<'a> {
    /// The first generation: human labels.
    fn new(design: &'a Design, truth: &'a [f64], noise: &[f64]) -> Self {
        let exact = design.coordinates(truth);
        let label = |(row, noise): (usize, &f64)| design.predict(&exact, row) + noise;
        let labels: Vec<f64> = noise.iter().enumerate().map(label).collect();
        let (fit, noise_fit) = (design.fit(&labels), design.fit(noise));
        let (recursion, estimator) = (Vec::new(), Vec::new());
        let mut track = Self { design, truth, labels, fit, noise_fit, recursion, estimator };
        track.measure();
        track
    }

    /// One more generation: the model relabels these rows, and only they change the fits.
    fn edit(&mut self, rows: &[usize], noise: &[f64]) {
        let mut fit = self.fit.clone();
        for &row in rows {
            let label = self.design.predict(&self.fit, row) + noise[row];
            self.design.shift(&mut fit, row, label - self.labels[row]);
            self.design.shift(&mut self.noise_fit, row, noise[row]);
            self.labels[row] = label;
        }
        self.fit = fit;
        self.measure();
    }

    fn measure(&mut self) {
        let weights = self.design.weights(&self.fit);
        let distances = weights.iter().zip(self.truth).map(|(weight, truth)| weight - truth);
        self.recursion.push(distances.map(|distance| distance * distance).sum());
        let distances = self.design.weights(&self.noise_fit);
        self.estimator.push(distances.iter().map(|distance| distance * distance).sum());
    }
}

/// Fills `values` with normal numbers of this standard deviation: Box and Muller's method, four to a block.
fn normals(stream: &Stream, deviation: f64, values: &mut [f64]) {
    for (position, values) in values.chunks_mut(4).enumerate() {
        let words = stream.block(position as u32, 0);
        let pairs = words.chunks_exact(2).flat_map(|pair| {
            let radius = deviation * (-2.0 * uniform(pair[0]).ln()).sqrt();
            let (sine, cosine) = (TAU * uniform(pair[1])).sin_cos();
            [radius * cosine, radius * sine]
        });
        values.iter_mut().zip(pairs).for_each(|(value, normal)| *value = normal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Solves A·x = b by elimination with pivots.
    fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
        let size = b.len();
        for column in 0..size {
            let pivot =
                (column..size).max_by(|&i, &j| a[i][column].abs().total_cmp(&a[j][column].abs())).unwrap();
            a.swap(column, pivot);
            b.swap(column, pivot);
            for row in (0..size).filter(|row| *row != column) {
                let factor = a[row][column] / a[column][column];
                (0..size).for_each(|k| a[row][k] -= factor * a[column][k]);
                b[row] -= factor * b[column];
            }
        }
        (0..size).map(|k| b[k] / a[k][k]).collect()
    }

    /// (XᵀX)⁻¹Xᵀy, `x` being columns.
    fn least_squares(x: &[Vec<f64>], y: &[f64]) -> Vec<f64> {
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let gram = x.iter().map(|a| x.iter().map(|b| product(a, b)).collect()).collect();
        solve(gram, x.iter().map(|column| product(column, y)).collect())
    }

    fn square(distance: impl Iterator<Item = f64>) -> f64 {
        distance.map(|value| value * value).sum()
    }

    /// The formulas of the module's head, line by line.
    #[test]
    fn a_run_is_the_recursion_and_the_estimator_as_they_are_written() {
        let (samples, dimension) = (23, 4);
        let stream = Stream::new(9, 0, Purpose::Simulate, 0).unwrap();
        let mut numbers = vec![0.0; samples * 20];
        normals(&stream, 1.0, &mut numbers);
        let (x, noises): (Vec<_>, Vec<_>) = {
            let mut rows = numbers.chunks(samples).map(<[f64]>::to_vec);
            (rows.by_ref().take(dimension).collect(), rows.collect())
        };
        let truth = [0.5, -1.0, 2.0, 0.0];
        let predict = |w: &[f64], row: usize| (0..dimension).map(|k| x[k][row] * w[k]).sum::<f64>();
        let masks = [vec![0, 3, 4, 22], vec![], vec![4, 5, 6, 7, 8, 9], (0..samples).collect::<Vec<_>>()];

        let design = Design::new(x.clone());
        let mut track = Track::new(&design, &truth, &noises[0]);
        let mut labels: Vec<f64> = (0..samples).map(|row| predict(&truth, row) + noises[0][row]).collect();
        let mut sum = noises[0].clone();
        let mut weights = least_squares(&x, &labels);
        let mut expected = vec![[
            square(weights.iter().zip(truth).map(|(a, b)| a - b)),
            square(least_squares(&x, &sum).into_iter()),
        ]];
        for (mask, noise) in masks.iter().zip(&noises[1..]) {
            track.edit(mask, noise);
            for &row in mask {
                labels[row] = predict(&weights, row) + noise[row];
                sum[row] += noise[row];
            }
            weights = least_squares(&x, &labels);
            let recursion = square(weights.iter().zip(truth).map(|(a, b)| a - b));
            expected.push([recursion, square(least_squares(&x, &sum).into_iter())]);
        }
        for (index, [recursion, estimator]) in expected.into_iter().enumerate() {
            assert!((track.recursion[index] / recursion - 1.0).abs() < 1e-10, "{index}");
            assert!((track.estimator[index] / estimator - 1.0).abs() < 1e-10, "{index}");
        }
    }

    /// Mean, variance and fourth moment within five standard errors; the tails are there.
    #[test]
    fn normals_are_normal() {
        let mut values = vec![0.0; 400_003];
        normals(&Stream::new(5, 1, Purpose::Simulate, 0).unwrap(), 2.0, &mut values);
        let moment = |power: i32| {
            values.iter().map(|value| (value / 2.0f64).powi(power)).sum::<f64>() / values.len() as f64
        };
        let root = (values.len() as f64).sqrt();
        for (power, expected, deviation) in [(1, 0.0, 1.0), (2, 1.0, 2f64.sqrt()), (4, 3.0, 96f64.sqrt())] {
            let found = moment(power);
            assert!((found - expected).abs() < 5.0 * deviation / root, "moment {power}: {found}");
        }
        let beyond = values.iter().filter(|value| value.abs() > 6.0).count() as f64;
        // 0.27 % lie past three standard deviations.
        assert!((beyond - 0.0027 * values.len() as f64).abs() < 5.0 * beyond.sqrt(), "{beyond}");
    }
}
