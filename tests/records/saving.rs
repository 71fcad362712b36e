//! Saved models: the reference folders come back with equal bits, in one file or in shards; nothing half-written
//! stands under a name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use half::bf16;
use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::TempDir;
use toedit::model::layout::{Layout, Parameter, Role};
use toedit::model::save::{SaveFolder, TensorSink, config_json, recover};
use toedit::model::{Checkpoint, Config, Dtype, Model};
use toedit::{Result, ScoreConfig, Scorer};

use crate::common::folders::shared;
use crate::common::{FAMILIES, Golden};

/// A model as it is written: where it was, what it has.
pub struct Source {
    folder: PathBuf,
    checkpoint: Checkpoint,
    parameters: Vec<Parameter>,
}

impl Source {
    pub fn open(folder: &Path) -> Self {
        let config = Config::from_file(&folder.join("config.json")).unwrap();
        let parameters = Layout::new(&config).parameters().cloned().collect();
        let checkpoint = Checkpoint::open(folder, false).unwrap();
        Self { folder: folder.to_owned(), checkpoint, parameters }
    }

    /// Gives a tensor's values in pieces of odd lengths.
    fn fill(&self, index: usize, sink: &mut TensorSink) -> Result<()> {
        let parameter = &self.parameters[index];
        let values = self.checkpoint.tensor(&parameter.name, &parameter.shape)?.to_vec()?;
        values.chunks(777).try_for_each(|piece| sink.write(piece))
    }

    /// Saves it all.
    pub fn save(&self, target: &Path, dtype: Dtype, limit: u64) {
        let folder = SaveFolder::create(target).unwrap();
        folder.model_in_shards(dtype, &self.parameters, limit, |index, sink| self.fill(index, sink)).unwrap();
        let path = self.folder.join("config.json");
        let config = config_json(&fs::read(&path).unwrap(), &path, dtype).unwrap();
        folder.file("config.json", config.as_bytes()).unwrap();
        folder.companions(&self.folder).unwrap();
        folder.commit().unwrap();
    }
}

/// Names, types, shapes and bytes.
fn tensors(folder: &Path) -> BTreeMap<String, (String, Vec<usize>, Vec<u8>)> {
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |(name, view): (&str, safetensors::tensor::TensorView)| {
        let entry = (format!("{:?}", view.dtype()), view.shape().to_vec(), view.data().to_vec());
        (name.to_owned(), entry)
    };
    file.iter().map(tensor).collect()
}

fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The reference folders, written by transformers: the same tensors, types, shapes and bytes.
#[test]
fn saved_folders_hold_what_transformers_writes() {
    let Some(golden) = shared("golden") else { return };
    let place = TempDir::new().unwrap();
    for family in FAMILIES {
        let (source, target) = (Source::open(&golden.join(family)), place.path().join(family));
        source.save(&target, Dtype::F32, u64::MAX);
        assert!(tensors(&target) == tensors(&source.folder), "{family}");
        let mut expected = json_file(&source.folder.join("config.json"));
        expected["dtype"] = json!("float32");
        assert_eq!(json_file(&target.join("config.json")), expected, "{family}");
        let generation = |folder: &Path| fs::read(folder.join("generation_config.json")).unwrap();
        assert_eq!(generation(&target), generation(&source.folder), "{family}");
        assert_eq!(fs::read_dir(&target).unwrap().count(), 3, "{family}");
    }
}

#[test]
fn saved_models_score_with_equal_bits() {
    let place = TempDir::new().unwrap();
    for family in FAMILIES {
        let golden = Golden::load(family);
        let source = Source::open(&golden.folder);
        let scores = |folder: &Path, dtype| {
            let model = Model::load(folder, dtype).unwrap();
            Scorer::new(&model, ScoreConfig::new(&model).unwrap())
                .unwrap()
                .score(&golden.documents())
                .unwrap()
        };
        for limit in [u64::MAX, 20_000, 1] {
            let target = place.path().join(format!("{family}-{limit}"));
            source.save(&target, Dtype::F32, limit);
            assert_eq!(target.join("model.safetensors").exists(), limit == u64::MAX);
            for dtype in [Dtype::F32, Dtype::Bf16] {
                assert_eq!(scores(&target, dtype), scores(&source.folder, dtype), "{family} {dtype} {limit}");
            }
        }
    }
}

#[test]
fn bf16_is_rounded_to_the_nearest() {
    let place = TempDir::new().unwrap();
    for family in FAMILIES {
        let source = Source::open(&Golden::load(family).folder);
        let target = place.path().join(family);
        source.save(&target, Dtype::Bf16, u64::MAX);
        assert_eq!(json_file(&target.join("config.json"))["dtype"], "bfloat16");
        let saved = Source::open(&target);
        for own in &source.parameters {
            let [exact, rounded] = [&source.checkpoint, &saved.checkpoint]
                .map(|checkpoint| checkpoint.tensor(&own.name, &own.shape).unwrap());
            assert_eq!(rounded.dtype(), safetensors::Dtype::BF16);
            let expected = exact.to_vec().unwrap().into_iter().map(|value| bf16::from_f32(value).to_f32());
            assert!(expected.eq(rounded.to_vec().unwrap()), "{family} {}", own.name);
        }
    }
}

#[test]
fn shards_are_as_large_as_they_may_be() {
    let golden = Golden::load("llama");
    let (source, place) = (Source::open(&golden.folder), TempDir::new().unwrap());
    let target = place.path().join("model");
    source.save(&target, Dtype::F32, 50_000);
    let index = json_file(&target.join("model.safetensors.index.json"));
    let total: usize = source.parameters.iter().map(Parameter::elements).sum();
    assert_eq!(index["metadata"], json!({ "total_parameters": total, "total_size": 4 * total }));
    let map = index["weight_map"].as_object().unwrap();
    assert_eq!(map.len(), source.parameters.len());
    let files: Vec<&str> = source.parameters.iter().map(|own| map[&own.name].as_str().unwrap()).collect();
    let count = 1 + files.windows(2).filter(|pair| pair[0] != pair[1]).count();
    let mut sizes = Vec::new();
    for shard in 1..=count {
        let name = format!("model-{shard:05}-of-{count:05}.safetensors");
        let own = source.parameters.iter().zip(&files).filter(|(_, file)| **file == name);
        sizes.push(own.map(|(own, _)| 4 * own.elements()).collect::<Vec<_>>());
    }
    assert!(count > 2);
    for (shard, next) in sizes.iter().zip(&sizes[1..]) {
        let size: usize = shard.iter().sum();
        assert!((size <= 50_000 || shard.len() == 1) && size + next[0] > 50_000, "{sizes:?}");
    }
}

#[test]
fn configurations_say_what_they_need_to() {
    let complete = |source: Value, dtype| -> Value {
        let text = config_json(source.to_string().as_bytes(), Path::new("config.json"), dtype).unwrap();
        assert!(text.ends_with("}\n"));
        serde_json::from_str(&text).unwrap()
    };
    let small = json!({
        "model_type": "llama", "vocab_size": 6, "hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 16,
    });
    let with = |name: &str, value: Value| {
        let mut source = small.clone();
        source[name] = value;
        source
    };
    let full = complete(small.clone(), Dtype::F32);
    assert_eq!((&full["architectures"], &full["dtype"]), (&json!(["LlamaForCausalLM"]), &json!("float32")));
    assert_eq!(full.as_object().unwrap().len(), small.as_object().unwrap().len() + 2);
    let older = complete(with("torch_dtype", json!("float16")), Dtype::Bf16);
    assert_eq!((&older["torch_dtype"], older.get("dtype")), (&json!("bfloat16"), None));
    let own = complete(with("architectures", json!(["MyLlama"])), Dtype::F32);
    assert_eq!(own["architectures"], json!(["MyLlama"]));
    let mut named = with("architectures", json!(["Qwen2ForCausalLM"]));
    named["model_type"] = Value::Null;
    named["num_key_value_heads"] = json!(1);
    assert_eq!(complete(named, Dtype::F32)["model_type"], "qwen2");

    let spelt = r#"{"rms_norm_eps":1e-05,"extra":[1.0e2,12345678901234567890123],"model_type":"llama","vocab_size":6,
        "hidden_size":4,"intermediate_size":6,"num_hidden_layers":1,"num_attention_heads":2,"max_position_embeddings":16}"#;
    let text = config_json(spelt.as_bytes(), Path::new("config.json"), Dtype::F32).unwrap();
    assert!(text.contains("\"rms_norm_eps\": 1e-05") && text.contains("[1.0e2,12345678901234567890123]"));
    assert!(config_json(b"{}", Path::new("config.json"), Dtype::F32).is_err());
}

/// Tensors of no model: an optimizer's state.
fn state(count: usize) -> Vec<Parameter> {
    let tensor = |name: &str| Parameter { name: name.into(), shape: vec![count], role: Role::Linear };
    vec![tensor("exp_avg"), tensor("exp_avg_sq")]
}

#[test]
fn any_tensors_make_a_file() {
    let place = TempDir::new().unwrap();
    for count in [0, 1, 3, 100_003] {
        let target = place.path().join(count.to_string());
        let folder = SaveFolder::create(&target).unwrap();
        let value = |tensor: usize, index: usize| (tensor * 1000 + index) as f32 * 0.1;
        let fill = |tensor: usize, sink: &mut TensorSink| {
            let values: Vec<f32> = (0..count).map(|index| value(tensor, index)).collect();
            sink.write(&values)
        };
        folder.tensors("optimizer.safetensors", Dtype::F32, &state(count), fill).unwrap();
        folder.commit().unwrap();
        let bytes = fs::read(target.join("optimizer.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.len(), 2);
        for (number, own) in state(count).iter().enumerate() {
            let view = file.tensor(&own.name).unwrap();
            let expected: Vec<u8> = (0..count).flat_map(|index| value(number, index).to_le_bytes()).collect();
            assert!(view.shape() == [count] && view.data() == expected);
        }
    }
}

#[test]
fn values_that_are_not_finite_are_refused() {
    let place = TempDir::new().unwrap();
    for (dtype, bad) in [(Dtype::F32, f32::NAN), (Dtype::F32, f32::INFINITY), (Dtype::Bf16, f32::MAX)] {
        let target = place.path().join("model");
        let folder = SaveFolder::create(&target).unwrap();
        let mut values = vec![0.5; 40_000];
        values[33_333] = bad;
        let fill = |_, sink: &mut TensorSink| sink.write(&values);
        let error = folder.tensors("x.safetensors", dtype, &state(40_000), fill).unwrap_err().to_string();
        assert!(error.contains("exp_avg") && error.contains("33333"), "{error}");
        drop(folder);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }
}

/// A folder with one file of this text.
fn put(folder: &Path, text: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("file"), text).unwrap();
}

#[test]
fn a_folder_takes_the_place_of_another() {
    let place = TempDir::new().unwrap();
    let target = place.path().join("made/here/model");
    for text in ["first", "second", "third"] {
        let folder = SaveFolder::create(&target).unwrap();
        folder.file(text, text.as_bytes()).unwrap();
        folder.commit().unwrap();
        let names = |folder: &Path| -> Vec<_> {
            fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect()
        };
        assert_eq!(
            (names(&target), names(target.parent().unwrap())),
            (vec![text.into()], vec!["model".into()])
        );
    }
    let folder = SaveFolder::create(&target).unwrap();
    folder.file("fourth", b"").unwrap();
    drop(folder);
    assert!(target.join("third").exists() && !target.with_file_name(".model.partial").exists());
}

/// Every state that a killed process leaves, by what is there: the name itself, the old folder, the new one.
#[test]
fn what_a_killed_process_leaves_is_settled() {
    for (before, previous, partial, after) in [
        (None, None, None, None),
        (None, None, Some("half"), None),
        (Some("old"), None, Some("half"), Some("old")),
        (None, Some("old"), Some("new"), Some("old")),
        (None, Some("old"), None, Some("old")),
        (Some("new"), Some("old"), None, Some("new")),
        (Some("new"), Some("old"), Some("half deleted"), Some("new")),
    ] {
        let place = TempDir::new().unwrap();
        let target = place.path().join("model");
        for (name, text) in [("model", before), (".model.previous", previous), (".model.partial", partial)] {
            text.into_iter().for_each(|text| put(&place.path().join(name), text));
        }
        recover(&target).unwrap();
        let found = fs::read_to_string(target.join("file")).ok();
        assert_eq!(found.as_deref(), after);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), usize::from(after.is_some()));
    }
}

#[test]
fn what_is_in_the_way_stays() {
    let place = TempDir::new().unwrap();
    let target = place.path().join("model");
    fs::write(&target, "a file").unwrap();
    let error = SaveFolder::create(&target).err().unwrap().to_string();
    assert!(error.contains("not a folder"), "{error}");
    assert_eq!(fs::read_to_string(&target).unwrap(), "a file");
    assert!(SaveFolder::create(Path::new("/")).is_err());
}
