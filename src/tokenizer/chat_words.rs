//! Where in a rendered conversation the words of its messages stand.
//!
//! The template is asked: the conversation is rendered once more with a mark in place of each message's words. What stands
//! around the marks is the template's own; if the rendered conversation has the same, and between it the words as they are,
//! their places are known, however often the same words occur elsewhere.

use std::ops::Range;

use minijinja::value::Value;

use super::ChatTemplate;
use crate::Result;

/// What marks consist of: a character for private use, repeated where a conversation holds it.
const MARK: char = '\u{f8ff}';
/// Between these a model thinks; templates put its thoughts and its answer in different places.
const TAGS: [&str; 2] = ["<think>", "</think>"];

/// Words of a message, and where they stand in the rendered conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// The message's number in the conversation, from 0.
    pub message: usize,
    /// How many bytes of the message's content stand before them.
    pub offset: usize,
    /// Their bytes in the conversation's text.
    pub range: Range<usize>,
}

/// Some of a message's content.
struct Part<'a> {
    message: usize,
    offset: usize,
    text: &'a str,
}

impl ChatTemplate {
    /// Renders the raw JSON of `messages` and finds in it the words of some of them: `contents` are their numbers,
    /// ascending, and the strings under `content`. Words that the template leaves out, such as thoughts in earlier turns,
    /// are not among those that come back. White space around them, which templates cut off, counts where they keep it.
    /// `None` where the words do not stand in the text as they are.
    ///
    /// # Errors
    /// Names the template: the messages are malformed, or it refuses them.
    pub fn words(&self, messages: &str, contents: &[(usize, &str)]) -> Result<(String, Option<Vec<Words>>)> {
        let messages = self.messages(messages)?;
        let text = self.render(&messages, false)?;
        let mut mark = MARK.to_string();
        while text.contains(&mark) {
            mark.push(MARK);
        }
        for cut in [whole as fn(&str) -> Vec<Range<usize>>, cores] {
            let mut parts = Vec::new();
            for &(message, content) in contents {
                let part = |range: Range<usize>| Part { message, offset: range.start, text: &content[range] };
                parts.extend(cut(content).into_iter().map(part));
            }
            // A template that refuses marks leaves the words where they cannot be told.
            let marked = self.render(&marked(&messages, contents, &parts, &mark), false).ok();
            if let Some(words) = marked.and_then(|marked| fit(&text, &marked, &parts, &mark)) {
                return Ok((text, Some(words)));
            }
        }
        Ok((text, None))
    }
}

/// All of a content.
#[expect(clippy::single_range_in_vec_init, reason = "a list of ranges that has one")]
fn whole(content: &str) -> Vec<Range<usize>> {
    if content.is_empty() { Vec::new() } else { vec![0..content.len()] }
}

/// Thoughts and answer, without the white space around them.
fn cores(content: &str) -> Vec<Range<usize>> {
    let mut cores = Vec::new();
    let mut start = 0;
    loop {
        let rest = &content[start..];
        let tags = TAGS.iter().filter_map(|tag| rest.find(tag).map(|at| (at, tag.len())));
        let (end, tag) = tags.min().unwrap_or((rest.len(), 0));
        let segment = rest[..end].trim_end();
        let core = segment.trim_start();
        if !core.is_empty() {
            cores.push(start + segment.len() - core.len()..start + segment.len());
        }
        if tag == 0 {
            return cores;
        }
        start += end + tag;
    }
}

/// The mark of a part.
fn sentinel(mark: &str, part: usize) -> String {
    format!("{mark}{part}{mark}")
}

/// The messages with marks in place of the parts of their contents.
fn marked(messages: &[Value], contents: &[(usize, &str)], parts: &[Part], mark: &str) -> Vec<Value> {
    let mut marked = messages.to_vec();
    let mut parts = parts.iter().enumerate().peekable();
    for &(message, content) in contents {
        let (mut text, mut done) = (String::new(), 0);
        while let Some((number, part)) = parts.next_if(|(_, part)| part.message == message) {
            text.push_str(&content[done..part.offset]);
            text.push_str(&sentinel(mark, number));
            done = part.offset + part.text.len();
        }
        text.push_str(&content[done..]);
        if let Some(value) = marked.get_mut(message) {
            *value = with_content(value, text);
        }
    }
    marked
}

/// A message with another content, its members in their order.
fn with_content(message: &Value, content: String) -> Value {
    let content = Value::from(content);
    let member = |key: Value| {
        let value = match key.as_str() {
            Some("content") => content.clone(),
            _ => message.get_item(&key).unwrap_or_default(),
        };
        (key, value)
    };
    Value::from_pairs(message.try_iter().into_iter().flatten().map(member))
}

/// The places of the parts in `text`, if it is `marked` with the parts in place of their marks.
fn fit(text: &str, marked: &str, parts: &[Part], mark: &str) -> Option<Vec<Words>> {
    let mut found = Vec::new();
    let (mut left, mut rest) = (text, marked);
    for (number, part) in parts.iter().enumerate() {
        let Some((between, after)) = rest.split_once(&sentinel(mark, number)) else { continue };
        left = left.strip_prefix(between)?;
        let start = text.len() - left.len();
        left = left.strip_prefix(part.text)?;
        let range = start..text.len() - left.len();
        found.push(Words { message: part.message, offset: part.offset, range });
        rest = after;
    }
    let whole = left == rest && (parts.is_empty() || !found.is_empty());
    whole.then_some(found)
}
