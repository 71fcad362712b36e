//! Malformed safetensors files: refused in order, with the file and the tensor named.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use toedit::{Error, model::Checkpoint};

use crate::common::{assert_error, folder_with, llama_tensors, raw, safetensors};

fn open(bytes: &[u8]) -> toedit::Result<Checkpoint> {
    Checkpoint::open(folder_with(bytes).path(), false)
}

/// Asserts that each file is refused with these words, read either way, and without delay.
#[track_caller]
fn assert_refused(cases: &[(Vec<u8>, &str)]) {
    for (bytes, part) in cases {
        let folder = folder_with(bytes);
        for mmap in [false, true] {
            let start = Instant::now();
            let result = Checkpoint::open(folder.path(), mmap);
            assert!(start.elapsed() < Duration::from_secs(2), "took {:?}", start.elapsed());
            assert_error(result, &["model.safetensors", part]);
        }
    }
}

fn header(header: &str) -> Vec<u8> {
    raw(header, &[])
}

/// A header of one tensor `a`.
fn entry(dtype: &str, shape: &str, start: u64, end: u64) -> String {
    format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}}}"#)
}

#[test]
fn lengths_must_fit_the_file() {
    let prefix = |len: u64| [len.to_le_bytes().as_slice(), b"{}      "].concat();
    let mut cases = vec![(vec![], "0 bytes, too short"), (vec![0], "1 bytes"), (vec![0; 7], "7 bytes")];
    for len in [9, 100_000_000, 100_000_001, 1 << 32, 1 << 63, u64::MAX - 8, u64::MAX] {
        cases.push((prefix(len), "a header of"));
    }
    cases.push((prefix(0), "malformed"));
    cases.push((prefix(1), "malformed"));
    assert_refused(&cases);
}

#[test]
fn a_header_over_the_limit_is_not_read() {
    let folder = folder_with(&100_000_001_u64.to_le_bytes());
    let file = std::fs::OpenOptions::new().write(true).open(folder.path().join("model.safetensors")).unwrap();
    file.set_len(200_000_000).unwrap();
    assert_error(Checkpoint::open(folder.path(), false), &["header of 100000001 bytes", "at most 100000000"]);
}

#[test]
fn headers_must_be_json_objects() {
    let deep = |depth| format!("{{\"a\":{}", "[".repeat(depth));
    let mut not_utf8 = header(r#"{"a":1}"#);
    not_utf8[10] = 0xff;
    assert_refused(&[
        (not_utf8, "utf-8"),
        (header("[]"), "JSON object"),
        (header(" {}"), "JSON object"),
        (header("{"), "malformed"),
        (header("{} x"), "malformed"),
        (header("{\"a\":1}"), "tensor `a`: malformed entry"),
        (header("{\"a\":{}}"), "tensor `a`: malformed entry: missing field `dtype`"),
        (header(r#"{"a":{"dtype":"F32","shape":[],"data_offsets":[0,0],"x":1}}"#), "unknown field `x`"),
        (header(&deep(200)), "malformed"),
        (header(&deep(1_000_000)), "malformed"),
    ]);
}

#[test]
fn names_must_be_sane() {
    let named = |name: &str| header(&entry("F32", "[0]", 0, 0).replace("\"a\"", name));
    assert_refused(&[
        (named("\"\""), "a name of 0 bytes"),
        (named(&format!("\"{}\"", "n".repeat(10_000))), "a name of 10000 bytes"),
        (named("\"a\\u0000b\""), "control characters"),
        (named("\"../a\""), "slashes"),
        (named("\"a\\\\b\""), "slashes"),
    ]);
}

#[test]
fn a_million_tensors_are_refused() {
    let entries: Vec<String> = (0..1_000_000)
        .map(|i| format!(r#""{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#))
        .collect();
    assert_refused(&[(header(&format!("{{{}}}", entries.join(","))), "more than 131072 keys")]);
}

#[test]
fn offsets_must_cover_the_data() {
    let two = |first: [u64; 2], second: [u64; 2]| {
        let part = |name: &str, [start, end]: [u64; 2]| {
            let len = end.saturating_sub(start);
            format!(r#""{name}":{{"dtype":"U8","shape":[{len}],"data_offsets":[{start},{end}]}}"#)
        };
        format!("{{{},{}}}", part("a", first), part("b", second))
    };
    let data = [0; 8];
    assert_refused(&[
        (raw(&two([0, 4], [3, 8]), &data), "tensor `b`: starts at 3, which overlaps"),
        (raw(&two([0, 4], [0, 8]), &data), "overlaps"),
        (raw(&two([0, 4], [0, 4]), &data), "overlaps"),
        (raw(&two([0, 3], [4, 8]), &data), "tensor `b`: starts at 4, which leaves a hole"),
        (raw(&two([1, 4], [4, 8]), &data), "tensor `a`: starts at 1, which leaves a hole"),
        (raw(&two([0, 4], [8, 4]), &data), "tensor `b`: data_offsets [8, 4] are reversed"),
        (raw(&two([0, 4], [4, 9]), &data), "tensor `b`: ends at byte 9 of 8"),
        (raw(&two([0, 4], [4, 7]), &data), "1 bytes after the last tensor"),
        (raw("{}", &data), "8 bytes after the last tensor"),
        (raw(&entry("U8", "[8]", 0, 8), &data[..7]), "tensor `a`: ends at byte 8 of 7"),
        (header(r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[-1,0]}}"#), "malformed entry"),
        (header(r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}}"#), "malformed entry"),
        (header(r#"{"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}"#), "malformed entry"),
        (header(r#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}"#), "malformed entry"),
    ]);
}

#[test]
fn empty_tensors_may_share_an_offset() {
    let shared = r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"b":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#;
    assert!(open(&header(shared)).is_ok());
    assert!(open(&header("{}")).is_ok());
}

#[test]
fn cut_files_are_refused() {
    let whole = safetensors(&llama_tensors());
    assert!(open(&whole).is_ok());
    for cut in [1, 4, 100, whole.len() / 2, whole.len() - 9] {
        assert_error(open(&whole[..whole.len() - cut]), &["model.safetensors"]);
    }
    assert_error(open(&[whole, vec![0]].concat()), &["1 bytes after the last tensor"]);
}

#[test]
fn keys_must_be_unique() {
    let entry = |dtype: &str| format!(r#"{{"dtype":"{dtype}","shape":[1],"data_offsets":[0,2]}}"#);
    let (f16, bf16) = (entry("F16"), entry("BF16"));
    let data = [0; 2];
    assert_refused(&[
        (raw(&format!(r#"{{"a":{f16},"a":{bf16}}}"#), &data), "duplicate key `a`"),
        (raw(&format!(r#"{{"a":{f16},"a":{f16}}}"#), &data), "duplicate key `a`"),
        (raw(&format!(r#"{{"a":{f16},"\u0061":{f16}}}"#), &data), "duplicate key `a`"),
        (
            raw(&format!(r#"{{"__metadata__":{{}},"a":{f16},"__metadata__":{{}}}}"#), &data),
            "duplicate key `__metadata__`",
        ),
        (raw(&format!(r#"{{"__metadata__":{{"x":"1","x":"2"}},"a":{f16}}}"#), &data), "duplicate key `x`"),
        (raw(&format!(r#"{{"__metadata__":{{"x":1}},"a":{f16}}}"#), &data), "__metadata__"),
        (
            raw(r#"{"a":{"dtype":"F16","dtype":"BF16","shape":[1],"data_offsets":[0,2]}}"#, &data),
            "duplicate field",
        ),
    ]);
}

#[test]
fn bytes_must_match_dtype_and_shape() {
    let wide = ["F64", "I64", "U64", "C64"];
    let middle = ["F32", "I32", "U32"];
    let half = ["F16", "BF16", "I16", "U16"];
    let byte = ["BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"];
    let sizes = [(&wide[..], 8), (&middle, 4), (&half, 2), (&byte, 1)];
    for (dtype, size) in sizes.iter().flat_map(|(dtypes, size)| dtypes.iter().map(move |dtype| (dtype, size)))
    {
        let right = 3 * size;
        assert!(open(&raw(&entry(dtype, "[3]", 0, right), &vec![0; right as usize])).is_ok(), "{dtype}");
        for wrong in [0, right - 1, right + 1, 2 * right] {
            let bytes = raw(&entry(dtype, "[3]", 0, wrong), &vec![0; wrong as usize]);
            assert_error(open(&bytes), &["tensor `a`", dtype]);
        }
    }
    assert!(open(&raw(&entry("F4", "[4]", 0, 2), &[0; 2])).is_ok());
    assert_error(open(&raw(&entry("F4", "[3]", 0, 2), &[0; 2])), &["tensor `a`", "no size in bytes"]);
    assert_error(open(&raw(&entry("F6_E2M3", "[4]", 0, 4), &[0; 4])), &["has 3"]);
    assert_error(open(&raw(&entry("F6_E3M2", "[1]", 0, 1), &[0; 1])), &["no size in bytes"]);
    assert_error(open(&header(&entry("F7", "[0]", 0, 0))), &["tensor `a`", "unknown variant `F7`"]);
}

#[test]
fn sizes_must_not_overflow() {
    let max = u64::MAX;
    assert_refused(&[
        (header(&entry("U8", &format!("[{max}]"), 0, max)), "no size in bytes"),
        (header(&entry("U8", &format!("[{}]", max / 8), 0, max / 8)), "tensor `a`: ends at byte"),
        (header(&entry("F32", &format!("[{max}]"), 0, 4)), "no size in bytes"),
        (header(&entry("F32", "[4294967296,4294967296]", 0, 0)), "no size in bytes"),
        (header(&entry("F32", &format!("[0,{max},{max}]"), 0, 0)), "no size in bytes"),
        (header(&entry("U8", "[18446744073709551616]", 0, 0)), "malformed entry"),
        (header(&entry("U8", &format!("[{}]", vec!["1"; 10_000].join(",")), 0, 1)), "an entry of"),
    ]);
    let eight: Vec<String> = (0..8_u64)
        .map(|i| {
            let len = (1_u64 << 61) - 1;
            let (start, end) = (i.wrapping_mul(len), (i + 1).wrapping_mul(len));
            format!(r#""{i}":{{"dtype":"U8","shape":[{len}],"data_offsets":[{start},{end}]}}"#)
        })
        .collect();
    assert_refused(&[(header(&format!("{{{}}}", eight.join(","))), "tensor `0`: ends at byte")]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// A file with some bytes changed is refused in order, or all its tensors can be read.
    #[test]
    fn damaged_files_never_panic(edits in prop::collection::vec((0_usize..1200, any::<u8>()), 1..4)) {
        let tensors = llama_tensors();
        let mut bytes = safetensors(&tensors);
        for (at, value) in edits {
            bytes[at] = value;
        }
        match open(&bytes) {
            Ok(checkpoint) => for (name, (_, shape, _)) in &tensors {
                if let Ok(tensor) = checkpoint.tensor(name, shape) {
                    let _ = tensor.to_vec();
                }
            },
            Err(Error::File { .. } | Error::Tensor { .. }) => {}
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
