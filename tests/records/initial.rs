//! First values of a model: names and shapes, distributions, and the same numbers however they are asked for.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::TempDir;
use toedit::model::init::{Init, Initializer, fill, initial};
use toedit::model::layout::{Layout, Parameter, Role};
use toedit::model::save::SaveFolder;
use toedit::model::{Config, Dtype, Model};
use toedit::{ScoreConfig, Scorer};

use crate::common::{FAMILIES, Golden, assert_close};

fn parse(config: &Value) -> Config {
    Config::from_slice(config.to_string().as_bytes(), Path::new("config.json")).unwrap()
}

fn parameters(config: &Config) -> Vec<Parameter> {
    Layout::new(config).parameters().cloned().collect()
}

/// The same model with a head of its own.
fn untied(config: &Config) -> Config {
    Config { tie_word_embeddings: false, ..config.clone() }
}

fn golden_json(family: &str) -> Value {
    serde_json::from_slice(&fs::read(Golden::load(family).folder.join("config.json")).unwrap()).unwrap()
}

/// transformers' own list is in the files that it wrote.
#[test]
fn parameters_are_those_of_the_files() {
    for family in FAMILIES {
        let folder = Golden::load(family).folder;
        let config = Config::from_file(&folder.join("config.json")).unwrap();
        let bytes = fs::read(folder.join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut expected: Vec<_> =
            file.iter().map(|(name, view)| (name.to_owned(), view.shape().to_vec())).collect();
        let all = parameters(&config);
        let mut found: Vec<_> = all.into_iter().map(|own| (own.name, own.shape)).collect();
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{family}");
    }
}

/// Measured on models that transformers makes: deviations by tensor, and rows that are 0.
#[test]
fn deviations_are_those_of_transformers() {
    for family in FAMILIES {
        let mut json = golden_json(family);
        json["initializer_range"] = json!(0.05);
        let config = parse(&json);
        for parameter in parameters(&untied(&config)) {
            let residual = ["c_proj.weight"].iter().any(|end| parameter.name.ends_with(end));
            let expected = match parameter.shape.len() {
                1 if parameter.name.ends_with("bias") => Init::Zeros,
                1 => Init::Ones,
                _ if residual => Init::Normal { std: f64::from(0.05f32) / 2.0 },
                _ => Init::Normal { std: f64::from(0.05f32) },
            };
            assert_eq!(initial(&config, parameter.role), expected, "{family} {}", parameter.name);
        }
    }
}

#[test]
fn the_padding_row_is_zero_where_the_family_has_one() {
    for (family, padded) in
        [("llama", true), ("olmo2", true), ("qwen3", true), ("gpt2", false), ("gpt-neox", false)]
    {
        let mut json = golden_json(family);
        json["pad_token_id"] = json!(3);
        let config = parse(&json);
        assert_eq!(config.padding_row, padded.then_some(3));
        let (initializer, width) = (Initializer { config: &config, seed: 5 }, config.hidden_size);
        for parameter in parameters(&untied(&config)).iter().filter(|own| own.shape.len() == 2) {
            let mut values = vec![f32::NAN; 5 * width];
            initializer.fill(parameter, 0, &mut values);
            let zeros: Vec<_> = (0..values.len()).filter(|&index| values[index] == 0.0).collect();
            let is_padded = padded && parameter.role == Role::Embedding;
            assert_eq!(zeros, if is_padded { (3 * width..4 * width).collect() } else { vec![] });
            for (first, len) in
                [(0, 1), (3 * width - 1, 2), (3 * width + 5, 7), (4 * width - 1, 2), (4 * width, 1)]
            {
                let mut part = vec![f32::NAN; len];
                initializer.fill(parameter, first, &mut part);
                assert_eq!(part, values[first..first + len], "{} {first}", parameter.name);
            }
        }
    }
    let mut json = golden_json("llama");
    json["pad_token_id"] = json!(100_000);
    assert_eq!(parse(&json).padding_row, None);
}

#[test]
fn the_range_is_read_strictly() {
    for (value, expected) in [(json!(null), 0.02), (json!(0.0), 0.02), (json!(0.006), 0.006), (json!(1), 1.0)]
    {
        let mut json = golden_json("llama");
        json["initializer_range"] = value;
        assert_eq!(parse(&json).initializer_range, expected);
    }
    for value in [json!(-0.02), json!(1.5), json!("0.02"), json!(true)] {
        let mut json = golden_json("llama");
        json["initializer_range"] = value;
        let error = Config::from_slice(json.to_string().as_bytes(), Path::new("config.json")).unwrap_err();
        assert!(error.to_string().contains("initializer_range"), "{error}");
    }
}

/// A million draws: moments, correlation of neighbours, and the share within each deviation.
#[test]
fn normal_values_are_normal() {
    let std = 0.02;
    let mut values = vec![0.0; 1_000_000];
    fill(Init::Normal { std }, 17, "model.embed_tokens.weight", 0, &mut values);
    let z: Vec<f64> = values.iter().map(|value| f64::from(*value) / std).collect();
    let n = z.len() as f64;
    let moment = |power: i32| z.iter().map(|z| z.powi(power)).sum::<f64>() / n;
    // Four standard errors of each mean: E z² = 1, E z⁴ = 3, E z⁶ = 15, E z⁸ = 105.
    assert!(moment(1).abs() < 4e-3, "{}", moment(1));
    assert!((moment(2) - 1.0).abs() < 4.0 * (2.0 / n).sqrt());
    assert!(moment(3).abs() < 4.0 * (15.0 / n).sqrt());
    assert!((moment(4) - 3.0).abs() < 4.0 * (96.0 / n).sqrt());
    let neighbours = z.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / n;
    assert!(neighbours.abs() < 4e-3, "{neighbours}");
    for (deviations, share) in [(1.0, 0.682_689_5), (2.0, 0.954_499_7), (3.0, 0.997_300_2)] {
        let inside = z.iter().filter(|z| z.abs() <= deviations).count() as f64 / n;
        assert!((inside - share).abs() < 4.0 * (share * (1.0 - share) / n).sqrt(), "{deviations}: {inside}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn values_do_not_depend_on_the_call(seed in any::<u64>(), first in 0..40_000usize, len in 0..300usize) {
        let init = Init::Normal { std: 1.0 };
        let mut whole = vec![0.0; first % 64 + len];
        fill(init, seed, "a", first - first % 64, &mut whole);
        let mut part = vec![0.0; len];
        fill(init, seed, "a", first, &mut part);
        prop_assert_eq!(&part, &whole[first % 64..]);
        prop_assert!(part.iter().all(|value| value.is_finite()));
        let mut other = vec![0.0; len];
        fill(init, seed, "b", first, &mut other);
        prop_assert!(len == 0 || other != part);
        fill(init, seed.wrapping_add(1), "a", first, &mut other);
        prop_assert!(len == 0 || other != part);
    }
}

/// The bits are a promise: a run from scratch can be repeated.
#[test]
fn values_are_fixed() {
    let mut values = [0.0; 4];
    fill(Init::Normal { std: 0.02 }, 0, "lm_head.weight", 0, &mut values);
    // A mathematical library may round a logarithm otherwise.
    assert_close("values", &values, &[-0.022292854, -0.013383834, -0.013946338, 0.046826955], 1e-8);
}

/// A model from a bare configuration: written, loaded, and about as good as none.
#[test]
fn a_new_model_predicts_nothing() {
    let place = TempDir::new().unwrap();
    for family in FAMILIES {
        let config = parse(&golden_json(family));
        let all = parameters(&config);
        let target = place.path().join(family);
        let folder = SaveFolder::create(&target).unwrap();
        let initializer = Initializer { config: &config, seed: 1 };
        folder.model(Dtype::F32, &all, |index, sink| initializer.write(&all[index], sink)).unwrap();
        folder.file("config.json", golden_json(family).to_string().as_bytes()).unwrap();
        folder.commit().unwrap();
        let model = Model::load(&target, Dtype::F32).unwrap();
        let scorer = Scorer::new(&model, ScoreConfig::new(&model).unwrap()).unwrap();
        let scores = scorer.score(&[&[5, 9, 17, 33, 2, 101, 4, 64]]).unwrap();
        let loss = scores[0].nll() / scores[0].logprobs.len() as f64;
        assert!((loss - (config.vocab_size as f64).ln()).abs() < 0.2, "{family}: {loss}");
    }
}
