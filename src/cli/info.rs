//! `toedit info`: what is built in, what the machine has, and a model's card.

use std::fmt::Write;

use super::args::{InfoArgs, default_threads};
use super::print;
use crate::{Error, Result};

/// Prints the card.
///
/// # Errors
/// Those of opening the model.
pub fn run(args: &InfoArgs) -> Result<u8> {
    let mut text = machine();
    if let Some(model) = &args.model.model {
        text += &model_card(model)?;
    }
    print(text.as_bytes())?;
    Ok(0)
}

/// Version, devices built in, threads, and the instruction sets that the CPU loops choose from.
fn machine() -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:18} {value}");
    };
    line("toedit", env!("CARGO_PKG_VERSION"));
    line("devices", "cpu");
    line("machine", &format!("{} {}", std::env::consts::ARCH, std::env::consts::OS));
    line("instruction sets", &instruction_sets().join(" "));
    line("threads", &default_threads().to_string());
    text
}

#[cfg(target_arch = "x86_64")]
fn instruction_sets() -> Vec<&'static str> {
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

#[cfg(not(target_arch = "x86_64"))]
fn instruction_sets() -> Vec<&'static str> {
    Vec::new()
}

fn model_card(_model: &str) -> Result<String> {
    Err(Error::Usage("not wired".into()))
}
