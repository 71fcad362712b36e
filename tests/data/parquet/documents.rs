//! Rows as documents, and those that are none.

use toedit::data::{Arrival, Content, Format, Inputs, Manifest, Member, Patch, ReadOptions, Shard, TextEdit};

use super::*;
use crate::{assert_error, put, texts};

#[test]
fn rows_are_documents() {
    let folder = tempfile::tempdir().unwrap();
    let schema = "optional binary text (UTF8); required int64 id; optional group input_ids (LIST) \
                  { repeated group list { optional int32 element; } }";
    let ids = || Leaf::Int32(vec![7, 8], Levels(vec![0, 1, 3, 3], vec![0, 0, 0, 1]));
    let groups = [
        vec![Leaf::nullable(&[Some("é"), None, None]), Leaf::Int64(vec![-1, 2, 3], Levels::default()), ids()],
        vec![
            Leaf::nullable(&[Some("last")]),
            Leaf::Int64(vec![4], Levels::default()),
            Leaf::Int32(vec![9], Levels(vec![3], vec![0])),
        ],
    ];
    let path = put(folder.path(), "a.parquet", table(schema, &groups));
    let documents = documents(&path);
    let contents: Vec<_> = documents.iter().map(Document::content).collect();
    let expected = [
        &Content::Text("é".into()),
        &Content::Ids(Vec::new()),
        &Content::Ids(vec![7, 8]),
        &Content::Text("last".into()),
    ];
    assert_eq!(contents, expected);
    assert_eq!(documents.iter().map(Document::line).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(
        documents.iter().map(Document::id).collect::<Vec<_>>(),
        [Some("-1"), Some("2"), Some("3"), Some("4")]
    );
    assert_eq!(documents[3].raw_ids(), Some("[9]"));
    assert_eq!(documents[0].string_member("text").unwrap().as_deref(), Some("é"));
    assert_eq!(documents[1].string_member("text").unwrap(), None);
    assert_eq!(documents[0].string_member("other").unwrap(), None);
    assert_error(documents[0].string_member("id"), "a.parquet:1: ", "expected a string");
    let edits = [TextEdit { start: 0, end: 2, new: "\"".into() }];
    let patch = Patch { text: Member::Set(&edits), metadata: Member::Set("{\"n\":1}"), ..Patch::default() };
    let line = documents[0].render(&patch, Format::JsonLines).unwrap();
    assert_eq!(line, br#"{"text":"\"","id":-1,"input_ids":null,"toedit":{"n":1}}"#);
    let patch = Patch { text: Member::Remove, ids: Member::Set(&[5]), ..Patch::default() };
    let line = documents[3].render(&patch, Format::JsonLines).unwrap();
    assert_eq!(line, br#"{"id":4,"input_ids":[5]}"#);
    assert_eq!(documents[3].render(&Patch::default(), Format::Text).unwrap(), b"last");
}

#[test]
fn types_of_ids_and_texts() {
    let folder = tempfile::tempdir().unwrap();
    let list = |element: &str| {
        format!("required group input_ids (LIST) {{ repeated group list {{ required {element}; }} }}")
    };
    let levels = || Levels(vec![1, 1], vec![0, 1]);
    let max = i64::from(u32::MAX);
    let ids = [
        (list("int32 element"), Leaf::Int32(vec![1, 2], levels()), vec![1, 2]),
        (list("int32 element (UINT_32)"), Leaf::Int32(vec![1, -1], levels()), vec![1, u32::MAX]),
        (list("int64 element"), Leaf::Int64(vec![1, max], levels()), vec![1, u32::MAX]),
        (list("int64 element (INTEGER(64,false))"), Leaf::Int64(vec![1, max], levels()), vec![1, u32::MAX]),
        ("repeated int32 input_ids;".into(), Leaf::Int32(vec![1, 2], levels()), vec![1, 2]),
    ];
    for (schema, leaf, expected) in ids {
        let path = put(folder.path(), "ids.parquet", table(&schema, &[vec![leaf]]));
        assert_eq!(documents(&path)[0].ids(), Some(&expected[..]), "{schema}");
    }
    for kind in ["(UTF8)", "(STRING)", "(ENUM)", "(JSON)"] {
        let bytes = table(&format!("required binary text {kind};"), &[vec![Leaf::strings(&["a"])]]);
        // The name is a hint alone.
        for name in ["text.parquet", "text.jsonl", "text"] {
            assert_eq!(texts(crate::read(&put(folder.path(), name, &bytes))), ["a"], "{kind}");
        }
    }
    let other = ReadOptions { text_field: "body".into(), ..ReadOptions::default() };
    let path = put(
        folder.path(),
        "body.parquet",
        table("required binary body (UTF8);", &[vec![Leaf::strings(&["b"])]]),
    );
    assert_eq!(texts(crate::read_with(&path, other)), ["b"]);
}

#[test]
fn rows_that_are_no_documents_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let list = "optional group input_ids (LIST) { repeated group list { optional int64 element; } }";
    let ids = |values: Vec<i64>, definition: Vec<i16>| {
        let repetition = (0..definition.len()).map(|place| i16::from(place > 0)).collect();
        vec![Leaf::Int64(values, Levels(definition, repetition))]
    };
    let optional = "optional binary text (UTF8);";
    let long = "x".repeat(20);
    let invalid = Leaf::Bytes(vec![vec![b'a', 0xff].into()], Levels(vec![1], Vec::new()));
    let table_of = |schema: &str, bad: Vec<Leaf>, good: Vec<Leaf>| table(schema, &[bad, good]);
    let good = || vec![Leaf::nullable(&[Some("good")])];
    let cases = [
        (
            table_of(optional, vec![Leaf::nullable(&[None])], good()),
            "column `text` is null",
            r#"{"text":null}"#,
        ),
        (
            table_of(optional, vec![invalid], good()),
            "column `text`: invalid utf-8 (byte 2 of the value)",
            r#"{"text":{"hex":"61ff"}}"#,
        ),
        (
            table_of(optional, vec![Leaf::nullable(&[Some(&long)])], good()),
            "text of more than 10 bytes",
            r#"{"text":"xxxxxxxxxxxxxxxxxxxx"}"#,
        ),
        (
            table_of(list, ids(vec![], vec![0]), ids(vec![1], vec![3])),
            "column `input_ids` is null",
            r#"{"input_ids":null}"#,
        ),
        (
            table_of(list, ids(vec![1, -2], vec![3, 3]), ids(vec![1], vec![3])),
            "element 1 is -2, expected a token id from 0 to 4294967295",
            r#"{"input_ids":[1,-2]}"#,
        ),
        (
            table_of(list, ids(vec![1 << 32], vec![3]), ids(vec![1], vec![3])),
            "element 0 is 4294967296",
            r#"{"input_ids":[4294967296]}"#,
        ),
        (
            table_of(list, ids(vec![1, 3], vec![3, 2, 3]), ids(vec![1], vec![3])),
            "element 1 is null",
            r#"{"input_ids":[1,null,3]}"#,
        ),
    ];
    for (bytes, what, raw) in cases {
        let path = put(folder.path(), "a.parquet", bytes);
        let options = ReadOptions { max_document_bytes: 10, ..ReadOptions::default() };
        let mut arrivals = arrivals(&path, options).into_iter().map(Result::unwrap);
        match arrivals.next().unwrap() {
            Arrival::Refused(refused) => {
                assert_error(Err::<(), _>(refused.error()), "a.parquet:1: ", what);
                assert_eq!(String::from_utf8_lossy(refused.raw()), raw);
            }
            Arrival::Document(document) => panic!("{document:?}"),
        }
        assert!(
            matches!(arrivals.next(), Some(Arrival::Document(document)) if document.line() == 2),
            "{what}"
        );
        assert!(arrivals.next().is_none());
    }
}

#[test]
fn shards_are_row_groups_or_rows() {
    let folder = tempfile::tempdir().unwrap();
    let groups: [&[&str]; 5] = [&["0", "1", "2"], &["3"], &[], &["4", "5"], &["6"]];
    let path = put(folder.path(), "a.parquet", texts_table(&groups));
    let shard = |index: u32, count: u32| {
        let options =
            ReadOptions { shard: Some(Shard::new(index, count).unwrap()), ..ReadOptions::default() };
        let lines = |document: Result<Document>| {
            let document = document.unwrap();
            (document.line() - 1, document.text().unwrap().to_owned())
        };
        crate::read_with(&path, options).into_iter().map(lines).collect::<Vec<_>>()
    };
    for count in 1..=12 {
        let shards: Vec<_> = (0..count).map(|index| shard(index, count)).collect();
        let expected: Vec<_> = (0..7).map(|row| (row, row.to_string())).collect();
        assert_eq!(shards.concat(), expected, "{count} shards");
        let begins = |row: u64| [0, 3, 4, 6, 7].contains(&row);
        let aligned = shards.iter().flatten().next().is_some()
            && shards.iter().all(|rows| rows.first().is_none_or(|(row, _)| begins(*row)));
        assert_eq!(aligned, count <= 4, "{count} shards of four groups with rows");
    }
}

#[test]
fn progress_and_digests_are_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = texts_table(&[&["one", "two"], &["three"]]);
    let path = put(folder.path(), "in.parquet", &bytes);
    let inputs = Inputs::expand(std::slice::from_ref(&path)).unwrap();
    let mut documents = inputs.documents(ReadOptions::default()).unwrap();
    let progress = documents.progress();
    assert!(documents.by_ref().all(|document| document.is_ok()));
    assert_eq!((progress.read(), progress.total()), (bytes.len() as u64, Some(bytes.len() as u64)));
    let output = folder.path().join("out.parquet");
    copy(&path, &output, WriteConfig::new(Begin::New), |_| Patch::default()).unwrap();
    let manifest = Manifest::verify(&output).unwrap();
    let input = manifest.inputs[0].digest.as_ref().unwrap();
    assert_eq!(input.bytes, bytes.len() as u64);
    assert_eq!((manifest.records.written, manifest.inputs[0].records), (3, Some(3)));
}

#[test]
fn a_stream_cannot_be_parquet() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = texts_table(&[&["one"]]);
    let gz = put(folder.path(), "a.jsonl.gz", crate::gzip(&bytes));
    assert_error(crate::documents(&gz).next().unwrap(), "a.jsonl.gz", "regular file alone");
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let end = pipe.clone();
    let writer = std::thread::spawn(move || std::fs::write(end, bytes));
    assert_error(crate::documents(&pipe).next().unwrap(), "pipe", "regular file alone");
    drop(writer.join());
    // Text may begin with anything.
    let text = put(folder.path(), "a.txt", "PAR1 is not a file");
    assert_eq!(texts(crate::read(&text)), ["PAR1 is not a file"]);
    // And lines of JSON may have any name.
    let lines = put(folder.path(), "b.parquet", "{\"text\":\"a\"}\n");
    assert_eq!(texts(crate::read(&lines)), ["a"]);
}
