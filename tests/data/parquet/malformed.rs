//! Files that are refused: by name, without a panic, without memory that they ask for and do not fill.

use parquet::basic::Encoding;
use parquet::file::properties::WriterVersion;
use parquet::schema::types::ColumnPath;
use proptest::prelude::*;
use toedit::Error;

use super::*;
use crate::{assert_error, put};

/// The footer's bytes of a file, and the file with another footer.
fn footer(bytes: &[u8]) -> (usize, usize) {
    let end = bytes.len() - 8;
    let size = u32::from_le_bytes(bytes[end..end + 4].try_into().unwrap()) as usize;
    (end - size, end)
}

fn with_footer(footer: &[u8]) -> Vec<u8> {
    [b"PAR1", footer, &(footer.len() as u32).to_le_bytes(), b"PAR1"].concat()
}

/// A footer in Thrift's compact protocol whose schema is these nodes: name, children (none for a column).
fn schema_footer(nodes: &[(&str, u32)], count: u32) -> Vec<u8> {
    let varint = |mut value: u32| {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    };
    let mut footer = vec![0x15, 2, 0x19, 0xfc];
    footer.extend(varint(count));
    for (name, children) in nodes {
        // Type and repetition, or repetition alone, then name and children.
        footer.extend_from_slice(if *children == 0 { &[0x15, 12, 0x25, 0, 0x18] } else { &[0x35, 0, 0x18] });
        footer.extend(varint(name.len() as u32));
        footer.extend_from_slice(name.as_bytes());
        if *children > 0 {
            footer.push(0x15);
            footer.extend(varint(children * 2));
        }
        footer.push(0);
    }
    // No rows, no row groups.
    footer.extend([0x16, 0, 0x19, 0x0c, 0]);
    footer
}

#[test]
fn whole_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good = texts_table(&[&["one", "two"]]);
    let (start, end) = footer(&good);
    let patched = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let deep: Vec<(&str, u32)> = (0..5000).map(|_| ("g", 1)).chain([("text", 0)]).collect();
    let binary = table("required binary text;", &[vec![Leaf::strings(&["a"])]]);
    let number = table("required int32 text;", &[vec![Leaf::Int32(vec![1], Levels::default())]]);
    let group = "required group text { required binary a (UTF8); }";
    let strings =
        "required group input_ids (LIST) { repeated group list { required binary element (UTF8); } }";
    let list = Leaf::Bytes(vec!["a".into()], Levels(vec![1], vec![0]));
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"PAR1".to_vec(), "4 bytes are too few"),
        (good[..11].to_vec(), "11 bytes are too few"),
        (good[..good.len() - 1].to_vec(), "does not end with PAR1"),
        (good[..start].to_vec(), "does not end with PAR1"),
        (patched(0, b"PARE"), "encrypted"),
        (patched(end + 4, b"PARE"), "encrypted"),
        (patched(end + 4, b"XXXX"), "does not end with PAR1"),
        (patched(end, &u32::MAX.to_le_bytes()), "a footer of 4294967295 bytes does not fit"),
        (patched(end, &0u32.to_le_bytes()), "past its end"),
        (patched(end, &3u32.to_le_bytes()), "malformed parquet"),
        (with_footer(&[0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x0f]), "past its end"),
        (with_footer(&[0x1c; 2000]), "nested too deeply"),
        (with_footer(&schema_footer(&deep, deep.len() as u32)), "more than 64 levels"),
        (with_footer(&schema_footer(&[("root", 1 << 30)], 1)), "more children than there are nodes"),
        (with_footer(&schema_footer(&[("root", 1), ("text", 0)], 1 << 30)), "past its end"),
        (
            with_footer(&schema_footer(&[("root", 1), ("text", 0)], 2)),
            "column `text` is BYTE_ARRAY (bytes), expected a string",
        ),
        (
            with_footer(&schema_footer(&[("root", 1), ("other", 0)], 2)),
            "neither column `text` nor `input_ids` found among other",
        ),
        (binary, "column `text` is BYTE_ARRAY (bytes), expected a string"),
        (number, "column `text` is INT32, expected a string"),
        (table(group, &[vec![Leaf::strings(&["a"])]]), "column `text` is a group, expected a string"),
        (table(strings, &[vec![list]]), "column `input_ids` is a group (List), expected a list of integers"),
        (
            table("required binary text (UTF8); required binary text (UTF8);", &[]),
            "column `text` occurs twice",
        ),
        (
            table("required binary text (UTF8); required int32 toedit;", &[]),
            "column `toedit` is INT32, expected a string",
        ),
        // Page headers: a list of two thousand million numbers, which would be passed over one by one; structs without end.
        (patched(4, &[0x99, 0xf7, 0xff, 0xff, 0xff, 0xff, 0x07]), "points past its end"),
        (patched(4, &[0x9c; 40]), "nested too deeply"),
        (patched(4, &[0x19, 0x15]), "is not of its kind"),
        (patched(4, &[0x99, 0x21]), "a list of truth values"),
        (b"not parquet".to_vec(), "does not begin with PAR1"),
        (Vec::new(), "does not begin with PAR1"),
    ];
    for (bytes, what) in cases {
        let path = put(folder.path(), "a.parquet", bytes);
        let mut found = arrivals(&path, ReadOptions::default());
        assert_eq!(found.len(), 1, "{what}");
        let error = found.remove(0);
        assert!(matches!(error, Err(Error::File { .. })), "{error:?}");
        assert_error(error, "a.parquet: ", what);
    }
}

/// The crate makes room for as many values as a page says it holds: no page may say more than it has.
#[test]
fn pages_that_count_more_than_they_have_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let many = [0xff, 0xff, 0xff, 0xff, 7];
    let file = |encoding: Option<Encoding>, version, compression| {
        let properties = WriterProperties::builder().set_writer_version(version).set_compression(compression);
        let properties = match encoding {
            Some(encoding) => properties.set_dictionary_enabled(false).set_encoding(encoding),
            None => properties,
        };
        let texts: Vec<_> = (0..9).map(|row| format!("text {row}")).collect();
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        table_with("required binary text (UTF8);", &[vec![Leaf::strings(&texts)]], properties.build())
    };
    let refused = |bytes: Vec<u8>, what: &str| {
        let path = put(folder.path(), "a.parquet", bytes);
        assert_error(arrivals(&path, ReadOptions::default()).remove(0), "a.parquet: ", what);
    };
    // Blocks of 128 in four parts, nine of them; the second are the lengths of what is not shared.
    let deltas = [0x80, 1, 4, 9];
    for (encoding, lists) in [(Encoding::DELTA_LENGTH_BYTE_ARRAY, 1), (Encoding::DELTA_BYTE_ARRAY, 2)] {
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            let good = file(Some(encoding), version, Compression::UNCOMPRESSED);
            let places: Vec<_> = (0..good.len()).filter(|&at| good[at..].starts_with(&deltas)).collect();
            assert_eq!(places.len(), lists, "{encoding} {version:?}");
            for at in places {
                let mut bad = good.clone();
                bad[at + 3..at + 8].copy_from_slice(&many);
                refused(bad, "past its end");
            }
        }
    }
    // The header of the dictionary's page: kind, sizes, then a struct with the number of values.
    let mut bytes = file(None, WriterVersion::PARQUET_1_0, Compression::UNCOMPRESSED);
    let at = (0..bytes.len()).find(|&at| bytes[at..].starts_with(&[0x4c, 0x15, 18])).unwrap();
    bytes.splice(at + 2..at + 3, [0xfe, 0xff, 3]);
    refused(bytes, "more values than it has bytes");
    // And its size when it is decompressed: it is the first page of the file.
    let mut bytes = file(None, WriterVersion::PARQUET_1_0, Compression::SNAPPY);
    assert_eq!(bytes[4..7], [0x15, 4, 0x15]);
    let end = 7 + bytes[7..].iter().position(|&byte| byte < 0x80).unwrap() + 1;
    bytes.splice(7..end, [0xfe, 0xff, 0xff, 0xff, 0x0f]);
    refused(bytes, "too short for what it says");
}

/// A file with every encoding and kind of level.
fn varied(compression: Compression, version: WriterVersion) -> Vec<u8> {
    let schema = "required binary text (UTF8); required boolean flag; required int96 old; required double d; \
                  required fixed_len_byte_array(3) fixed; optional int64 number; \
                  optional group tags (LIST) { repeated group list { optional binary element (UTF8); } }";
    let group = |rows: i16| {
        let count = rows as usize;
        let texts: Vec<_> = (0..rows).map(|row| format!("text {row} é")).collect();
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        let tags =
            (0..rows).filter(|row| row % 3 == 2).map(|row| ["x", "y"][row as usize % 2].into()).collect();
        vec![
            Leaf::strings(&texts),
            Leaf::Bool((0..rows).map(|row| row % 3 == 0).collect()),
            Leaf::Int96(vec![Int96::from(vec![1, 2, 2_440_588]); count]),
            Leaf::Double((0..rows).map(f64::from).collect(), Levels::default()),
            Leaf::Fixed(vec![vec![1, 2, 3]; count]),
            Leaf::Int64(
                (0..rows).filter(|row| row % 2 == 1).map(i64::from).collect(),
                Levels((0..rows).map(|row| row % 2).collect(), Vec::new()),
            ),
            Leaf::Bytes(
                tags,
                Levels((0..rows).map(|row| [0, 1, 3][row as usize % 3]).collect(), vec![0; count]),
            ),
        ]
    };
    let path = |names: &[&str]| ColumnPath::new(names.iter().map(|&name| name.into()).collect());
    let (split, lengths) = (path(&["d"]), path(&["tags", "list", "element"]));
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_writer_version(version)
        .set_column_dictionary_enabled(split.clone(), false)
        .set_column_encoding(split, Encoding::BYTE_STREAM_SPLIT)
        // The second version's encoding is then that of shared beginnings.
        .set_column_dictionary_enabled(path(&["text"]), version == WriterVersion::PARQUET_1_0)
        .set_column_dictionary_enabled(lengths.clone(), false)
        .set_column_encoding(lengths, Encoding::DELTA_LENGTH_BYTE_ARRAY)
        .set_data_page_row_count_limit(7)
        .set_write_batch_size(5)
        .build();
    table_with(schema, &[group(30), group(11)], properties)
}

#[test]
fn damaged_files_are_errors_and_never_panics() {
    use WriterVersion::{PARQUET_1_0, PARQUET_2_0};
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<_> = compressions()
        .into_iter()
        .flat_map(|compression| [varied(compression, PARQUET_1_0), varied(compression, PARQUET_2_0)])
        .collect();
    for file in &files {
        let path = put(folder.path(), "good.parquet", file);
        assert_eq!(documents(&path).len(), 41);
    }
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(
        ProptestConfig::with_cases(3000),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let damage = (0..files.len(), any::<prop::sample::Index>(), any::<u8>(), any::<bool>(), any::<bool>());
    let (sound, refused) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    runner
        .run(&damage, |(file, place, byte, in_footer, cut)| {
            let mut bytes = files[file].clone();
            let (start, end) = footer(&bytes);
            let at = if in_footer { start + place.index(end - start) } else { place.index(start) };
            if cut {
                bytes.remove(at);
            } else {
                bytes[at] = byte;
            }
            let path = put(folder.path(), "bad.parquet", &bytes);
            for arrival in arrivals(&path, ReadOptions::default()) {
                match arrival {
                    // Whatever came through can be shown and written.
                    Ok(Arrival::Document(document)) => {
                        let _ = document.render(&Patch::default(), toedit::data::Format::JsonLines);
                        sound.set(sound.get() + 1);
                    }
                    Ok(Arrival::Refused(_)) => {}
                    Err(error) => {
                        refused.set(refused.get() + 1);
                        prop_assert!(matches!(error, Error::File { .. }), "{}", error);
                        prop_assert!(error.to_string().contains("bad.parquet"), "{}", error);
                    }
                }
            }
            Ok(())
        })
        .unwrap();
    let (sound, refused) = (sound.get(), refused.get());
    assert!(sound > 1000 && refused > 1000, "{sound} documents, {refused} errors");
}
