//! The footer and the page headers of a Parquet file, looked over before the crate allocates by the numbers in them, or
//! counts to them: both are structs in Thrift's compact protocol.

/// Structs and lists inside each other; the format's own need six.
const MAX_NESTING: usize = 32;
/// Groups of columns inside each other. The crate walks them by recursion.
const MAX_DEPTH: usize = 64;

/// The field of the file's metadata that lists the schema's nodes, and that of a node which counts its children.
const SCHEMA: i16 = 2;
const CHILDREN: i16 = 5;
/// The field of a page header that says how long the page is.
const COMPRESSED_SIZE: i16 = 3;

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

/// The length of the page header that `bytes` begin with, and of the page behind it. The crate would pass over a list of two
/// thousand million numbers one by one, where the file has ended long before.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn page(bytes: &[u8]) -> Result<(u64, u64), &'static str> {
    let mut cursor = Cursor { bytes };
    let (mut id, mut size) = (0, 0);
    while let Some(kind) = cursor.field(&mut id)? {
        if id == COMPRESSED_SIZE && (4..=6).contains(&kind) {
            size = u64::try_from(cursor.zigzag()?).map_err(|_| "a page has less than no bytes")?;
        } else {
            cursor.skip(kind, 1)?;
        }
    }
    Ok(((bytes.len() - cursor.bytes.len()) as u64, size))
}

const CUT: &str = "a length in the footer or in a page header points past its end";

/// What is left of the struct.
struct Cursor<'a> {
    bytes: &'a [u8],
}

impl Cursor<'_> {
    fn take(&mut self, count: u64) -> Result<&[u8], &'static str> {
        let count = usize::try_from(count).map_err(|_| CUT)?;
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(CUT)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        Ok(self.take(1)?[0])
    }

    fn varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number in the footer or in a page header has too many bytes")
    }

    fn zigzag(&mut self) -> Result<i64, &'static str> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
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
            4..=6 => drop(self.varint()?),
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

    /// Outside of structs a truth value is a byte.
    fn element(&mut self, kind: u8, nesting: usize) -> Result<(), &'static str> {
        if matches!(kind, 1 | 2) { self.take(1).map(drop) } else { self.skip(kind, nesting + 1) }
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
            if id == CHILDREN && (4..=6).contains(&kind) {
                children = u64::try_from(self.zigzag()?).map_err(|_| "a group has less than no children")?;
            } else {
                self.skip(kind, 1)?;
            }
        }
        Ok(children)
    }
}
