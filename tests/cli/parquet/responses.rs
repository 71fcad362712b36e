//! Prompts with responses and conversations in columns: what is made of them is what is made of lines.

use std::sync::Arc;

use ::parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};

use super::lines_of;
use crate::Place;
use crate::edit::MANY;
use crate::sft::{FIELDS, conversations, place};

/// Settings that change and drop tokens.
const RULES: &str = "--resample-above 0.3 --drop-below 0.003 --temperature 2 --provenance";

/// A column of a row group: values, definition levels and repetition levels, where it has them.
enum Column {
    Numbers(Vec<i64>),
    Strings(Vec<ByteArray>, Vec<i16>, Vec<i16>),
}

/// A file of one row group.
fn table(schema: &str, columns: &[Column]) -> Vec<u8> {
    let schema = parse_message_type(&format!("message root {{ {schema} }}")).unwrap();
    let mut file = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Default::default()).unwrap();
    let mut group = file.next_row_group().unwrap();
    for column in columns {
        let mut writer = group.next_column().unwrap().unwrap();
        match column {
            Column::Numbers(values) => writer.typed::<Int64Type>().write_batch(values, None, None).unwrap(),
            Column::Strings(values, definition, repetition) => {
                let repetition = (!repetition.is_empty()).then_some(&repetition[..]);
                let writer = writer.typed::<ByteArrayType>();
                writer.write_batch(values, Some(&definition[..]), repetition).unwrap()
            }
        };
        writer.close().unwrap();
    }
    group.close().unwrap();
    file.into_inner().unwrap()
}

/// The strings under `name` of some objects, some of which may lack it.
fn strings(objects: &[Value], name: &str) -> Column {
    let strings: Vec<_> = objects.iter().map(|object| object[name].as_str()).collect();
    let values = strings.iter().flatten().map(|&string| string.into()).collect();
    Column::Strings(values, strings.iter().map(|string| i16::from(string.is_some())).collect(), Vec::new())
}

/// The strings under `name` of the messages of some objects.
fn in_messages(objects: &[Value], name: &str, present: i16) -> Column {
    let (mut values, mut definition, mut repetition) = (Vec::new(), Vec::new(), Vec::new());
    for object in objects {
        let messages = object["messages"].as_array().unwrap();
        if messages.is_empty() {
            definition.push(1);
            repetition.push(0);
        }
        for (number, message) in messages.iter().enumerate() {
            let string = message[name].as_str();
            values.extend(string.map(ByteArray::from));
            definition.push(if string.is_some() { present } else { 3 });
            repetition.push(i16::from(number > 0));
        }
    }
    Column::Strings(values, definition, repetition)
}

/// The records of `in.jsonl` as the columns `id`, `q` and `a` of `in.parquet`.
fn put_responses(place: &Place) {
    let records = place.records("in.jsonl");
    let ids = records.iter().map(|record| record["id"].as_i64().unwrap()).collect();
    let columns = [Column::Numbers(ids), strings(&records, "q"), strings(&records, "a")];
    let schema = "required int64 id; optional binary q (UTF8); optional binary a (UTF8);";
    place.put("in.parquet", table(schema, &columns));
}

/// Conversations as lines in `in.jsonl`, and in the column `messages` of `in.parquet`.
fn put_conversations(place: &Place) {
    let mut records = crate::records(&conversations(place));
    records.push(json!({"messages": []}));
    for record in &mut records {
        let messages: Vec<_> = record["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| json!({"name": null, "content": message["content"], "role": message["role"]}))
            .collect();
        *record = json!({"messages": messages});
    }
    place.put("in.jsonl", crate::sft::lines(&records));
    let schema = "optional group messages (LIST) { repeated group list { optional group element { \
        optional binary name (UTF8); optional binary content (UTF8); required binary role (UTF8); } } }";
    let columns = [("name", 4), ("content", 4), ("role", 3)];
    let columns = columns.map(|(name, present)| in_messages(&records, name, present));
    place.put("in.parquet", table(schema, &columns));
}

/// Edits `in.parquet` and `in.jsonl`; rows and lines must come out the same, and go back to what they were.
#[track_caller]
fn same_as_lines(place: &Place, words: &str, field: &str) {
    let edit = |input: &str, output: &str| {
        place.run(&format!("edit --input {input} --output {output} --overwrite {RULES} {words}")).done();
        place.run(&format!("verify {output}")).done();
    };
    edit("in.jsonl", "lines.jsonl");
    edit("in.parquet", "rows.jsonl");
    edit("in.parquet", "rows.parquet");
    let field = format!("--text-field {field}");
    let lines = place.records("lines.jsonl");
    assert!(lines[0]["toedit"]["changed"].as_u64() > Some(0), "{words}");
    assert_eq!(place.records("rows.jsonl"), lines, "{words}");
    let revert = |output: &str, back: &str| {
        place.run(&format!("revert {output} --output {back} --overwrite {field}")).done();
    };
    let plain = |mut records: Vec<Value>| {
        records.iter_mut().for_each(|record| drop(record.as_object_mut().unwrap().remove("toedit")));
        records
    };
    assert_eq!(plain(lines_of(place, "rows.parquet", &field)), plain(lines), "{words}");
    revert("rows.jsonl", "back.jsonl");
    assert_eq!(place.records("back.jsonl"), place.records("in.jsonl"), "{words}");
    revert("rows.parquet", "back.parquet");
    assert_eq!(lines_of(place, "back.parquet", &field), place.records("in.jsonl"), "{words}");
}

#[test]
fn responses_are_edited_behind_their_prompts() {
    let place = place();
    let records: Vec<_> = place.records("in.jsonl");
    let plain = records.iter().map(|record| json!({"id": record["id"], "q": record["q"], "a": record["a"]}));
    place.put("in.jsonl", crate::sft::lines(&plain.collect::<Vec<_>>()));
    put_responses(&place);
    for words in ["", "--no-prompt-context", "--generations 3"] {
        same_as_lines(&place, &format!("--model tiny {FIELDS} {words}"), "a");
    }
    let score = |input: &str| place.score(&format!("--input {input} --output - {FIELDS}")).done().stdout;
    assert_eq!(score("in.parquet"), score("in.jsonl"));
}

#[test]
fn conversations_are_edited_in_their_column() {
    let place = place();
    put_conversations(&place);
    for words in ["", "--no-prompt-context", "--generations 3"] {
        same_as_lines(&place, &format!("--model copy {words}"), "text");
    }
}

#[test]
fn a_row_without_a_prompt_is_set_aside() {
    let place = place();
    let text = place.records("in.jsonl")[0]["a"].clone();
    place.put(
        "in.jsonl",
        crate::sft::lines(&[json!({"id": 1, "q": null, "a": text}), json!({"id": 2, "q": text, "a": null})]),
    );
    put_responses(&place);
    let words = format!("--input in.parquet {FIELDS} {MANY}");
    place.edit(&format!("{words} --output out.parquet")).fails(&["in.parquet:1: ", "`q` not found"]);
    place.edit(&format!("{words} --output out.parquet --on-error skip")).exits_with(3);
    let rejects = place.records("out.parquet.rejects");
    assert!(rejects[1]["reason"].as_str().unwrap().contains("column `a` is null"), "{rejects:?}");
    let raw: Value = serde_json::from_str(rejects[0]["raw"].as_str().unwrap()).unwrap();
    assert_eq!(raw, json!({"id": 1, "q": null, "a": text}));
}

#[test]
fn scores_are_kept_for_rows_too() {
    let place = place();
    put_conversations(&place);
    place.run("score --model copy --input in.parquet --output s.jsonl --top-k 8 --cache kept").done();
    let words = "--input in.parquet --provenance --resample-above 0.3";
    place.run(&format!("edit --model copy {words} --output direct.parquet")).done();
    place.run(&format!("edit --model copy --from-cache kept {words} --output cached.parquet")).done();
    assert!(place.bytes("direct.parquet") == place.bytes("cached.parquet"));
}

#[test]
fn messages_of_another_type_are_refused() {
    let place = place();
    let raw = [json!({"messages": "[{\"role\":\"user\",\"content\":\"Hi\"}]", "text": "Hi"})];
    place.put("in.parquet", table("optional binary messages (UTF8);", &[strings(&raw, "messages")]));
    place
        .edit("--input in.parquet --output out.parquet")
        .fails(&["column `messages` is BYTE_ARRAY", "expected a list of groups that hold the strings"]);
    // Beside a text they are carried along.
    let columns = [strings(&raw, "messages"), strings(&raw, "text")];
    place.put("in.parquet", table("optional binary messages (UTF8); optional binary text (UTF8);", &columns));
    assert_eq!(lines_of(&place, "in.parquet", ""), raw);
}
