//! A stream's schema: parsed once, compared with every producer's, and with the layout of every batch.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use arrow_schema::{DataType, Schema, SchemaRef};
use bytes::Bytes;

use super::compare;
use super::compression::Decompressed;
use super::dictionary::DictionarySet;
pub use super::dictionary_ids::DictionaryIds;
use super::error::WireError;
use super::ipc::{self, Body, Kind, Message};
use super::layout::Layout;
use super::limits::{DEPTH_MAX, FIELDS_MAX, NAME_BYTES_MAX, TEXT_BYTES_MAX};
use super::offsets::OffsetEnds;
use super::prune;

/// A schema message and what follows from it.
#[derive(Debug, Clone)]
pub struct StreamSchema {
    header: Bytes,
    arrow: SchemaRef,
    layout: Layout,
    /// In the order of the fields, children after their parent; an id twice if fields share a dictionary.
    dictionary_ids: Vec<i64>,
    /// Layout of each dictionary's values.
    dictionaries: BTreeMap<i64, Layout>,
}

impl StreamSchema {
    /// Reads a schema message's flatbuffer.
    ///
    /// # Errors
    /// [`WireError::Malformed`], [`WireError::HeadTooLarge`].
    pub fn parse(header: Bytes) -> Result<Self, WireError> {
        let (arrow, dictionary_ids) = {
            let message = ipc::parse(&header)?;
            let schema = message.header_as_schema().ok_or_else(|| WireError::malformed("the message is no schema"))?;
            if schema.endianness() != arrow_ipc::Endianness::Little {
                return Err(WireError::malformed("a big-endian schema; send little-endian batches"));
            }
            let mut seen = Seen::default();
            seen.add_metadata(schema.custom_metadata())?;
            schema.fields().iter().flatten().try_for_each(|field| seen.add(&field, DEPTH_MAX))?;
            // Arrow's conversion is not made for hostile input: should it panic, it has allocated little.
            let converted = catch_unwind(AssertUnwindSafe(|| arrow_ipc::convert::try_fb_to_schema(schema)));
            let schema = converted.map_err(|_| WireError::malformed("a schema that Arrow cannot read"))?;
            (schema.map_err(|error| WireError::malformed(format!("the schema: {error}")))?, seen.dictionary_ids)
        };
        let layout = Layout::new(arrow.fields().iter().map(|field| field.data_type()))?;
        let dictionaries = dictionary_layouts(&arrow, &dictionary_ids)?;
        Ok(Self { header, arrow: arrow.into(), layout, dictionary_ids, dictionaries })
    }

    /// The message for an Arrow schema; dictionary ids are given in the order of the fields.
    ///
    /// # Errors
    /// [`WireError::Malformed`] if the schema goes beyond what [`parse`](Self::parse) takes.
    pub fn from_arrow(schema: &Schema) -> Result<Self, WireError> {
        let options = IpcWriteOptions::default();
        let mut tracker = DictionaryTracker::new(false);
        let encoded = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(schema, &mut tracker, &options);
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

    /// Whether any of its columns has a dictionary.
    #[must_use]
    pub fn has_dictionaries(&self) -> bool {
        !self.dictionary_ids.is_empty()
    }

    /// Whether dictionaries have dictionaries in their values: then all are decoded again when one is another.
    #[must_use]
    pub fn has_nested_dictionaries(&self) -> bool {
        self.arrow.fields().iter().any(|field| has_nested_dictionary(field.data_type(), false))
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
        compare::fields_fit(self.arrow.fields(), producer.arrow.fields()).map_err(|difference| WireError::SchemaMismatch { difference })?;
        DictionaryIds::new(&producer.dictionary_ids, &self.dictionary_ids)
    }

    /// [`inspect_with_ends`](Self::inspect_with_ends), where nobody looks at the body.
    ///
    /// # Errors
    /// [`WireError::Malformed`], [`WireError::HeadTooLarge`].
    pub fn inspect(&self, header: &[u8], body_len: u64) -> Result<Kind, WireError> {
        self.inspect_with_ends(header, body_len, &mut OffsetEnds::default())
    }

    /// [`ipc::inspect`], and whether a batch's header has the arrays and buffers of this schema, long enough
    /// for its rows. A compressed body's sizes are seen only by [`check_compressed`](Self::check_compressed), a
    /// dictionary's arrays by [`check_dictionary`](Self::check_dictionary). `ends` gets where a batch's offsets begin and end, for
    /// when its body is there, and nothing if that is compressed. Allocates nothing else.
    ///
    /// # Errors
    /// [`WireError::Malformed`], [`WireError::HeadTooLarge`].
    pub fn inspect_with_ends(&self, header: &[u8], body_len: u64, ends: &mut OffsetEnds) -> Result<Kind, WireError> {
        ends.clear();
        if header.is_empty() {
            return ipc::inspect(header, body_len);
        }
        let message = ipc::parse(header)?;
        let kind = ipc::inspect_message(&message, body_len)?;
        if let Kind::Batch { compressed, .. } = kind {
            let batch = ipc::values(&message)?;
            let size = |buffer: &arrow_ipc::Buffer| {
                let length = buffer.length().unsigned_abs();
                Ok(if compressed && length > 0 { u64::MAX } else { length })
            };
            self.layout.check(&batch, message.version(), size, (!compressed).then_some(ends))?;
        }
        Ok(kind)
    }

    /// Checks what the buffers of a compressed batch claim to become: possible, within bounds, and long enough
    /// for its rows. `limit` bounds what they become together, in bytes.
    ///
    /// # Errors
    /// [`WireError::Malformed`], [`WireError::DecompressedTooLarge`].
    pub fn check_compressed(&self, header: &[u8], body: &Body, limit: u64) -> Result<(), WireError> {
        check_sizes(&self.layout, header, body, limit)
    }

    /// Checks a dictionary of the stream's id `id`, compressed or not, against the type of its values. `limit` bounds what a
    /// compressed one becomes, in bytes.
    ///
    /// # Errors
    /// [`WireError::Malformed`], [`WireError::DecompressedTooLarge`].
    pub fn check_dictionary(&self, id: i64, message: &Message, limit: u64) -> Result<(), WireError> {
        let layout = self.dictionaries.get(&id).ok_or_else(|| WireError::malformed(format!("a dictionary {id}, which no column has")))?;
        check_sizes(layout, &message.header, &message.body, limit)
    }

    /// The message of these columns of a batch, in this order, without decoding or copying: a column may be there twice. Dictionaries
    /// keep their ids.
    ///
    /// # Errors
    /// [`WireError::Malformed`] for a batch of another schema.
    pub fn prune(&self, message: &Message, columns: &[usize]) -> Result<Message, WireError> {
        prune::prune(&self.layout, message, columns)
    }

    /// Checks that a batch's dictionaries are all there: readers fail on a batch that comes before them.
    ///
    /// # Errors
    /// [`WireError::Malformed`].
    pub fn check_dictionaries(&self, held: &DictionarySet) -> Result<(), WireError> {
        match self.dictionary_ids.iter().find(|id| !held.contains(**id)) {
            Some(_) => Err(WireError::malformed("a batch came before the dictionaries of all its columns")),
            None => Ok(()),
        }
    }
}

fn check_sizes(layout: &Layout, header: &[u8], body: &Body, limit: u64) -> Result<(), WireError> {
    let message = ipc::parse(header)?;
    let batch = ipc::values(&message)?;
    match batch.compression() {
        None => {
            let mut ends = OffsetEnds::default();
            layout.check(&batch, message.version(), |buffer| Ok(buffer.length().unsigned_abs()), Some(&mut ends))?;
            ends.check(body)
        }
        Some(compression) => {
            let mut decompressed = Decompressed::new(&compression, body, limit)?;
            layout.check(&batch, message.version(), |buffer| decompressed.size(buffer), None)
        }
    }
}

/// Metadata in a flatbuffer.
type KeyValues<'a> = flatbuffers::Vector<'a, flatbuffers::ForwardsUOffset<arrow_ipc::KeyValue<'a>>>;

/// What the walk over a schema's fields has seen.
#[derive(Default)]
struct Seen {
    fields: usize,
    /// Of names and metadata, each counted as often as it is used.
    text_bytes: u64,
    dictionary_ids: Vec<i64>,
}

impl Seen {
    fn add(&mut self, field: &arrow_ipc::Field<'_>, depth: usize) -> Result<(), WireError> {
        let depth = depth.checked_sub(1).ok_or_else(|| WireError::malformed(format!("a schema nested deeper than {DEPTH_MAX}")))?;
        self.fields += 1;
        if self.fields > FIELDS_MAX {
            return Err(WireError::malformed(format!("a schema of more than {FIELDS_MAX} fields")));
        }
        let name = field.name().unwrap_or_default();
        if name.len() > NAME_BYTES_MAX {
            let begin: String = name.chars().take(32).collect();
            let what = format!("a field's name of {} bytes (it begins with {begin:?}); {NAME_BYTES_MAX} are allowed", name.len());
            return Err(WireError::malformed(what));
        }
        self.add_text(name.len())?;
        self.add_metadata(field.custom_metadata())?;
        if let Some(zone) = field.type_as_timestamp().and_then(|timestamp| timestamp.timezone()) {
            self.add_text(zone.len())?;
        }
        self.dictionary_ids.extend(field.dictionary().map(|dictionary| dictionary.id()));
        field.children().iter().flatten().try_for_each(|child| self.add(&child, depth))
    }

    fn add_metadata(&mut self, pairs: Option<KeyValues<'_>>) -> Result<(), WireError> {
        let text = |text: Option<&str>| text.map_or(0, str::len);
        pairs.iter().flatten().try_for_each(|pair| self.add_text(text(pair.key()) + text(pair.value())))
    }

    fn add_text(&mut self, bytes: usize) -> Result<(), WireError> {
        self.text_bytes = self.text_bytes.saturating_add(bytes as u64);
        if self.text_bytes > TEXT_BYTES_MAX {
            return Err(WireError::HeadTooLarge { bytes: self.text_bytes, limit: TEXT_BYTES_MAX });
        }
        Ok(())
    }
}

/// The layouts of all dictionaries' values; `ids` in the order of the fields.
fn dictionary_layouts(schema: &Schema, ids: &[i64]) -> Result<BTreeMap<i64, Layout>, WireError> {
    let mut values = Vec::new();
    schema.fields().iter().for_each(|field| dictionary_values(field.data_type(), &mut values));
    if values.len() != ids.len() {
        return Err(WireError::malformed("a schema whose dictionaries have no place"));
    }
    ids.iter().zip(values).map(|(id, values)| Ok((*id, Layout::new([values])?))).collect()
}

fn dictionary_values<'a>(data_type: &'a DataType, found: &mut Vec<&'a DataType>) {
    match data_type {
        DataType::Dictionary(_, values) => {
            found.push(values);
            dictionary_values(values, found);
        }
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => dictionary_values(item.data_type(), found),
        DataType::Struct(fields) => fields.iter().for_each(|field| dictionary_values(field.data_type(), found)),
        DataType::Union(fields, _) => fields.iter().for_each(|(_, field)| dictionary_values(field.data_type(), found)),
        DataType::RunEndEncoded(ends, values) => {
            dictionary_values(ends.data_type(), found);
            dictionary_values(values.data_type(), found);
        }
        _ => {}
    }
}

/// Whether a dictionary has a dictionary in its values.
fn has_nested_dictionary(data_type: &DataType, is_inside: bool) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_inside || has_nested_dictionary(values, true),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => has_nested_dictionary(item.data_type(), is_inside),
        DataType::Struct(fields) => fields.iter().any(|field| has_nested_dictionary(field.data_type(), is_inside)),
        DataType::Union(fields, _) => fields.iter().any(|(_, field)| has_nested_dictionary(field.data_type(), is_inside)),
        DataType::RunEndEncoded(ends, values) => {
            [ends, values].into_iter().any(|field| has_nested_dictionary(field.data_type(), is_inside))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Code;

    /// A schema whose fields all have one text as their metadata: the header has it once.
    fn sharing(fields: usize, bytes: usize) -> Bytes {
        let mut builder = flatbuffers::FlatBufferBuilder::new();
        let value = builder.create_string(&"v".repeat(bytes));
        let pair = arrow_ipc::KeyValue::create(&mut builder, &arrow_ipc::KeyValueArgs { key: None, value: Some(value) });
        let pairs = builder.create_vector(&[pair]);
        let null = arrow_ipc::Null::create(&mut builder, &arrow_ipc::NullArgs {});
        let name = builder.create_string("");
        let args = arrow_ipc::FieldArgs {
            name: Some(name),
            type_type: arrow_ipc::Type::Null,
            type_: Some(null.as_union_value()),
            custom_metadata: Some(pairs),
            ..Default::default()
        };
        let field = arrow_ipc::Field::create(&mut builder, &args);
        let fields = builder.create_vector(&vec![field; fields]);
        let schema = arrow_ipc::Schema::create(&mut builder, &arrow_ipc::SchemaArgs { fields: Some(fields), ..Default::default() });
        let args = arrow_ipc::MessageArgs {
            version: arrow_ipc::MetadataVersion::V5,
            header_type: arrow_ipc::MessageHeader::Schema,
            header: Some(schema.as_union_value()),
            ..Default::default()
        };
        let message = arrow_ipc::Message::create(&mut builder, &args);
        builder.finish(message, None);
        Bytes::copy_from_slice(builder.finished_data())
    }

    #[test]
    fn a_text_counts_as_often_as_it_is_used() {
        let half = usize::try_from(TEXT_BYTES_MAX / 2).expect("fits");
        assert!(StreamSchema::parse(sharing(2, half)).is_ok(), "the limit itself");
        let error = StreamSchema::parse(sharing(3, half)).expect_err("once more");
        assert_eq!(error.code(), Code::MessageTooLarge);
    }
}
