//! Some columns of a batch: a message of its own that has their buffers, of which none is decoded or copied.

use std::ops::Range;

use arrow_ipc::{
    BodyCompression, BodyCompressionArgs, Buffer, FieldNode, Message as Header, MessageArgs, MessageHeader, RecordBatch, RecordBatchArgs,
};
use bytes::Bytes;
use flatbuffers::FlatBufferBuilder;

use super::body::Body;
use super::error::WireError;
use super::ipc::{self, Message};
use super::layout::Layout;

/// Buffers lie as they lay before, relative to this: what was aligned stays so.
const ALIGNMENT: u64 = 64;
static PADDING: [u8; 64] = [0; 64];

/// Where a column is in the lists of a header.
struct Place {
    nodes: Range<usize>,
    buffers: Range<usize>,
    variadic: Range<usize>,
}

/// The message of these columns of a batch, in this order; a column may be there twice.
pub(super) fn prune(layout: &Layout, message: &Message, columns: &[usize]) -> Result<Message, WireError> {
    let header = ipc::parse(&message.header)?;
    let batch = ipc::values(&header)?;
    let counts: Vec<i64> = batch.variadicBufferCounts().into_iter().flatten().collect();
    let places = places(layout, &header, &counts)?;
    let (nodes, buffers) = (batch.nodes().unwrap_or_default(), batch.buffers().unwrap_or_default());
    let mut pruned = Pruned::default();
    for column in columns {
        let place = places.get(*column).ok_or_else(|| WireError::malformed(format!("a batch without column {column}")))?;
        let is_there = place.nodes.end <= nodes.len() && place.buffers.end <= buffers.len();
        if !is_there {
            return Err(WireError::malformed("a batch with fewer arrays or buffers than the schema has"));
        }
        pruned.nodes.extend(place.nodes.clone().map(|index| *nodes.get(index)));
        pruned.variadic.extend(&counts[place.variadic.clone()]);
        let buffers: Vec<_> = place.buffers.clone().map(|index| *buffers.get(index)).collect();
        pruned.add(&buffers, &message.body);
    }
    Ok(pruned.message(&header, &batch))
}

fn places(layout: &Layout, header: &Header<'_>, counts: &[i64]) -> Result<Vec<Place>, WireError> {
    let mut variadic = counts.iter().copied();
    let sizes = layout.columns(header.version(), || variadic.next())?;
    let (mut node, mut buffer, mut view) = (0, 0, 0);
    let place = |size: super::layout::ColumnSize| {
        let (nodes, buffers, views) = (node..node + size.arrays, buffer..buffer + size.buffers, view..view + size.views);
        (node, buffer, view) = (nodes.end, buffers.end, views.end);
        Place { nodes, buffers, variadic: views }
    };
    Ok(sizes.into_iter().map(place).collect())
}

/// What the new message gets.
#[derive(Default)]
struct Pruned {
    nodes: Vec<FieldNode>,
    buffers: Vec<Buffer>,
    variadic: Vec<i64>,
    body: Body,
}

impl Pruned {
    /// A column's buffers, which lie one behind the other: they are taken in one piece.
    fn add(&mut self, buffers: &[Buffer], body: &Body) {
        let filled = || buffers.iter().filter(|buffer| buffer.length() > 0);
        let start = filled().map(|buffer| buffer.offset().unsigned_abs()).min().unwrap_or_default();
        let end = filled().map(|buffer| (buffer.offset() + buffer.length()).unsigned_abs()).max().unwrap_or_default();
        self.pad((start + ALIGNMENT - self.body.len() % ALIGNMENT) % ALIGNMENT);
        let base = self.body.len();
        let moved = buffers.iter().map(|buffer| match buffer.length() {
            0 => Buffer::new(base.cast_signed(), 0),
            length => Buffer::new((base + (buffer.offset().unsigned_abs() - start)).cast_signed(), length),
        });
        self.buffers.extend(moved);
        body.part(start, end - start).for_each(|chunk| self.body.push(chunk));
    }

    fn pad(&mut self, bytes: u64) {
        let bytes = usize::try_from(bytes).unwrap_or_default().min(PADDING.len());
        self.body.push(Bytes::from_static(&PADDING[..bytes]));
    }

    fn message(mut self, header: &Header<'_>, batch: &RecordBatch<'_>) -> Message {
        self.pad((8 - self.body.len() % 8) % 8);
        let mut builder = FlatBufferBuilder::new();
        let (nodes, buffers) = (builder.create_vector(&self.nodes), builder.create_vector(&self.buffers));
        let variadic = (!self.variadic.is_empty()).then(|| builder.create_vector(&self.variadic));
        let compression = batch.compression().map(|compression| {
            let args = BodyCompressionArgs { codec: compression.codec(), method: compression.method() };
            BodyCompression::create(&mut builder, &args)
        });
        let args = RecordBatchArgs {
            length: batch.length(),
            nodes: Some(nodes),
            buffers: Some(buffers),
            compression,
            variadicBufferCounts: variadic,
        };
        let table = RecordBatch::create(&mut builder, &args);
        let args = MessageArgs {
            version: header.version(),
            header_type: MessageHeader::RecordBatch,
            header: Some(table.as_union_value()),
            bodyLength: self.body.len().cast_signed(),
            custom_metadata: None,
        };
        let message = Header::create(&mut builder, &args);
        builder.finish(message, None);
        Message { header: Bytes::copy_from_slice(builder.finished_data()), body: self.body }
    }
}
