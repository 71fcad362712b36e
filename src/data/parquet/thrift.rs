//! The footer and the page headers of a Parquet file, looked over before the crate allocates by the numbers in them, or
//! counts to them: both are structs in Thrift's compact protocol.

use std::ops::RangeInclusive;

use super::cursor::{CUT, Cursor};

/// Structs and lists inside each other; the format's own need six.
const MAX_NESTING: usize = 32;
/// Groups of columns inside each other. The crate walks them by recursion.
const MAX_DEPTH: usize = 64;

/// The field of the file's metadata that lists the schema's nodes, and that of a node which counts its children.
const SCHEMA: i16 = 2;
const CHILDREN: i16 = 5;
/// The fields of a page header that say how long the page is, decompressed and as it lies there.
const PLAIN: i16 = 2;
const COMPRESSED: i16 = 3;
/// Those that are numbers, and those that are structs.
const NUMBERS: RangeInclusive<i16> = 1..=4;
const STRUCTS: RangeInclusive<i16> = 5..=8;

/// Numbers of two, four and eight bytes, all written alike.
const NUMBER: RangeInclusive<u8> = 4..=6;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// Checks that every length in a footer lies inside it, and that the schema is a tree that is not too deep.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn check_footer(bytes: &[u8]) -> Result<(), &'static str> {
    let mut cursor = Cursor { bytes };
    let mut id = 0;
    while let Some(kind) = cursor.field(&mut id)? {
        if id == SCHEMA && kind == LIST {
            cursor.schema()?;
        } else {
            cursor.skip(kind, 0)?;
        }
    }
    Ok(())
}

/// Bytes of a page and of its header.
#[derive(Debug, PartialEq)]
pub(super) struct PageSize {
    pub header: u64,
    pub stored: u64,
    /// When it is decompressed.
    pub plain: u64,
}

/// The size of the page whose header `bytes` begin with. The crate would pass over a list of two thousand million numbers one
/// by one, where the file has ended long before; and it reads the fields that it knows as what they should be, whatever they
/// say they are, so that it could find such a list where there is none.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn page(bytes: &[u8]) -> Result<PageSize, &'static str> {
    let mut cursor = Cursor { bytes };
    let (mut id, mut stored, mut plain) = (0, None, None);
    while let Some(kind) = cursor.field(&mut id)? {
        if NUMBERS.contains(&id) && !NUMBER.contains(&kind) || STRUCTS.contains(&id) && kind != STRUCT {
            return Err(OTHER_KIND);
        }
        match id {
            PLAIN => plain = Some(cursor.size()?),
            COMPRESSED => stored = Some(cursor.size()?),
            _ if STRUCTS.contains(&id) => cursor.kind_of_page(numbers(id))?,
            _ => cursor.skip(kind, 1)?,
        }
    }
    let (Some(stored), Some(plain)) = (stored, plain) else {
        return Err("a page header does not say how long the page is");
    };
    Ok(PageSize { header: (bytes.len() - cursor.bytes.len()) as u64, stored, plain })
}

/// The last of the fields that are numbers, from the first, in one of a page header's structs: of a page of values, of an
/// index or a dictionary, of a page of the second version.
fn numbers(id: i16) -> i16 {
    match id {
        5 => 4,
        6 => 0,
        7 => 2,
        _ => 6,
    }
}

const OTHER_KIND: &str = "a field of a page header is not of its kind";

impl Cursor<'_> {
    fn size(&mut self) -> Result<u64, &'static str> {
        u64::try_from(self.zigzag()?).map_err(|_| "a page has less than no bytes")
    }

    /// The kind of the next field, whose number goes to `id`; `None` at the end of the struct.
    fn field(&mut self, id: &mut i16) -> Result<Option<u8>, &'static str> {
        let header = self.byte()?;
        if header == 0 {
            return Ok(None);
        }
        *id = match header >> 4 {
            0 => self.zigzag()? as i16,
            delta => id.wrapping_add(i16::from(delta)),
        };
        Ok(Some(header & 15))
    }

    /// The kind of a list's elements and how many there are: each takes at least one byte.
    fn list(&mut self) -> Result<(u8, u64), &'static str> {
        let header = self.byte()?;
        let count = match header >> 4 {
            15 => self.varint()?,
            count => u64::from(count),
        };
        if count > self.bytes.len() as u64 { Err(CUT) } else { Ok((header & 15, count)) }
    }

    fn skip(&mut self, kind: u8, nesting: usize) -> Result<(), &'static str> {
        if nesting > MAX_NESTING {
            return Err("the footer or a page header is nested too deeply");
        }
        match kind {
            1 | 2 => {}
            3 => drop(self.take(1)?),
            _ if NUMBER.contains(&kind) => drop(self.varint()?),
            7 => drop(self.take(8)?),
            8 => {
                let length = self.varint()?;
                self.take(length)?;
            }
            LIST | 10 => self.elements(nesting)?,
            11 => self.map(nesting)?,
            STRUCT => {
                let mut id = 0;
                while let Some(kind) = self.field(&mut id)? {
                    self.skip(kind, nesting + 1)?;
                }
            }
            13 => drop(self.take(16)?),
            _ => return Err("the footer or a page header holds a value of an unknown kind"),
        }
        Ok(())
    }

    fn elements(&mut self, nesting: usize) -> Result<(), &'static str> {
        let (kind, count) = self.list()?;
        for _ in 0..count {
            self.element(kind, nesting)?;
        }
        Ok(())
    }

    fn map(&mut self, nesting: usize) -> Result<(), &'static str> {
        let count = self.varint()?;
        let kinds = if count > 0 { self.byte()? } else { 0 };
        if count > self.bytes.len() as u64 {
            return Err(CUT);
        }
        for _ in 0..count {
            self.element(kinds >> 4, nesting)?;
            self.element(kinds & 15, nesting)?;
        }
        Ok(())
    }

    /// The format has no list of truth values, and the crate passes over them as if they took no bytes.
    fn element(&mut self, kind: u8, nesting: usize) -> Result<(), &'static str> {
        if matches!(kind, 1 | 2) { Err("a list of truth values") } else { self.skip(kind, nesting + 1) }
    }

    /// A struct whose fields are numbers up to the given one.
    fn kind_of_page(&mut self, numbers: i16) -> Result<(), &'static str> {
        let mut id = 0;
        while let Some(kind) = self.field(&mut id)? {
            if (1..=numbers).contains(&id) && !NUMBER.contains(&kind) {
                return Err(OTHER_KIND);
            }
            self.skip(kind, 2)?;
        }
        Ok(())
    }

    /// The schema's nodes, each before its children.
    fn schema(&mut self) -> Result<(), &'static str> {
        let (kind, count) = self.list()?;
        if kind != STRUCT {
            return Err("the schema in the footer is no list of nodes");
        }
        // How many children each group on the way to the root still waits for.
        let mut open: Vec<u64> = Vec::new();
        for left in (0..count).rev() {
            let children = self.children()?;
            if children > left {
                return Err("a group in the schema has more children than there are nodes");
            }
            if children > 0 {
                open.push(children);
            } else {
                while open.last_mut().is_some_and(|waiting| {
                    *waiting -= 1;
                    *waiting == 0
                }) {
                    open.pop();
                }
            }
            if open.len() > MAX_DEPTH {
                return Err("the schema is nested more than 64 levels deep");
            }
        }
        Ok(())
    }

    fn children(&mut self) -> Result<u64, &'static str> {
        let (mut id, mut children) = (0, 0);
        while let Some(kind) = self.field(&mut id)? {
            if id == CHILDREN && NUMBER.contains(&kind) {
                children = u64::try_from(self.zigzag()?).map_err(|_| "a group has less than no children")?;
            } else {
                self.skip(kind, 1)?;
            }
        }
        Ok(children)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_headers_say_where_the_next_one_begins() {
        // Kind of page 0, 5 bytes, 3 of them compressed; then bytes of the page.
        assert_eq!(
            page(&[0x15, 0, 0x15, 10, 0x15, 6, 0, 9, 9, 9]),
            Ok(PageSize { header: 7, stored: 3, plain: 5 })
        );
        assert!(page(&[0x15, 0, 0x15, 10, 0, 9, 9, 9]).unwrap_err().contains("how long the page is"));
        assert!(page(&[0x15, 0, 0x15, 10, 0x15, 5, 0]).unwrap_err().contains("less than no bytes"));
        assert_eq!(page(&[0x15, 0, 0x15, 10]), Err(CUT));
        // A field that is a list of 2³¹ − 1 numbers.
        assert_eq!(page(&[0x99, 0xf5, 0xff, 0xff, 0xff, 0xff, 7, 0]), Err(CUT));
    }

    #[test]
    fn page_headers_say_the_same_to_everyone() {
        // Bytes where a number belongs, in the header and in the struct of a page of values; two truth values in a list.
        assert_eq!(page(&[0x18, 1, 0, 0]), Err(OTHER_KIND));
        assert_eq!(page(&[0x25, 0, 0x15, 6, 0x28, 2, 0]), Err(OTHER_KIND));
        assert_eq!(page(&[0x25, 0, 0x15, 6, 0x2c, 0x18, 1, 0, 0, 0]), Err(OTHER_KIND));
        assert_eq!(
            page(&[0x25, 0, 0x15, 6, 0x2c, 0x15, 0, 0, 0]),
            Ok(PageSize { header: 9, stored: 3, plain: 0 })
        );
        assert!(page(&[0x35, 6, 0x69, 0x22, 1, 1, 0]).unwrap_err().contains("truth values"));
    }
}
