//! A stream's schema: parsed once, compared with every producer's, and with the layout of every batch.

use std::collections::BTreeMap;

use arrow_schema::{DataType, Field, Schema, SchemaRef, UnionMode};
use bytes::Bytes;

use super::error::WireError;
use super::ipc::{self, Message};

/// Deepest nesting of a schema; Arrow's own readers recurse.
const DEPTH_MAX: usize = 64;

/// A schema message and what follows from it.
#[derive(Debug, Clone)]
pub struct StreamSchema {
    header: Bytes,
    arrow: SchemaRef,
    layout: Layout,
    /// Dictionary ids in the order of the fields, children after their parent.
    dictionary_ids: Vec<i64>,
}

/// What every batch of a schema has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Layout {
    nodes: usize,
    buffers: usize,
    /// Columns, at any depth, whose number of buffers each batch says.
    views: usize,
    /// For each column its node's place in the list.
    column_nodes: Vec<usize>,
}

impl StreamSchema {
    /// Reads a schema message's flatbuffer.
    ///
    /// # Errors
    /// [`WireError::Malformed`].
    pub fn parse(header: Bytes) -> Result<Self, WireError> {
        let (arrow, dictionary_ids) = {
            let message = ipc::parse(&header)?;
            let schema = message.header_as_schema().ok_or_else(|| WireError::malformed("the message is no schema"))?;
            if schema.endianness() != arrow_ipc::Endianness::Little {
                return Err(WireError::malformed("a big-endian schema; send little-endian batches"));
            }
            let mut ids = Vec::new();
            for field in schema.fields().iter().flatten() {
                dictionary_ids(&field, &mut ids, DEPTH_MAX)?;
            }
            // Arrow's conversion is not made for hostile input: it may panic, but it allocates little.
            let converted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| arrow_ipc::convert::try_fb_to_schema(schema)));
            let schema = converted.map_err(|_| WireError::malformed("a schema that Arrow cannot read"))?;
            (schema.map_err(|error| WireError::malformed(format!("the schema: {error}")))?, ids)
        };
        let mut layout = Layout::default();
        for field in arrow.fields() {
            layout.column_nodes.push(layout.nodes);
            layout.add(field.data_type(), DEPTH_MAX)?;
        }
        Ok(Self { header, arrow: arrow.into(), layout, dictionary_ids })
    }

    /// The message for an Arrow schema; dictionary ids are given in the order of the fields.
    ///
    /// # Errors
    /// [`WireError::Malformed`] if Arrow cannot encode it.
    pub fn from_arrow(schema: &Schema) -> Result<Self, WireError> {
        let options = arrow_ipc::writer::IpcWriteOptions::default();
        let mut tracker = arrow_ipc::writer::DictionaryTracker::new(false);
        let encoded =
            arrow_ipc::writer::IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(schema, &mut tracker, &options);
        Self::parse(encoded.ipc_message.into())
    }

    /// The schema message's flatbuffer.
    #[must_use]
    pub fn header(&self) -> &Bytes {
        &self.header
    }

    /// The schema.
    #[must_use]
    pub fn arrow(&self) -> &SchemaRef {
        &self.arrow
    }

    /// The message with its prefix, padded, as `FlightInfo.schema` and `SchemaResult.schema` carry it.
    #[must_use]
    pub fn encapsulated(&self) -> Bytes {
        let padded = self.header.len().next_multiple_of(8);
        let mut bytes = Vec::with_capacity(8 + padded);
        bytes.extend_from_slice(&[0xff; 4]);
        bytes.extend_from_slice(&u32::try_from(padded).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(&self.header);
        bytes.resize(8 + padded, 0);
        bytes.into()
    }

    /// Compares with a producer's schema: names, order and types must be the same; a column without nulls fits
    /// one with; metadata and the names of list items do not matter.
    ///
    /// # Errors
    /// [`WireError::SchemaMismatch`] names the first difference.
    pub fn accepts(&self, producer: &StreamSchema) -> Result<DictionaryIds, WireError> {
        let (own, other) = (self.arrow.fields(), producer.arrow.fields());
        let mismatch = |difference| WireError::SchemaMismatch { difference };
        if own.len() != other.len() {
            return Err(mismatch(format!("the stream has {} columns, the batches have {}", own.len(), other.len())));
        }
        for (own, other) in own.iter().zip(other) {
            if own.name() != other.name() {
                return Err(mismatch(format!("the stream has column {:?} where the batches have {:?}", own.name(), other.name())));
            }
            same_field(own, other).map_err(|difference| mismatch(format!("column {:?}: {difference}", own.name())))?;
        }
        DictionaryIds::new(&producer.dictionary_ids, &self.dictionary_ids)
    }

    /// Checks that a batch's header has the arrays and buffers of this schema, each column of the batch's
    /// length. Allocates nothing.
    ///
    /// # Errors
    /// [`WireError::Malformed`].
    pub fn check_layout(&self, header: &[u8]) -> Result<(), WireError> {
        let message = ipc::parse(header)?;
        let batch = message.header_as_record_batch().ok_or_else(|| WireError::malformed("the message is no record batch"))?;
        let nodes = batch.nodes().map_or(0, |nodes| nodes.len());
        let variadic = batch.variadicBufferCounts();
        let views = variadic.map_or(0, |counts| counts.len());
        let counted = variadic.iter().flatten().try_fold(0usize, |sum, count| sum.checked_add(usize::try_from(count).ok()?));
        let expected = counted.and_then(|counted| self.layout.buffers.checked_add(counted));
        let buffers = batch.buffers().map_or(0, |buffers| buffers.len());
        if nodes != self.layout.nodes || views != self.layout.views || Some(buffers) != expected {
            return Err(WireError::malformed(format!(
                "a batch of {nodes} arrays and {buffers} buffers, but the schema has {} arrays and {} buffers",
                self.layout.nodes, self.layout.buffers
            )));
        }
        let lengths =
            batch.nodes().into_iter().flat_map(|nodes| self.layout.column_nodes.iter().map(move |index| nodes.get(*index).length()));
        match lengths.into_iter().find(|length| *length != batch.length()) {
            Some(length) => Err(WireError::malformed(format!("a column of {length} values in a batch of {} rows", batch.length()))),
            None => Ok(()),
        }
    }
}

impl Layout {
    fn add(&mut self, data_type: &DataType, depth: usize) -> Result<(), WireError> {
        let depth = depth.checked_sub(1).ok_or_else(|| WireError::malformed(format!("a schema nested deeper than {DEPTH_MAX}")))?;
        self.nodes += 1;
        let child = |layout: &mut Self, field: &Field| layout.add(field.data_type(), depth);
        match data_type {
            DataType::Null => {}
            DataType::Utf8 | DataType::Binary | DataType::LargeUtf8 | DataType::LargeBinary => self.buffers += 3,
            DataType::Utf8View | DataType::BinaryView => {
                self.buffers += 2;
                self.views += 1;
            }
            DataType::List(item) | DataType::LargeList(item) | DataType::Map(item, _) => {
                self.buffers += 2;
                child(self, item)?;
            }
            DataType::ListView(item) | DataType::LargeListView(item) => {
                self.buffers += 3;
                child(self, item)?;
            }
            DataType::FixedSizeList(item, _) => {
                self.buffers += 1;
                child(self, item)?;
            }
            DataType::Struct(fields) => {
                self.buffers += 1;
                fields.iter().try_for_each(|field| child(self, field))?;
            }
            DataType::Union(fields, mode) => {
                self.buffers += if *mode == UnionMode::Dense { 2 } else { 1 };
                fields.iter().try_for_each(|(_, field)| child(self, field))?;
            }
            DataType::RunEndEncoded(ends, values) => {
                child(self, ends)?;
                child(self, values)?;
            }
            // Numbers, times, intervals, decimals, fixed-size binary, and the indices of a dictionary.
            _ => self.buffers += 2,
        }
        Ok(())
    }
}

fn dictionary_ids(field: &arrow_ipc::Field<'_>, ids: &mut Vec<i64>, depth: usize) -> Result<(), WireError> {
    let depth = depth.checked_sub(1).ok_or_else(|| WireError::malformed(format!("a schema nested deeper than {DEPTH_MAX}")))?;
    ids.extend(field.dictionary().map(|dictionary| dictionary.id()));
    field.children().iter().flatten().try_for_each(|child| dictionary_ids(&child, ids, depth))
}

fn same_field(own: &Field, other: &Field) -> Result<(), String> {
    if other.is_nullable() && !own.is_nullable() {
        return Err("the batches may have nulls, the stream may not".to_owned());
    }
    same_type(own.data_type(), other.data_type())
}

fn same_type(own: &DataType, other: &DataType) -> Result<(), String> {
    let fields = |own: &arrow_schema::Fields, other: &arrow_schema::Fields| -> Result<(), String> {
        if own.len() != other.len() || own.iter().zip(other).any(|(own, other)| own.name() != other.name()) {
            return Err("the fields of a struct differ".to_owned());
        }
        own.iter().zip(other).try_for_each(|(own, other)| same_field(own, other))
    };
    match (own, other) {
        (DataType::List(own), DataType::List(other))
        | (DataType::LargeList(own), DataType::LargeList(other))
        | (DataType::ListView(own), DataType::ListView(other))
        | (DataType::LargeListView(own), DataType::LargeListView(other)) => same_field(own, other),
        (DataType::FixedSizeList(own, own_size), DataType::FixedSizeList(other, other_size)) if own_size == other_size => {
            same_field(own, other)
        }
        (DataType::Struct(own), DataType::Struct(other)) => fields(own, other),
        (DataType::Map(own, _), DataType::Map(other, _)) => match (own.data_type(), other.data_type()) {
            (DataType::Struct(own), DataType::Struct(other)) if own.len() == 2 && other.len() == 2 => {
                own.iter().zip(other).try_for_each(|(own, other)| same_field(own, other))
            }
            _ => Err("the entries of a map differ".to_owned()),
        },
        (DataType::Dictionary(own_index, own), DataType::Dictionary(other_index, other)) if own_index == other_index => {
            same_type(own, other)
        }
        _ if own == other => Ok(()),
        _ => Err(format!("the stream has {own}, the batches have {other}")),
    }
}

/// How a producer's dictionary ids become the stream's.
#[derive(Debug, Clone, Default)]
pub struct DictionaryIds {
    /// Only those that differ.
    changed: BTreeMap<i64, i64>,
}

impl DictionaryIds {
    fn new(from: &[i64], to: &[i64]) -> Result<Self, WireError> {
        let mut all = BTreeMap::new();
        for (from, to) in from.iter().zip(to) {
            if all.insert(*from, *to).is_some_and(|former| former != *to) {
                return Err(WireError::SchemaMismatch {
                    difference: format!("columns share dictionary {from} in the batches, but not in the stream"),
                });
            }
        }
        all.retain(|from, to| from != to);
        Ok(Self { changed: all })
    }

    /// Whether nothing has to be rewritten.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.changed.is_empty()
    }

    /// A dictionary message under the stream's id. The body is not touched.
    ///
    /// # Errors
    /// [`WireError::Malformed`] if the message is no dictionary.
    pub fn rewrite(&self, id: i64, delta: bool, message: Message) -> Result<(i64, Message), WireError> {
        match self.changed.get(&id) {
            None => Ok((id, message)),
            Some(to) => Ok((*to, Message { header: with_id(&message.header, *to, delta)?, body: message.body })),
        }
    }
}

/// A copy of a dictionary message's header with another id: ids are optional in a flatbuffer, so that they
/// cannot be patched in place.
fn with_id(header: &[u8], id: i64, delta: bool) -> Result<Bytes, WireError> {
    let message = ipc::parse(header)?;
    let no_values = || WireError::malformed("a dictionary without values");
    let values = message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data()).ok_or_else(no_values)?;
    let mut builder = flatbuffers::FlatBufferBuilder::new();
    let nodes: Vec<_> = values.nodes().iter().flatten().copied().collect();
    let nodes = builder.create_vector(&nodes);
    let buffers: Vec<_> = values.buffers().iter().flatten().copied().collect();
    let buffers = builder.create_vector(&buffers);
    let variadic =
        values.variadicBufferCounts().map(|counts| counts.iter().collect::<Vec<i64>>()).map(|counts| builder.create_vector(&counts));
    let compression = values.compression().map(|compression| {
        let args = arrow_ipc::BodyCompressionArgs { codec: compression.codec(), method: compression.method() };
        arrow_ipc::BodyCompression::create(&mut builder, &args)
    });
    let batch = arrow_ipc::RecordBatchArgs {
        length: values.length(),
        nodes: Some(nodes),
        buffers: Some(buffers),
        compression,
        variadicBufferCounts: variadic,
    };
    let batch = arrow_ipc::RecordBatch::create(&mut builder, &batch);
    let dictionary =
        arrow_ipc::DictionaryBatch::create(&mut builder, &arrow_ipc::DictionaryBatchArgs { id, data: Some(batch), isDelta: delta });
    let args = arrow_ipc::MessageArgs {
        version: message.version(),
        header_type: arrow_ipc::MessageHeader::DictionaryBatch,
        header: Some(dictionary.as_union_value()),
        bodyLength: message.bodyLength(),
        custom_metadata: None,
    };
    let root = arrow_ipc::Message::create(&mut builder, &args);
    builder.finish(root, None);
    Ok(Bytes::copy_from_slice(builder.finished_data()))
}
