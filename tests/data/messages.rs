//! Conversations: reading messages, and splicing their contents in the raw JSON.

use proptest::prelude::*;
use serde_json::{Value, json};
use toedit::data::messages::{canonical, read};
use toedit::data::{Document, Format, Member, MessageEdits, Patch, TextEdit, stream_key};

/// A character or a few, as JSON may spell them, and as they are.
fn piece() -> impl Strategy<Value = (String, String)> {
    let spellings: &[(&str, &str)] = &[
        ("a", "a"),
        ("\\u0041", "A"),
        ("\\/", "/"),
        ("/", "/"),
        ("\\n", "\n"),
        ("\\u000a", "\n"),
        ("\\\"", "\""),
        ("\\u0022", "\""),
        ("\\\\", "\\"),
        ("é", "é"),
        ("\\u00e9", "é"),
        ("\\u00E9", "é"),
        ("\\ud83d\\ude00", "😀"),
        ("😀", "😀"),
        ("\\u0000", "\0"),
        ("}],", "}],"),
        ("content", "content"),
        ("\\t ", "\t "),
    ];
    prop::sample::select(spellings).prop_map(|(raw, text)| (raw.to_owned(), text.to_owned()))
}

/// What becomes of a piece.
type Change = Option<String>;

#[derive(Clone, Debug)]
struct Turn {
    role: &'static str,
    pieces: Vec<((String, String), Change)>,
    /// Raw members before and after, and whether the role comes last.
    around: (&'static str, &'static str, bool),
}

impl Turn {
    /// The raw JSON before and after the changes.
    fn raw(&self, after: bool) -> String {
        let piece = |((raw, _), change): &((String, String), Change)| match change {
            Some(new) if after => {
                let quoted = serde_json::to_string(new).unwrap();
                quoted[1..quoted.len() - 1].to_owned()
            }
            _ => raw.clone(),
        };
        let content: String = self.pieces.iter().map(piece).collect();
        let (before, behind, role_last) = self.around;
        match role_last {
            true => format!("{{{before}\"content\" :\"{content}\"{behind}, \"role\":\"{}\"}}", self.role),
            false => format!("{{\"role\" : \"{}\",{before} \"content\":\"{content}\"{behind}}}", self.role),
        }
    }

    fn edits(&self) -> Vec<TextEdit> {
        let (mut edits, mut at) = (Vec::new(), 0);
        for ((_, text), change) in &self.pieces {
            if let Some(new) = change {
                edits.push(TextEdit { start: at, end: at + text.len(), new: new.clone() });
            }
            at += text.len();
        }
        edits
    }
}

fn turn() -> impl Strategy<Value = Turn> {
    let around = prop::sample::select(vec![
        ("", "", false),
        ("\"name\": null,", " ,\"n\":1.50", false),
        ("\"t\":{\"content\":\"x\",\"role\":\"assistant\"},", "", true),
        ("", ",\"tool_calls\":[{\"role\":1}]", true),
    ]);
    let change = prop::option::weighted(0.4, "[a-zé\"\\\\\n]{0,3}");
    let role = prop::sample::select(vec!["system", "user", "assistant"]);
    (role, prop::collection::vec((piece(), change), 0..8), around).prop_map(|(role, pieces, around)| Turn {
        role,
        pieces,
        around,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn bytes_outside_the_edits_stay(turns in prop::collection::vec(turn(), 0..6), tail in ",\"n\": 1e2 |") {
        let line = |after| {
            let turns: Vec<_> = turns.iter().map(|turn| turn.raw(after)).collect();
            format!("{{ \"id\":7, \"messages\" : [ {} ] {tail}}}", turns.join(" ,"))
        };
        let edits = turns.iter().enumerate().map(|(message, turn)| MessageEdits { message, edits: turn.edits() });
        let edits: Vec<_> = edits.filter(|edits| !edits.edits.is_empty()).collect();
        let document = Document::from_json(line(false), "text").unwrap();
        let patch = Patch { messages: &edits, ..Patch::default() };
        let expected = line(true);
        prop_assert_eq!(String::from_utf8(document.render(&patch, Format::JsonLines).unwrap()).unwrap(), &expected[..]);

        // The document that the line would be read as.
        let edited = document.edited(&patch).unwrap();
        let reread = Document::from_json(expected, "text").unwrap();
        prop_assert_eq!(edited.content(), reread.content());
        prop_assert_eq!(stream_key(&edited), stream_key(&reread));
    }

    #[test]
    fn any_edits_give_a_result_or_an_error(
        edits in prop::collection::vec((0..4usize, prop::collection::vec((0..6usize, 0..6usize), 0..3)), 0..4),
    ) {
        let line = r#"{"messages":[{"role":"user","content":"aé"},{"role":"assistant","content":null},{"role":"assistant","content":"\u00e9b"}]}"#;
        let document = Document::from_json(line, "text").unwrap();
        let edit = |(start, end): (usize, usize)| TextEdit { start, end, new: "x".into() };
        let edits: Vec<_> = edits.into_iter()
            .map(|(message, edits)| MessageEdits { message, edits: edits.into_iter().map(edit).collect() })
            .collect();
        let rendered = document.render(&Patch { messages: &edits, ..Patch::default() }, Format::JsonLines);
        if let Ok(rendered) = rendered {
            let value: Value = serde_json::from_slice(&rendered).unwrap();
            prop_assert_eq!(value["messages"].as_array().unwrap().len(), 3);
        }
    }

    #[test]
    fn the_stream_does_not_depend_on_the_spelling(turns in prop::collection::vec(turn(), 0..5)) {
        let raw: Vec<_> = turns.iter().map(|turn| turn.raw(false)).collect();
        let text = |turn: &Turn| turn.pieces.iter().map(|((_, text), _)| text.clone()).collect::<String>();
        let plain: Vec<_> = turns.iter().map(|t| json!({"role": t.role, "content": text(t)})).collect();
        prop_assert_eq!(canonical(&format!("[{}]", raw.join(","))), canonical(&json!(plain).to_string()));
    }
}

#[test]
fn what_is_no_string_is_no_content() {
    let raw = r#"[{"role":"a"},{"role":"b","content":null},{"role":"c","content":[{"text":"x"}]},{"content":"d","role":"d"}]"#;
    let contents: Vec<_> = read(raw).unwrap().into_iter().map(|message| message.content).collect();
    assert_eq!(contents, [None, None, None, Some("d".to_owned())]);
}

#[test]
fn malformed_messages_are_told() {
    for (raw, part) in [
        ("{}", "invalid type: map"),
        ("[1]", "objects with a string `role`"),
        ("[{}]", "objects with a string `role`"),
        (r#"[{"role":1}]"#, "objects with a string `role`"),
        (r#"[{"role":"a","content":"\ud800"}]"#, "surrogate"),
        (r#"[{"role":"a","role":"b"}]"#, "field `role` occurs twice"),
        (r#"[{"role":"a","content":"x","c\u006fntent":"y"}]"#, "field `content` occurs twice"),
    ] {
        let message = read(raw).unwrap_err();
        assert!(message.starts_with("messages: ") && message.contains(part), "{raw}: {message}");
        assert_eq!(canonical(raw), raw);
    }
}

#[test]
fn edits_need_messages_and_an_order() {
    let edits = |message| MessageEdits { message, edits: Vec::new() };
    let refused = |line: &str, edits: &[MessageEdits]| {
        let document = Document::from_json(line, "text").unwrap();
        let patch = Patch { messages: edits, ..Patch::default() };
        document.render(&patch, Format::JsonLines).unwrap_err().to_string()
    };
    let line = r#"{"messages":[{"role":"a","content":"x"},{"role":"b","content":"y"}]}"#;
    assert!(refused(r#"{"text":"a"}"#, &[edits(0)]).contains("no messages to edit"));
    assert!(refused(line, &[edits(1), edits(0)]).contains("must ascend"));
    assert!(refused(line, &[edits(0), edits(0)]).contains("must ascend"));
    assert!(refused(line, &[edits(2)]).contains("message 2 has no content"));
}

#[test]
fn texts_and_ids_are_read_as_they_would_be_written() {
    let edits = [TextEdit { start: 1, end: 2, new: "ü".into() }];
    let patch = Patch { text: Member::Set(&edits), ids: Member::Set(&[7]), ..Patch::default() };
    let document = Document::from_json(r#"{"id":1,"body":"a\u0062c","toedit":{}}"#, "body").unwrap();
    let edited = document.edited(&patch).unwrap();
    assert_eq!((edited.text(), edited.id(), edited.raw_ids()), (Some("aüc"), Some("1"), Some("[7]")));
    assert_eq!(edited.metadata(), Some("{}"));
    let text = Document::from_text("abc").edited(&Patch { ids: Member::Keep, ..patch }).unwrap();
    assert_eq!(text.text(), Some("aüc"));
    let ids = Document::from_json(r#"{"input_ids":[1,2]}"#, "text").unwrap();
    assert_eq!(
        ids.edited(&Patch { ids: Member::Set(&[9]), ..Patch::default() }).unwrap().ids(),
        Some(&[9][..])
    );
}
