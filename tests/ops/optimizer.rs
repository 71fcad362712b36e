//! AdamW against its formula in f64 over several steps, and sums of squares.

use half::bf16;
use toedit::device::Queue;
use toedit::ops::optimizer::{AdamW, Parameters, SUMS, sum_of_squares_on};

use crate::common::arms::{self, Scalar};
use crate::common::oracle::Expected;
use crate::common::{oracle_rows, samples, tolerance};

const STEP: AdamW =
    AdamW { learning_rate: 1e-2, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, step: 1 };

/// Around the vectors of a thread, a block of threads, and what a thread of the host takes.
const LENGTHS: [usize; 9] = [1, 3, 4, 5, 1023, 1024, 1025, 16_385, 40_000];

/// Three steps over `n` elements that begin at `offset` of their buffers.
fn check<E: Scalar>(queue: &Queue, n: usize, offset: usize, decayed: usize) {
    let upload = |values: &[f32]| queue.upload(&[&vec![f32::NAN; offset][..], values].concat()).unwrap();
    let start = samples::values::<f32>(1, n);
    let mut state: Vec<[f64; 3]> = start.iter().map(|weight| [f64::from(*weight), 0.0, 0.0]).collect();
    let [weight, m, v] = [start, vec![0.0; n], vec![0.0; n]].map(|values| upload(&values));
    let rounded = queue.alloc::<E>(offset + n).unwrap();
    for step in 1..=3 {
        let gradient: Vec<f32> = samples::values::<f32>(10 + step, n).iter().map(|x| x * x * x).collect();
        let gradient_on = upload(&gradient);
        let [weight, gradient_on, m, v] =
            [&weight, &gradient_on, &m, &v].map(|buffer| buffer.view().slice(offset..offset + n));
        let rounded = Some(rounded.view().slice(offset..offset + n)).filter(|_| step != 2);
        let parameters =
            Parameters { weight, gradient: gradient_on, exp_avg: m, exp_avg_sq: v, rounded, decayed };
        let adamw = AdamW { step, ..STEP };
        adamw.step_on(queue, 0.5, &parameters).unwrap();
        for (index, (state, gradient)) in state.iter_mut().zip(gradient).enumerate() {
            *state = oracle_rows::adamw(&adamw, index < decayed, *state, 0.5 * f64::from(gradient));
        }
    }
    let what = format!("{queue:?} {} {n} from {offset}", E::NAME);
    for (index, buffer) in [&weight, &m, &v].into_iter().enumerate() {
        let found = queue.download(buffer.view().slice(offset..offset + n)).unwrap();
        // A weight moves by three times the learning rate, a mean is of three values.
        let expected = |state: &[f64; 3]| Expected { value: state[index], scale: state[index].abs() + 0.03 };
        let expected: Vec<_> = state.iter().map(expected).collect();
        tolerance::assert_within(&what, found.iter().copied(), &expected, tolerance::sum(3));
        if index == 0 {
            let rounded = queue.download(rounded.view().slice(offset..offset + n)).unwrap();
            let rounded: Vec<f32> = rounded.into_iter().map(|x| x.to_f32()).collect();
            let weights: Vec<f32> = found.into_iter().map(|x| E::from_f32(x).to_f32()).collect();
            tolerance::assert_same_bits(&what, &rounded, &weights);
        }
    }
}

#[test]
fn three_steps_are_the_formula() {
    for queue in arms::queues() {
        for n in LENGTHS {
            for (offset, decayed) in [(0, n), (4, n / 2 + 1), (3, 0)] {
                check::<f32>(&queue, n, offset, decayed.min(n));
                check::<bf16>(&queue, n, offset, decayed.min(n));
            }
        }
    }
}

/// What PyTorch 2.15 makes of a weight of 0.5 in three steps of
/// `torch.optim.AdamW(lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)`, with the gradients 0.3, -0.1 and 0.7.
#[test]
fn a_known_weight_goes_where_pytorch_moves_it() {
    let mut state = [0.5, 0.0, 0.0];
    for (step, gradient) in (1..).zip([0.3, -0.1, 0.7]) {
        state = oracle_rows::adamw(&AdamW { step, ..STEP }, true, state, gradient);
    }
    assert!((state[0] - 0.477_506_46).abs() < 1e-6, "{state:?}");
}

/// The gradient's norm is of integers, so exact in every order.
#[test]
fn sums_of_squares_are_exact() {
    for queue in arms::queues() {
        for (n, offset) in LENGTHS.into_iter().chain([0, 1_100_000]).zip([0, 3].into_iter().cycle()) {
            let values: Vec<f32> = (0..offset + n).map(|i| (i * 37 % 2001) as f32 - 1000.0).collect();
            let expected: f64 = values[offset..].iter().map(|x| f64::from(*x).powi(2)).sum();
            let (values, scratch) = (queue.upload(&values).unwrap(), queue.alloc(SUMS).unwrap());
            queue.fill(scratch.view(), 0xFF).unwrap();
            let values = values.view().slice(offset..offset + n);
            let sum = sum_of_squares_on(&queue, values, scratch.view()).unwrap();
            assert_eq!(sum, expected, "{queue:?} {n}");
        }
    }
}

#[test]
fn a_gradient_that_is_not_finite_shows() {
    for queue in arms::queues() {
        for (bad, at) in [(f32::NAN, 0), (f32::INFINITY, 4999), (f32::NEG_INFINITY, 2500)] {
            let mut values = samples::values::<f32>(1, 5000);
            values[at] = bad;
            let (values, scratch) = (queue.upload(&values).unwrap(), queue.alloc(SUMS).unwrap());
            assert!(!sum_of_squares_on(&queue, values.view(), scratch.view()).unwrap().is_finite(), "{bad}");
        }
    }
}

#[test]
#[should_panic(expected = "lengths of an optimizer's buffers")]
fn buffers_of_other_lengths_are_refused() {
    let queue = arms::queues().remove(0);
    let [long, short] = [8, 7].map(|len| queue.upload(&vec![0.0f32; len]).unwrap());
    let (weight, gradient) = (long.view(), short.view());
    let (exp_avg, exp_avg_sq, rounded) = (weight, weight, None);
    let parameters = Parameters::<f32> { weight, gradient, exp_avg, exp_avg_sq, rounded, decayed: 0 };
    let _ = STEP.step_on(&queue, 1.0, &parameters);
}
