//! Where the scores of an edit come from: the model, the model by way of a cache, or a cache alone.

use super::super::args::EditArgs;
use super::super::session::Session;
use super::super::signals::Interrupt;
use crate::Result;
use crate::edit::cached::largest;
use crate::edit::{CachedEditor, CachingEditor, EditConfig, Editor, Prior};
use crate::model::Model;
use crate::score::cache::CacheWriter;
use crate::score::{ScoreConfig, Scorer};

/// What decides on edits.
pub enum Scores<'m> {
    Model(Editor<'m>),
    Caching(Box<CachingEditor<'m>>),
    Cached(CachedEditor),
}

/// Checks that a cache suffices, and that one can be written, before anything long begins.
pub fn check(args: &EditArgs, config: &EditConfig) -> Result<()> {
    if args.cache.cache.is_some() || args.cache.from_cache.is_some() {
        largest(config)?;
    }
    match &args.cache.cache {
        Some(folder) => CacheWriter::check(folder, args.output.overwrite),
        None => Ok(()),
    }
}

/// Sets up the session, with the model unless a cache stands for it.
pub fn open(args: &EditArgs, interrupt: &Interrupt) -> Result<(Session, Option<Model>)> {
    let compose = args.records.compose(args.window.bos);
    let (model, run, window) = (&args.model, &args.run, &args.window);
    if args.cache.from_cache.is_some() {
        return Ok((Session::without_model(model, run, window, compose, interrupt)?, None));
    }
    let (session, model) = Session::open(model, run, window, compose, interrupt)?;
    Ok((session, Some(model)))
}

impl<'m> Scores<'m> {
    /// Of the model, where there is one.
    pub fn new(
        args: &EditArgs,
        session: &mut Session,
        model: Option<&'m Model>,
        config: &EditConfig,
    ) -> Result<Self> {
        let (score, config) = (session.score.clone(), config.clone());
        let windows = score.windows;
        match (&args.cache.from_cache, &args.cache.cache, model) {
            (None, Some(folder), Some(model)) => {
                // At least one, so that the cache is of use where nothing is drawn.
                let top_k = largest(&config)?.max(1);
                let settings = session.cache_settings(top_k)?;
                let scorer = Scorer::new(model, ScoreConfig { top_k, ..score })?;
                let writer = CacheWriter::create(folder, settings, args.output.overwrite)?;
                let editor = CachingEditor::new(scorer, writer, windows, config);
                Ok(Self::Caching(Box::new(editor)))
            }
            (None, None, Some(model)) => Ok(Self::Model(Editor::new(model, score, config)?)),
            (folder, ..) => {
                let folder = folder.as_deref().unwrap_or("".as_ref());
                let expected = session.cache_expected(&args.run)?;
                let cached = CachedEditor::open(folder, &expected, windows, config)?;
                session.made_with(&cached.settings());
                Ok(Self::Cached(cached))
            }
        }
    }

    /// What decides.
    pub fn prior(&self) -> &dyn Prior {
        match self {
            Self::Model(editor) => editor,
            Self::Caching(editor) => &**editor,
            Self::Cached(editor) => editor,
        }
    }

    /// Completes a cache that is being written.
    pub fn finish(&self) -> Result<()> {
        match self {
            Self::Caching(editor) => editor.finish(),
            Self::Model(_) | Self::Cached(_) => Ok(()),
        }
    }
}
