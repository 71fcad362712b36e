//! Plain loops compiled once for each instruction set and picked at run time.
#![allow(unsafe_code)]

/// Runs `f` compiled for the widest vectors of this machine. `f` must be `#[inline(always)]` and so must all that it
/// calls in a loop: only what is inlined here gets the instruction set.
///
/// Loops in it are `for` loops: an iterator's `for_each` or `fold`, and a closure without the attribute, may stay out of
/// line and run at baseline speed, a call of a function for each fused multiply-add.
///
/// The results are the same for every instruction set with fused multiply-add: the compiler never reorders sums.
#[inline(always)]
pub(crate) fn vectorize<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            // SAFETY: the features were just detected.
            return unsafe { avx512(f) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: as above.
            return unsafe { avx2(f) };
        }
    }
    f()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn avx512<R>(f: impl FnOnce() -> R) -> R {
    f()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// What the loops and products choose from, as far as the machine has it.
#[cfg(target_arch = "x86_64")]
pub(crate) fn instruction_sets() -> Vec<&'static str> {
    let detected = [
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
    ];
    detected.into_iter().filter(|(_, present)| *present).map(|(name, _)| name).collect()
}

/// Elsewhere there is nothing to choose from.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn instruction_sets() -> Vec<&'static str> {
    Vec::new()
}
