//! The layout of a schema's batches: which arrays there are, how long each is at least, and which buffers it has.
//!
//! Made once per schema; checking a batch walks it without recursion and without allocating.

use arrow_ipc::{Buffer, MetadataVersion, RecordBatch};
use arrow_schema::{DataType, Field, UnionMode};

use super::error::WireError;
use super::limits::DEPTH_MAX;
use super::offsets::{Ends, OffsetEnds};

/// The arrays in the order in which a message lists them: each before its children.
#[derive(Debug, Clone, Default)]
pub(super) struct Layout {
    arrays: Vec<Array>,
    /// Where each column begins in it.
    columns: Vec<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Array {
    length: Length,
    buffers: Buffers,
}

/// How long an array is.
#[derive(Debug, Clone, Copy)]
enum Length {
    /// As long as the batch.
    Rows,
    /// As long as the array at that place of the list.
    SameAs(usize),
    /// At least so many times as long as that array.
    Times(usize, i64),
    /// Its own buffers or its parent's say.
    Free,
}

/// Which buffers an array has.
#[derive(Debug, Clone, Copy)]
enum Buffers {
    /// None; all values are null.
    Null,
    /// None.
    None,
    /// Validity.
    Validity,
    /// Validity, and values of so many bits.
    Fixed { bits: u64 },
    /// Validity, offsets of so many bytes, and data if the values are not a child.
    Offsets { bytes: u64, data: bool },
    /// Validity, offsets and sizes of so many bytes.
    ListView { bytes: u64 },
    /// Validity, views, and as many buffers of data as the batch says.
    View,
    /// Type ids, and offsets if it is dense; validity in V4.
    Union { dense: bool },
}

impl Layout {
    /// The layout of batches with these columns.
    pub(super) fn new<'a>(columns: impl IntoIterator<Item = &'a DataType>) -> Result<Self, WireError> {
        let mut layout = Self::default();
        for column in columns {
            layout.columns.push(layout.arrays.len());
            layout.add(column, Length::Rows, DEPTH_MAX)?;
        }
        Ok(layout)
    }

    /// Of each column how many arrays and buffers a batch has; `variadic` gives how many of a view's buffers there are.
    ///
    /// # Errors
    /// [`WireError::Malformed`] if the batch does not count them.
    pub(super) fn columns(
        &self,
        version: MetadataVersion,
        mut variadic: impl FnMut() -> Option<i64>,
    ) -> Result<Vec<ColumnSize>, WireError> {
        let ends = self.columns.iter().skip(1).copied().chain([self.arrays.len()]);
        let arrays = self.columns.iter().zip(ends).map(|(start, end)| &self.arrays[*start..end]);
        arrays
            .map(|arrays| {
                let mut size = ColumnSize { arrays: arrays.len(), ..ColumnSize::default() };
                for array in arrays {
                    size.buffers += array.buffers.count(version);
                    if matches!(array.buffers, Buffers::View) {
                        size.views += 1;
                        let count = variadic().and_then(|count| usize::try_from(count).ok());
                        size.buffers += count.ok_or_else(|| WireError::malformed("a batch that does not count its variadic buffers"))?;
                    }
                }
                Ok(size)
            })
            .collect()
    }

    fn add(&mut self, data_type: &DataType, length: Length, depth: usize) -> Result<(), WireError> {
        let depth = depth.checked_sub(1).ok_or_else(|| WireError::malformed(format!("a schema nested deeper than {DEPTH_MAX}")))?;
        let own = self.arrays.len();
        self.arrays.push(Array { length, buffers: buffers(data_type)? });
        let mut child = |field: &Field, length| self.add(field.data_type(), length, depth);
        match data_type {
            DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) | DataType::LargeListView(item) => {
                child(item, Length::Free)
            }
            // Arrow's arrays panic on others.
            DataType::Map(entries, _) if !matches!(entries.data_type(), DataType::Struct(fields) if fields.len() == 2) => {
                Err(WireError::malformed(format!("a map whose entries are {}, and no struct of keys and values", entries.data_type())))
            }
            DataType::Map(entries, _) => child(entries, Length::Free),
            DataType::FixedSizeList(item, size) => child(item, Length::Times(own, i64::from(*size))),
            DataType::Struct(fields) => fields.iter().try_for_each(|field| child(field, Length::SameAs(own))),
            DataType::Union(fields, UnionMode::Sparse) => fields.iter().try_for_each(|(_, field)| child(field, Length::SameAs(own))),
            DataType::Union(fields, UnionMode::Dense) => fields.iter().try_for_each(|(_, field)| child(field, Length::Free)),
            DataType::RunEndEncoded(ends, values) => {
                child(ends, Length::Free)?;
                child(values, Length::Free)
            }
            _ => Ok(()),
        }
    }

    /// Checks that a batch has these arrays and buffers, long enough for what it says. `size` gives a buffer's
    /// size, which is not its length if it is compressed. `ends` gets where the offsets are, if they can be read in the body.
    pub(super) fn check(
        &self,
        batch: &RecordBatch<'_>,
        version: MetadataVersion,
        size: impl FnMut(&Buffer) -> Result<u64, WireError>,
        mut ends: Option<&mut OffsetEnds>,
    ) -> Result<(), WireError> {
        if let Some(ends) = &mut ends {
            ends.clear();
        }
        let nodes = batch.nodes().unwrap_or_default();
        if nodes.len() != self.arrays.len() {
            return Err(WireError::malformed(format!("a batch of {} arrays, but the schema has {}", nodes.len(), self.arrays.len())));
        }
        let mut variadic = batch.variadicBufferCounts().into_iter().flatten();
        let mut buffers = Sizes { buffers: batch.buffers().into_iter().flatten(), size };
        for (index, (array, node)) in self.arrays.iter().zip(nodes).enumerate() {
            let (length, nulls) = (node.length(), node.null_count());
            let fits = match array.length {
                Length::Rows => length == batch.length(),
                Length::SameAs(other) => length == nodes.get(other).length(),
                Length::Times(other, times) => nodes.get(other).length().checked_mul(times).is_some_and(|least| length >= least),
                Length::Free => true,
            };
            if !fits {
                return Err(WireError::malformed(format!(
                    "array {index} of the batch, of {length} values, does not fit the batch's {} rows",
                    batch.length()
                )));
            }
            let (length, nulls) = (length.unsigned_abs(), nulls.unsigned_abs());
            let offsets = array.buffers.check(length, nulls, version, &mut buffers, || variadic.next());
            let offsets = offsets.map_err(|error| error.within(format_args!("array {index} of the batch")))?;
            if let (Some(ends), Some(Offsets { first_at, bytes, data_len })) = (&mut ends, offsets) {
                // The child is the next array.
                let limit = data_len.unwrap_or_else(|| nodes.get(index + 1).length().unsigned_abs());
                let last_at = first_at.saturating_add(length.saturating_mul(bytes));
                ends.push(Ends { array: index, first_at, last_at, is_large: bytes == 8, limit });
            }
        }
        if variadic.next().is_some() || buffers.buffers.next().is_some() {
            return Err(WireError::malformed("a batch with more buffers than the schema has"));
        }
        Ok(())
    }
}

/// How much of a batch's header is about a column.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ColumnSize {
    /// Its array, and those within.
    pub(super) arrays: usize,
    /// Their buffers.
    pub(super) buffers: usize,
    /// How many of them are views, whose buffers are counted.
    pub(super) views: usize,
}

/// The batch's buffers, one after the other.
struct Sizes<I, F> {
    buffers: I,
    size: F,
}

impl<'a, I: Iterator<Item = &'a Buffer>, F: FnMut(&Buffer) -> Result<u64, WireError>> Sizes<I, F> {
    /// The next buffer, which has at least so many bytes.
    fn next(&mut self, least: u64) -> Result<Buffer, WireError> {
        let buffer = self.buffers.next().ok_or_else(|| WireError::malformed("a batch with fewer buffers than the schema has"))?;
        let size = (self.size)(buffer)?;
        if size < least {
            return Err(WireError::malformed(format!("a buffer of {size} bytes where the array's length needs {least}")));
        }
        Ok(*buffer)
    }
}

/// The offsets of an array that has values.
struct Offsets {
    /// Where the first of them lies in the body.
    first_at: u64,
    /// How many bytes each has.
    bytes: u64,
    /// Length of what they point into, if that is a buffer.
    data_len: Option<u64>,
}

impl Buffers {
    /// How many there are, but for a view's variadic ones.
    fn count(self, version: MetadataVersion) -> usize {
        match self {
            Self::Null | Self::None => 0,
            Self::Validity => 1,
            Self::Fixed { .. } | Self::View => 2,
            Self::Offsets { data, .. } => 2 + usize::from(data),
            Self::ListView { .. } => 3,
            Self::Union { dense } => 1 + usize::from(dense) + usize::from(version == MetadataVersion::V4),
        }
    }

    fn check<'a, I: Iterator<Item = &'a Buffer>, F: FnMut(&Buffer) -> Result<u64, WireError>>(
        self,
        length: u64,
        nulls: u64,
        version: MetadataVersion,
        sizes: &mut Sizes<I, F>,
        variadic: impl FnOnce() -> Option<i64>,
    ) -> Result<Option<Offsets>, WireError> {
        let validity = if nulls == 0 { 0 } else { length.div_ceil(8) };
        match self {
            Self::Null if nulls != length => {
                return Err(WireError::malformed(format!("{nulls} nulls in {length} values of type null")));
            }
            Self::Null | Self::None => {}
            Self::Validity => drop(sizes.next(validity)?),
            Self::Fixed { bits } => {
                sizes.next(validity)?;
                sizes.next(length.saturating_mul(bits).div_ceil(8))?;
            }
            Self::Offsets { bytes, data } => {
                sizes.next(validity)?;
                // An array without values may come without its one offset.
                let offsets = sizes.next(if length == 0 { 0 } else { length.saturating_add(1).saturating_mul(bytes) })?;
                let data_len = if data { Some(sizes.next(0)?.length().unsigned_abs()) } else { None };
                return Ok((length > 0).then(|| Offsets { first_at: offsets.offset().unsigned_abs(), bytes, data_len }));
            }
            Self::ListView { bytes } => {
                sizes.next(validity)?;
                sizes.next(length.saturating_mul(bytes))?;
                sizes.next(length.saturating_mul(bytes))?;
            }
            Self::View => {
                sizes.next(validity)?;
                sizes.next(length.saturating_mul(16))?;
                let count = variadic().ok_or_else(|| WireError::malformed("a batch that does not count its variadic buffers"))?;
                // However large the count: the buffers end before.
                (0..count).try_for_each(|_| sizes.next(0).map(drop))?;
            }
            Self::Union { dense } => {
                if version == MetadataVersion::V4 {
                    sizes.next(0)?;
                }
                sizes.next(length)?;
                if dense {
                    sizes.next(length.saturating_mul(4))?;
                }
            }
        }
        Ok(None)
    }
}

fn buffers(data_type: &DataType) -> Result<Buffers, WireError> {
    let size = |size: i32| u64::try_from(size).map_err(|_| WireError::malformed(format!("a type of size {size}")));
    Ok(match data_type {
        DataType::Null => Buffers::Null,
        DataType::RunEndEncoded(..) => Buffers::None,
        DataType::Boolean => Buffers::Fixed { bits: 1 },
        DataType::FixedSizeBinary(bytes) => Buffers::Fixed { bits: size(*bytes)? * 8 },
        DataType::FixedSizeList(_, items) => size(*items).map(|_| Buffers::Validity)?,
        DataType::Struct(_) => Buffers::Validity,
        DataType::Utf8 | DataType::Binary => Buffers::Offsets { bytes: 4, data: true },
        DataType::LargeUtf8 | DataType::LargeBinary => Buffers::Offsets { bytes: 8, data: true },
        DataType::List(_) | DataType::Map(..) => Buffers::Offsets { bytes: 4, data: false },
        DataType::LargeList(_) => Buffers::Offsets { bytes: 8, data: false },
        DataType::ListView(_) => Buffers::ListView { bytes: 4 },
        DataType::LargeListView(_) => Buffers::ListView { bytes: 8 },
        DataType::Utf8View | DataType::BinaryView => Buffers::View,
        DataType::Union(_, mode) => Buffers::Union { dense: *mode == UnionMode::Dense },
        DataType::Dictionary(index, _) => Buffers::Fixed { bits: bits(index)? },
        other => Buffers::Fixed { bits: bits(other)? },
    })
}

fn bits(data_type: &DataType) -> Result<u64, WireError> {
    let bytes = data_type.primitive_width().ok_or_else(|| WireError::malformed(format!("an array of type {data_type}")))?;
    Ok(bytes as u64 * 8)
}
