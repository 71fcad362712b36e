//! Columns beside the text, of every shape: they come out with the values that they had.

use proptest::prelude::*;
use toedit::data::{Format, Member, TextEdit};

use super::*;
use crate::put;

const SCHEMA: &str = "required binary text (UTF8); optional int64 number; \
    optional group tags (LIST) { repeated group list { optional binary element (UTF8); } } \
    optional group person { required binary name (UTF8); optional double weight; } \
    repeated int32 old; \
    optional group map (MAP) { repeated group key_value { required binary key (UTF8); optional int32 value; } }";

/// A row of that schema.
#[derive(Clone, Debug)]
struct Row {
    text: String,
    number: Option<i64>,
    tags: Option<Vec<Option<String>>>,
    person: Option<(String, Option<f64>)>,
    old: Vec<i32>,
    map: Option<Vec<(String, Option<i32>)>>,
}

impl Row {
    /// The row as JSON, as the crate is to show it.
    fn json(&self) -> String {
        let quoted = |text: &String| serde_json::to_string(text).unwrap();
        let or_null = |json: Option<String>| json.unwrap_or("null".into());
        let list = |items: Vec<String>| format!("[{}]", items.join(","));
        let tags = self.tags.as_ref();
        let tags = tags.map(|tags| list(tags.iter().map(|tag| or_null(tag.as_ref().map(quoted))).collect()));
        let weight = |weight: f64| serde_json::to_string(&weight).unwrap();
        let person = self.person.as_ref().map(|(name, kilos)| {
            format!("{{\"name\":{},\"weight\":{}}}", quoted(name), or_null(kilos.map(weight)))
        });
        let pair = |(key, value): &(String, Option<i32>)| {
            format!("{{\"key\":{},\"value\":{}}}", quoted(key), or_null(value.map(|value| value.to_string())))
        };
        let map = self.map.as_ref().map(|map| list(map.iter().map(pair).collect()));
        format!(
            "{{\"text\":{},\"number\":{},\"tags\":{},\"person\":{},\"old\":{},\"map\":{}}}",
            quoted(&self.text),
            or_null(self.number.map(|number| number.to_string())),
            or_null(tags),
            or_null(person),
            list(self.old.iter().map(i32::to_string).collect()),
            or_null(map),
        )
    }
}

/// Levels and values of a list for each row: none, or elements that may be null where `optional` is set.
fn shred<T: Clone>(rows: &[Option<Vec<Option<T>>>], present: i16, optional: bool) -> (Vec<T>, Levels) {
    let (mut values, mut levels) = (Vec::new(), Levels::default());
    for row in rows {
        match row {
            None => levels.0.push(present - 2),
            Some(list) if list.is_empty() => levels.0.push(present - 1),
            Some(list) => {
                levels.0.extend(list.iter().map(|item| present + i16::from(optional && item.is_some())));
                levels.1.extend((0..list.len()).map(|place| i16::from(place > 0)));
                values.extend(list.iter().flatten().cloned());
                continue;
            }
        }
        levels.1.push(0);
    }
    (values, levels)
}

fn bytes(values: Vec<String>) -> Vec<ByteArray> {
    values.into_iter().map(|value| value.as_bytes().into()).collect()
}

/// A row group of these rows.
fn leaves(rows: &[Row]) -> Vec<Leaf> {
    let texts: Vec<_> = rows.iter().map(|row| row.text.as_str()).collect();
    let level = |level: Vec<i16>| Levels(level, Vec::new());
    let numbers = rows.iter().filter_map(|row| row.number).collect();
    let (tags, tag_levels) = shred(&rows.iter().map(|row| row.tags.clone()).collect::<Vec<_>>(), 2, true);
    let people: Vec<_> = rows.iter().map(|row| row.person.clone()).collect();
    let weights: Vec<_> = people.iter().map(|person| person.as_ref().map(|(_, weight)| *weight)).collect();
    let weight_level = |weight: &Option<Option<f64>>| match weight {
        None => 0,
        Some(None) => 1,
        Some(Some(_)) => 2,
    };
    let olds: Vec<_> = rows.iter().map(|row| Some(row.old.iter().copied().map(Some).collect())).collect();
    let (old, old_levels) = shred(&olds, 1, false);
    let column = |part: fn(&(String, Option<i32>)) -> Option<String>| -> Vec<_> {
        rows.iter().map(|row| row.map.as_ref().map(|map| map.iter().map(part).collect())).collect()
    };
    let (keys, key_levels) = shred(&column(|(key, _)| Some(key.clone())), 2, false);
    let (values, value_levels) = shred(&column(|(_, value)| value.map(|value| value.to_string())), 2, true);
    vec![
        Leaf::strings(&texts),
        Leaf::Int64(numbers, level(rows.iter().map(|row| i16::from(row.number.is_some())).collect())),
        Leaf::Bytes(bytes(tags), tag_levels),
        Leaf::Bytes(
            bytes(people.iter().flatten().map(|(name, _)| name.clone()).collect()),
            level(people.iter().map(|person| i16::from(person.is_some())).collect()),
        ),
        Leaf::Double(
            weights.iter().copied().flatten().flatten().collect(),
            level(weights.iter().map(weight_level).collect()),
        ),
        Leaf::Int32(old, old_levels),
        Leaf::Bytes(bytes(keys), key_levels),
        Leaf::Int32(values.iter().map(|value| value.parse().unwrap()).collect(), value_levels),
    ]
}

fn row() -> impl Strategy<Value = Row> {
    let word = || "[a-zé\"\\\\\n]{0,6}";
    let list = |item: BoxedStrategy<Option<String>>| prop::option::of(prop::collection::vec(item, 0..4));
    (
        word(),
        prop::option::of(any::<i64>()),
        list(prop::option::of(word()).boxed()),
        prop::option::of((word(), prop::option::of(-1e6..1e6f64))),
        prop::collection::vec(any::<i32>(), 0..3),
        prop::option::of(prop::collection::vec((word(), prop::option::of(any::<i32>())), 0..3)),
    )
        .prop_map(|(text, number, tags, person, old, map)| Row { text, number, tags, person, old, map })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_is_not_edited_comes_out_as_it_was(
        groups in prop::collection::vec(prop::collection::vec(row(), 0..12), 0..4),
        frame_bytes in 1..2000usize,
        page_rows in 1..20usize,
        codec in 0..compressions().len(),
        skipped in any::<u16>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let properties = WriterProperties::builder()
            .set_data_page_row_count_limit(page_rows)
            .set_write_batch_size(3)
            .set_compression(compressions()[codec])
            .set_key_value_metadata(key_values())
            .build();
        let tables: Vec<_> = groups.iter().map(|rows| leaves(rows)).collect();
        let input = put(folder.path(), "in.parquet", table_with(SCHEMA, &tables, properties));
        let expected: Vec<_> = groups.concat();
        let json = |document: &Document| {
            String::from_utf8(document.render(&Patch::default(), Format::JsonLines).unwrap()).unwrap()
        };
        let read: Vec<_> = documents(&input).iter().map(json).collect();
        prop_assert_eq!(&read, &expected.iter().map(Row::json).collect::<Vec<_>>());

        // Some documents are set aside, and all others edited.
        let columns = OutputColumns { metadata: Member::Set(()), ..OutputColumns::default() };
        let config = WriteConfig { frame_bytes, ..config(Begin::New, columns) };
        let output = folder.path().join("out.parquet");
        let (inputs, mut writer) = writer(&input, &output, config).unwrap();
        let edits = [TextEdit { start: 0, end: 0, new: "new ".into() }];
        let patch = Patch { text: Member::Set(&edits), metadata: Member::Set("{}"), ..Patch::default() };
        let mut kept = Vec::new();
        for (document, row) in inputs.documents(ReadOptions::default()).unwrap().zip(&expected) {
            let document = document.unwrap();
            if skipped >> (document.index() % 16) & 1 == 1 {
                let error = document.error("left out");
                writer.set_aside(&document.refuse(&error), &1).unwrap();
                continue;
            }
            writer.write(&document, &patch, &1).unwrap();
            let json = Row { text: format!("new {}", row.text), ..row.clone() }.json();
            kept.push(format!("{},\"toedit\":{{}}}}", json.strip_suffix('}').unwrap()));
        }
        writer.finish().unwrap();
        prop_assert_eq!(documents(&output).iter().map(json).collect::<Vec<_>>(), kept);
    }
}
