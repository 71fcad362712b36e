//! The machine's peak: multiply-adds from registers to registers on all cores, without a load or a store in the loop.
//!
//! `cargo bench --bench peak [-- --threads N]` prints one JSON object with GFLOP/s, the best of several trials: `f32` by
//! fused multiply-add, `bf16` by dot products of pairs (null where the CPU has none). Each sum is checked.

use std::array;
use std::hint::black_box;
use std::thread::{self, available_parallelism};
use std::time::{Duration, Instant};

/// Steps of a trial: twice as many quarters still add up without rounding in f32.
const STEPS: usize = 1 << 22;
const TRIALS: usize = 20;
/// Both factors of all products.
const FACTOR: f32 = 0.5;

/// A loop of multiply-adds compiled for one instruction set.
struct Unit {
    /// Adds this many products to each of its sums and returns the total of the sums.
    run: fn(usize) -> f64,
    /// Lanes times chains: the sums that a thread keeps in registers.
    sums: usize,
    /// Products that a step adds to each sum.
    products: usize,
}

impl Unit {
    /// GFLOP/s on `threads` threads, the best of all trials.
    fn measure(&self, threads: usize) -> f64 {
        // Sums begin at their chain's number, whatever the lane.
        let start = (self.run)(0);
        let expected = start + (self.sums * self.products * STEPS) as f64 * f64::from(FACTOR * FACTOR);
        let trial = || {
            let clock = Instant::now();
            thread::scope(|scope| {
                let handles: Vec<_> =
                    (0..threads).map(|_| scope.spawn(|| (self.run)(black_box(STEPS)))).collect();
                for handle in handles {
                    assert_eq!(handle.join().expect("a thread panicked"), expected);
                }
            });
            clock.elapsed()
        };
        let best = (0..TRIALS).map(|_| trial()).min().unwrap_or(Duration::MAX);
        (2 * threads * self.sums * self.products * STEPS) as f64 / best.as_secs_f64() / 1e9
    }
}

/// The value that each sum of a chain begins with. Equal chains would be computed once.
fn start(chain: usize) -> f32 {
    black_box(chain as f32)
}

/// Arrays that a compiler keeps in vector registers: 24 of four lanes, or twelve of eight.
#[inline(always)]
fn portable_chains(steps: usize) -> f64 {
    const CHAINS: usize = 12;
    let (a, b) = (black_box(FACTOR), black_box(FACTOR));
    let mut sums: [[f32; 8]; CHAINS] = array::from_fn(|chain| [start(chain); 8]);
    for _ in 0..steps {
        sums = sums.map(|lanes| lanes.map(|sum| a.mul_add(b, sum)));
    }
    sums.as_flattened().iter().copied().map(f64::from).sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::array;
    use std::hint::black_box;

    use super::{FACTOR, Unit, portable_chains, start};

    /// Two multiply-adds a cycle for latencies of up to twelve cycles, and registers left for the factors.
    const CHAINS: usize = 24;
    const LANES: usize = 16;

    pub fn f32_unit() -> Option<Unit> {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature was just detected.
            let run = |steps| unsafe { f32_avx512(steps) };
            return Some(Unit { run, sums: CHAINS * LANES, products: 1 });
        }
        let detected = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        // SAFETY: as above.
        let run = |steps| unsafe { f32_avx2(steps) };
        detected.then_some(Unit { run, sums: 12 * 8, products: 1 })
    }

    pub fn bf16_unit() -> Option<Unit> {
        let detected = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16");
        // SAFETY: the features were just detected.
        let run = |steps| unsafe { bf16_avx512(steps) };
        detected.then_some(Unit { run, sums: CHAINS * LANES, products: 2 })
    }

    #[target_feature(enable = "avx512f")]
    fn f32_avx512(steps: usize) -> f64 {
        let (a, b) = (_mm512_set1_ps(black_box(FACTOR)), _mm512_set1_ps(black_box(FACTOR)));
        let mut sums: [__m512; CHAINS] = array::from_fn(|chain| _mm512_set1_ps(start(chain)));
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(a, b, *sum);
            }
        }
        sums.map(|sum| f64::from(_mm512_reduce_add_ps(sum))).iter().sum()
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn bf16_avx512(steps: usize) -> f64 {
        let factor = |value| _mm512_cvtne2ps_pbh(_mm512_set1_ps(value), _mm512_set1_ps(value));
        let (a, b) = (factor(black_box(FACTOR)), factor(black_box(FACTOR)));
        let mut sums: [__m512; CHAINS] = array::from_fn(|chain| _mm512_set1_ps(start(chain)));
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, a, b);
            }
        }
        sums.map(|sum| f64::from(_mm512_reduce_add_ps(sum))).iter().sum()
    }

    #[target_feature(enable = "avx2,fma")]
    fn f32_avx2(steps: usize) -> f64 {
        portable_chains(steps)
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod x86 {
    use super::Unit;

    pub fn f32_unit() -> Option<Unit> {
        None
    }

    pub fn bf16_unit() -> Option<Unit> {
        None
    }
}

fn main() {
    let number = std::env::args().skip_while(|argument| argument != "--threads").nth(1);
    let threads = match number {
        Some(number) => number.parse().expect("a number of threads"),
        None => available_parallelism().map_or(1, usize::from),
    };
    let portable = Unit { run: portable_chains, sums: 12 * 8, products: 1 };
    let f32_peak = x86::f32_unit().unwrap_or(portable).measure(threads);
    let bf16_peak = x86::bf16_unit().map(|unit| unit.measure(threads));
    println!("{}", serde_json::json!({ "threads": threads, "f32": f32_peak, "bf16": bf16_peak }));
}
