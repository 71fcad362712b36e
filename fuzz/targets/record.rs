//! A line of a corpus: what is not changed comes out byte for byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use toedit::data::{Document, Format, Member, Patch};

fuzz_target!(|line: &str| {
    let Ok(document) = Document::from_json(line, "text") else { return };
    let same = document.render(&Patch::default(), Format::JsonLines).expect("nothing to change");
    assert_eq!(same, line.as_bytes());
    let metadata = Patch { metadata: Member::Set(r#"{"changed":0}"#), ..Patch::default() };
    let marked = document.render(&metadata, Format::JsonLines).expect("an object takes another member");
    let marked = String::from_utf8(marked).expect("JSON is UTF-8");
    let again = Document::from_json(marked, "text").expect("what was written can be read");
    assert_eq!(again.content(), document.content());
});
