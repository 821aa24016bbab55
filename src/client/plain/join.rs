//! Small batches that are left as they came until somebody takes them: then one is decoded, or many at once.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{BooleanBufferBuilder, RecordBatch};
use arrow_buffer::MutableBuffer;
use arrow_buffer::bit_chunk_iterator::UnalignedBitChunk;
use arrow_schema::{ArrowError, SchemaRef};
use bytes::Bytes;

use super::decode::{Column, PlainDecoder};
use super::encode::{ALIGNMENT, padded};
use super::{PlainLayout, aligned};
use crate::client::project::Shape;

/// A plain batch as it came.
#[derive(Debug, Clone)]
pub(in crate::client) struct SmallBatch {
    pub(in crate::client) decoder: Arc<PlainDecoder>,
    pub(in crate::client) schema: SchemaRef,
    pub(in crate::client) body: Bytes,
    /// What is done with it once it is decoded; the same for batches of one schema.
    pub(in crate::client) shape: Shape,
}

impl SmallBatch {
    pub(in crate::client) fn rows(&self) -> usize {
        self.decoder.rows
    }

    /// The batch, in memory of its own.
    ///
    /// # Errors
    /// As [`PlainDecoder::decode`].
    pub(in crate::client) fn decode(&self) -> Result<RecordBatch, ArrowError> {
        self.decoder.decode(&aligned([&self.body[..]]), &self.schema)
    }
}

/// One batch of the rows of all of them, which are of one schema.
///
/// # Errors
/// One of them is not what its header says; which one, [`SmallBatch::decode`] says.
pub(in crate::client) fn join(batches: &[SmallBatch]) -> Result<RecordBatch, ArrowError> {
    let Some(first) = batches.first() else {
        return Err(ArrowError::InvalidArgumentError("no batches to join".to_owned()));
    };
    let mut joined = Joined {
        batches,
        rows: batches.iter().map(SmallBatch::rows).sum(),
        body: MutableBuffer::with_capacity(
            batches.iter().map(|batch| batch.body.len()).sum::<usize>() + ALIGNMENT * first.decoder.columns.len(),
        ),
    };
    let columns = first.schema.fields().iter().enumerate().map(|(index, field)| {
        let layout = PlainLayout::of(field.data_type()).ok_or_else(|| wrong("a column that is not plain"))?;
        joined.column(index, layout)
    });
    let columns = columns.collect::<Result<_, _>>()?;
    PlainDecoder::of_columns(joined.rows, columns).decode(&joined.body.into(), &first.schema)
}

struct Joined<'a> {
    batches: &'a [SmallBatch],
    rows: usize,
    /// One column after the other, each buffer aligned.
    body: MutableBuffer,
}

impl Joined<'_> {
    fn column(&mut self, index: usize, layout: PlainLayout) -> Result<Column, ArrowError> {
        let batches = self.batches;
        let parts =
            || batches.iter().map(move |batch| Part { rows: batch.rows(), column: &batch.decoder.columns[index], body: &batch.body });
        let nulls = parts().map(|part| part.column.nulls).sum();
        let validity = if nulls == 0 { 0..0 } else { self.bits(parts(), Part::validity)? };
        let (values, data) = match layout {
            PlainLayout::Bits => (self.bits(parts(), |part| part.values(part.rows.div_ceil(8)).map(Some))?, None),
            PlainLayout::Fixed(width) => (self.bytes(parts().map(|part| part.values(part.rows * width)))?, None),
            PlainLayout::Variable(width) => {
                let values = self.offsets(parts(), width)?;
                (values, Some(self.bytes(parts().map(|part| part.data(width)))?))
            }
        };
        Ok(Column { nulls, validity, values, data })
    }

    /// No bits of a part: all are set.
    fn bits<'b>(
        &mut self,
        parts: impl Iterator<Item = Part<'b>>,
        bits: impl Fn(&Part<'b>) -> Result<Option<&'b [u8]>, ArrowError>,
    ) -> Result<Range<usize>, ArrowError> {
        let mut builder = BooleanBufferBuilder::new(self.rows);
        for part in parts {
            match bits(&part)? {
                Some(bits) => builder.append_packed_range(0..part.rows, bits),
                None => builder.append_n(part.rows, true),
            }
        }
        self.bytes(std::iter::once(Ok(builder.as_slice())))
    }

    fn bytes<'b>(&mut self, parts: impl Iterator<Item = Result<&'b [u8], ArrowError>>) -> Result<Range<usize>, ArrowError> {
        let start = self.start();
        for part in parts {
            self.body.extend_from_slice(part?);
        }
        Ok(start..self.body.len())
    }

    /// Counted on from one part to the next.
    fn offsets<'b>(&mut self, parts: impl Iterator<Item = Part<'b>>, width: usize) -> Result<Range<usize>, ArrowError> {
        let start = self.start();
        let mut base = 0_i64;
        self.body.extend_zeros(width);
        for part in parts {
            let (first, last) = part.ends(width)?;
            // An offset that is out of order stays so, which is found when the strings are made.
            for offset in part.values((part.rows + 1) * width)?.chunks_exact(width).skip(1) {
                let offset = number(offset).wrapping_sub(first).wrapping_add(base).to_le_bytes();
                self.body.extend_from_slice(&offset[..width]);
            }
            base = base.saturating_add(last.saturating_sub(first));
        }
        Ok(start..self.body.len())
    }

    fn start(&mut self) -> usize {
        self.body.resize(padded(self.body.len()), 0);
        self.body.len()
    }
}

/// One batch's share of a column.
#[derive(Clone, Copy)]
struct Part<'a> {
    rows: usize,
    column: &'a Column,
    body: &'a [u8],
}

impl<'a> Part<'a> {
    /// Counted here: what one part has too many nulls another may have too few.
    fn validity(&self) -> Result<Option<&'a [u8]>, ArrowError> {
        if self.column.validity.is_empty() {
            return Ok(None);
        }
        let bits = &self.body[self.column.validity.clone()];
        let valid = UnalignedBitChunk::new(bits, 0, self.rows).count_ones();
        if valid + self.column.nulls != self.rows {
            return Err(wrong("another number of nulls"));
        }
        Ok(Some(bits))
    }

    /// The first `length` bytes of the values. Without rows there need be no offset at all, but if there is one it is looked at.
    fn values(&self, length: usize) -> Result<&'a [u8], ArrowError> {
        if self.rows == 0 && self.column.values.is_empty() {
            return Ok(&[]);
        }
        self.body[self.column.values.clone()].get(..length).ok_or_else(|| wrong("too few values"))
    }

    /// The first and the last offset.
    fn ends(&self, width: usize) -> Result<(i64, i64), ArrowError> {
        let offsets = self.values((self.rows + 1) * width)?;
        Ok(match (offsets.get(..width), offsets.len().checked_sub(width)) {
            (Some(first), Some(last)) => (number(first), number(&offsets[last..])),
            _ => (0, 0),
        })
    }

    fn data(&self, width: usize) -> Result<&'a [u8], ArrowError> {
        let (first, last) = self.ends(width)?;
        let range = usize::try_from(first).ok().zip(usize::try_from(last).ok());
        let data = self.column.data.clone().map(|data| &self.body[data]).unwrap_or_default();
        range.and_then(|(first, last)| data.get(first..last)).ok_or_else(|| wrong("offsets that lie outside"))
    }
}

fn number(bytes: &[u8]) -> i64 {
    match *bytes {
        [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => i64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => 0,
    }
}

fn wrong(what: &str) -> ArrowError {
    ArrowError::InvalidArgumentError(what.to_owned())
}
