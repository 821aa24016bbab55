//! The fields of a message as they are on the wire: every length is checked before it is believed.

/// Groups within each other in what is passed over.
const DEPTH_MAX: usize = 128;

/// One field's value before its type is looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(&'a [u8]),
    /// What is between a group's beginning and its end.
    Group(&'a [u8]),
}

impl Wire<'_> {
    pub(super) fn shown(self) -> &'static str {
        match self {
            Self::Varint(_) => "a varint",
            Self::Fixed64(_) => "64 bits",
            Self::Fixed32(_) => "32 bits",
            Self::Bytes(_) => "bytes",
            Self::Group(_) => "a group",
        }
    }
}

/// What is left of a message.
#[derive(Debug, Clone)]
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

    pub(super) fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0_u64;
        for place in 0..10_u32 {
            let [byte] = self.array()?;
            if place == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("the row has an integer of more than 64 bits".to_owned())
    }

    /// The next field's number and value; None after the last.
    pub(super) fn field(&mut self) -> Result<Option<(u32, Wire<'a>)>, String> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let (number, kind) = self.tag()?;
        let wire = match kind {
            3 => Wire::Group(self.group(number)?),
            4 => return Err(format!("the row ends group {number}, which did not begin")),
            kind => self.plain(kind)?,
        };
        Ok(Some((number, wire)))
    }

    fn tag(&mut self) -> Result<(u32, u64), String> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| (1..1 << 29).contains(number));
        Ok((number.ok_or_else(|| format!("the row has a field with the number {}", tag >> 3))?, tag & 7))
    }

    fn plain(&mut self, kind: u64) -> Result<Wire<'a>, String> {
        Ok(match kind {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(self.array()?),
            2 => {
                let len = self.varint()?;
                Wire::Bytes(self.take(usize::try_from(len).map_err(|_| format!("the row has bytes of the length {len}"))?)?)
            }
            5 => Wire::Fixed32(self.array()?),
            _ => return Err(format!("the row has a value of the wire type {kind}, which there is none of")),
        })
    }

    /// Past a group that has begun, and those within it.
    fn group(&mut self, number: u32) -> Result<&'a [u8], String> {
        let start = self.0;
        let mut open = vec![number];
        loop {
            let content = start.len() - self.0.len();
            match (self.tag()?, open.last().copied()) {
                ((_, 3), _) if open.len() == DEPTH_MAX => return Err(format!("the row nests more than {DEPTH_MAX} levels deep")),
                ((number, 3), _) => open.push(number),
                ((number, 4), last) if last == Some(number) => {
                    open.pop();
                    if open.is_empty() {
                        return Ok(&start[..content]);
                    }
                }
                ((number, 4), _) => return Err(format!("the row ends group {number}, which is not the one that began last")),
                ((_, kind), _) => {
                    self.plain(kind)?;
                }
            }
        }
    }
}
