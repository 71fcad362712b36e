//! Continuous batching: sequences in slots, a step of the model at a time.

use std::ops::ControlFlow;

use super::backend::{Draw, DrawConfig, Drawn};
use super::decoder::{Decoder, Extension, not_finite};
use super::{Finish, GenerateConfig, Generated, Prompt};
use crate::Result;
use crate::ops::sample::Seen;
use crate::random::{Purpose, Stream};
use crate::score::check_stop;

/// Prompts on their way to texts.
pub(super) struct Batching<'a> {
    config: &'a GenerateConfig,
    prompts: &'a [Prompt<'a>],
    streams: Vec<Stream>,
    /// The prompt to begin with next.
    next: usize,
    slots: Vec<Option<Sequence>>,
    done: Vec<Option<Generated>>,
}

/// A text under way.
struct Sequence {
    /// Its prompt.
    index: usize,
    /// Tokens of it that the model has read.
    read: usize,
    generated: Generated,
    /// For a repetition penalty.
    seen: Option<Seen>,
}

impl<'a> Batching<'a> {
    pub fn new(config: &'a GenerateConfig, prompts: &'a [Prompt]) -> Result<Self> {
        let stream =
            |prompt: &Prompt| Stream::new(config.seed, prompt.stream, Purpose::Generate, prompt.sample);
        let streams = prompts.iter().map(stream).collect::<Result<_>>()?;
        let slots = (0..config.batch_size.min(prompts.len())).map(|_| None).collect();
        Ok(Self { config, prompts, streams, next: 0, slots, done: vec![None; prompts.len()] })
    }

    pub fn run(
        mut self,
        decoder: &mut Decoder,
        mut watch: impl FnMut(usize, u32) -> ControlFlow<()>,
    ) -> Result<Vec<Generated>> {
        loop {
            check_stop(self.config.stop.as_deref())?;
            self.fill(decoder)?;
            if self.slots.iter().all(Option::is_none) {
                break;
            }
            self.step(decoder, &mut watch)?;
        }
        Ok(self.done.into_iter().map(|generated| generated.expect("every prompt has ended")).collect())
    }

    /// Begins with prompts where there is room.
    fn fill(&mut self, decoder: &mut Decoder) -> Result<()> {
        for (slot, sequence) in self.slots.iter_mut().enumerate().filter(|(_, sequence)| sequence.is_none()) {
            let Some(prompt) = self.prompts.get(self.next) else { break };
            decoder.truncate(slot, 0)?;
            let seen = (self.config.sampling.repetition_penalty != 1.0).then(|| {
                let mut seen = Seen::new(self.config.vocabulary);
                prompt.ids.iter().for_each(|id| seen.insert(*id));
                seen
            });
            let generated = Generated { ids: Vec::new(), logprobs: Vec::new(), finish: Finish::Length };
            *sequence = Some(Sequence { index: self.next, read: 0, generated, seen });
            self.next += 1;
        }
        Ok(())
    }

    /// Takes a token further every sequence whose prompt is read, and reads prompts as far as there is room.
    fn step(
        &mut self,
        decoder: &mut Decoder,
        watch: &mut impl FnMut(usize, u32) -> ControlFlow<()>,
    ) -> Result<()> {
        let GenerateConfig { sampling, vocabulary, logprobs: statistics, .. } = *self.config;
        let extensions = self.extensions(decoder.room());
        let drawing = extensions.iter().filter(|(_, draw)| draw.is_some());
        let drawing: Vec<_> = drawing.map(|(extension, _)| extension.slot).collect();
        let drawn = decoder.draw(&extensions, DrawConfig { sampling, vocabulary, statistics })?;
        let read: Vec<_> = extensions.iter().map(|(Extension { slot, ids }, _)| (*slot, ids.len())).collect();
        for (slot, tokens) in read {
            self.slots[slot].iter_mut().for_each(|sequence| sequence.read += tokens);
        }
        for (slot, drawn) in drawing.into_iter().zip(drawn) {
            let Some(sequence) = &mut self.slots[slot] else { continue };
            let Drawn { id, statistics } = drawn.ok_or_else(|| not_finite(sequence.index))?;
            sequence.generated.ids.push(id);
            sequence.generated.logprobs.extend(statistics.map(|row| row.log_probability()));
            sequence.seen.iter_mut().for_each(|seen| seen.insert(id));
            let stopped = watch(sequence.index, id).is_break();
            if let Some(finish) = self.finish(slot, stopped)
                && let Some(Sequence { index, generated, .. }) = self.slots[slot].take()
            {
                self.done[index] = Some(Generated { finish, ..generated });
            }
        }
        Ok(())
    }

    /// What the model reads next of each sequence, and what is drawn behind it: the last token, or as much of a prompt as
    /// there is room for in `room` tokens.
    fn extensions<'s>(&'s self, room: usize) -> Vec<(Extension<'s>, Option<Draw<'s>>)> {
        let mut room = room - self.slots.iter().flatten().count();
        let of_slot = |(slot, sequence): (usize, &'s Option<Sequence>)| {
            let Sequence { index, read, generated, seen } = sequence.as_ref()?;
            let prompt = self.prompts[*index].ids;
            let ids = match generated.ids.last_chunk::<1>() {
                Some(last) => &last[..],
                None => &prompt[*read..prompt.len().min(read + 1 + room)],
            };
            room -= ids.len() - 1;
            let draw = (read + ids.len() >= prompt.len()).then(|| {
                let random = self.streams[*index].draw(generated.ids.len() as u32, 0);
                Draw { random, seen: seen.as_ref() }
            });
            Some((Extension { slot, ids }, draw))
        };
        self.slots.iter().enumerate().filter_map(of_slot).collect()
    }

    /// Why a text ends with its last token, if it does.
    fn finish(&self, slot: usize, stopped: bool) -> Option<Finish> {
        let Sequence { index, generated, .. } = self.slots[slot].as_ref()?;
        let ids = &generated.ids;
        let GenerateConfig { eos, max_new_tokens, max_length, .. } = self.config;
        if ids.last().is_some_and(|id| eos.contains(id)) {
            return Some(Finish::Eos);
        }
        if stopped {
            return Some(Finish::Stop);
        }
        let is_full =
            ids.len() >= *max_new_tokens || self.prompts[*index].ids.len() + ids.len() >= *max_length;
        is_full.then_some(Finish::Length)
    }
}
