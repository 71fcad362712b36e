//! Sequences in slots, with their keys and values: for whoever lets many texts go on from one.

use std::collections::VecDeque;

use super::backend::{Backend, Cpu, Draw, DrawConfig, Drawn};
#[cfg(kernels)]
use super::device::OnDevice;
use crate::model::{AnyTransformer, Config, Model, Pack};
use crate::score::{Statistics, unknown_id};
use crate::{Error, Result};

/// Tokens of a pack, but at least one for each slot.
const PACK_TOKENS: usize = 1024;

/// A model with sequences that go on.
///
/// ```
/// use toedit::generate::{Decoder, Extension};
/// use toedit::{Dtype, Model};
/// let model = Model::load("assets/tiny", Dtype::F32)?;
/// let mut decoder = Decoder::new(&model, 2, 64)?;
/// decoder.read(&[Extension { slot: 0, ids: &[5, 6, 7] }])?;
/// decoder.fork(0, 1, 2)?;
/// // Both score the token 9 behind 5, 6, 7.
/// let again = [Extension { slot: 1, ids: &[7, 9] }];
/// let whole = [Extension { slot: 0, ids: &[5, 6, 7, 9] }];
/// let forked = decoder.score(&again)?;
/// decoder.truncate(0, 0)?;
/// assert_eq!(decoder.score(&whole)?[0][2], forked[0][0]);
/// # Ok::<(), toedit::Error>(())
/// ```
pub struct Decoder<'m> {
    config: &'m Config,
    backend: Box<dyn Backend + 'm>,
    slots: usize,
    max_length: usize,
}

/// Tokens for the sequence in a slot.
#[derive(Clone, Copy, Debug)]
pub struct Extension<'a> {
    /// The slot.
    pub slot: usize,
    /// The tokens.
    pub ids: &'a [u32],
}

/// What is asked of the rows of an extension.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Nothing,
    /// The last one.
    Last,
    /// Each, with the token after it as target; the last token is a target only.
    Targets,
}

impl<'m> Decoder<'m> {
    /// Room for `slots` sequences of up to `max_length` tokens. The CPU takes memory as sequences grow, other devices
    /// take all of it.
    ///
    /// # Errors
    /// [`Error::Usage`] for sequences longer than the model's positions, or no slots; [`Error::Device`] where it
    /// has no room for as many.
    pub fn new(model: &'m Model, slots: usize, max_length: usize) -> Result<Self> {
        let config = model.config();
        let (name, bound) = config.context();
        if max_length == 0 || max_length > bound {
            return Err(Error::Usage(format!("max length {max_length}: the model's {name} is {bound}")));
        }
        let room = PACK_TOKENS.max(slots);
        // What no memory has cannot be asked for.
        let tokens = slots.checked_mul(max_length).filter(|tokens| *tokens < 1 << 32 && slots > 0);
        if tokens.is_none() {
            return Err(Error::Usage(format!("{slots} sequences of {max_length} tokens at a time")));
        }
        let backend: Box<dyn Backend + 'm> = match &model.transformer {
            AnyTransformer::F32(model) => Box::new(Cpu::new(model, slots, max_length, room)),
            AnyTransformer::Bf16(model) => Box::new(Cpu::new(model, slots, max_length, room)),
            #[cfg(kernels)]
            AnyTransformer::DeviceF32(model) => Box::new(OnDevice::new(model, slots, max_length, room)?),
            #[cfg(kernels)]
            AnyTransformer::DeviceBf16(model) => Box::new(OnDevice::new(model, slots, max_length, room)?),
        };
        Ok(Self { config, backend, slots, max_length })
    }

    /// How many sequences there is room for.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Tokens in a slot.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn length(&self, slot: usize) -> usize {
        self.backend.length(slot)
    }

    /// Forgets all but the first `length` tokens of a slot.
    ///
    /// # Errors
    /// What went wrong on the device.
    ///
    /// # Panics
    /// If there are fewer, or there is no such slot.
    pub fn truncate(&mut self, slot: usize, length: usize) -> Result<()> {
        self.backend.truncate(slot, length)
    }

    /// Replaces the sequence in slot `to` by the first `length` tokens of slot `from`.
    ///
    /// # Errors
    /// As [`Decoder::truncate`].
    ///
    /// # Panics
    /// As [`Decoder::truncate`].
    pub fn fork(&mut self, from: usize, to: usize, length: usize) -> Result<()> {
        self.backend.fork(from, to, length)
    }

    /// Adds tokens to the sequences in slots.
    ///
    /// # Errors
    /// [`Error::Document`], with the index of the extension, for an id outside the vocabulary or a sequence beyond the
    /// longest; two extensions of one slot.
    pub fn read(&mut self, extensions: &[Extension]) -> Result<()> {
        self.run(extensions, Wanted::Nothing, |_, _| Ok(()))
    }

    /// Adds tokens, and hands the logits behind the last of each extension to `f`, with the extension's index. Of one
    /// without tokens there are none.
    ///
    /// # Errors
    /// As [`Decoder::read`].
    pub fn logits(&mut self, extensions: &[Extension], mut f: impl FnMut(usize, &[f32])) -> Result<()> {
        self.run(extensions, Wanted::Last, |backend, rows| {
            backend.logits(&mut |row, logits| f(rows[row], logits))
        })
    }

    /// Adds all tokens of each extension but its last one, and gives the statistics of all but its first, each given all
    /// before it. The bits are those of scoring the whole sequence.
    ///
    /// # Errors
    /// As [`Decoder::read`]; logits that are not finite.
    pub fn score(&mut self, extensions: &[Extension]) -> Result<Vec<Vec<Statistics>>> {
        let of = |extension: &Extension| Vec::with_capacity(extension.ids.len());
        let mut scored: Vec<Vec<Statistics>> = extensions.iter().map(of).collect();
        self.run(extensions, Wanted::Targets, |backend, rows| {
            for (index, statistics) in rows.iter().zip(backend.score()?) {
                if !statistics.is_finite() {
                    return Err(not_finite(*index));
                }
                scored[*index].push(statistics);
            }
            Ok(())
        })?;
        Ok(scored)
    }

    /// Adds the extensions, which fit a pack, and draws a token behind each of those that ask for one.
    pub(super) fn draw(
        &mut self,
        extensions: &[(Extension, Option<Draw>)],
        config: DrawConfig,
    ) -> Result<Vec<Option<Drawn>>> {
        let mut step = Step::default();
        let mut draws = Vec::with_capacity(extensions.len());
        for (index, (extension, draw)) in extensions.iter().enumerate() {
            let wanted = if draw.is_some() { Wanted::Last } else { Wanted::Nothing };
            step.push(index, extension.slot, extension.ids, (wanted, true));
            draws.extend(*draw);
        }
        self.backend.extend(&step.pack, &step.slots)?;
        self.backend.draw(config, &draws)
    }

    /// Tokens of a pack at most.
    pub(super) fn room(&self) -> usize {
        self.backend.room()
    }

    /// Pack by pack; `visit` learns which extension each row of a pack belongs to.
    fn run(
        &mut self,
        extensions: &[Extension],
        wanted: Wanted,
        mut visit: impl FnMut(&mut dyn Backend, &[usize]) -> Result<()>,
    ) -> Result<()> {
        let mut waiting = self.check(extensions, wanted)?;
        while !waiting.is_empty() {
            let mut step = Step::default();
            while let Some((index, Extension { slot, ids })) = waiting.pop_front() {
                let left = self.backend.room() - step.pack.ids.len();
                // The last token that is only a target belongs to the piece before it.
                let read = ids.len() - usize::from(wanted == Wanted::Targets);
                let now = read.min(left);
                let piece = now + usize::from(wanted == Wanted::Targets);
                if now > 0 {
                    step.push(index, slot, &ids[..piece], (wanted, now == read));
                }
                if now < read {
                    waiting.push_front((index, Extension { slot, ids: &ids[now..] }));
                    break;
                }
            }
            self.backend.extend(&step.pack, &step.slots)?;
            if !step.owners.is_empty() {
                visit(&mut *self.backend, &step.owners)?;
            }
        }
        Ok(())
    }

    /// The extensions by their slots, those that add nothing left out.
    fn check<'a>(
        &self,
        extensions: &[Extension<'a>],
        wanted: Wanted,
    ) -> Result<VecDeque<(usize, Extension<'a>)>> {
        let targets = usize::from(wanted == Wanted::Targets);
        for (index, Extension { slot, ids }) in extensions.iter().enumerate() {
            let length = self.backend.length(*slot) + ids.len().saturating_sub(targets);
            if length > self.max_length {
                let reason = format!("{length} tokens: there is room for {}", self.max_length);
                return Err(Error::Document { index, reason });
            }
            if let Some(reason) = unknown_id(ids, self.config.vocab_size) {
                return Err(Error::Document { index, reason });
            }
        }
        let adding = extensions.iter().copied().enumerate().filter(|(_, all)| all.ids.len() > targets);
        let mut sorted: Vec<_> = adding.collect();
        sorted.sort_by_key(|(_, extension)| extension.slot);
        match sorted.windows(2).find(|pair| pair[0].1.slot == pair[1].1.slot) {
            Some(pair) => Err(Error::Usage(format!("two extensions of slot {}", pair[0].1.slot))),
            None => Ok(sorted.into()),
        }
    }
}

/// A pack in the making.
#[derive(Default)]
struct Step {
    pack: Pack,
    slots: Vec<usize>,
    /// The extension that each of the pack's rows belongs to.
    owners: Vec<usize>,
}

impl Step {
    /// Adds a piece of an extension, the last one of it or not.
    fn push(&mut self, index: usize, slot: usize, ids: &[u32], (wanted, is_last): (Wanted, bool)) {
        let Self { pack, slots, owners } = self;
        let first = pack.ids.len();
        let read = ids.len() - usize::from(wanted == Wanted::Targets);
        if pack.cu_seqlens.is_empty() {
            pack.cu_seqlens.push(0);
        }
        pack.ids.extend_from_slice(&ids[..read]);
        pack.cu_seqlens.push(pack.ids.len());
        slots.push(slot);
        let rows = match wanted {
            Wanted::Targets => first..pack.ids.len(),
            Wanted::Last if is_last => pack.ids.len() - 1..pack.ids.len(),
            Wanted::Last | Wanted::Nothing => first..first,
        };
        // Where logits are asked for there is no target: any id will do.
        let targets = if wanted == Wanted::Targets { &ids[1..] } else { &ids[read - 1..] };
        pack.targets.extend(&targets[..rows.len()]);
        owners.extend(rows.clone().map(|_| index));
        pack.rows.extend(rows);
    }
}

/// An extension that the model cannot go on from.
pub(super) fn not_finite(index: usize) -> Error {
    let reason = "the model's logits are not finite: a weight or an activation overflows; try --dtype f32";
    Error::Document { index, reason: reason.into() }
}
