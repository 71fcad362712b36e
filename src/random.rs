//! Counter-based random numbers: a draw is a pure function of (seed, stream, position, purpose, generation, draw).
//!
//! The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11). There is no
//! state to advance, so no order of work, batch or thread can change what a position draws.

pub(crate) mod permutation;

use xxhash_rust::xxh3::Xxh3;

use crate::{Error, Result};

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// One block of Philox4x32-10.
///
/// ```
/// let block = toedit::random::philox4x32([0; 4], [0; 2]);
/// assert_eq!(block, [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
/// ```
#[inline]
pub fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let (high0, low0) = multiply(MULTIPLIERS[0], counter[0]);
        let (high1, low1) = multiply(MULTIPLIERS[1], counter[2]);
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// The high and low word of a 32 × 32 bit product.
#[inline]
fn multiply(a: u32, b: u32) -> (u32, u32) {
    let product = u64::from(a) * u64::from(b);
    ((product >> 32) as u32, product as u32)
}

/// A random word as a number strictly between 0 and 1: (word + 0.5)·2⁻³².
///
/// In f64, because in f32 the largest words would round to 1.
#[inline]
pub fn uniform(word: u32) -> f64 {
    (f64::from(word) + 0.5) / 4_294_967_296.0
}

/// What random numbers are used for. Each purpose has counters of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// Resampling tokens of a text.
    Edit = 0,
    /// Generating new text.
    Generate = 1,
    /// Putting records in a random order.
    Shuffle = 2,
    /// Choosing records for a mixture.
    Mix = 3,
    /// The first values of weights.
    Initialize = 4,
    /// Simulated data.
    Simulate = 5,
    /// Choosing the best of noisy weights.
    Select = 6,
}

/// Two independent numbers, uniform on (0, 1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Uniform {
    /// From word 0 of the block.
    pub first: f64,
    /// From word 1 of the block.
    pub second: f64,
}

/// The random numbers of one document for one purpose and generation, addressed by position and draw.
///
/// ```
/// use toedit::random::{Purpose, Stream};
/// let stream = Stream::new(7, 42, Purpose::Edit, 0)?;
/// assert_eq!(stream.draw(3, 0), stream.draw(3, 0));
/// assert_ne!(stream.draw(3, 0), stream.draw(3, 1));
/// # Ok::<(), toedit::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    seed: u64,
    stream: u64,
    /// The purpose in the top 4 bits, the generation in the next 20, the draw's 8 bits left 0.
    tag: u32,
}

impl Stream {
    /// The largest generation or sample that the counter has room for: 2²⁰ − 1.
    pub const MAX_GENERATION: u32 = (1 << 20) - 1;

    /// The stream number `stream` under `seed`. `generation` counts the rounds of editing, or the samples of a prompt.
    ///
    /// # Errors
    /// [`Error::Usage`] if `generation` exceeds [`Stream::MAX_GENERATION`].
    pub fn new(seed: u64, stream: u64, purpose: Purpose, generation: u32) -> Result<Self> {
        if generation > Self::MAX_GENERATION {
            let most = Self::MAX_GENERATION;
            return Err(Error::Usage(format!("generation or sample {generation}: expected at most {most}")));
        }
        Ok(Self { seed, stream, tag: (purpose as u32) << 28 | generation << 8 })
    }

    /// The counter's last word for draw 0, which draws are added to.
    #[cfg(kernels)]
    pub(crate) fn tag(&self) -> u32 {
        self.tag
    }

    /// The numbers of draw `draw` at token position `position`.
    #[inline]
    pub fn draw(&self, position: u32, draw: u8) -> Uniform {
        let [word0, word1, ..] = self.block(position, draw);
        Uniform { first: uniform(word0), second: uniform(word1) }
    }

    /// The words behind [`Stream::draw`], where bits are wanted rather than numbers.
    #[inline]
    pub(crate) fn block(&self, position: u32, draw: u8) -> [u32; 4] {
        let [stream_low, stream_high] = words(self.stream);
        philox4x32([stream_low, stream_high, position, self.tag | u32::from(draw)], words(self.seed))
    }
}

/// The low and high word.
#[inline]
fn words(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

/// The stream number of a text: XXH3-64 of a type byte (0), the length in bytes as a little-endian u64, the UTF-8
/// bytes, and the raw JSON of the record's `id` if it has one.
///
/// File, line and shard play no part, so a document draws the same numbers wherever it lies; equal documents without
/// ids draw equal numbers.
pub fn text_stream(text: &str, id: Option<&str>) -> u64 {
    hash(0, text.len(), id, |hasher| hasher.update(text.as_bytes()))
}

/// The stream number of a token sequence: as [`text_stream`] with type byte 1, the number of ids, and each id as a
/// little-endian u32.
pub fn ids_stream(ids: &[u32], id: Option<&str>) -> u64 {
    hash(1, ids.len(), id, |hasher| ids.iter().for_each(|token| hasher.update(&token.to_le_bytes())))
}

/// The stream number of something that has a name: as [`text_stream`] with type byte 2, without an id.
pub fn name_stream(name: &str) -> u64 {
    hash(2, name.len(), None, |hasher| hasher.update(name.as_bytes()))
}

fn hash(kind: u8, length: usize, id: Option<&str>, content: impl FnOnce(&mut Xxh3)) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(&[kind]);
    hasher.update(&(length as u64).to_le_bytes());
    content(&mut hasher);
    hasher.update(id.unwrap_or_default().as_bytes());
    hasher.digest()
}
