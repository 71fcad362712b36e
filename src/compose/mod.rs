//! Records as a model sees them: which tokens, which of them are scored, and whose bytes they are.
//!
//! A record of text is its text. One with a prompt and a response is both as one text, of which the response is scored and
//! edited; a conversation is what the model's chat template makes of it, of which the contents of the assistant's messages
//! are. Without their prompts, responses stand alone.
//!
//! ```
//! use toedit::compose::{ComposeConfig, Composer};
//! use toedit::model::Config;
//! use toedit::Document;
//!
//! let config = Config::from_file("assets/tiny/config.json".as_ref())?;
//! let options = ComposeConfig { prompt_field: Some("question".into()), ..ComposeConfig::default() };
//! let composer = Composer::open("assets/tiny".as_ref(), &config, options)?;
//! let document = Document::from_json(r#"{"question": "Who? ", "text": "The President"}"#, "text")?;
//! let record = composer.record(document)?;
//! let scored: usize = record.layout.runs().map(|run| run.len()).sum();
//! assert!(scored >= 1 && scored < record.ids.len());
//! # Ok::<(), toedit::Error>(())
//! ```

mod layout;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub use layout::{Layout, Part, Passage};
use xxhash_rust::xxh3::xxh3_64;

use crate::data::{Content, Document, messages, stream_key};
use crate::model::Config;
use crate::model::folder::TOKENIZER;
use crate::random::text_stream;
use crate::score::{Sequence, unknown_id};
use crate::tokenizer::{ChatTemplate, Tokenizer, Words};
use crate::{Error, Result};
use layout::Scoped;

/// Files that texts and conversations depend on, and what settings call them.
const FILES: [(&str, &str); 3] = [
    ("tokenizer", TOKENIZER),
    ("tokenizer_config", "tokenizer_config.json"),
    ("chat_template", "chat_template.jinja"),
];

/// Why a document comes out unedited.
pub const UNALIGNED: &str = "tokens do not add up to the text";
/// Why a conversation comes out unedited, and is not scored.
pub const UNTOLD: &str = "the chat template changes what the assistant says";

/// Whether a document of text begins with the token that begins a sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bos {
    /// With the special tokens that the tokenizer itself puts there, as scoring has them.
    #[default]
    Auto,
    /// With the configuration's `bos_token_id`, documents of ids too.
    Always,
    /// With nothing.
    Never,
}

/// How records become sequences.
#[derive(Clone, Debug)]
pub struct ComposeConfig {
    /// What texts and documents of ids begin with. Conversations begin as their template says.
    pub bos: Bos,
    /// The field with the prompt of records whose text is a response to it.
    pub prompt_field: Option<String>,
    /// Whether responses stand behind their prompts, or each alone.
    pub prompt_context: bool,
}

impl Default for ComposeConfig {
    fn default() -> Self {
        Self { bos: Bos::Auto, prompt_field: None, prompt_context: true }
    }
}

/// A document with its tokens.
#[derive(Debug)]
pub struct Record {
    /// The document.
    pub document: Document,
    /// Its tokens. Positions count them.
    pub ids: Vec<u32>,
    /// What they are.
    pub layout: Layout,
}

/// Turns documents into records. Shared by threads.
#[derive(Debug)]
pub struct Composer {
    /// The model's, where its chat template is looked for when the first conversation comes.
    folder: PathBuf,
    config: Config,
    tokenizer: Option<Tokenizer>,
    chat: OnceLock<Option<ChatTemplate>>,
    options: ComposeConfig,
}

impl Composer {
    /// With the tokenizer of a model's folder, if it has one.
    ///
    /// # Errors
    /// A tokenizer that cannot be used; [`Bos::Always`] where the configuration has no such token.
    pub fn open(folder: &Path, config: &Config, options: ComposeConfig) -> Result<Self> {
        if options.bos == Bos::Always && config.bos_token_id.is_none() {
            return Err(Error::Config {
                path: folder.join(crate::model::folder::CONFIG),
                field: "bos_token_id".to_owned(),
                reason: "missing, but --bos always needs it".to_owned(),
            });
        }
        let path = folder.join(TOKENIZER);
        let tokenizer = path.exists().then(|| Tokenizer::from_file(&path)).transpose()?;
        let chat = OnceLock::new();
        Ok(Self { folder: folder.to_owned(), config: config.clone(), tokenizer, chat, options })
    }

    /// The tokenizer; none where the folder has none: then documents must be ids.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref()
    }

    /// How records become sequences.
    pub fn options(&self) -> &ComposeConfig {
        &self.options
    }

    /// The document's tokens. Where it is not to be edited (`align` is false), tokens' bytes are looked for only if the
    /// scored ones have to be told from others.
    ///
    /// # Errors
    /// Names the record: ids that the model does not have, text without a tokenizer, messages without a template, or that it refuses; a prompt that is
    /// missing.
    pub fn compose(&self, document: &Document, align: bool) -> Result<(Vec<u32>, Layout)> {
        let (ids, layout) = match (document.content(), &self.options.prompt_field) {
            (Content::Ids(ids), _) => match unknown_id(ids, self.config.vocab_size) {
                Some(reason) => return Err(document.error(reason)),
                None => (ids.clone(), Layout::ids(stream_key(document))),
            },
            (Content::Text(text), None) => self.text(document, text, align)?,
            (Content::Text(_), Some(field)) => self.response(document, field, align)?,
            (Content::Messages(raw), _) => self.messages(document, raw)?,
        };
        Ok((ids, if align { layout.checked() } else { layout }))
    }

    /// A document with its tokens, to be edited.
    ///
    /// # Errors
    /// As [`Composer::compose`].
    pub fn record(&self, document: Document) -> Result<Record> {
        let (ids, layout) = self.compose(&document, true)?;
        Ok(Record { document, ids, layout })
    }

    /// Hashes of the model's files that texts and conversations depend on, by their names; of those that are there.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn fingerprints(&self) -> Result<Vec<(&'static str, String)>> {
        let mut fingerprints = Vec::new();
        for (name, file) in FILES {
            let path = self.folder.join(file);
            if path.exists() {
                let bytes = fs::read(&path).map_err(|error| Error::io(&path, error))?;
                fingerprints.push((name, format!("{:016x}", xxh3_64(&bytes))));
            }
        }
        Ok(fingerprints)
    }

    /// What stands before a text or, where it is none, before ids.
    pub fn context(&self, is_text: bool) -> &[u32] {
        match (self.options.bos, &self.tokenizer) {
            (Bos::Always, _) => self.config.bos_token_id.as_slice(),
            (Bos::Auto, Some(tokenizer)) if is_text => tokenizer.prefix(),
            _ => &[],
        }
    }

    /// What the model sees of a record.
    pub fn sequence<'a>(&'a self, document: &Document, ids: &'a [u32], layout: &'a Layout) -> Sequence<'a> {
        let conversation = matches!(document.content(), Content::Messages(_)) && self.options.prompt_context;
        let context = if conversation { &[] } else { self.context(document.ids().is_none()) };
        Sequence { context, ids, scope: layout.scope() }
    }

    /// The tokens of a text of the document.
    ///
    /// # Errors
    /// Names the record where the model has no tokenizer; the tokenizer's.
    pub fn encode(&self, document: &Document, text: &str) -> Result<Vec<u32>> {
        self.tokenizer_for(document)?.encode(text)
    }

    fn text(&self, document: &Document, text: &str, align: bool) -> Result<(Vec<u32>, Layout)> {
        let tokenizer = self.tokenizer_for(document)?;
        let ids = tokenizer.encode(text)?;
        let alignment = if align { tokenizer.align(text, &ids) } else { None };
        let passage = Passage::whole(ids.len(), text.len(), alignment);
        Ok((ids, Layout::new(Scoped::All, vec![passage], stream_key(document))))
    }

    fn response(&self, document: &Document, field: &str, align: bool) -> Result<(Vec<u32>, Layout)> {
        let (text, range) = document.prompted(field)?;
        let stream = text_stream(&text, document.id());
        if !self.options.prompt_context {
            let (ids, layout) = self.text(document, &text[range], align)?;
            return Ok((ids, layout.with_stream(stream)));
        }
        let mut ids = Vec::new();
        let part = Part { range, tokens: 0..0, message: None, offset: 0 };
        let passage = self.passage(document, &mut ids, text, vec![part])?;
        Ok((ids, Layout::new(Scoped::Within, vec![passage], stream)))
    }

    fn messages(&self, document: &Document, raw: &str) -> Result<(Vec<u32>, Layout)> {
        let said = messages::read(raw).map_err(|reason| document.error(reason))?;
        let said = said.into_iter().enumerate().filter(|(_, message)| message.role == "assistant");
        let said: Vec<_> = said.filter_map(|(number, message)| Some((number, message.content?))).collect();
        let (stream, mut ids) = (stream_key(document), Vec::new());
        if self.options.prompt_context {
            let contents: Vec<_> = said.iter().map(|(number, content)| (*number, content.as_str())).collect();
            let words = self.chat(document)?.words(raw, &contents);
            let (text, words) = words.map_err(|error| document.error(error.to_string()))?;
            let untold = words.is_none();
            let parts = words.unwrap_or_default().into_iter().map(Part::from).collect();
            let passage = self.passage(document, &mut ids, text, parts)?;
            let layout = Layout::new(Scoped::Within, vec![passage], stream);
            return Ok((ids, if untold { layout.flawed(UNTOLD) } else { layout }));
        }
        let alone = said.into_iter().filter(|(_, content)| !content.is_empty()).map(|(number, content)| {
            let words = Words { message: number, offset: 0, range: 0..content.len() };
            self.passage(document, &mut ids, content, vec![words.into()])
        });
        let passages = alone.collect::<Result<Vec<_>>>()?;
        Ok((ids, Layout::new(Scoped::Apart, passages, stream)))
    }

    /// A text of its own behind the tokens `ids`, to which its own are added.
    fn passage(
        &self,
        document: &Document,
        ids: &mut Vec<u32>,
        text: String,
        mut parts: Vec<Part>,
    ) -> Result<Passage> {
        let tokenizer = self.tokenizer_for(document)?;
        let own = tokenizer.encode(&text)?;
        let alignment = tokenizer.align(&text, &own);
        let ranges: Vec<_> = parts.iter().map(|part| part.range.clone()).collect();
        let runs = tokenizer.runs(&text, &own, alignment.as_ref(), &ranges)?;
        let first = ids.len();
        for (part, run) in parts.iter_mut().zip(runs) {
            // Where it is the whole text, tokens without a byte of it are its own too.
            let run = if part.range == (0..text.len()) { 0..own.len() } else { run };
            part.tokens = first + run.start..first + run.end;
        }
        ids.extend_from_slice(&own);
        Ok(Passage::new(text, first..ids.len(), alignment, parts))
    }

    fn tokenizer_for(&self, document: &Document) -> Result<&Tokenizer> {
        self.tokenizer.as_ref().ok_or_else(|| {
            let folder = self.folder.display();
            document.error(format!("text, but {folder} has no tokenizer.json: give records with `input_ids`"))
        })
    }

    fn chat(&self, document: &Document) -> Result<&ChatTemplate> {
        let chat = match self.chat.get() {
            Some(chat) => chat,
            None => {
                let chat = ChatTemplate::of_model(&self.folder, &self.config, self.tokenizer())?;
                self.chat.get_or_init(|| chat)
            }
        };
        chat.as_ref().ok_or_else(|| {
            let folder = self.folder.display();
            document.error(format!(
                "messages, but {folder} has no chat template (chat_template.jinja, or in tokenizer_config.json); \
                 --no-prompt-context takes the assistant's words alone"
            ))
        })
    }
}
