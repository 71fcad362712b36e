//! Edits of a text, spliced into a record in which any character may be escaped.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use toedit::data::{Document, Format, Member, Patch, TextEdit, splice};

#[derive(Arbitrary, Debug)]
struct Case<'a> {
    text: &'a str,
    /// Which characters are escaped, in turn.
    escaped: Vec<bool>,
    /// Bytes kept before an edit, bytes taken away, and what comes instead.
    edits: Vec<(u8, u8, &'a str)>,
}

fuzz_target!(|case: Case| {
    let line = format!(r#"{{"id":1,"text":"{}"}}"#, spelled(case.text, &case.escaped));
    let document = Document::from_json(line, "text").expect("a valid record");
    assert_eq!(document.text(), Some(case.text));
    let mut end = 0;
    let edits: Vec<_> = case
        .edits
        .iter()
        .map(|&(kept, taken, new)| {
            let start = end + usize::from(kept);
            end = start + usize::from(taken);
            TextEdit { start, end, new: new.to_owned() }
        })
        .collect();
    let patch = Patch { text: Member::Set(&edits), ..Patch::default() };
    match (splice(case.text, &edits), document.render(&patch, Format::JsonLines)) {
        (Ok(expected), Ok(line)) => {
            let line = String::from_utf8(line).expect("JSON is UTF-8");
            let edited = Document::from_json(line, "text").expect("what was written can be read");
            assert_eq!(edited.text(), Some(&*expected));
        }
        (Err(_), Err(_)) => {}
        (text, line) => panic!("the text gave {text:?}, the record {line:?}"),
    }
});

/// The inside of a JSON string.
fn spelled(text: &str, escaped: &[bool]) -> String {
    let mut spelled = String::new();
    for (index, character) in text.chars().enumerate() {
        let must = matches!(character, '"' | '\\') || character < ' ';
        if must || escaped.get(index % escaped.len().max(1)) == Some(&true) {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                spelled += &format!("\\u{unit:04x}");
            }
        } else {
            spelled.push(character);
        }
    }
    spelled
}
