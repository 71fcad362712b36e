//! Chat templates: conversations to text, as transformers' `apply_chat_template` makes it.
//!
//! The template is a file of the model's, so it runs in bounds: no files, no includes, a budget of work and memory.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, context};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::{Tokenizer, chat_functions};
use crate::model::Config;
use crate::model::folder::read_small;
use crate::{Error, Result};

/// Where a folder has its template, the first that is there.
const TEMPLATE: &str = "chat_template.jinja";
const CONFIG: &str = "tokenizer_config.json";
const TEMPLATE_LIMIT: u64 = 1 << 20;
const CONFIG_LIMIT: u64 = 64 << 20;
/// Instructions and 64 byte pieces of text that one rendering may take: far more than the longest document.
const FUEL: u64 = 50_000_000;

/// A model's chat template. Shared by threads.
#[derive(Debug)]
pub struct ChatTemplate {
    path: PathBuf,
    source: String,
    environment: Environment<'static>,
    /// An object: `bos_token` and the like.
    special: Value,
}

/// A conversation as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// All turns, as the template renders them.
    pub text: String,
    /// For each turn of the assistant, the bytes that the template renders for it after what asks for it: its content
    /// and the turn's end.
    pub responses: Vec<Range<usize>>,
}

impl ChatTemplate {
    /// Reads the template of a model's folder: `chat_template.jinja`, else `chat_template` in `tokenizer_config.json` (of
    /// several, the one named `default`); `None` where there is none. `special` are the special tokens by name that the
    /// template can refer to where the file does not have them.
    ///
    /// # Errors
    /// Names the file: it is malformed, or uses what is not supported.
    pub fn from_folder<const N: usize>(
        folder: &Path,
        special: [(&str, Option<String>); N],
    ) -> Result<Option<Self>> {
        let (template, config) = (folder.join(TEMPLATE), folder.join(CONFIG));
        let mut path = config.clone();
        let (mut source, mut tokens) = (None, BTreeMap::new());
        if config.exists() {
            let json = serde_json::from_slice(&read_small(&config, CONFIG_LIMIT)?)
                .map_err(|error| Error::file(&config, error))?;
            (source, tokens) = (template_in(&json), special_tokens(&json));
        }
        if template.exists() {
            let bytes = read_small(&template, TEMPLATE_LIMIT)?;
            source = Some(String::from_utf8(bytes).map_err(|error| Error::file(&template, error))?);
            path = template;
        }
        for (name, token) in special {
            if let Some(token) = token {
                tokens.entry(name.to_owned()).or_insert(token);
            }
        }
        source.map(|source| Self::new(&path, source, tokens)).transpose()
    }

    /// [`ChatTemplate::from_folder`] with the special tokens of a model's configuration, as its tokenizer spells them.
    ///
    /// # Errors
    /// As [`ChatTemplate::from_folder`].
    pub fn of_model(folder: &Path, config: &Config, tokenizer: Option<&Tokenizer>) -> Result<Option<Self>> {
        let token = |id: Option<u32>| {
            let id = id.filter(|id| (*id as usize) < config.vocab_size)?;
            String::from_utf8(tokenizer?.bytes(id).to_vec()).ok()
        };
        let special = [("bos_token", token(config.bos_token_id)), ("eos_token", token(config.eos_token_id))];
        Self::from_folder(folder, special)
    }

    fn new(path: &Path, source: String, special: BTreeMap<String, String>) -> Result<Self> {
        let mut environment = Environment::new();
        // As transformers sets Jinja up.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| Error::file(path, error))?);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(unknown_method_callback);
        chat_functions::add(&mut environment);
        environment
            .add_template_owned(TEMPLATE, without_generation_marks(&source))
            .map_err(|error| Error::file(path, format!("chat template: {error}")))?;
        let special = Value::from_pairs(special);
        Ok(Self { path: path.to_owned(), source, environment, special })
    }

    /// The template as it stands in its file.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders the raw JSON of `messages`, an array of objects with a `role`.
    ///
    /// # Errors
    /// Names the template: the messages are malformed, the template refuses them, or it renders the beginning of the
    /// conversation otherwise than the same messages in the whole, so that it cannot be told what the assistant said.
    pub fn conversation(&self, messages: &str) -> Result<Conversation> {
        let messages = self.messages(messages)?;
        let text = self.render(&messages, false)?;
        let mut responses = Vec::new();
        for (turn, message) in messages.iter().enumerate() {
            if self.role(message)? == "assistant" {
                responses.push(self.response(&messages, turn, &text)?);
            }
        }
        Ok(Conversation { text, responses })
    }

    pub(super) fn messages(&self, messages: &str) -> Result<Vec<Value>> {
        serde_json::from_str(messages).map_err(|error| self.error(format!("messages: {error}")))
    }

    /// The text of messages; with `add_generation_prompt` it ends with the words that ask the assistant for a turn.
    pub(super) fn render(&self, messages: &[Value], add_generation_prompt: bool) -> Result<String> {
        let context = context! { messages, add_generation_prompt, ..self.special.clone() };
        let template = self.environment.get_template(TEMPLATE);
        template.and_then(|template| template.render(context)).map_err(|error| self.error(error.to_string()))
    }

    /// Where in `text`, which is all of them rendered, what the assistant said in a turn lies.
    fn response(&self, messages: &[Value], turn: usize, text: &str) -> Result<Range<usize>> {
        let before = self.render(&messages[..turn], true)?;
        let with = self.render(&messages[..=turn], false)?;
        if !with.starts_with(&before) || !text.starts_with(&with) {
            return Err(self.error(format!(
                "renders the beginning of the conversation otherwise than the same messages in the whole, at message \
                 {turn}: the assistant's words cannot be told apart"
            )));
        }
        Ok(before.len()..with.len())
    }

    fn role(&self, message: &Value) -> Result<String> {
        let role = message.get_attr("role").ok().filter(|_| message.kind() == ValueKind::Map);
        let role = role.as_ref().and_then(Value::as_str).map(str::to_owned);
        role.ok_or_else(|| self.error("messages: expected objects with a string `role`".to_owned()))
    }

    fn error(&self, reason: String) -> Error {
        Error::file(&self.path, format!("chat template: {reason}"))
    }
}

/// The template in a tokenizer's configuration: a string, or a list of them with names.
fn template_in(config: &serde_json::Value) -> Option<String> {
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    match config.get("chat_template")? {
        serde_json::Value::Array(named) => {
            text(named.iter().find(|entry| entry["name"] == "default")?.get("template")?)
        }
        single => text(single),
    }
}

/// The members named `…_token`: strings, or objects with a `content`.
fn special_tokens(config: &serde_json::Value) -> BTreeMap<String, String> {
    let members = config.as_object().into_iter().flatten().filter(|(name, _)| name.ends_with("_token"));
    let tokens = members.filter_map(|(name, value)| {
        let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
        Some((name.clone(), text.to_owned()))
    });
    tokens.collect()
}

/// `{% generation %}` and its end mark the assistant's words for transformers and render nothing: they become a condition
/// that always holds.
fn without_generation_marks(source: &str) -> String {
    let mut pieces = source.split("{%");
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let start = piece.len() - piece.trim_start_matches(['-', '+']).trim_start().len();
        let (mark, tag) = piece.split_at(start);
        let word = tag.len() - tag.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_').len();
        let (word, rest) = tag.split_at(word);
        let word = match word {
            "generation" => "if true",
            "endgeneration" => "endif",
            other => other,
        };
        text.extend(["{%", mark, word, rest]);
    }
    text
}
