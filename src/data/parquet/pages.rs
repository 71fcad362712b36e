//! A column chunk's pages, checked before the crate makes room for as many values as they say they hold.

use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::ColumnDescPtr;

use super::chunks::Chunks;
use super::cursor::{CUT, Cursor};

/// The longest block of packed differences. Usual are 128 and 256.
const MAX_BLOCK: u64 = 1 << 16;

/// The crate's reader of pages, which decompresses them.
pub(super) struct Pages {
    pub reader: SerializedPageReader<Chunks>,
    pub column: ColumnDescPtr,
}

impl Pages {
    fn checked(&self, page: Option<Page>) -> Result<Option<Page>> {
        if let Some(page) = &page {
            check(page, [self.column.max_rep_level(), self.column.max_def_level()])
                .map_err(|reason| ParquetError::General(reason.into()))?;
        }
        Ok(page)
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.reader.get_next_page()?;
        self.checked(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.reader.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.reader.skip_next_page()
    }

    fn supports_deferred_dictionary(&self) -> bool {
        self.reader.supports_deferred_dictionary()
    }

    fn take_deferred_dictionary(&mut self) -> Result<Option<Page>> {
        let page = self.reader.take_deferred_dictionary()?;
        self.checked(page)
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.reader.at_record_boundary()
    }
}

/// Checks that a page has what it says it has. `depths` are the highest levels of repetition and of definition.
fn check(page: &Page, depths: [i16; 2]) -> Result<(), &'static str> {
    let (encoding, values) = match page {
        Page::DictionaryPage { buf, num_values, .. } => {
            let fits = *num_values as usize <= buf.len();
            return fits.then_some(()).ok_or("a dictionary counts more values than it has bytes");
        }
        Page::DataPage { buf, num_values, encoding, def_level_encoding, rep_level_encoding, .. } => {
            let mut cursor = Cursor { bytes: buf };
            for (depth, encoding) in depths.into_iter().zip([rep_level_encoding, def_level_encoding]) {
                cursor.levels(depth, *num_values, *encoding)?;
            }
            (encoding, cursor)
        }
        Page::DataPageV2 { buf, encoding, def_levels_byte_len, rep_levels_byte_len, .. } => {
            let mut cursor = Cursor { bytes: buf };
            cursor.take(u64::from(*rep_levels_byte_len) + u64::from(*def_levels_byte_len))?;
            (encoding, cursor)
        }
    };
    lengths(*encoding, values)
}

/// Passes over the lengths of strings, for which the crate makes room before it reads them.
fn lengths(encoding: Encoding, mut values: Cursor<'_>) -> Result<(), &'static str> {
    let lists = match encoding {
        Encoding::DELTA_LENGTH_BYTE_ARRAY => 1,
        // Of what a string shares with the one before it, and of the rest.
        Encoding::DELTA_BYTE_ARRAY => 2,
        _ => 0,
    };
    (0..lists).try_for_each(|_| values.deltas())
}

impl Cursor<'_> {
    /// Passes over the levels before a page's values.
    fn levels(&mut self, depth: i16, count: u32, encoding: Encoding) -> Result<(), &'static str> {
        if depth == 0 {
            return Ok(());
        }
        let length = if encoding == Encoding::RLE {
            let length = self.take(4)?.try_into().map_err(|_| CUT)?;
            u64::from(u32::from_le_bytes(length))
        } else {
            // Packed bits, as old files have them.
            let bits = i16::BITS - depth.leading_zeros();
            (u64::from(count) * u64::from(bits)).div_ceil(8)
        };
        self.take(length).map(drop)
    }

    /// Passes over numbers that are packed as differences, in blocks of parts with a width in bits each.
    fn deltas(&mut self) -> Result<(), &'static str> {
        let (block, parts, count) = (self.varint()?, self.varint()?, self.varint()?);
        let _first = self.varint()?;
        if block > MAX_BLOCK || parts == 0 || !block.is_multiple_of(parts) {
            return Err("packed differences have blocks of no known size");
        }
        let part = block / parts;
        let mut left = count.saturating_sub(1);
        while left > 0 {
            let _least = self.varint()?;
            for &width in self.take(parts)? {
                if left > 0 {
                    self.take(u64::from(width) * part / 8)?;
                }
                left = left.saturating_sub(part);
            }
        }
        Ok(())
    }
}
