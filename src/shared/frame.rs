//! A frame: one thing said on a link, in four 64-bit words.

/// What a client says first, so that neither end takes the other's words for something else.
pub const VERSION: u64 = 1;

/// Arenas have numbers that whoever offers or shows them chooses; slots go by where they begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// The client's first word.
    Hello {
        /// [`VERSION`].
        version: u64,
    },
    /// The answer.
    Welcome {
        /// What the client's calls name the link by; nobody can guess it.
        link: u64,
        /// The server's id, so that a client knows whom it has reached.
        server: u128,
    },
    /// A producer's arena, with its descriptor.
    Offer {
        /// Its number.
        arena: u64,
    },
    /// The arena can be used from now on.
    Taken {
        /// Its number.
        arena: u64,
    },
    /// The producer may write the slot again.
    Free {
        /// The arena's number.
        arena: u64,
        /// Where the slot begins.
        start: u64,
    },
    /// An arena that batches of a consumer's lie in, with its descriptor.
    Show {
        /// The number by which its batches name it.
        arena: u64,
    },
    /// No batch will lie in it any more.
    Gone {
        /// Its number.
        arena: u64,
    },
    /// The consumer has taken so many bytes more off its connection, to look at.
    Took {
        /// How many.
        bytes: u64,
    },
    /// The consumer no longer looks at the slot.
    Release {
        /// The arena's number.
        arena: u64,
        /// Where the slot begins.
        start: u64,
    },
}

impl Frame {
    /// Length of every frame.
    pub const BYTES: usize = 32;

    /// Whether a descriptor goes with it.
    #[must_use]
    pub fn has_descriptor(self) -> bool {
        matches!(self, Self::Offer { .. } | Self::Show { .. })
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let words = match self {
            Self::Hello { version } => [1, version, 0, 0],
            Self::Welcome { link, server } => {
                let [high, low] = [server >> 64, server & u128::from(u64::MAX)].map(|half| u64::try_from(half).unwrap_or_default());
                [2, link, high, low]
            }
            Self::Offer { arena } => [3, arena, 0, 0],
            Self::Taken { arena } => [4, arena, 0, 0],
            Self::Free { arena, start } => [5, arena, start, 0],
            Self::Show { arena } => [6, arena, 0, 0],
            Self::Gone { arena } => [7, arena, 0, 0],
            Self::Release { arena, start } => [8, arena, start, 0],
            Self::Took { bytes } => [9, bytes, 0, 0],
        };
        let mut bytes = [0; Self::BYTES];
        bytes.chunks_exact_mut(8).zip(words).for_each(|(into, word): (_, u64)| into.copy_from_slice(&word.to_le_bytes()));
        bytes
    }

    /// Reads one; none if it is no frame of this version.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let mut words = [0_u64; 4];
        for (word, from) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(from.try_into().ok()?);
        }
        let [kind, first, second, third] = words;
        Some(match kind {
            1 => Self::Hello { version: first },
            2 => Self::Welcome { link: first, server: u128::from(second) << 64 | u128::from(third) },
            3 => Self::Offer { arena: first },
            4 => Self::Taken { arena: first },
            5 => Self::Free { arena: first, start: second },
            6 => Self::Show { arena: first },
            7 => Self::Gone { arena: first },
            8 => Self::Release { arena: first, start: second },
            9 => Self::Took { bytes: first },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_comes_back_as_it_was() {
        let (arena, start) = (u64::MAX - 1, 1 << 40);
        for frame in [
            Frame::Hello { version: VERSION },
            Frame::Welcome { link: 7, server: u128::MAX - 5 },
            Frame::Offer { arena },
            Frame::Taken { arena },
            Frame::Free { arena, start },
            Frame::Show { arena },
            Frame::Gone { arena },
            Frame::Release { arena, start },
            Frame::Took { bytes: 1 << 30 },
        ] {
            assert_eq!(Frame::from_bytes(&frame.to_bytes()), Some(frame));
        }
        for kind in [0, 10, u8::MAX] {
            let mut bytes = [0; Frame::BYTES];
            bytes[0] = kind;
            assert_eq!(Frame::from_bytes(&bytes), None);
        }
    }
}
