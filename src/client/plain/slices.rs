//! Plain columns that were never made Arrow arrays: for a small batch from another language that costs more than its bytes.

use super::PlainLayout;

/// A column as it lies in memory, from its first row on.
#[derive(Debug, Clone, Copy)]
pub struct ColumnSlices<'a> {
    /// How many values are null.
    pub nulls: usize,
    /// A bit per row, 1 if the value is not null; empty if none is.
    pub validity: &'a [u8],
    /// The values; of a [`PlainLayout::Variable`] column one offset more than rows, the first one 0.
    pub values: &'a [u8],
    /// The values' bytes that the offsets are of; empty for other columns.
    pub data: &'a [u8],
}

impl ColumnSlices<'_> {
    /// Whether `rows` rows of this layout lie like that. Readers make sure of the rest, as of what any client sends.
    pub(super) fn fits(&self, layout: PlainLayout, rows: usize) -> bool {
        let bits = rows.div_ceil(8);
        let has_validity = if self.nulls == 0 { self.validity.is_empty() } else { self.nulls <= rows && self.validity.len() == bits };
        let has_values = |count: Option<usize>, width| count.and_then(|count| count.checked_mul(width)) == Some(self.values.len());
        has_validity
            && match layout {
                PlainLayout::Bits => self.values.len() == bits && self.data.is_empty(),
                PlainLayout::Fixed(width) => has_values(Some(rows), width) && self.data.is_empty(),
                PlainLayout::Variable(width) => {
                    has_values(rows.checked_add(1), width)
                        && self.offset(0, width) == Some(0)
                        && self.offset(rows, width) == u64::try_from(self.data.len()).ok()
                }
            }
    }

    fn offset(&self, index: usize, width: usize) -> Option<u64> {
        let bytes = self.values.get(index * width..(index + 1) * width)?;
        match width {
            4 => Some(u64::from(u32::from_le_bytes(bytes.try_into().ok()?))),
            _ => Some(u64::from_le_bytes(bytes.try_into().ok()?)),
        }
    }

    /// Its buffers, as a message has them.
    pub(super) fn buffers(&self, layout: PlainLayout) -> impl Iterator<Item = &[u8]> {
        let has_data = matches!(layout, PlainLayout::Variable(_));
        [self.validity, self.values].into_iter().chain(has_data.then_some(self.data))
    }
}
