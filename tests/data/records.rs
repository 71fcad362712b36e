//! What is a record and what is not.

use std::path::Path;

use proptest::prelude::*;
use toedit::Error;
use toedit::data::{Arrival, Content, Document, Format, Patch, ReadOptions, Refused, stream_key};

use crate::{assert_error, documents, put, read, read_with, texts};

#[test]
fn good_records() {
    let table: &[(&str, &str)] = &[
        (r#"{"text":""}"#, ""),
        (r#" { "text" : "a" , "b" : [ 1 , { } ] } "#, "a"),
        ("{\"text\":\"crlf\"}\r", "crlf"),
        (r#"{"te\u0078t":"escaped key"}"#, "escaped key"),
        (r#"{"text":"\ud83d\ude00 \u00e9\n\"\\\/\b\f\r\t"}"#, "😀 é\n\"\\/\u{8}\u{c}\r\t"),
        (r#"{"text":"nul \u0000"}"#, "nul \0"),
        ("{\"text\":\"del \u{7f} and separator \u{2028}\"}", "del \u{7f} and separator \u{2028}"),
        (r#"{"text":"x","n":123456789012345678901234567890,"f":1.0e2,"m":-0.0}"#, "x"),
        (r#"{"text":"x","other":"\ud800"}"#, "x"),
        (r#"{"text":"x","\ud800":1}"#, "x"),
        (r#"{"text":"x","n":1,"n":2}"#, "x"),
        (r#"{"inner":{"text":1,"text":2},"text":"x"}"#, "x"),
        (r#"{"text":"x","input_ids":"not read"}"#, "x"),
        (r#"{"text":"<|endoftext|>","id":{"a":[1]}}"#, "<|endoftext|>"),
    ];
    for (line, text) in table {
        let document = Document::from_json(*line, "text").unwrap_or_else(|e| panic!("{line}: {e}"));
        assert_eq!(document.text(), Some(*text), "{line}");
        let same = document.render(&Patch::default(), Format::JsonLines).unwrap();
        assert_eq!(String::from_utf8(same).unwrap(), *line);
    }
}

/// Lines that are no records, and what is said about them.
const BAD: &[(&str, &str)] = &[
    ("[]", "expected one JSON object"),
    ("null", "expected one JSON object"),
    ("\"text\"", "expected one JSON object"),
    ("{}", "neither field `text` nor `input_ids`"),
    (r#"{"Text":"x"}"#, "neither field `text` nor `input_ids`"),
    (r#"{"inner":{"text":"x"}}"#, "neither field `text`"),
    (r#"{"text":null}"#, "field `text`: invalid type: null, expected a string"),
    (r#"{"text":5}"#, "field `text`: invalid type: integer `5`"),
    (r#"{"text":["a"]}"#, "field `text`: invalid type"),
    (r#"{"text":"a","text":"a"}"#, "field `text` occurs twice"),
    (r#"{"text":"a","te\u0078t":"a"}"#, "field `text` occurs twice"),
    (r#"{"text":"a","id":1,"id":2}"#, "field `id` occurs twice"),
    (r#"{"text":"a","toedit":1,"toedit":2}"#, "field `toedit` occurs twice"),
    (r#"{"input_ids":[1],"input_ids":[1]}"#, "field `input_ids` occurs twice"),
    (r#"{"text":"\ud800"}"#, "field `text`: lone surrogate"),
    (r#"{"text":"\ud800\u0041"}"#, "surrogate"),
    (r#"{"text":"\udc00"}"#, "surrogate"),
    (r#"{"text":"\u12"}"#, "escape"),
    (r#"{"text":"\x"}"#, "escape"),
    ("{\"text\":\"a\tb\"}", "control character"),
    ("{\"text\":\"a\0b\"}", "control character"),
    (r#"{"text":"a","x":NaN}"#, "expected value"),
    (r#"{"text":"a","x":Infinity}"#, "expected value"),
    (r#"{"text":"a","x":01}"#, "invalid number"),
    (r#"{"text":"a"} x"#, "trailing characters"),
    (r#"{"text":"a"}{"text":"b"}"#, "trailing characters"),
    (r#"{"text":"a",}"#, "trailing comma"),
    (r#"{"text":"a""#, "EOF"),
    (r#"{"text":"a"#, "EOF"),
    ("{'text':'a'}", "key must be a string"),
    (r#"{"input_ids":"x"}"#, "field `input_ids`: invalid type"),
    (r#"{"input_ids":[1.0]}"#, "field `input_ids`: invalid type"),
    (r#"{"input_ids":[-1]}"#, "field `input_ids`: invalid value: integer `-1`"),
    (r#"{"input_ids":[4294967296]}"#, "field `input_ids`: invalid value"),
    (r#"{"input_ids":[null]}"#, "field `input_ids`: invalid type"),
];

/// The record of that number, which must be one that cannot be used.
fn refused(path: &Path, number: usize) -> Refused {
    match documents(path).arrivals().nth(number) {
        Some(Ok(Arrival::Refused(refused))) => refused,
        other => panic!("expected a refused record, found {other:?}"),
    }
}

#[test]
fn bad_records() {
    let folder = tempfile::tempdir().unwrap();
    for (line, what) in BAD {
        let good = r#"{"text":"good"}"#;
        let path = put(folder.path(), "a.jsonl", format!("{good}\n\n{line}\n{good}\n"));
        let mut documents = documents(&path);
        assert!(documents.next().unwrap().is_ok());
        assert_error(documents.next().unwrap(), "a.jsonl:3: ", what);
        assert_eq!(refused(&path, 1).raw(), line.as_bytes());
        let after = documents.next().unwrap().unwrap();
        assert_eq!((after.line(), after.index()), (4, 2), "reading goes on behind {line}");
        assert!(documents.next().is_none());
    }
}

#[test]
fn a_message_does_not_quote_a_whole_document() {
    let line = format!(r#"{{"input_ids":"{}"}}"#, "é".repeat(100_000));
    let message = Document::from_json(line, "text").unwrap_err().to_string();
    assert!(message.len() < 1000, "{}", message.len());
}

#[test]
fn invalid_utf8_is_an_error_in_any_field() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [&[u8]; 3] =
        [b"{\"text\":\"\xff\"}", b"{\"text\":\"a\",\"x\":\"\xc3\"}", b"{\"text\":\"\xed\xa0\x80\"}"];
    for line in cases {
        let path =
            put(folder.path(), "a.jsonl", [b"{\"text\":\"a\"}\n", line, b"\n{\"text\":\"b\"}"].concat());
        let mut documents = documents(&path);
        assert!(documents.next().unwrap().is_ok());
        assert_error(documents.next().unwrap(), "a.jsonl:2: ", "invalid utf-8");
        assert_eq!(refused(&path, 1).raw(), line);
        assert_eq!(documents.next().unwrap().unwrap().text(), Some("b"));
    }
}

#[test]
fn lines_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let table: &[(&str, &[&str])] = &[
        ("", &[]),
        ("\n\n \t\r\n", &[]),
        ("\u{feff}", &[]),
        ("\u{feff}{\"text\":\"a\"}", &["a"]),
        ("\u{feff}\n{\"text\":\"a\"}\n", &["a"]),
        ("{\"text\":\"a\"}\r\n\r\n{\"text\":\"b\"}\r\n", &["a", "b"]),
        ("\n\n{\"text\":\"a\"}\n   \n{\"text\":\"b\"}", &["a", "b"]),
    ];
    for (content, expected) in table {
        let path = put(folder.path(), "a.jsonl", content);
        assert_eq!(texts(read(&path)), *expected, "{content:?}");
    }
    let late = put(folder.path(), "b.jsonl", "{\"text\":\"a\"}\n\u{feff}{\"text\":\"b\"}\n");
    assert_error(read(&late).remove(1), "b.jsonl:2: ", "expected value");
}

#[test]
fn nesting_of_a_million_levels_is_carried_through() {
    let depth = 1_000_000;
    let (open, close) = ("[".repeat(depth), "]".repeat(depth));
    let line =
        format!(r#"{{"x":{open}{close},"text":"a","y":{}1{}}}"#, r#"{"k":"#.repeat(depth), "}".repeat(depth));
    let document = Document::from_json(line.clone(), "text").unwrap();
    assert_eq!(document.render(&Patch::default(), Format::JsonLines).unwrap(), line.into_bytes());
}

#[test]
fn a_line_past_the_limit_is_refused_and_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let line = |length: usize| format!(r#"{{"text":"{}"}}"#, "a".repeat(length - 11));
    let content = format!("{}\n{}\n{}\n{}", line(100), line(101), line(20), line(101));
    let path = put(folder.path(), "a.jsonl", content);
    let options = ReadOptions { max_document_bytes: 100, ..ReadOptions::default() };
    let records = read_with(&path, options);
    let lines: Vec<_> = records.iter().map(|record| record.as_ref().map(Document::line).ok()).collect();
    assert_eq!(lines, [Some(1), None, Some(3), None]);
    assert_error(records.into_iter().nth(1).unwrap(), "a.jsonl:2: ", "more than 100 bytes");
}

#[test]
fn ids_and_other_fields() {
    let ids = Document::from_json(r#"{"input_ids":[0, 4294967295],"id":"a\u0062"}"#, "text").unwrap();
    assert_eq!(ids.content(), &Content::Ids(vec![0, u32::MAX]));
    assert_eq!((ids.ids(), ids.text()), (Some(&[0, u32::MAX][..]), None));
    assert_eq!(ids.id(), Some(r#""a\u0062""#));
    let named = Document::from_json(r#"{"body":"b","text":5,"toedit":{"a": 1}}"#, "body").unwrap();
    assert_eq!((named.text(), named.metadata()), (Some("b"), Some(r#"{"a": 1}"#)));
}

#[test]
fn text_files_are_one_document() {
    let folder = tempfile::tempdir().unwrap();
    let content = "\u{feff}line\r\nline\n\n{\"text\":1}";
    let path = put(folder.path(), "a.txt", content);
    assert_eq!(texts(read(&path)), [content]);
    let bad = put(folder.path(), "b.txt", b"one\ntwo \xff\n");
    let mut records = read(&bad);
    assert_eq!(records.len(), 1);
    assert_error(records.remove(0), "b.txt:2: ", "invalid utf-8");
    let long = put(folder.path(), "c.txt", "12345");
    let limit = |max_document_bytes| ReadOptions { max_document_bytes, ..ReadOptions::default() };
    assert_eq!(texts(read_with(&long, limit(5))), ["12345"]);
    assert_error(read_with(&long, limit(4)).remove(0), "c.txt:1: ", "more than 4 bytes");
    assert_eq!(texts(read(&put(folder.path(), "d.txt", ""))), [""]);
}

#[test]
fn fields_with_a_meaning_cannot_hold_the_text() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = toedit::data::Inputs::expand(&[put(folder.path(), "a.jsonl", "")]).unwrap();
    for field in ["id", "input_ids", "toedit"] {
        let options = ReadOptions { text_field: field.into(), ..ReadOptions::default() };
        assert!(matches!(inputs.documents(options), Err(Error::Usage(_))), "{field}");
    }
}

#[test]
fn streams_follow_their_definition() {
    let key = |line: &str| stream_key(&Document::from_json(line, "text").unwrap());
    let hash = |bytes: &[u8]| xxhash_rust::xxh3::xxh3_64(bytes);
    assert_eq!(key(r#"{"text":"\u00e9"}"#), hash(b"\0\x02\0\0\0\0\0\0\0\xc3\xa9"));
    assert_eq!(
        key(r#"{"n":0,"text":"é"}"#),
        key(r#"{"text":"\u00e9"}"#),
        "spelling and other fields play no part"
    );
    assert_eq!(key(r#"{"text":"a","id":"\u0062"}"#), hash(b"\0\x01\0\0\0\0\0\0\0a\"\\u0062\""));
    assert_eq!(
        key(r#"{"input_ids":[1,256],"id":7}"#),
        hash(b"\x01\x02\0\0\0\0\0\0\0\x01\0\0\0\0\x01\0\x007")
    );
    assert_eq!(stream_key(&Document::from_text("a")), key(r#"{"text":"a"}"#));
}

#[test]
fn a_file_changed_to_garbage_midway_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    let good = format!("{}\n", r#"{"text":"a\u00e9","id":[1],"toedit":{},"input_ids":[1]}"#);
    for at in 0..good.len() {
        for byte in [0, b'"', b'\\', b'{', b'}', b',', b'\n', 0xff] {
            let mut bytes = good.clone().into_bytes();
            bytes[at] = byte;
            let path = put(folder.path(), "a.jsonl", &bytes);
            for document in read(&path).into_iter().flatten() {
                let same = document.render(&Patch::default(), Format::JsonLines).unwrap();
                assert!(bytes.windows(same.len()).any(|window| window == same));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn arbitrary_lines_never_panic(line in r#"[\[\]{}",:0-9a-z\\u "textinput_ids]{0,60}"#) {
        if let Ok(document) = Document::from_json(line.clone(), "t") {
            let same = document.render(&Patch::default(), Format::JsonLines).unwrap();
            prop_assert_eq!(same, line.into_bytes());
        }
    }
}
