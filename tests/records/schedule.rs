//! Learning rates: bounds, continuity, end points.

use proptest::prelude::*;
use toedit::train::schedule::{DEFAULT_DECAY_SHARE, Decay, Schedule};

fn decays() -> impl Strategy<Value = Decay> {
    prop_oneof![
        Just(Decay::Constant),
        Just(Decay::Cosine),
        (0.0..=1.0).prop_map(|share| Decay::WarmupStableDecay { share }),
        Just(Decay::WarmupStableDecay { share: DEFAULT_DECAY_SHARE }),
    ]
}

prop_compose! {
    /// Any shape over a run of up to 400 steps: its decay, rate, floor, warm-up and steps.
    fn runs()(decay in decays(), rate in 1e-6..1.0f64, steps in 1..400u64)
        (floor in 0.0..=rate, warmup in 0..=steps, decay in Just(decay), rate in Just(rate), steps in Just(steps))
        -> (Decay, f64, f64, u64, u64) {
        (decay, rate, floor, warmup, steps)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn rates_rise_to_the_full_rate_and_fall_to_the_floor((decay, rate, floor, warmup, steps) in runs()) {
        let schedule = Schedule::new(decay, rate, floor, warmup, steps).unwrap();
        let rates: Vec<f64> = (1..=steps + 1).map(|step| schedule.at(step)).collect();
        let peak = warmup.max(1) as usize - 1;
        let (rising, falling) = rates.split_at(peak + 1);
        prop_assert!(rates.iter().all(|found| *found > 0.0 || *found == floor));
        prop_assert!(rising.windows(2).all(|pair| pair[0] < pair[1]));
        prop_assert!(falling.windows(2).all(|pair| pair[0] >= pair[1]));
        prop_assert!(falling.iter().all(|found| (floor..=rate).contains(found)));
        if warmup > 0 || decay == Decay::Cosine || decay == Decay::Constant {
            prop_assert_eq!(rates[peak], rate);
        }
        let end = if decay == Decay::Constant { rate } else { floor };
        prop_assert_eq!(schedule.at(u64::MAX), end);
        prop_assert!((rates[steps as usize] - end).abs() <= 1e-15);
    }

    /// No step is larger than the steepest slope of its part allows.
    #[test]
    fn rates_do_not_jump((decay, rate, floor, warmup, steps) in runs()) {
        let schedule = Schedule::new(decay, rate, floor, warmup, steps).unwrap();
        let span = match decay {
            Decay::Constant => f64::INFINITY,
            Decay::Cosine => (steps + 1 - warmup.max(1)) as f64 / std::f64::consts::FRAC_PI_2,
            Decay::WarmupStableDecay { share } => {
                1.0 + (share * steps as f64).ceil().min((steps - warmup) as f64)
            }
        };
        for step in 0..=steps {
            let change = (schedule.at(step + 1) - schedule.at(step)).abs();
            let limit = if step < warmup { rate / warmup as f64 } else { (rate - floor) / span };
            prop_assert!(change <= limit + 1e-12, "step {step}: {change} > {limit}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_wrong_usage(rate in 1e-6..1.0f64, above in 1e-6..1.0f64, steps in 1..99u64) {
        let refused = |decay, rate, floor, warmup| {
            Schedule::new(decay, rate, floor, warmup, steps).is_err_and(|error| error.exit_status() == 2)
        };
        prop_assert!(refused(Decay::Cosine, rate, rate + above, 0));
        prop_assert!(refused(Decay::Cosine, rate, -above, 0));
        prop_assert!(refused(Decay::Constant, rate, 0.0, steps + 1));
        let share = |share| Decay::WarmupStableDecay { share };
        prop_assert!(refused(share(1.0 + above), rate, 0.0, 0));
        for bad in [f64::NAN, f64::INFINITY] {
            prop_assert!(refused(Decay::Constant, bad, 0.0, 0) && refused(Decay::Constant, rate, bad, 0));
            prop_assert!(refused(share(bad), rate, 0.0, 0));
        }
    }
}

#[test]
fn a_cosine_is_one() {
    let schedule = Schedule::new(Decay::Cosine, 1.0, 0.1, 4, 103).unwrap();
    let expected = |progress: f64| 0.1 + 0.9 * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
    assert_eq!((1..=4).map(|step| schedule.at(step)).collect::<Vec<_>>(), [0.25, 0.5, 0.75, 1.0]);
    for step in 4..=104 {
        assert!((schedule.at(step) - expected((step - 4) as f64 / 100.0)).abs() < 1e-12, "{step}");
    }
    assert!((schedule.at(54) - 0.55).abs() < 1e-12);
}

#[test]
fn the_last_fifth_decays() {
    let decay = Decay::WarmupStableDecay { share: DEFAULT_DECAY_SHARE };
    let schedule = Schedule::new(decay, 1.0, 0.0, 10, 100).unwrap();
    assert!((10..=80).all(|step| schedule.at(step) == 1.0));
    for step in 80..=101 {
        assert!((schedule.at(step) - (101 - step) as f64 / 21.0).abs() < 1e-12, "{step}");
    }
}
