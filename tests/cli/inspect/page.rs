//! `toedit inspect --html`: one page, out of which no text breaks.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::records::{Part, dropped, edit, edits, kept, lines, metadata, record, texts};
use super::{edited_sample, edits_of};
use crate::Place;

/// Every tag that a page may hold, digits written as `#`.
const TAGS: &str = r##"
!DOCTYPE html
html lang="en"
head
meta charset="utf-#"
meta name="viewport" content="width=device-width, initial-scale=#"
meta name="referrer" content="no-referrer"
meta name="color-scheme" content="light dark"
title
style
body
header
h#
p class="note"
p class="legend"
p class="counts"
kbd
dl
div
dt
dd
small
del
ins
i
main
article id="d#"
a href="#d#"
a href="#d#e#" data-edits="#"
span
div class="text" dir="auto"
details
details open
summary
table
thead
tbody
tr
tr id="d#e#"
th
td
nav hidden aria-label="documents"
button id="previous" title="previous (k)"
button id="next" title="next (j)"
output id="at"
div id="tip" role="tooltip" hidden
script
"##;

/// A tag, without its brackets, and the text behind it up to the next one.
type Piece<'a> = (&'a str, &'a str);

/// The page's pieces but for what stands in its style and script.
fn pieces(page: &str) -> Vec<Piece<'_>> {
    let (head, rest) = page.split_once("<style>").unwrap();
    let (body, foot) = rest.split_once("</style>").unwrap().1.rsplit_once("<script>").unwrap();
    let foot = foot.split_once("</script>").unwrap().1;
    let parts = [head, "<style></style>", body, "<script></script>", foot];
    let pieces = parts.iter().flat_map(|part| part.split('<').skip(1));
    pieces.map(|piece| piece.split_once('>').unwrap_or_else(|| panic!("a bare `<` before {piece}"))).collect()
}

fn unescaped(text: &str) -> String {
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    entities.iter().fold(text.to_owned(), |text, (entity, c)| text.replace(entity, c))
}

/// The character that a Rust escape spells.
fn escaped_char(escape: &str) -> char {
    match escape {
        "\\n" => '\n',
        "\\t" => '\t',
        "\\r" => '\r',
        _ => {
            let hex = escape.strip_prefix("\\u{").and_then(|hex| hex.strip_suffix('}')).unwrap();
            char::from_u32(u32::from_str_radix(hex, 16).unwrap()).unwrap()
        }
    }
}

/// The texts of the page's documents, before and after each generation, as they stand in it.
fn shown(pieces: &[Piece]) -> Vec<[String; 2]> {
    let mut found = Vec::new();
    let (mut inside, mut old, mut new) = (false, false, false);
    for (tag, text) in pieces {
        match *tag {
            "div class=\"text\" dir=\"auto\"" => {
                inside = true;
                found.push([String::new(), String::new()]);
            }
            "/div" => inside = false,
            "del" | "/del" => old = *tag == "del",
            "ins" | "/ins" => new = *tag == "ins",
            _ => {}
        }
        if let Some([before, after]) = found.last_mut().filter(|_| inside) {
            let text = if *tag == "i" { escaped_char(text).to_string() } else { unescaped(text) };
            if !new {
                before.push_str(&text);
            }
            if !old {
                after.push_str(&text);
            }
        }
    }
    found
}

/// Checks all that holds for every page.
#[track_caller]
fn check(page: &str) -> Vec<Piece<'_>> {
    let pieces = pieces(page);
    let allowed: BTreeSet<&str> = TAGS.lines().filter(|tag| !tag.is_empty()).collect();
    let mut open = Vec::new();
    for (tag, text) in &pieces {
        assert!(!text.contains('>') && !text.contains('"'), "{tag}: {text}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
            continue;
        }
        if tag.starts_with("meta http-equiv=\"Content-Security-Policy\"") {
            check_policy(tag);
            continue;
        }
        assert!(allowed.contains(masked(tag).as_str()), "{tag}");
        let name = tag.split(' ').next().unwrap();
        if !["meta", "!DOCTYPE"].contains(&name) {
            open.push(name);
        }
    }
    assert_eq!(open, [""; 0]);
    let hidden = |c: char| {
        (c.is_control() && c != '\n' && c != '\t') || "\u{202e}\u{2066}\u{feff}\u{2028}".contains(c)
    };
    assert!(!page.contains(hidden), "{page}");
    pieces
}

fn check_policy(tag: &str) {
    for part in [
        "default-src 'none'",
        "script-src 'sha256-",
        "style-src 'sha256-",
        "base-uri 'none'",
        "form-action 'none'",
    ] {
        assert!(tag.contains(part), "{tag}");
    }
    assert!(!tag.contains("unsafe") && !tag.contains('*') && !tag.contains("http:"));
}

/// With each number as one `#`.
fn masked(tag: &str) -> String {
    let runs: Vec<&str> = tag.split(|c: char| c.is_ascii_digit()).collect();
    let (first, rest) = runs.split_first().unwrap();
    // Digits that follow one another have nothing between them.
    let rest = rest.iter().enumerate().map(|(i, run)| match run.is_empty() && i + 1 < rest.len() {
        true => String::new(),
        false => format!("#{run}"),
    });
    rest.fold((*first).to_owned(), |masked, run| masked + &run)
}

/// The page that these words ask for.
#[track_caller]
fn page_of(place: &Place, words: &str) -> String {
    place.run(&format!("inspect {words} --html page.html --overwrite")).done();
    place.read("page.html")
}

#[test]
fn the_whole_sample_is_in_the_page() {
    let place = edited_sample();
    let page = page_of(&place, "edited.jsonl");
    let pieces = check(&page);
    let (records, originals) = (place.records("edited.jsonl"), place.records("sample.jsonl"));
    let text = |record: &Value| record["text"].as_str().unwrap().to_owned();
    let expected: Vec<_> = originals.iter().zip(&records).map(|(a, b)| [text(a), text(b)]).collect();
    assert_eq!(shown(&pieces), expected);
    for (i, record) in records.iter().enumerate() {
        assert!(page.contains(&format!("<article id=\"d{}\">", i + 1)));
        let rows = page.matches(&format!("<tr id=\"d{}e", i + 1)).count();
        assert_eq!(rows, edits_of(record).len());
        let title = format!("<span>{}</span>", record["id"].as_str().unwrap());
        assert!(page.contains(&title) && page.contains(&format!("edited.jsonl:{} · ", i + 1)));
    }
    let linked: usize = page
        .split(" data-edits=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .map(|count| count.parse::<usize>().unwrap())
        .sum();
    assert_eq!(linked, records.iter().map(|record| edits_of(record).len()).sum::<usize>());
    assert!(page.contains("<dt>documents</dt><dd>36</dd>"));
    assert_eq!(place.run("inspect edited.jsonl --html -").done().stdout, page);
}

const HOSTILE: [&str; 24] = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"><svg/onload=alert(1)>",
    "' onmouseover='alert(1)",
    "</div></article></main>",
    "</style><style>*{display:none}",
    "<!--",
    "-->",
    "]]>",
    "<![CDATA[",
    "&lt;b&gt;",
    "&#60;b&#62;",
    "&",
    "&amp",
    "\0",
    "\u{1b}[2J",
    "\r\n\t",
    "\u{202e}",
    "\u{2066}",
    "\u{2028}",
    "\u{feff}",
    "javascript:alert(1)",
    "{{constructor}}",
    "👩\u{200d}👩\u{200d}👧 e\u{301} שלום",
];

fn hostile_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        proptest::sample::select(&HOSTILE[..]).prop_map(str::to_owned),
        "[<>&\"'/=!a \n-]{1,8}",
        any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(piece, 1..5).prop_map(|pieces| pieces.concat())
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let part = prop_oneof![
        hostile_text().prop_map(Part::Kept),
        (hostile_text(), proptest::option::of(hostile_text())).prop_map(|(old, new)| Part::Edit(old, new)),
    ];
    proptest::collection::vec(part, 0..8)
}

proptest! {
    // Ten documents each.
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever a text, an id or a token is, the page has no tag but its own, and says exactly what they are.
    #[test]
    fn no_text_becomes_markup(documents in proptest::collection::vec((hostile_text(), parts()), 10)) {
        let records: Vec<_> = documents.iter().map(|(id, parts)| record(id, parts)).collect();
        let place = Place::with_input(&lines(&records));
        let page = page_of(&place, "in.jsonl");
        let expected: Vec<_> = documents.iter().map(|(_, parts)| texts(parts)).collect();
        prop_assert_eq!(shown(&check(&page)), expected);
        // A terminal is not driven either, and both show as many edits.
        let stream = place.run("inspect in.jsonl").done().stdout;
        prop_assert!(!stream.contains(|c: char| c.is_control() && c != '\n' && c != '\t'));
        let edits: usize = records.iter().map(|record| edits_of(record).len()).sum();
        prop_assert_eq!(page.matches("<tr id=").count(), edits);
    }
}

#[test]
fn names_of_files_do_not_become_markup() {
    let place = Place::new();
    let name = "<b onclick='x'>\"&\u{202e}.jsonl";
    place.put(name, lines(&[record("</h2>", &[kept("a")])]));
    let mut command = place.command("inspect --html page.html");
    command.arg(name);
    crate::run(command, b"").done();
    let page = place.read("page.html");
    check(&page);
    assert!(page.contains("<h1>&lt;b onclick=&#39;x&#39;&gt;&quot;&amp;<i>\\u{202e}</i>.jsonl</h1>"));
}

#[test]
fn generations_and_what_is_not_known() {
    let first = [kept("a "), edit("b", "c"), dropped("!")];
    let second = [edit("a", "x"), kept(" c")];
    let both = [edits(&first, 0), edits(&second, 1)].concat();
    let twice = json!({"text": "x c", "toedit": metadata(&both)});
    let place = Place::with_input(&lines(&[twice, json!({"text": "plain"})]));
    let page = page_of(&place, "in.jsonl");
    let pieces = check(&page);
    let expected = [["a c", "x c"], ["a b!", "a c"], ["plain", "plain"]];
    assert_eq!(shown(&pieces), expected.map(|texts| texts.map(str::to_owned)));
    let headings: Vec<_> = pieces.iter().filter(|(tag, _)| *tag == "h3").map(|(_, text)| *text).collect();
    assert_eq!(headings, ["generation 1", "generation 0"]);
    // Numbers go on, and only the last generation's list is open.
    assert!(page.contains("<tr id=\"d1e1\"><td>0</td>") && page.contains("<tr id=\"d1e3\"><td>2</td>"));
    assert_eq!((page.matches("<details open>").count(), page.matches("<details>").count()), (1, 1));
    assert!(
        page.contains("no `toedit` object")
            && page.contains("<dt>without provenance</dt><dd>1 <small>50.0 %")
    );
}

#[test]
fn a_page_has_a_limit_and_says_so() {
    let parts = [kept("x"), edit("y", "z")];
    let place = Place::with_input(&lines(&vec![record("a", &parts); 1001]));
    for (words, count, more) in [("", 1000, true), ("--limit 1001", 1001, false), ("--limit 2", 2, true)] {
        let page = page_of(&place, &format!("in.jsonl {words}"));
        assert_eq!(page.matches("<article").count(), count);
        assert_eq!(page.contains("documents: there are more"), more);
    }
    assert!(page_of(&place, "in.jsonl").contains("<dd>1,000</dd>"));
    place.put("empty.jsonl", "");
    check(&page_of(&place, "empty.jsonl"));
}

#[test]
fn a_page_appears_whole_or_not_at_all() {
    let place = Place::with_input(&lines(&[record("a", &[kept("x")])]));
    let write = |words: &str| place.run(&format!("inspect in.jsonl {words}"));
    assert_eq!(write("--html page.html").done().stdout, "");
    assert_eq!(place.names(), ["in.jsonl", "page.html"]);
    let mode = |name: &str| fs::metadata(place.path(name)).unwrap().permissions().mode();
    assert_eq!(mode("page.html"), mode("in.jsonl"));
    write("--html page.html").fails(&["page.html", "exists already", "--overwrite"]);
    write("--html page.html --overwrite").done();
    write("--html in.jsonl --overwrite").fails(&["in.jsonl", "input"]);
    write("--html no/such/page.html").fails(&["no/such"]);
    write("--html . --overwrite").fails(&[".: a folder"]);
    // A record that fails leaves the old page.
    let page = place.read("page.html");
    place.put("bad.jsonl", place.read("in.jsonl") + "{\n");
    place.run("inspect bad.jsonl --html page.html --overwrite").fails(&["bad.jsonl:2"]);
    assert_eq!(place.read("page.html"), page);
    assert_eq!(place.names(), ["bad.jsonl", "in.jsonl", "page.html"]);
}
