//! The samplers: χ² against distributions computed plainly in f64, a second sampler as oracle, and exact cases.

use proptest::prelude::*;
use toedit::edit::Sampler;
use toedit::ops::draw::{Candidate, Draw, Row, draw, largest};
use toedit::random::{Purpose, Stream, Uniform, philox4x32, uniform};
use toedit::score::Statistics;

use super::oracle;
use crate::common::chi_square::{self, SMALLEST_BIN};

const DRAWS: u32 = 1_000_000;

/// One row, its original, the temperature and the ids that may not stand there.
struct Case {
    logits: Vec<f32>,
    original: u32,
    temperature: f64,
    forbidden: fn(u32) -> bool,
}

impl Case {
    /// Logits that fall by about 12 from the likeliest to the rarest token, in a mixed order, every fifth equal to the
    /// one before it.
    fn new(vocabulary: u32, original: u32, temperature: f64, forbidden: fn(u32) -> bool) -> Self {
        let logit = |id: u32| {
            let id = if id % 5 == 4 { id - 1 } else { id };
            12.0 * (f64::from(philox4x32([id, 0, 0, 0], [9, 9])[0]) / f64::from(u32::MAX)) as f32
        };
        Self { logits: (0..vocabulary).map(logit).collect(), original, temperature, forbidden }
    }

    /// As [`Case::new`] with the original's logit such that its probability is p.
    fn with_probability(mut self, p: f64) -> Self {
        let rest = self.statistics();
        let odds = p / (1.0 - p) * f64::from(rest.rest);
        self.logits[self.original as usize] = (f64::from(rest.max) + odds.ln()) as f32;
        self
    }

    fn allowed(&self, id: u32) -> bool {
        !(self.forbidden)(id)
    }

    fn statistics(&self) -> Statistics {
        oracle::statistics(&self.logits, self.original)
    }

    fn draw(&self, sampler: &Sampler, random: impl Fn(u8) -> Uniform) -> Draw {
        self.draw_with(sampler, &self.statistics(), random)
    }

    fn draw_with(&self, sampler: &Sampler, statistics: &Statistics, random: impl Fn(u8) -> Uniform) -> Draw {
        let row = Row { logits: &self.logits, original: self.original, statistics };
        draw(sampler, self.temperature, row, |id| self.allowed(id), random)
    }

    /// How often each id comes out of [`DRAWS`] draws; at the end, how often none does.
    fn sample(&self, sampler: &Sampler) -> Vec<u32> {
        let stream = Stream::new(20_250_704, 3, Purpose::Edit, 1).unwrap();
        let statistics = self.statistics();
        let mut counts = vec![0; self.logits.len() + 1];
        for position in 0..DRAWS {
            let index = match self.draw_with(sampler, &statistics, |d| stream.draw(position, d)) {
                Draw::Token { id, logit } => {
                    assert_eq!(logit, self.logits[id as usize]);
                    id as usize
                }
                Draw::NoAlternative => self.logits.len(),
            };
            counts[index] += 1;
        }
        counts
    }

    /// The probability of each id, and at the end of none, by the method's table.
    fn distribution(&self, sampler: &Sampler) -> Vec<f64> {
        let order = oracle::order(&self.logits);
        let count = match *sampler {
            Sampler::TopK(k) => k.min(order.len()),
            Sampler::TopP(mass) if mass < 1.0 => {
                let p = oracle::softmax(&self.logits, 1.0, |_| true);
                let running = order.iter().scan(0.0, |sum, &id| {
                    *sum += p[id as usize];
                    Some(*sum)
                });
                1 + running.take_while(|&sum| sum < mass).count()
            }
            _ => order.len(),
        };
        let candidates = &order[..count];
        let mut p = oracle::softmax(&self.logits, self.temperature, |id| {
            candidates.contains(&id) && self.allowed(id)
        });
        let none = match sampler {
            Sampler::Rejection => {
                let all = oracle::softmax(&self.logits, self.temperature, |_| true);
                let accepted: f64 = (0..).zip(&all).filter(|(id, _)| self.allowed(*id)).map(|(_, p)| p).sum();
                (1.0 - accepted).powi(64)
            }
            _ => 1.0 - p.iter().sum::<f64>().round(),
        };
        p.iter_mut().for_each(|p| *p *= 1.0 - none);
        p.push(none);
        p
    }

    /// χ² of a million draws against the distribution.
    fn check(&self, sampler: &Sampler) {
        let (counts, p) = (self.sample(sampler), self.distribution(sampler));
        chi_square::check(&format!("{sampler:?}"), &counts, &p);
    }
}

fn nothing(_: u32) -> bool {
    false
}

fn every_third(id: u32) -> bool {
    id % 3 == 1
}

#[test]
fn top_k_draws_its_distribution() {
    Case::new(3, 0, 1.5, nothing).check(&Sampler::TopK(8));
    Case::new(300, 7, 1.5, every_third).check(&Sampler::TopK(8));
    Case::new(300, 7, 1.0, nothing).with_probability(0.999).check(&Sampler::TopK(8));
    Case::new(1000, 7, 2.0, every_third).with_probability(0.995).check(&Sampler::TopK(64));
}

#[test]
fn top_p_draws_its_distribution() {
    Case::new(3, 0, 1.0, nothing).check(&Sampler::TopP(0.999_9));
    Case::new(300, 7, 1.5, every_third).check(&Sampler::TopP(0.7));
    Case::new(1000, 7, 1.0, nothing).with_probability(0.999).check(&Sampler::TopP(0.999_1));
}

#[test]
fn full_draws_its_distribution() {
    Case::new(3, 2, 1.5, |id| id == 1).check(&Sampler::Full);
    Case::new(300, 299, 0.8, nothing).check(&Sampler::Full);
    Case::new(40, 7, 1.5, |id| id == 7).with_probability(0.99).check(&Sampler::Full);
    Case::new(1000, 600, 1.5, every_third).with_probability(0.99).check(&Sampler::TopP(1.0));
}

#[test]
fn rejection_draws_its_distribution() {
    Case::new(3, 2, 1.5, |id| id == 1).check(&Sampler::Rejection);
    Case::new(300, 7, 1.5, every_third).with_probability(0.9).check(&Sampler::Rejection);
    // The original excluded at p = 0.99: about half of the positions find no alternative.
    Case::new(40, 7, 1.0, |id| id == 7).with_probability(0.99).check(&Sampler::Rejection);
}

#[test]
fn the_cases_hold_a_rare_token_in_a_bin_of_its_own() {
    let rare = |case: Case, sampler| {
        let expected = case.distribution(&sampler).iter().map(|p| p * f64::from(DRAWS)).collect::<Vec<_>>();
        expected.iter().any(|&expected| (SMALLEST_BIN..100.0).contains(&expected))
    };
    assert!(rare(Case::new(300, 299, 0.8, nothing), Sampler::Full));
    assert!(rare(Case::new(300, 7, 1.5, every_third).with_probability(0.9), Sampler::Rejection));
    assert!(rare(Case::new(300, 7, 1.0, nothing).with_probability(0.999), Sampler::TopK(8)));
    assert!(rare(Case::new(1000, 7, 1.0, nothing).with_probability(0.999), Sampler::TopP(0.999_1)));
}

/// The allowed id with the largest l/T + Gumbel noise is a draw from the allowed softmax.
fn gumbel_max(case: &Case, position: u32) -> usize {
    let key = |id: u32| {
        let noise = -(-uniform(philox4x32([id, position, 0, 0], [5, 5])[0]).ln()).ln();
        f64::from(case.logits[id as usize]) / case.temperature + noise
    };
    let allowed = (0..case.logits.len() as u32).filter(|&id| case.allowed(id));
    allowed.max_by(|&a, &b| key(a).total_cmp(&key(b))).unwrap() as usize
}

#[test]
fn full_and_rejection_agree_with_gumbel_max() {
    let case = Case::new(24, 7, 1.5, every_third).with_probability(0.9);
    let mut oracle_counts = vec![0u32; case.logits.len()];
    (0..DRAWS).for_each(|position| oracle_counts[gumbel_max(&case, position)] += 1);
    for sampler in [Sampler::Full, Sampler::Rejection] {
        let pairs = case.sample(&sampler).into_iter().zip(oracle_counts.iter().copied());
        let terms: Vec<f64> = pairs
            .filter(|(a, b)| f64::from(a + b) >= 2.0 * SMALLEST_BIN)
            .map(|(a, b)| (f64::from(a) - f64::from(b)).powi(2) / f64::from(a + b))
            .collect();
        let score = chi_square::chi_square_score(terms.iter().sum(), terms.len() - 1);
        assert!(score < chi_square::LIMIT, "{sampler:?}: score {score} over {} bins", terms.len());
    }
}

/// Numbers at the very ends of the interval.
fn ends(first: f64, second: f64) -> impl Fn(u8) -> Uniform {
    move |_| Uniform { first, second }
}

#[test]
fn the_last_positive_weight_is_never_passed() {
    let top = uniform(u32::MAX);
    for sampler in [Sampler::TopK(600), Sampler::TopP(0.999_999), Sampler::Full, Sampler::Rejection] {
        let mut case = Case::new(600, 3, 0.5, |id| id > 299 || id == 298);
        if sampler == Sampler::Rejection {
            case.forbidden = nothing;
        }
        for random in [(top, top), (top, uniform(0)), (uniform(0), top), (1.0, 1.0)] {
            let Draw::Token { id, .. } = case.draw(&sampler, ends(random.0, random.1)) else {
                panic!("{sampler:?} drew nothing");
            };
            assert!(case.allowed(id), "{sampler:?} drew {id}");
        }
    }
}

#[test]
fn where_nothing_is_allowed_nothing_is_drawn() {
    for sampler in [Sampler::TopK(8), Sampler::TopP(0.9), Sampler::Full, Sampler::Rejection] {
        let case = Case::new(300, 3, 1.5, |_| true);
        assert_eq!(case.draw(&sampler, ends(0.5, 0.5)), Draw::NoAlternative);
    }
    // Candidates are chosen before the forbidden ones lose their weight.
    let case = Case::new(300, 3, 1.5, |id| id == 3).with_probability(0.99);
    assert_eq!(case.draw(&Sampler::TopK(1), ends(0.5, 0.5)), Draw::NoAlternative);
    assert_eq!(case.draw(&Sampler::TopP(0.9), ends(0.5, 0.5)), Draw::NoAlternative);
}

#[test]
fn the_order_of_full_is_the_original_then_tiles() {
    let logits = vec![0.0; 600];
    let case = Case { logits, original: 300, temperature: 1.0, forbidden: nothing };
    let id = |first, second| match case.draw(&Sampler::Full, ends(first, second)) {
        Draw::Token { id, .. } => id,
        Draw::NoAlternative => panic!("all are allowed"),
    };
    assert_eq!(id(0.5 / 600.0, 0.9), 300);
    // Tile 0 has 256 columns, tile 1 has 255 without the original, tile 2 has 88.
    assert_eq!([id(1.5 / 600.0, 0.0), id(256.5 / 600.0, 0.999)], [0, 255]);
    assert_eq!([id(257.5 / 600.0, 0.0), id(300.0 / 600.0, 44.5 / 255.0)], [256, 301]);
    assert_eq!([id(512.5 / 600.0, 0.0), id(599.5 / 600.0, 87.5 / 88.0)], [512, 599]);
}

#[test]
fn rejection_takes_the_first_allowed_of_64_proposals() {
    let case = Case { logits: vec![0.0; 4], original: 0, temperature: 1.0, forbidden: |id| id != 3 };
    // Every proposal is the original but that of draw `found`.
    let random = |found| move |draw| Uniform { first: if draw == found { 0.9 } else { 0.1 }, second: 0.99 };
    assert_eq!(case.draw(&Sampler::Rejection, random(63)), Draw::Token { id: 3, logit: 0.0 });
    assert_eq!(case.draw(&Sampler::Rejection, random(64)), Draw::NoAlternative);
}

#[test]
fn a_small_temperature_leaves_the_largest_allowed() {
    // Relative to the forbidden original every other weight would underflow.
    let mut case = Case::new(600, 3, 1e-3, |id| id == 3).with_probability(0.999);
    case.logits[477] = 12.5;
    for sampler in [Sampler::TopK(8), Sampler::TopP(0.999_9), Sampler::Full] {
        assert_eq!(case.draw(&sampler, ends(0.5, 0.5)), Draw::Token { id: 477, logit: 12.5 }, "{sampler:?}");
    }
}

#[test]
fn masked_columns_are_never_drawn() {
    let mut case = Case::new(600, 3, 1.0, nothing);
    case.logits[256..512].fill(f32::NEG_INFINITY);
    for sampler in [Sampler::TopK(600), Sampler::Full, Sampler::Rejection] {
        for step in 0..1000 {
            let u = (f64::from(step) + 0.5) / 1000.0;
            match case.draw(&sampler, ends(u, u)) {
                Draw::Token { id, .. } => assert!(!(256..512).contains(&id)),
                Draw::NoAlternative => panic!("{sampler:?} drew nothing"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn largest_is_the_head_of_the_order(
        logits in prop::collection::vec(prop_oneof![(-4i8..5).prop_map(f32::from), Just(-0.0)], 0..1100), k in 0usize..80, all in any::<bool>(),
    ) {
        let k = if all { usize::MAX } else { k };
        let expected = oracle::order(&logits).into_iter().take(k).map(|id| Candidate { id, logit: logits[id as usize] });
        prop_assert_eq!(largest(&logits, k), expected.collect::<Vec<_>>());
    }

    #[test]
    fn one_candidate_is_the_identity_above_a_half(
        vocabulary in 2u32..600, original in 0u32..600, p in 0.501f64..0.999_999, temperature in 0.01f64..100.0, u in 0f64..1.0,
    ) {
        let case = Case::new(vocabulary, original % vocabulary, temperature, nothing).with_probability(p);
        let kept = Draw::Token { id: case.original, logit: case.logits[case.original as usize] };
        prop_assert_eq!(case.draw(&Sampler::TopK(1), ends(u, u)), kept);
        prop_assert_eq!(case.draw(&Sampler::TopP(p * 0.999_9), ends(u, u)), kept);
    }

    #[test]
    fn what_is_drawn_is_allowed(
        vocabulary in 1u32..600, original in 0u32..600, temperature in 0.01f64..100.0, first in 0f64..1.0, second in 0f64..1.0,
    ) {
        let case = Case::new(vocabulary, original % vocabulary, temperature, every_third);
        for sampler in [Sampler::TopK(8), Sampler::TopP(0.9), Sampler::Full, Sampler::Rejection] {
            if let Draw::Token { id, .. } = case.draw(&sampler, ends(first, second)) {
                prop_assert!(case.allowed(id) && id < vocabulary);
            }
        }
    }
}
