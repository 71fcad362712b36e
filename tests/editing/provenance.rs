use proptest::prelude::*;
use toedit::edit::provenance::{Piece, Pieces, Span, revert_ids, revert_text};
use toedit::edit::splice::{Replacement, splice};
use toedit::edit::{Counts, Metadata, TokenEdit};

fn piece(bytes: &[u8]) -> Piece {
    Piece(bytes.to_vec())
}

/// The token at `position` of a text whose tokens are its bytes.
fn byte_edit(position: usize, old: u8, new: Option<u8>) -> TokenEdit {
    let pieces = Pieces { old: piece(&[old]), new: piece(new.as_slice()) };
    TokenEdit {
        position,
        message: None,
        span: None,
        old_id: old.into(),
        new_id: new.map(u32::from),
        pieces: Some(pieces),
        p_old: 0.5,
        p_new: new.map(|_| 0.25),
        generation: 0,
    }
}

/// Edits an ASCII text, one token per byte: the new text and the provenance.
fn edit_bytes(text: &str, changes: &[Option<Option<u8>>], generation: u32) -> (String, Vec<TokenEdit>) {
    let changes = changes.iter().zip(text.bytes().enumerate());
    let mut edits: Vec<_> = changes
        .filter_map(|(change, (position, old))| change.map(|new| byte_edit(position, old, new)))
        .map(|edit| TokenEdit { generation, ..edit })
        .collect();
    let news: Vec<_> = edits.iter().map(|edit| edit.pieces.clone().unwrap().new.0).collect();
    let replacements: Vec<_> = edits
        .iter()
        .zip(&news)
        .map(|(edit, new)| Replacement { range: edit.position..edit.position + 1, new })
        .collect();
    let spliced = splice(text, &replacements).unwrap();
    for (edit, out) in edits.iter_mut().zip(spliced.ranges) {
        let (byte_start, byte_end) = (edit.position, edit.position + 1);
        edit.span = Some(Span { byte_start, byte_end, out_byte_start: out.start, out_byte_end: out.end });
    }
    (spliced.text, edits)
}

fn ids(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

fn changes() -> impl Strategy<Value = Vec<Option<Option<u8>>>> {
    prop::collection::vec(prop::option::of(prop::option::of(b'a'..=b'z')), 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn revert_undoes_every_generation(text in "[a-z]{0,30}", first in changes(), second in changes()) {
        let (once, mut edits) = edit_bytes(&text, &first, 0);
        let (twice, more) = edit_bytes(&once, &second, 1);
        edits.extend(more);
        let written = serde_json::to_string(&edits).unwrap();
        let edits: Vec<TokenEdit> = serde_json::from_str(&written).unwrap();
        prop_assert_eq!(revert_text(&twice, &edits).unwrap(), text.as_str());
        prop_assert_eq!(revert_ids(&ids(&twice), &edits).unwrap(), ids(&text));
    }

    #[test]
    fn edits_of_any_kind_give_a_result_or_an_error(
        text in "[ab]{0,5}", numbers in prop::collection::vec((any::<[u8; 5]>(), prop::option::of(b'a'..=b'b')), 0..4),
    ) {
        let number = |byte: u8| if byte > 250 { usize::MAX - usize::from(255 - byte) } else { usize::from(byte % 6) };
        let edits: Vec<_> = numbers.iter().map(|&(bytes, new)| {
            let [position, byte_start, byte_end, out_byte_start, out_byte_end] = bytes.map(number);
            let span = Some(Span { byte_start, byte_end, out_byte_start, out_byte_end });
            TokenEdit { span, ..byte_edit(position, b'c', new) }
        }).collect();
        if let Ok(reverted) = revert_text(&text, &edits) {
            prop_assert_eq!(reverted.matches('c').count(), edits.len());
        }
        if let Ok(reverted) = revert_ids(&ids(&text), &edits) {
            prop_assert_eq!(reverted.iter().filter(|&&id| id == u32::from(b'c')).count(), edits.len());
        }
    }

    #[test]
    fn pieces_survive_json(bytes in prop::collection::vec(any::<u8>(), 0..8)) {
        let written = serde_json::to_string(&piece(&bytes)).unwrap();
        prop_assert_eq!(written.starts_with('{'), std::str::from_utf8(&bytes).is_err());
        prop_assert_eq!(serde_json::from_str::<Piece>(&written).unwrap(), piece(&bytes));
    }
}

#[test]
fn the_object_has_the_documented_members_in_order() {
    let counts =
        Counts { tokens: 9, scored: 8, eligible: 3, changed: 1, dropped: 1, windows: 1, ..Counts::default() };
    let (_, edits) = edit_bytes("abc", &[Some(Some(b'x')), None, Some(None)], 0);
    let written =
        serde_json::to_string(&Metadata { counts, edits: Some(edits), ..Metadata::default() }).unwrap();
    assert_eq!(
        written,
        concat!(
            r#"{"tokens":9,"scored":8,"eligible":3,"changed":1,"dropped":1,"not_editable":0,"no_alternative":0,"#,
            r#""windows":1,"edits":[{"position":0,"byte_start":0,"byte_end":1,"out_byte_start":0,"out_byte_end":1,"#,
            r#""old_id":97,"new_id":120,"old":"a","new":"x","p_old":0.5,"p_new":0.25},"#,
            r#"{"position":2,"byte_start":2,"byte_end":3,"out_byte_start":2,"out_byte_end":2,"#,
            r#""old_id":99,"new_id":null,"old":"c","new":"","p_old":0.5,"p_new":null}]}"#,
        )
    );
    let read: Metadata = serde_json::from_str(&written).unwrap();
    assert_eq!((read.counts, read.edits.map(|edits| edits.len())), (counts, Some(2)));
    let without = serde_json::to_string(&Metadata { counts, ..Metadata::default() }).unwrap();
    assert!(without.ends_with(r#""windows":1}"#));
}

#[test]
fn a_later_generation_says_so_and_ids_need_no_bytes() {
    let edit = TokenEdit { pieces: None, generation: 2, ..byte_edit(4, b'a', Some(b'b')) };
    let written = serde_json::to_string(&edit).unwrap();
    assert_eq!(written, r#"{"position":4,"old_id":97,"new_id":98,"p_old":0.5,"p_new":0.25,"generation":2}"#);
    assert_eq!(serde_json::from_str::<TokenEdit>(&written).unwrap(), edit);
    assert!(revert_text("aaaa", &[edit]).unwrap_err().to_string().ends_with("no bytes are given"));
}

#[test]
fn edits_that_do_not_fit_are_told() {
    let (out, edits) = edit_bytes("abc", &[Some(Some(b'x')), Some(None), Some(Some(b'z'))], 0);
    assert_eq!(out, "xz");
    let refused = |out: &str, edits: &[TokenEdit]| revert_text(out, edits).unwrap_err().to_string();
    assert!(
        refused("yz", &edits)
            .ends_with("edit of token 0, generation 0: the text holds other bytes than `new`")
    );
    assert!(refused("x", &edits).contains("edit of token 2"));
    let reversed: Vec<_> = edits.iter().rev().cloned().collect();
    assert!(refused(&out, &reversed).ends_with("`byte_start`, `byte_end` and `old` do not agree"));
    assert!(
        refused(&out, &[&edits[..], &edits[..1]].concat())
            .ends_with("it overlaps another or lies outside the text")
    );

    let refused = |out: &str, edits: &[TokenEdit]| revert_ids(&ids(out), edits).unwrap_err().to_string();
    assert!(refused("yz", &edits).ends_with("the sequence holds another id than `new_id`"));
    assert!(refused("x", &edits).ends_with("the sequence holds another id than `new_id`"));
    assert!(refused(&out, &[&edits[..], &edits[..1]].concat()).ends_with("or lies outside the sequence"));
    let beyond = TokenEdit { position: usize::MAX, ..edits[0].clone() };
    assert!(refused(&out, &[beyond]).ends_with("or lies outside the sequence"));
}

#[test]
fn a_text_that_becomes_broken_is_an_error() {
    let span = Some(Span { byte_start: 0, byte_end: 1, out_byte_start: 0, out_byte_end: 1 });
    let edit = TokenEdit { span, ..byte_edit(0, 0xff, Some(b'a')) };
    assert!(revert_text("a", &[edit]).unwrap_err().to_string().contains("not UTF-8"));
}

#[test]
fn malformed_pieces_are_refused() {
    for hex in ["f", "zz", "+1", "é"] {
        let error = serde_json::from_str::<Piece>(&format!(r#"{{"hex":"{hex}"}}"#)).unwrap_err();
        assert!(error.to_string().contains("expected pairs of digits"), "{hex}: {error}");
    }
    assert!(serde_json::from_str::<Piece>("7").is_err());
}

#[test]
fn counts_add_up() {
    let one = Counts {
        tokens: 5,
        scored: 4,
        eligible: 3,
        changed: 2,
        dropped: 1,
        not_editable: 1,
        ..Counts::default()
    };
    let other = Counts { no_alternative: 7, windows: 2, tokens: 1, ..Counts::default() };
    let sum: Counts = [one, other].into_iter().sum();
    assert_eq!(sum, Counts { tokens: 6, no_alternative: 7, windows: 2, ..one });
}
