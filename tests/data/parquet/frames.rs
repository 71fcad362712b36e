//! Outputs: made of frames, resumable, with all columns as they were.

use parquet::file::metadata::ParquetMetaDataReader;
use toedit::data::{Content, Member, Shard, TextEdit};

use super::*;
use crate::{assert_error, put};

const EDITED: &str = "{\"changed\":1}";

fn edited() -> OutputColumns {
    OutputColumns { metadata: Member::Set(()), ..OutputColumns::default() }
}

/// Replaces the first letter of each text.
fn edit<'a>(edits: &'a [TextEdit]) -> impl Fn(&Document) -> Patch<'a> {
    move |_| Patch { text: Member::Set(edits), metadata: Member::Set(EDITED), ..Patch::default() }
}

fn first_letter() -> [TextEdit; 1] {
    [TextEdit { start: 0, end: 1, new: "É".into() }]
}

/// Rows with a number and a text each.
fn corpus(rows: usize) -> Vec<u8> {
    let texts: Vec<_> = (0..rows).map(|row| format!("text {row} {}", "word ".repeat(row % 50))).collect();
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    let groups: Vec<_> = texts
        .chunks(300)
        .enumerate()
        .map(|(number, texts)| {
            let numbers = (0..texts.len()).map(|row| (number * 300 + row) as i64).collect();
            vec![Leaf::Int64(numbers, Levels::default()), Leaf::strings(texts)]
        })
        .collect();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(Default::default()))
        .set_key_value_metadata(key_values())
        .build();
    table_with("required int64 number; required binary text (UTF8);", &groups, properties)
}

#[test]
fn edits_change_the_text_alone() {
    let folder = tempfile::tempdir().unwrap();
    let input = put(folder.path(), "in.parquet", corpus(700));
    let edits = first_letter();
    let output =
        copy(&input, &folder.path().join("out.parquet"), config(Begin::New, edited()), edit(&edits)).unwrap();
    let expected: Vec<_> = rows(&input)
        .iter()
        .map(|row| row.replace("\"text ", "\"Éext ").replace('}', &format!(", toedit: {:?}}}", EDITED)))
        .map(|row| row.replace('\\', ""))
        .collect();
    assert_eq!(rows(&output).iter().map(|row| row.replace('\\', "")).collect::<Vec<_>>(), expected);
    let metadata =
        ParquetMetaDataReader::new().parse_and_finish(&std::fs::File::open(&output).unwrap()).unwrap();
    assert_eq!(metadata.file_metadata().key_value_metadata(), key_values().as_ref());
    assert_eq!(metadata.num_row_groups(), 1, "frames share a row group");
    let compression: Vec<_> =
        metadata.row_group(0).columns().iter().map(|chunk| chunk.compression()).collect();
    assert!(compression.iter().all(|codec| matches!(codec, Compression::ZSTD(_))), "{compression:?}");
    // And back: an edit of what was edited replaces the column.
    let back = [TextEdit { start: 0, end: 2, new: "t".into() }];
    let undo =
        |_: &Document| Patch { text: Member::Set(&back), metadata: Member::Remove, ..Patch::default() };
    let removed = OutputColumns { metadata: Member::Remove, ..OutputColumns::default() };
    let restored =
        copy(&output, &folder.path().join("back.parquet"), config(Begin::New, removed), undo).unwrap();
    assert_eq!(rows(&restored), rows(&input));
    let again =
        copy(&output, &folder.path().join("again.parquet"), config(Begin::New, edited()), edit(&back))
            .unwrap();
    assert_eq!(rows(&again)[0].matches("toedit").count(), 1);
}

#[test]
fn the_frames_size_changes_no_row() {
    let folder = tempfile::tempdir().unwrap();
    let input = put(folder.path(), "in.parquet", corpus(500));
    let edits = first_letter();
    let written = |frame_bytes: usize| {
        let config = WriteConfig { frame_bytes, ..config(Begin::New, edited()) };
        let output = folder.path().join(format!("{frame_bytes}.parquet"));
        rows(&copy(&input, &output, config, edit(&edits)).unwrap())
    };
    let whole = written(1 << 20);
    assert_eq!(written(1), whole);
    assert_eq!(written(5000), whole);
}

#[test]
fn an_unfinished_output_is_resumed_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let input = put(folder.path(), "in.parquet", corpus(400));
    let edits = first_letter();
    let config = |begin| WriteConfig { frame_bytes: 4000, ..config(begin, edited()) };
    let whole = copy(&input, &folder.path().join("whole.parquet"), config(Begin::New), edit(&edits)).unwrap();
    for stop in [0, 1, 57, 200, 399, 400] {
        let output = folder.path().join(format!("{stop}.parquet"));
        let (inputs, mut writer) = writer(&input, &output, config(Begin::New)).unwrap();
        for document in inputs.documents(ReadOptions::default()).unwrap().take(stop) {
            let document = document.unwrap();
            writer.write(&document, &edit(&edits)(&document), &1).unwrap();
        }
        drop(writer);
        assert!(!output.exists());
        copy(&input, &output, config(Begin::Resume), edit(&edits)).unwrap();
        assert!(std::fs::read(&output).unwrap() == std::fs::read(&whole).unwrap(), "stopped after {stop}");
        let left = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(
            left.into_iter().all(|name| !name.as_encoded_bytes().starts_with(b".")),
            "working files are left"
        );
    }
    // Another input is not gone on with.
    let output = folder.path().join("changed.parquet");
    let (inputs, mut writer) = writer(&input, &output, config(Begin::New)).unwrap();
    for document in inputs.documents(ReadOptions::default()).unwrap().take(300) {
        writer.write(&document.unwrap(), &Patch::default(), &1).unwrap();
    }
    drop(writer);
    let mut bytes = std::fs::read(&input).unwrap();
    let size = bytes.len();
    bytes = corpus(401);
    bytes.truncate(size.max(bytes.len()));
    put(folder.path(), "in.parquet", bytes);
    let error = copy(&input, &output, config(Begin::Resume), edit(&edits));
    assert_error(error, "changed.parquet", "`input`");
}

#[test]
fn no_rows_are_a_file_too() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [("none", texts_table(&[])), ("empty", texts_table(&[&[]]))] {
        let input = put(folder.path(), &format!("{name}.parquet"), bytes);
        let output = folder.path().join(format!("{name}-out.parquet"));
        copy(&input, &output, config(Begin::New, edited()), |_| Patch::default()).unwrap();
        assert_eq!(rows(&output), Vec::<String>::new());
        let metadata =
            ParquetMetaDataReader::new().parse_and_finish(&std::fs::File::open(&output).unwrap()).unwrap();
        let fields: Vec<_> = metadata
            .file_metadata()
            .schema()
            .get_fields()
            .iter()
            .map(|field| field.name().to_owned())
            .collect();
        assert_eq!(fields, ["text", "toedit"]);
        assert_eq!(documents(&output).len(), 0);
    }
}

#[test]
fn ids_are_replaced_in_place_or_added() {
    let folder = tempfile::tempdir().unwrap();
    let list = |element: &str| {
        format!("optional group input_ids (LIST) {{ repeated group list {{ optional {element}; }} }}")
    };
    let new: [&[u32]; 3] = [&[1, 2, 3], &[], &[u32::MAX - 1]];
    let levels = || Levels(vec![3, 3, 1, 3], vec![0, 1, 0, 0]);
    for (kind, leaf) in [
        ("int64 element", Leaf::Int64(vec![7, 8, 9], levels())),
        ("int32 element (UINT_32)", Leaf::Int32(vec![7, 8, 9], levels())),
    ] {
        let input = put(folder.path(), "in.parquet", table(&list(kind), &[vec![leaf]]));
        let output = folder.path().join("out.parquet");
        copy(&input, &output, WriteConfig::new(Begin::Overwrite), |document| Patch {
            // The second one stays as it is.
            ids: if document.line() == 2 {
                Member::Keep
            } else {
                Member::Set(new[document.line() as usize - 1])
            },
            ..Patch::default()
        })
        .unwrap();
        let found: Vec<_> =
            documents(&output).iter().map(|document| document.ids().unwrap().to_vec()).collect();
        assert_eq!(found, [&[1, 2, 3][..], &[], &[u32::MAX - 1]], "{kind}");
    }
    let input = put(folder.path(), "in.parquet", texts_table(&[&["a", "b", "c"]]));
    let columns = OutputColumns { has_ids: true, has_text: false, ..OutputColumns::default() };
    let output = folder.path().join("added.parquet");
    copy(&input, &output, config(Begin::New, columns), |document| Patch {
        text: Member::Remove,
        ids: Member::Set(new[document.line() as usize - 1]),
        ..Patch::default()
    })
    .unwrap();
    let found: Vec<_> = documents(&output).iter().map(|document| document.content().clone()).collect();
    assert_eq!(found, new.map(|ids| Content::Ids(ids.to_vec())));
    assert!(!rows(&output)[0].contains("text"));
}

#[test]
fn refused_rows_are_passed_through() {
    let folder = tempfile::tempdir().unwrap();
    let schema = "optional binary text (UTF8); required int64 n;";
    let invalid = ByteArray::from(vec![0xff, b'a']);
    let leaves = vec![
        Leaf::Bytes(vec!["one".into(), invalid], Levels(vec![1, 0, 1], Vec::new())),
        Leaf::Int64(vec![1, 2, 3], Levels::default()),
    ];
    let input = put(folder.path(), "in.parquet", table(schema, &[leaves]));
    let output = folder.path().join("out.parquet");
    let edits = first_letter();
    copy(&input, &output, config(Begin::New, edited()), edit(&edits)).unwrap();
    let arrivals: Vec<_> =
        arrivals(&output, ReadOptions::default()).into_iter().map(Result::unwrap).collect();
    assert!(matches!(&arrivals[0], Arrival::Document(document) if document.text() == Some("Éne")));
    let raw = |arrival: &Arrival| match arrival {
        Arrival::Refused(refused) => String::from_utf8(refused.raw().to_vec()).unwrap(),
        Arrival::Document(document) => panic!("{document:?}"),
    };
    assert_eq!(raw(&arrivals[1]), r#"{"text":null,"n":2,"toedit":null}"#);
    assert_eq!(raw(&arrivals[2]), r#"{"text":{"hex":"ff61"},"n":3,"toedit":null}"#);
    // Lines of JSON take them as JSON.
    let lines =
        copy(&input, &folder.path().join("out.jsonl"), WriteConfig::new(Begin::New), |_| Patch::default());
    let lines = std::fs::read_to_string(lines.unwrap()).unwrap();
    assert_eq!(lines.lines().nth(1), Some(r#"{"text":null,"n":2}"#));
}

#[test]
fn json_lines_become_columns() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "{\"id\": 7, \"text\":\"a\", \"x\":[1.50]}\r\n{\"text\":\"b\",\"input_ids\":[\"no\"]}\n{\"text\":\"\"}\n";
    let input = put(folder.path(), "in.jsonl", lines);
    let edits = first_letter();
    let patch = |document: &Document| match document.text() {
        Some("") => Patch::default(),
        _ => edit(&edits)(document),
    };
    let output =
        copy(&input, &folder.path().join("out.parquet"), config(Begin::New, edited()), patch).unwrap();
    let texts: Vec<_> =
        documents(&output).iter().map(|document| document.text().unwrap().to_owned()).collect();
    assert_eq!(texts, ["É", "É", ""]);
    let found: Vec<String> = documents(&output)
        .iter()
        .map(|document| {
            String::from_utf8(document.render(&Patch::default(), toedit::data::Format::JsonLines).unwrap())
                .unwrap()
        })
        .collect();
    assert_eq!(
        found,
        [
            r#"{"text":"É","json":"{\"id\": 7, \"x\":[1.50]}","toedit":{"changed":1}}"#,
            r#"{"text":"É","json":"{\"input_ids\":[\"no\"]}","toedit":{"changed":1}}"#,
            r#"{"text":"","json":null,"toedit":null}"#,
        ]
    );
    // Ids have a column of their own, and columns that hold nothing are left out.
    let input = put(folder.path(), "ids.jsonl", "{\"input_ids\":[1,2]}\n{\"input_ids\":[]}\n");
    let output =
        copy(&input, &folder.path().join("ids.parquet"), WriteConfig::new(Begin::New), |_| Patch::default());
    let output = output.unwrap();
    assert_eq!(
        documents(&output).iter().map(|document| document.ids().unwrap().to_vec()).collect::<Vec<_>>(),
        [vec![1, 2], vec![]]
    );
    assert_eq!(rows(&output)[0], "{input_ids: [1, 2]}");
    let input = put(folder.path(), "one.txt", "all\nof it");
    let output =
        copy(&input, &folder.path().join("one.parquet"), WriteConfig::new(Begin::New), |_| Patch::default());
    assert_eq!(documents(&output.unwrap())[0].text(), Some("all\nof it"));
}

#[test]
fn inputs_of_one_file_must_have_the_same_columns() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let a = put(root, "a.parquet", texts_table(&[&["1"]]));
    let b = put(root, "b.parquet", texts_table(&[&["2"], &["3"]]));
    let c =
        put(root, "c.parquet", table("optional binary text (UTF8);", &[vec![Leaf::nullable(&[Some("4")])]]));
    let d = put(root, "d.jsonl", "{\"text\":\"5\"}");
    let e = put(root, "e.parquet", table("required int32 n; required binary text (UTF8);", &[]));
    let f = put(root, "f.parquet", table("required binary text (UTF8); required int32 n;", &[]));
    let open = |paths: &[&PathBuf]| {
        let paths: Vec<_> = paths.iter().map(|path| path.to_path_buf()).collect();
        let inputs = Inputs::expand(&paths)?;
        let outputs = Outputs::plan(&inputs, &root.join("out.parquet"), Payload::Documents)?;
        let writer: OutputWriter<u64> = outputs.writer(WriteConfig::new(Begin::New))?;
        Ok((inputs, writer))
    };
    let (inputs, mut writer) = open(&[&a, &b]).unwrap();
    for document in inputs.documents(ReadOptions::default()).unwrap() {
        writer.write(&document.unwrap(), &Patch::default(), &1).unwrap();
    }
    writer.finish().unwrap();
    assert_eq!(rows(&root.join("out.parquet")), ["{text: \"1\"}", "{text: \"2\"}", "{text: \"3\"}"]);
    for (other, what) in [
        (&c, "column `text` has another type"),
        (&d, "one is Parquet, the other is not"),
        (&e, "column `n` stands where `text` does"),
        (&f, "the number of columns differs"),
    ] {
        let name = other.file_name().unwrap().to_str().unwrap();
        assert_error(open(&[&a, other]).map(drop), name, what);
    }
    // Lines about documents are no rows.
    let inputs = Inputs::expand(std::slice::from_ref(&a)).unwrap();
    assert_error(
        Outputs::plan(&inputs, &root.join("x.parquet"), Payload::Lines),
        "x.parquet",
        "expected .jsonl",
    );
    let lines = Outputs::plan(&inputs, &root.join("scores"), Payload::Lines).unwrap();
    assert_eq!(lines.paths(), [root.join("scores/a.jsonl")]);
}

#[test]
fn shards_of_an_output_are_files_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let input = put(folder.path(), "in.parquet", corpus(900));
    let mut all = Vec::new();
    for index in 0..4 {
        let shard = Shard::new(index, 4).unwrap();
        let inputs = Inputs::expand(std::slice::from_ref(&input)).unwrap();
        let outputs = Outputs::plan(&inputs, &folder.path().join("out.parquet"), Payload::Documents).unwrap();
        let mut writer: OutputWriter<u64> =
            outputs.sharded(&inputs, shard).unwrap().writer(WriteConfig::new(Begin::New)).unwrap();
        let options = ReadOptions { shard: Some(shard), ..ReadOptions::default() };
        for document in inputs.documents(options).unwrap().with_plan(writer.read_plan()) {
            writer.write(&document.unwrap(), &Patch::default(), &1).unwrap();
        }
        writer.finish().unwrap();
        all.extend(rows(&folder.path().join(format!("out-{index:05}-of-00004.parquet"))));
    }
    assert_eq!(all, rows(&input));
}
