//! Windows of documents, collected until a pack is full.

use std::ops::Range;

use super::Origin;
use crate::model::Pack;
use crate::score::sequence::Stretch;
use crate::tensor::PANEL;

/// Collects windows until the budget is full.
pub(super) struct Packer {
    tokens: usize,
    key_blocks: usize,
    pub pack: Pack,
    pub origins: Vec<Origin>,
    used_blocks: usize,
}

impl Packer {
    /// Of packs of up to `tokens` tokens, and of `key_blocks` blocks of keys, of which every window starts a new one.
    pub fn new(tokens: usize, key_blocks: usize) -> Self {
        let pack = Pack { cu_seqlens: vec![0], ..Pack::default() };
        Self { tokens, key_blocks, pack, origins: Vec::new(), used_blocks: 0 }
    }

    /// Whether a window of `tokens` tokens more fits.
    pub fn fits(&self, tokens: usize) -> bool {
        self.pack.ids.len() + tokens <= self.tokens
            && self.used_blocks + tokens.div_ceil(PANEL) <= self.key_blocks
    }

    /// Empties the pack, and hands out where its rows belong.
    pub fn take_origins(&mut self) -> Vec<Origin> {
        self.pack.ids.clear();
        self.pack.cu_seqlens.truncate(1);
        self.pack.rows.clear();
        self.pack.targets.clear();
        self.used_blocks = 0;
        std::mem::take(&mut self.origins)
    }

    /// Adds the places `window` of a document's stretch; of those in `range` the ones that are asked for are scored. The
    /// last place is at most predicted: no row needs its token read.
    pub fn push(&mut self, document: usize, stretch: &Stretch, window: Range<usize>, range: Range<usize>) {
        let base = self.pack.ids.len();
        for place in stretch.scored(range) {
            self.pack.rows.push(base + place - 1 - window.start);
            self.pack.targets.push(stretch.id(place));
            let position = stretch.first + place - stretch.context.len();
            self.origins.push(Origin { document, position });
        }
        let read = window.start..window.end - 1;
        self.used_blocks += read.len().div_ceil(PANEL);
        self.pack.ids.extend(read.map(|place| stretch.id(place)));
        self.pack.cu_seqlens.push(self.pack.ids.len());
    }
}
