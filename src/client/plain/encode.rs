//! Plain batches to Arrow IPC messages.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, downcast_primitive};
use arrow::datatypes::ByteArrayType;
use arrow_buffer::{ArrowNativeType, Buffer, NullBuffer};
use arrow_ipc::{FieldNode, MessageBuilder, MessageHeader, MetadataVersion, RecordBatchBuilder};
use arrow_schema::{DataType, Schema};
use bytes::{Bytes, BytesMut};
use flatbuffers::FlatBufferBuilder;

use super::{ColumnSlices, PlainLayout};
use crate::wire::body::Body;
use crate::wire::ipc::Message;

/// Buffers begin at multiples of this, as Arrow recommends: what is decoded needs no further copy.
pub(super) const ALIGNMENT: usize = 64;
const ZEROS: [u8; ALIGNMENT] = [0; ALIGNMENT];

/// Encodes the plain batches of one appender.
#[derive(Debug)]
pub(in crate::client) struct PlainEncoder {
    layouts: Vec<PlainLayout>,
    /// Which columns may have nulls.
    nullable: Vec<bool>,
    /// Bodies up to this size are copied into one chunk.
    copy_bytes_max: usize,
    /// Of the batch under way.
    shape: Shape,
    buffers: Vec<Buffer>,
    /// Of the batch before.
    last_shape: Shape,
    header: Bytes,
}

/// All that a header says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Shape {
    rows: usize,
    /// Null values of each column.
    nulls: Vec<usize>,
    /// Bytes of each buffer.
    lengths: Vec<usize>,
}

impl PlainEncoder {
    /// None if a column is not plain.
    pub(in crate::client) fn new(schema: &Schema, copy_bytes_max: usize) -> Option<Self> {
        Some(Self {
            layouts: PlainLayout::of_schema(schema)?,
            nullable: schema.fields().iter().map(|field| field.is_nullable()).collect(),
            copy_bytes_max,
            shape: Shape::default(),
            buffers: Vec::new(),
            last_shape: Shape::default(),
            header: Bytes::new(),
        })
    }

    /// The batch's message; none if one of its arrays is a slice whose buffers cannot be taken as they are.
    pub(in crate::client) fn encode(&mut self, batch: &RecordBatch) -> Option<Message> {
        self.shape.rows = batch.num_rows();
        self.shape.nulls.clear();
        self.shape.lengths.clear();
        let added = batch.columns().iter().try_for_each(|column| self.add(column));
        // The batch's memory is the window's from here on, and counted there.
        let buffers = std::mem::take(&mut self.buffers);
        added?;
        let body = body(&buffers, self.copy_bytes_max);
        Some(Message { header: self.header(), body })
    }

    /// The message of a batch that is not in arrays; none if its body is too large to be copied, or it is no batch of the
    /// schema's.
    pub(in crate::client) fn encode_slices(&mut self, rows: usize, columns: &[ColumnSlices<'_>]) -> Option<Message> {
        if columns.len() != self.layouts.len() {
            return None;
        }
        self.shape.rows = rows;
        self.shape.nulls.clear();
        self.shape.lengths.clear();
        for ((column, layout), nullable) in columns.iter().zip(&self.layouts).zip(&self.nullable) {
            if !column.fits(*layout, rows) || (column.nulls > 0 && !nullable) {
                return None;
            }
            self.shape.nulls.push(column.nulls);
            self.shape.lengths.extend(column.buffers(*layout).map(<[u8]>::len));
        }
        let length = self.shape.lengths.iter().map(|length| padded(*length)).sum();
        if length > self.copy_bytes_max {
            return None;
        }
        let header = self.header();
        let buffers = columns.iter().zip(&self.layouts).flat_map(|(column, layout)| column.buffers(*layout));
        Some(Message { header, body: copied(length, buffers) })
    }

    /// The header of a batch of this shape: most have the shape of the one before.
    fn header(&mut self) -> Bytes {
        if self.shape != self.last_shape {
            self.header = self.shape.header();
            self.last_shape.clone_from(&self.shape);
        }
        self.header.clone()
    }

    fn add(&mut self, column: &ArrayRef) -> Option<()> {
        self.add_nulls(column.nulls());
        macro_rules! primitive {
            ($type:ty) => {{
                self.add_buffer(column.as_primitive::<$type>().values().inner().clone());
                Some(())
            }};
        }
        downcast_primitive! {
            column.data_type() => (primitive),
            DataType::Boolean => {
                self.add_buffer(column.as_boolean().values().sliced());
                Some(())
            }
            DataType::Utf8 => self.add_strings::<arrow::datatypes::Utf8Type>(column),
            DataType::LargeUtf8 => self.add_strings::<arrow::datatypes::LargeUtf8Type>(column),
            DataType::Binary => self.add_strings::<arrow::datatypes::BinaryType>(column),
            DataType::LargeBinary => self.add_strings::<arrow::datatypes::LargeBinaryType>(column),
            _ => None,
        }
    }

    fn add_nulls(&mut self, nulls: Option<&NullBuffer>) {
        let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
        self.shape.nulls.push(nulls.map_or(0, NullBuffer::null_count));
        self.add_buffer(nulls.map_or_else(Buffer::default, |nulls| nulls.inner().sliced()));
    }

    /// A slice's offsets would have to be counted from zero anew.
    fn add_strings<T: ByteArrayType>(&mut self, column: &ArrayRef) -> Option<()> {
        let strings = column.as_bytes::<T>();
        let (first, last) = (strings.offsets().first().as_usize(), strings.offsets().last().as_usize());
        if first != 0 {
            return None;
        }
        self.add_buffer(strings.offsets().inner().inner().clone());
        self.add_buffer(strings.values().slice_with_length(0, last));
        Some(())
    }

    fn add_buffer(&mut self, buffer: Buffer) {
        self.shape.lengths.push(buffer.len());
        self.buffers.push(buffer);
    }
}

impl Shape {
    fn header(&self) -> Bytes {
        let rows = signed(self.rows);
        let nodes: Vec<_> = self.nulls.iter().map(|nulls| FieldNode::new(rows, signed(*nulls))).collect();
        let mut offset = 0;
        let place = |length: &usize| {
            let buffer = arrow_ipc::Buffer::new(signed(offset), signed(*length));
            offset += padded(*length);
            buffer
        };
        let buffers: Vec<_> = self.lengths.iter().map(place).collect();
        let mut builder = FlatBufferBuilder::new();
        let (nodes, buffers) = (builder.create_vector(&nodes), builder.create_vector(&buffers));
        let mut batch = RecordBatchBuilder::new(&mut builder);
        batch.add_length(rows);
        batch.add_nodes(nodes);
        batch.add_buffers(buffers);
        let batch = batch.finish().as_union_value();
        let mut message = MessageBuilder::new(&mut builder);
        message.add_version(MetadataVersion::V5);
        message.add_header_type(MessageHeader::RecordBatch);
        message.add_header(batch);
        message.add_bodyLength(signed(offset));
        let message = message.finish();
        builder.finish(message, None);
        let mut header = BytesMut::from(builder.finished_data());
        header.resize(header.len().next_multiple_of(8), 0);
        header.freeze()
    }
}

/// Lengths of what is in memory fit.
fn signed(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

pub(super) fn padded(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT)
}

/// One chunk if it is small: one allocation costs less than one handle per buffer.
fn body(buffers: &[Buffer], copy_bytes_max: usize) -> Body {
    let length = buffers.iter().map(|buffer| padded(buffer.len())).sum();
    if length <= copy_bytes_max {
        return copied(length, buffers.iter().map(Buffer::as_slice));
    }
    let mut body = Body::new();
    for buffer in buffers {
        body.push(Bytes::from_owner(buffer.clone()));
        body.push(Bytes::from_static(&ZEROS[..padded(buffer.len()) - buffer.len()]));
    }
    body
}

/// `length` is that of all buffers, padded.
fn copied<'a>(length: usize, buffers: impl Iterator<Item = &'a [u8]>) -> Body {
    let mut copy = BytesMut::with_capacity(length);
    for buffer in buffers {
        copy.extend_from_slice(buffer);
        copy.extend_from_slice(&ZEROS[..padded(copy.len()) - copy.len()]);
    }
    Body::from(copy.freeze())
}
