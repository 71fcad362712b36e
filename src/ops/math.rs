//! Elementary functions that compile to vector code. Polynomials are minimax fits made for these ranges.

/// e^x to 1.5 ulp; 0 below −87, infinity above 88, NaN for NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// 1.5 · 2²³: adding it rounds to an integer and leaves that integer in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let shifted = x.mul_add(std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, x));
    let mut p = 1.383_684_6e-3f32;
    for c in [8.374_816e-3, 4.166_822_5e-2, 1.666_642e-1, 4.999_999e-1, 1.0, 1.0] {
        p = p.mul_add(r, c);
    }
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    let y = p * power;
    let y = if x < -87.0 { 0.0 } else { y };
    if x > 88.0 { f32::INFINITY } else { y }
}

/// The error function to 2e-7.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let a = x.abs();
    let a = if a > 4.0 { 4.0 } else { a };
    let t = 1.0 / a.mul_add(0.5, 1.0);
    // erfc(a) · e^(a²) as a polynomial in t, exactly 1 at t = 1.
    let mut p = -0.054_875_657_f32;
    for c in [
        0.363_592_74,
        -0.940_477_85,
        1.069_802_4,
        -0.437_759_9,
        0.484_591_96,
        0.226_237_36,
        0.289_258_33,
        -3.693_951e-4,
    ] {
        p = p.mul_add(t, c);
    }
    (1.0 - p * exp(-a * a)).copysign(x)
}

/// tanh to 3e-7.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let a = x.abs();
    let e = exp(-2.0 * a);
    ((1.0 - e) / (1.0 + e)).copysign(x)
}

/// Independent partial sums: enough for a full vector, the same for every instruction set.
const LANES: usize = 16;

/// Σ f(x), in an order that depends on the length alone.
#[inline(always)]
pub(crate) fn sum<T: Copy>(x: &[T], f: impl Fn(T) -> f32) -> f32 {
    sum_pairs(x, x, |x, _| f(x))
}

/// Σ f(x, y), in an order that depends on the length alone.
#[inline(always)]
pub(crate) fn sum_pairs<T: Copy, U: Copy>(x: &[T], y: &[U], f: impl Fn(T, U) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (x, y) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    for ((lane, x), y) in lanes.iter_mut().zip(x.remainder()).zip(y.remainder()) {
        *lane += f(*x, *y);
    }
    for (x, y) in x.zip(y) {
        for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += f(*x, *y);
        }
    }
    fold(lanes, |a, b| a + b)
}

/// The largest value, −∞ for none. NaN is passed over.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = x.chunks_exact(LANES);
    for (lane, x) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane = larger(*lane, *x);
    }
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, *x);
        }
    }
    fold(lanes, larger)
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

#[inline(always)]
fn fold(mut lanes: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            lanes[i] = f(lanes[i], lanes[i + width]);
        }
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(range: (f32, f32), f: impl Fn(f32) -> f64) -> f64 {
        let steps = 200_000;
        let at = |i: i32| range.0 + (range.1 - range.0) * i as f32 / steps as f32;
        (0..=steps).map(|i| f(at(i))).fold(0.0, f64::max)
    }

    #[test]
    fn exp_is_accurate_to_two_ulp() {
        let relative = |x: f32| ((f64::from(exp(x)) - f64::from(x).exp()) / f64::from(x).exp()).abs();
        assert!(worst((-87.0, 88.0), relative) < 1.8e-7);
        assert_eq!([exp(0.0), exp(-1e9), exp(f32::NEG_INFINITY)], [1.0, 0.0, 0.0]);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn tanh_and_erf_are_accurate() {
        let error = |x: f32| (f64::from(tanh(x)) - f64::from(x).tanh()).abs();
        assert!(worst((-12.0, 12.0), error) < 3e-7);
        // erf by its Maclaurin series, enough terms for |x| <= 3.
        let series = |x: f64| {
            let mut term = x;
            let mut sum = x;
            for n in 1..80 {
                term *= -x * x / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            sum * std::f64::consts::FRAC_2_SQRT_PI
        };
        assert!(worst((-3.0, 3.0), |x| (f64::from(erf(x)) - series(f64::from(x))).abs()) < 2e-7);
        assert_eq!([erf(0.0), erf(10.0), erf(-10.0)], [0.0, 1.0, -1.0]);
    }

    /// Integers, so that every order of a sum is exact.
    #[test]
    fn sum_and_max_see_every_value_of_every_length() {
        for len in 0..70usize {
            let x: Vec<f32> = (0..len).map(|i| (i * 37 % 71) as f32 - 35.0).collect();
            assert_eq!(sum(&x, |x| 2.0 * x), x.iter().fold(0.0, |sum, x| sum + 2.0 * x), "{len}");
            assert_eq!(max(&x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max), "{len}");
            for at in 0..len {
                let mut x = x.clone();
                x[at] = f32::NAN;
                assert!(sum(&x, |x| x).is_nan() && !max(&x).is_nan(), "{len}, NaN at {at}");
            }
        }
    }
}
