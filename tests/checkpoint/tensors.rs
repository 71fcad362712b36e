//! Reading tensors: exact values, whatever the type, the range and the number of threads.

use half::{bf16, f16};
use proptest::prelude::*;
use rayon::prelude::*;
use tempfile::TempDir;
use toedit::model::{Checkpoint, checkpoint::Dtype};

use crate::common::{
    Tensors, assert_error, floats, folder_with, llama_config, llama_tensors, model, safetensors,
};

fn one(dtype: &'static str, shape: &[usize], bytes: Vec<u8>) -> TempDir {
    folder_with(&safetensors(&Tensors::from([("t".to_owned(), (dtype, shape.to_vec(), bytes))])))
}

/// A tensor's values, read with and without a map.
fn values(folder: &TempDir, len: usize) -> Vec<f32> {
    let [read, mapped] = [false, true].map(|mmap| {
        let checkpoint = Checkpoint::open(folder.path(), mmap).unwrap();
        checkpoint.tensor("t", &[len]).unwrap().to_vec().unwrap()
    });
    assert_eq!(read, mapped);
    read
}

#[test]
fn every_finite_half_is_widened_exactly() {
    let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).filter(|value| value.is_finite()).collect();
    let bytes = halves.iter().flat_map(|value| value.to_le_bytes()).collect();
    let found = values(&one("F16", &[halves.len()], bytes), halves.len());
    assert!(found.iter().zip(&halves).all(|(found, half)| found.to_bits() == half.to_f32().to_bits()));

    let brains: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).filter(|value| value.is_finite()).collect();
    let bytes = brains.iter().flat_map(|value| value.to_le_bytes()).collect();
    let found = values(&one("BF16", &[brains.len()], bytes), brains.len());
    assert!(found.iter().zip(&brains).all(|(found, brain)| found.to_bits() == brain.to_f32().to_bits()));
}

#[test]
fn floats_keep_their_bits() {
    let floats = [0.0, -0.0, 1.5, f32::MIN_POSITIVE, f32::from_bits(1), f32::MAX, f32::MIN];
    let bytes = floats.iter().flat_map(|value| value.to_le_bytes()).collect();
    let found = values(&one("F32", &[floats.len()], bytes), floats.len());
    assert!(found.iter().zip(&floats).all(|(found, float)| found.to_bits() == float.to_bits()));
}

#[test]
fn what_is_not_finite_is_named() {
    let len = 70_000;
    for (dtype, bits) in
        [("F32", 0x7fc0_0000_u32), ("F32", 0x7f80_0000), ("F32", 0xff80_0000), ("F32", 0x7f80_0001)]
    {
        let mut bytes = vec![0; len * 4];
        bytes[4 * 69_123..4 * 69_124].copy_from_slice(&bits.to_le_bytes());
        assert_not_finite(dtype, len, bytes);
    }
    for (dtype, bits) in
        [("F16", 0x7c00_u16), ("F16", 0xfe00), ("BF16", 0x7f80), ("BF16", 0xff80), ("BF16", 0x7fc1)]
    {
        let mut bytes = vec![0; len * 2];
        bytes[2 * 69_123..2 * 69_124].copy_from_slice(&bits.to_le_bytes());
        assert_not_finite(dtype, len, bytes);
    }
}

#[track_caller]
fn assert_not_finite(dtype: &'static str, len: usize, bytes: Vec<u8>) {
    let folder = one(dtype, &[len], bytes);
    let checkpoint = Checkpoint::open(folder.path(), false).unwrap();
    let tensor = checkpoint.tensor("t", &[len]).unwrap();
    assert_error(tensor.to_vec(), &["model.safetensors", "tensor `t`", "element 69123 is"]);
    let mut before = vec![1.0; 69_123];
    tensor.read(0..69_123, &mut before).unwrap();
    assert!(before.iter().all(|value| *value == 0.0));
}

#[test]
fn any_range_can_be_read_from_many_threads() {
    let len = 100_000;
    let folder = folder_with(&safetensors(&Tensors::from([
        ("first".to_owned(), floats(7, &[5])),
        ("t".to_owned(), floats(0, &[len / 100, 100])),
    ])));
    for mmap in [false, true] {
        let checkpoint = Checkpoint::open(folder.path(), mmap).unwrap();
        let tensor = checkpoint.tensor("t", &[len / 100, 100]).unwrap();
        assert_eq!((tensor.shape(), tensor.dtype(), tensor.elements()), (&[1000, 100][..], Dtype::F32, len));
        (0..2000_usize).into_par_iter().for_each(|i| {
            let start = i * 7919 % len;
            let end = (start + i * 31).min(len);
            let mut out = vec![f32::NAN; end - start];
            tensor.read(start..end, &mut out).unwrap();
            assert!(out.iter().enumerate().all(|(at, value)| *value == (start + at) as f32));
        });
    }
}

#[test]
fn missing_and_unfit_tensors_are_named() {
    let mut tensors = llama_tensors();
    tensors.insert("ids".to_owned(), ("I64", vec![2], vec![0; 16]));
    let folder = folder_with(&safetensors(&tensors));
    let checkpoint = Checkpoint::open(folder.path(), false).unwrap();
    assert_error(
        checkpoint.tensor("x", &[3, 4]).map(|_| ()),
        &["tensor `x`", "missing, expected shape [3, 4]"],
    );
    let norm = "model.norm.weight";
    assert_error(
        checkpoint.tensor(norm, &[4, 1]).map(|_| ()),
        &["model.safetensors", norm, "found shape [4]", "expected shape [4, 1]"],
    );
    assert_error(checkpoint.tensor("ids", &[2]).map(|_| ()), &["`ids`", "I64", "expected F32, F16 or BF16"]);
}

#[test]
fn prefixes_may_be_there_or_not() {
    let folder = folder_with(&safetensors(&Tensors::from([
        ("transformer.wte.weight".to_owned(), floats(0, &[2])),
        ("norm.weight".to_owned(), floats(1, &[2])),
    ])));
    let checkpoint = Checkpoint::open(folder.path(), false).unwrap();
    for name in ["transformer.wte.weight", "wte.weight", "norm.weight", "model.norm.weight"] {
        assert!(checkpoint.contains(name), "{name}");
        assert!(checkpoint.tensor(name, &[2]).is_ok(), "{name}");
    }
    for name in ["weight", "model.wte.weight", "wte", ""] {
        assert!(!checkpoint.contains(name), "{name}");
    }
}

#[test]
fn a_file_shortened_meanwhile_is_an_error() {
    let folder = one("F32", &[50_000], vec![0; 200_000]);
    let checkpoint = Checkpoint::open(folder.path(), false).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(folder.path().join("model.safetensors")).unwrap();
    file.set_len(150_000).unwrap();
    assert_error(checkpoint.tensor("t", &[50_000]).unwrap().to_vec(), &["model.safetensors", "shortened"]);
}

#[test]
fn fingerprints_tell_models_apart() {
    let fingerprint =
        |folder: &TempDir, mmap| Checkpoint::open(folder.path(), mmap).unwrap().fingerprint().unwrap();
    let (config, tensors) = (llama_config(), llama_tensors());
    let folder = model(&config, &tensors);
    let original = fingerprint(&folder, false);
    assert_eq!(original, fingerprint(&folder, false));
    assert_eq!(original, fingerprint(&folder, true));
    assert_eq!(original, fingerprint(&model(&config, &tensors), false));

    let mut other_config = config.clone();
    other_config["rms_norm_eps"] = 1e-5.into();
    let mut other_value = tensors.clone();
    other_value.get_mut("model.norm.weight").unwrap().2[0] ^= 1;
    let mut other_name = tensors.clone();
    let norm = other_name.remove("model.norm.weight").unwrap();
    other_name.insert("model.norn.weight".to_owned(), norm);
    let others = [model(&other_config, &tensors), model(&config, &other_value), model(&config, &other_name)];
    for other in &others {
        assert_ne!(original, fingerprint(other, false));
    }
}

#[test]
fn fingerprints_cover_large_files_and_need_the_configuration() {
    let mut tensors = Tensors::from([("t".to_owned(), floats(0, &[3_000_000]))]);
    let original = model(&llama_config(), &tensors);
    let print = |folder: &TempDir| Checkpoint::open(folder.path(), false).unwrap().fingerprint();
    let first = print(&original).unwrap();
    *tensors.get_mut("t").unwrap().2.last_mut().unwrap() ^= 1;
    assert_ne!(first, print(&model(&llama_config(), &tensors)).unwrap());
    std::fs::remove_file(original.path().join("config.json")).unwrap();
    assert_error(print(&original), &["config.json"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn finite_means_finite(bits in prop::collection::vec(any::<u32>(), 1..20)) {
        let bytes = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        let folder = one("F32", &[bits.len()], bytes);
        let found = Checkpoint::open(folder.path(), false).unwrap().tensor("t", &[bits.len()]).unwrap().to_vec();
        prop_assert_eq!(found.is_ok(), bits.iter().all(|bits| f32::from_bits(*bits).is_finite()));
    }
}
