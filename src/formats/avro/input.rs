//! A row's bytes, from the first to the last: every length is checked before it is believed.

/// Records, arrays, maps and unions within each other, in what is not a column's.
const DEPTH_MAX: usize = 128;

/// What is left of a row.
#[derive(Debug)]
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let Some((taken, rest)) = self.0.split_at_checked(len) else {
            return Err(format!("the row ends too early: {len} bytes are to come, and it has {}", self.0.len()));
        };
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn long(&mut self) -> Result<i64, String> {
        let mut value = 0_u64;
        for place in 0..10_u32 {
            let [byte] = self.array()?;
            if place == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err("the row has an integer of more than 64 bits".to_owned())
    }

    pub(super) fn int(&mut self) -> Result<i64, String> {
        let value = self.long()?;
        i32::try_from(value).map_err(|_| format!("the row has {value} where Avro has an int of 32 bits"))?;
        Ok(value)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], String> {
        let len = self.long()?;
        self.take(usize::try_from(len).map_err(|_| format!("the row has bytes of the length {len}"))?)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, String> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "the row has text that is no UTF-8".to_owned())
    }

    pub(super) fn boolean(&mut self) -> Result<bool, String> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [byte] => Err(format!("the row has {byte} for a boolean")),
        }
    }

    /// Which of so many.
    pub(super) fn place(&mut self, of: usize) -> Result<usize, String> {
        let place = self.long()?;
        usize::try_from(place).ok().filter(|place| *place < of).ok_or_else(|| format!("the row has place {place} of {of}"))
    }

    /// The next block; None after the last.
    pub(super) fn block(&mut self) -> Result<Option<Block>, String> {
        let count = self.long()?;
        if count == 0 {
            return Ok(None);
        }
        let says = if count < 0 { Some(self.long()?) } else { None };
        Ok(Some(Block { count: count.unsigned_abs(), says, left: self.0.len() }))
    }
}

/// So many items of a list or map, one after the other.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) count: u64,
    /// Its bytes, where the row says them.
    says: Option<i64>,
    /// Of the row, from its first item on.
    left: usize,
}

impl Block {
    /// All items are read. A reader that goes by a wrong length finds other values behind it than one that goes by the items.
    pub(super) fn ended(&self, input: &Input<'_>) -> Result<(), String> {
        let has = self.left - input.0.len();
        match self.says {
            Some(says) if i64::try_from(has) != Ok(says) => Err(format!("the row has a block that says {says} bytes, and has {has}")),
            _ => Ok(()),
        }
    }
}

/// One level deeper.
pub(super) fn deeper(depth: usize) -> Result<usize, String> {
    if depth == DEPTH_MAX { Err(format!("the row nests more than {DEPTH_MAX} levels deep")) } else { Ok(depth + 1) }
}
