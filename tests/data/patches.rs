//! Only the bytes of what was changed differ.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;
use toedit::data::{Document, Format, Member, Patch, TextEdit, splice};

use crate::assert_error;

fn edit(start: usize, end: usize, new: &str) -> TextEdit {
    TextEdit { start, end, new: new.into() }
}

#[track_caller]
fn assert_patched(line: &str, patch: &Patch, expected: &str) {
    let document = Document::from_json(line, "text").unwrap();
    let patched = document.render(patch, Format::JsonLines).unwrap();
    assert_eq!(String::from_utf8(patched).unwrap(), expected);
}

#[test]
fn edited_spans_alone_change() {
    let table: &[(&str, &[TextEdit], &str)] = &[
        (r"abc", &[], r"abc"),
        (r"abc", &[edit(1, 2, "XY")], r"aXYc"),
        (r"abc", &[edit(0, 1, ""), edit(1, 3, "")], r""),
        (r"abc", &[edit(3, 3, "!")], r"abc!"),
        (r"\u0061\/\n\u000a", &[edit(1, 2, "-")], r"\u0061-\n\u000a"),
        (r"\ud83d\ude00x\u00e9é", &[edit(4, 5, "\"\\\n\0é")], "\\ud83d\\ude00\\\"\\\\\\n\\u0000é\\u00e9é"),
        (r"a\u00e9b", &[edit(1, 3, "")], r"ab"),
        (r"😀😀", &[edit(4, 8, "\u{7f}/")], "😀\u{7f}/"),
    ];
    for (raw, edits, expected) in table {
        let around = |body: &str| format!(r#"{{"a":"\u0041", "text" : "{body}" ,"z":1e1 }}"#);
        let patch = Patch { text: Member::Set(edits), ..Patch::default() };
        assert_patched(&around(raw), &patch, &around(expected));
    }
}

#[test]
fn misplaced_edits_are_refused() {
    let table: &[&[TextEdit]] = &[
        &[edit(1, 2, "")],
        &[edit(0, 1, "")],
        &[edit(0, 3, "")],
        &[edit(9, 10, "")],
        &[edit(4, 2, "")],
        &[edit(2, 6, ""), edit(0, 2, "")],
        &[edit(0, 6, ""), edit(2, 7, "")],
        &[edit(usize::MAX, usize::MAX, "")],
    ];
    for raw in ["é😀ab", r"\u00e9\ud83d\ude00ab"] {
        let document = Document::from_json(format!(r#"{{"text":"{raw}"}}"#), "text").unwrap();
        for edits in table {
            let patch = Patch { text: Member::Set(edits), ..Patch::default() };
            assert_error(document.render(&patch, Format::JsonLines), "-:1: ", "does not fit the text");
            assert_error(document.render(&patch, Format::Text), "-:1: ", "does not fit the text");
        }
    }
    let ids = Document::from_json(r#"{"input_ids":[]}"#, "text").unwrap();
    let patch = Patch { text: Member::Set(&[]), ..Patch::default() };
    assert_error(ids.render(&patch, Format::JsonLines), "-:1: ", "no text to edit");
}

#[test]
fn metadata_is_the_last_member() {
    let set = Patch { metadata: Member::Set("{}"), ..Patch::default() };
    assert_patched(r#"{"text":"a"}"#, &set, r#"{"text":"a","toedit":{}}"#);
    assert_patched("{ \"text\" : \"a\" }\r", &set, "{ \"text\" : \"a\",\"toedit\":{} }\r");
    assert_patched(r#"{"toedit":{"a":1}, "text":"a"}"#, &set, r#"{"text":"a","toedit":{}}"#);
    assert_patched(r#"{"text":"a" , "toedit" : [1] , "b":2}"#, &set, r#"{"text":"a" , "b":2,"toedit":{}}"#);
    assert_patched(r#"{"text":"a","toedit":1}"#, &set, r#"{"text":"a","toedit":{}}"#);
    let remove = Patch { metadata: Member::Remove, ..Patch::default() };
    assert_patched(r#"{"text":"a"}"#, &remove, r#"{"text":"a"}"#);
    assert_patched(r#"{"text":"a","to\u0065dit":1}"#, &remove, r#"{"text":"a"}"#);
    assert_patched(r#"{"toedit":1, "text":"a"}"#, &remove, r#"{"text":"a"}"#);
    assert_patched(r#"{"text":"a","b":1, "toedit":1 }"#, &remove, r#"{"text":"a","b":1 }"#);
}

#[test]
fn ids_are_replaced_or_added() {
    let ids = Patch { ids: Member::Set(&[7, 8]), ..Patch::default() };
    assert_patched(r#"{"input_ids": [ 1 ] , "b":1}"#, &ids, r#"{"input_ids": [7,8] , "b":1}"#);
    assert_patched(r#"{"text":"a"}"#, &ids, r#"{"text":"a","input_ids":[7,8]}"#);
    let only = Patch { text: Member::Remove, metadata: Member::Set("1"), ..ids };
    assert_patched(r#"{"text":"a"}"#, &only, r#"{"input_ids":[7,8],"toedit":1}"#);
    assert_patched(r#"{ "text":"a" }"#, &only, r#"{ "input_ids":[7,8],"toedit":1 }"#);
    assert_patched(r#"{"text":"a", "toedit":0, "b":1}"#, &only, r#"{"b":1,"input_ids":[7,8],"toedit":1}"#);
    assert_patched(r#"{"toedit":0,"text":"a"}"#, &only, r#"{"input_ids":[7,8],"toedit":1}"#);
    assert_patched(r#"{"b":1,"toedit":0,"text":"a"}"#, &only, r#"{"b":1,"input_ids":[7,8],"toedit":1}"#);
    assert_patched(r#"{"text":"a","input_ids":[]}"#, &only, r#"{"input_ids":[7,8],"toedit":1}"#);
    let patch = Patch { ids: Member::Remove, text: Member::Remove, ..Patch::default() };
    let none = Patch { metadata: Member::Remove, ..patch };
    assert_patched(r#"{"text":"a","toedit":0,"input_ids":[]}"#, &none, "{}");
}

#[test]
fn text_files_as_records_and_records_as_text_files() {
    let document = Document::from_text("a\"\n");
    let edits = [edit(0, 1, "b")];
    let patch = Patch { text: Member::Set(&edits), metadata: Member::Set("{}"), ..Patch::default() };
    assert_eq!(document.render(&patch, Format::JsonLines).unwrap(), br#"{"text":"b\"\n","toedit":{}}"#);
    assert_eq!(document.render(&patch, Format::Text).unwrap(), b"b\"\n");
    let record = Document::from_json(r#"{"text":"a\u00e9","b":1}"#, "text").unwrap();
    assert_eq!(record.render(&patch, Format::Text).unwrap(), "bé".as_bytes());
    let ids = Document::from_json(r#"{"input_ids":[1]}"#, "text").unwrap();
    assert_error(ids.render(&Patch::default(), Format::Text), "-:1: ", "text only");
}

/// A character and one of the ways to spell it in JSON.
fn spelled() -> impl Strategy<Value = (char, String)> {
    let character =
        prop_oneof![any::<char>(), proptest::char::range(' ', '~'), Just('\\'), Just('"'), Just('\n')];
    (character, 0..4u8, any::<bool>()).prop_map(|(character, spelling, upper)| {
        let mut units = [0; 2];
        let escape = |unit: &u16| if upper { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") };
        let long: String = character.encode_utf16(&mut units).iter().map(escape).collect();
        let short = "\"\\/\u{8}\u{c}\n\r\t".find(character).map(|at| format!("\\{}", &"\"\\/bfnrt"[at..=at]));
        let plain = !matches!(character, '"' | '\\' | '\0'..='\u{1f}');
        let raw = match spelling {
            0 => long,
            1 => short.unwrap_or(long),
            _ if plain => character.to_string(),
            _ => short.unwrap_or(long),
        };
        (character, raw)
    })
}

/// What stands around the text in a record: raw members before and after it.
fn members() -> impl Strategy<Value = Vec<String>> {
    let value = prop_oneof![
        Just("1.0e2".to_owned()),
        Just("123456789012345678901234567890".to_owned()),
        Just(r#"{"text":[{"toedit":null}, "\ud800"]}"#.to_owned()),
        vec(spelled(), 0..4)
            .prop_map(|chars| format!("\"{}\"", chars.into_iter().map(|c| c.1).collect::<String>())),
    ];
    let space = prop_oneof![Just(""), Just(" "), Just("\t ")];
    vec((value, space), 0..4).prop_map(|values| {
        let member = |(number, (value, space)): (usize, (String, &str))| {
            format!("{space}\"k{number}\"{space}:{space}{value}{space}")
        };
        values.into_iter().enumerate().map(member).collect()
    })
}

/// A record's line before and after the body of its text, the spelled text, and which characters get
/// replaced.
#[derive(Debug, Clone)]
struct Case {
    head: String,
    tail: String,
    text: Vec<(char, String)>,
    edits: Vec<Option<String>>,
}

fn case() -> impl Strategy<Value = Case> {
    let text = vec(spelled(), 0..30);
    let edits = vec(proptest::option::weighted(0.3, vec(any::<char>(), 0..3)), 30);
    (members(), members(), text, edits).prop_map(|(before, after, text, edits)| {
        let head: String = before.iter().map(|member| format!("{member},")).collect();
        let tail: String = after.iter().map(|member| format!(",{member}")).collect();
        let edits = edits.into_iter().map(|new| new.map(String::from_iter)).collect();
        Case { head: format!("{{{head}\"text\":\""), tail: format!("\"{tail}}}"), text, edits }
    })
}

impl Case {
    /// The input line, the edits, and the raw pieces that must stand in the output in this order.
    fn build(&self) -> (String, Vec<TextEdit>, Vec<String>) {
        let mut kept = vec![self.head.clone()];
        let (mut edits, mut offset) = (Vec::new(), 0);
        for ((character, raw), new) in self.text.iter().zip(&self.edits) {
            let end = offset + character.len_utf8();
            match new {
                Some(new) => {
                    edits.push(edit(offset, end, new));
                    kept.push(String::new());
                }
                None => kept.last_mut().unwrap().push_str(raw),
            }
            offset = end;
        }
        kept.last_mut().unwrap().push_str(&self.tail);
        let body: String = self.text.iter().map(|(_, raw)| raw.as_str()).collect();
        (format!("{}{body}{}", self.head, self.tail), edits, kept)
    }
}

/// The value that a member of that name has.
fn value(name: &str) -> String {
    match name {
        "text" => r#""t""#.to_owned(),
        "input_ids" => "[1]".to_owned(),
        name => format!("\"{name}\""),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn raw_bytes_outside_edits_are_identical(case in case()) {
        let (line, edits, kept) = case.build();
        let document = Document::from_json(line, "text").unwrap();
        let text: String = case.text.iter().map(|(character, _)| character).collect();
        prop_assert_eq!(document.text(), Some(text.as_str()));
        let patch = Patch { text: Member::Set(&edits), ..Patch::default() };
        let patched = String::from_utf8(document.render(&patch, Format::JsonLines).unwrap()).unwrap();

        let again = Document::from_json(patched.clone(), "text").unwrap();
        let spliced = splice(&text, &edits).unwrap();
        prop_assert_eq!(again.text(), Some(spliced.as_str()));
        let mut expected = kept[0].clone();
        for (edit, kept) in edits.iter().zip(&kept[1..]) {
            let quoted = serde_json::to_string(&edit.new).unwrap();
            expected.push_str(&quoted[1..quoted.len() - 1]);
            expected.push_str(kept);
        }
        prop_assert_eq!(patched, expected);
    }

    #[test]
    fn members_come_and_go_and_the_rest_stays(
        order in Just(vec!["text", "input_ids", "toedit", "a", "b"]).prop_shuffle(),
        count in 1..=5usize,
        ids in 0..3u8,
        remove_text in any::<bool>(),
        metadata in 0..3u8,
        set in 0..3u8,
    ) {
        let set = [&[][..], &[("a", "9")], &[("z", "8"), ("b", "7")]][set as usize];
        let mut present = order[..count].to_vec();
        if !present.contains(&"text") {
            present.push("text");
        }
        let members: Vec<_> = present.iter().map(|name| format!("\"{name}\": {}", value(name))).collect();
        let document = Document::from_json(format!("{{{}}}", members.join(", ")), "text").unwrap();
        let patch = Patch {
            text: if remove_text { Member::Remove } else { Member::Keep },
            ids: [Member::Keep, Member::Set(&[2u32][..]), Member::Remove][ids as usize],
            metadata: [Member::Keep, Member::Set("3"), Member::Remove][metadata as usize],
            members: set,
            messages: &[],
        };
        let patched = document.render(&patch, Format::JsonLines).unwrap();

        let mut expected = Vec::new();
        for name in &present {
            match *name {
                "text" if remove_text => {}
                "toedit" if metadata > 0 => {}
                "input_ids" if ids > 0 => expected.extend((ids == 1).then(|| r#""input_ids":[2]"#.to_owned())),
                name => {
                    let new = set.iter().find(|(member, _)| *member == name);
                    expected.push(format!("\"{name}\":{}", new.map_or(value(name), |(_, new)| (*new).to_owned())));
                }
            }
        }
        if ids == 1 && !present.contains(&"input_ids") {
            expected.push(r#""input_ids":[2]"#.to_owned());
        }
        let added = set.iter().filter(|(name, _)| !present.contains(name));
        expected.extend(added.map(|(name, new)| format!("\"{name}\":{new}")));
        expected.extend((metadata == 1).then(|| r#""toedit":3"#.to_owned()));
        let compact: String = String::from_utf8(patched).unwrap().chars().filter(|c| *c != ' ').collect();
        prop_assert_eq!(&compact, &format!("{{{}}}", expected.join(",")));
        prop_assert!(serde_json::from_str::<Value>(&compact).is_ok());
    }
}
