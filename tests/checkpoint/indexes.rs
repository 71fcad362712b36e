//! Sharded checkpoints, and the files that an index must not reach.

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixListener},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::json;
use toedit::model::{Checkpoint, Config, Weights};

use crate::common::{Tensors, assert_error, floats, llama_config, llama_tensors, safetensors, sharded};

/// A file of one tensor.
fn file(name: &str, seed: usize) -> Vec<u8> {
    safetensors(&Tensors::from([(name.to_owned(), floats(seed, &[2]))]))
}

fn index(weight_map: serde_json::Value) -> String {
    json!({"metadata": {"total_size": 1}, "weight_map": weight_map}).to_string()
}

#[test]
fn shards_are_read_as_one() {
    let tensors = llama_tensors();
    let (mut parts, mut weight_map) = (vec![Tensors::new(); 3], serde_json::Map::new());
    for (i, (name, tensor)) in tensors.into_iter().enumerate() {
        weight_map.insert(name.clone(), json!(format!("part-{}.safetensors", i % 3)));
        parts[i % 3].insert(name, tensor);
    }
    let names = ["part-0.safetensors", "part-1.safetensors", "part-2.safetensors"];
    let files: Vec<_> = names.iter().zip(&parts).map(|(name, part)| (*name, safetensors(part))).collect();
    let folder = sharded(&index(weight_map.into()), &files);
    fs::write(folder.path().join("config.json"), llama_config().to_string()).unwrap();

    let config = Config::from_file(&folder.path().join("config.json")).unwrap();
    let checkpoint = Checkpoint::open(folder.path(), false).unwrap();
    assert!(Weights::<f32>::load(&config, &checkpoint).is_ok());
    assert!(checkpoint.fingerprint().is_ok());
}

#[test]
fn a_single_file_goes_before_an_index() {
    let folder = sharded("not even JSON", &[("model.safetensors", file("a", 0))]);
    assert!(Checkpoint::open(folder.path(), false).unwrap().contains("a"));
}

#[test]
fn files_outside_the_folder_are_refused() {
    let long = format!("{}.safetensors", "n".repeat(5000));
    let names = [
        "/etc/passwd",
        "/tmp/a.safetensors",
        "..",
        ".",
        "",
        "a/../a.safetensors",
        "../a.safetensors",
        "sub/a.safetensors",
        "a\\b.safetensors",
        "C:a.safetensors",
        "a\0.safetensors",
        "a\n.safetensors",
        ".hidden.safetensors",
        "pytorch_model.bin",
        "a",
        &long,
    ];
    for name in names {
        let folder = sharded(&index(json!({"t": name})), &[("a.safetensors", file("t", 0))]);
        let result = Checkpoint::open(folder.path(), false);
        assert_error(result, &["model.safetensors.index.json", "tensor `t`", "expected a plain name"]);
    }
    let folder = sharded(&index(json!({"t": "%2e%2e%2fa.safetensors"})), &[]);
    assert_error(Checkpoint::open(folder.path(), false), &["%2e%2e%2fa.safetensors"]);
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let folder = sharded(&index(json!({"t": "a.safetensors"})), &[]);
    let path = folder.path().join("a.safetensors");
    let assert_not_a_file = |what: &str| {
        let start = Instant::now();
        for mmap in [false, true] {
            assert_error(Checkpoint::open(folder.path(), mmap), &["a.safetensors", "expected a file"]);
        }
        assert!(start.elapsed() < Duration::from_millis(500), "{what}");
    };
    fs::create_dir(&path).unwrap();
    assert_not_a_file("a folder");
    fs::remove_dir(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert_not_a_file("a pipe");
    fs::remove_file(&path).unwrap();
    let _listener = UnixListener::bind(&path).unwrap();
    assert_not_a_file("a socket");
    fs::remove_file(&path).unwrap();
    symlink("/dev/zero", &path).unwrap();
    assert_not_a_file("a device");
}

#[test]
fn links_are_followed_and_broken_ones_reported() {
    let folder = sharded(&index(json!({"t": "a.safetensors"})), &[]);
    let path = folder.path().join("a.safetensors");
    let blobs = tempfile::tempdir().unwrap();
    fs::write(blobs.path().join("blob"), file("t", 0)).unwrap();
    symlink(blobs.path().join("blob"), &path).unwrap();
    assert!(Checkpoint::open(folder.path(), false).unwrap().contains("t"));

    fs::remove_file(blobs.path().join("blob")).unwrap();
    assert_error(Checkpoint::open(folder.path(), false), &["a.safetensors"]);
    fs::remove_file(&path).unwrap();
    symlink(&path, &path).unwrap();
    assert_error(Checkpoint::open(folder.path(), false), &["a.safetensors"]);
}

#[test]
fn tensors_must_lie_where_the_index_says() {
    let (a, b) = ("a.safetensors", "b.safetensors");
    let files = [(a, file("t", 0)), (b, file("u", 1))];
    assert!(Checkpoint::open(sharded(&index(json!({"t": a, "u": b})), &files).path(), false).is_ok());

    let open = |weight_map, files: &[(&str, Vec<u8>)]| {
        Checkpoint::open(sharded(&index(weight_map), files).path(), false)
    };
    assert_error(
        open(json!({"t": a, "u": a}), &files),
        &["tensor `u`", "found in no shard", "a.safetensors"],
    );
    assert_error(open(json!({"t": b, "u": a}), &files), &["tensor `t`", "expected in b.safetensors"]);
    assert_error(open(json!({"t": a, "v": b}), &files), &["tensor `v`", "found in no shard"]);
    assert_error(open(json!({"t": a, "u": "c.safetensors"}), &files), &["c.safetensors"]);
    assert_error(
        open(json!({"t": a, "u": b}), &[(a, file("t", 0)), (b, file("t", 1))]),
        &["tensor `t`", "also in"],
    );
}

#[test]
fn malformed_indexes_are_refused() {
    let deep = format!("{{\"weight_map\":{}", "[".repeat(1_000_000));
    let cases = [
        ("", "malformed"),
        ("[]", "malformed"),
        ("{}", "missing field `weight_map`"),
        (r#"{"weight_map":[]}"#, "malformed"),
        (r#"{"weight_map":{"t":1}}"#, "malformed"),
        (r#"{"weight_map":{"t":null}}"#, "malformed"),
        (r#"{"weight_map":{}}"#, "empty weight_map"),
        (r#"{"weight_map":{"t":"a.safetensors","t":"b.safetensors"}}"#, "duplicate key `t`"),
        (deep.as_str(), "malformed"),
    ];
    for (json, part) in cases {
        let folder = sharded(json, &[("a.safetensors", file("t", 0))]);
        assert_error(Checkpoint::open(folder.path(), false), &["model.safetensors.index.json", part]);
    }
}

#[test]
fn pickles_are_refused_with_advice() {
    for name in ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "consolidated.00.pth", "model.ckpt"]
    {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(name), b"\x80\x02").unwrap();
        assert_error(Checkpoint::open(folder.path(), false), &[name, "pickled", "save_pretrained"]);
    }
    let empty = tempfile::tempdir().unwrap();
    assert_error(Checkpoint::open(empty.path(), false), &["neither model.safetensors nor"]);
}
