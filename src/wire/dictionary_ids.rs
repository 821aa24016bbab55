//! Dictionary ids: every producer numbers its dictionaries as it likes; in a stream they have the stream's.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::error::WireError;
use super::ipc::{self, Message};

/// How a producer's dictionary ids become the stream's.
#[derive(Debug, Clone, Default)]
pub struct DictionaryIds {
    /// For each of the producer's ids the stream's; several where columns share a dictionary only in the producer.
    targets: BTreeMap<i64, Vec<i64>>,
}

impl DictionaryIds {
    /// Pairs the ids of two schemas that fit, each in the order of the fields.
    ///
    /// # Errors
    /// [`WireError::SchemaMismatch`] if columns share a dictionary in the stream but not in the producer: the
    /// stream's columns would get each other's values.
    pub(super) fn new(producer: &[i64], stream: &[i64]) -> Result<Self, WireError> {
        let mut targets: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        let mut sources = BTreeMap::new();
        for (from, to) in producer.iter().zip(stream) {
            if sources.insert(*to, *from).is_some_and(|former| former != *from) {
                return Err(WireError::SchemaMismatch {
                    difference: format!("columns that share dictionary {to} in the stream have dictionaries of their own in the batches"),
                });
            }
            let known = targets.entry(*from).or_default();
            if !known.contains(to) {
                known.push(*to);
            }
        }
        Ok(Self { targets })
    }

    /// Whether nothing has to be rewritten.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.targets.iter().all(|(from, to)| to.as_slice() == [*from])
    }

    /// A dictionary message under the stream's ids: mostly one. The body is not touched.
    ///
    /// # Errors
    /// [`WireError::Malformed`] if the message is no dictionary, or the schema has none of its id.
    pub fn rewrite(&self, id: i64, delta: bool, message: &Message) -> Result<Vec<(i64, Message)>, WireError> {
        let targets = self.targets.get(&id).ok_or_else(|| WireError::malformed(format!("a dictionary {id}, which no column has")))?;
        let rewritten = targets.iter().map(|to| {
            let header = if *to == id { message.header.clone() } else { with_id(&message.header, *to, delta)? };
            Ok((*to, Message { header, body: message.body.clone() }))
        });
        rewritten.collect()
    }
}

/// A copy of a dictionary message's header with another id: ids are optional in a flatbuffer, so that they
/// cannot be patched in place.
fn with_id(header: &[u8], id: i64, delta: bool) -> Result<Bytes, WireError> {
    let message = ipc::parse(header)?;
    let values = ipc::values(&message)?;
    let mut builder = flatbuffers::FlatBufferBuilder::with_capacity(header.len() + 64);
    let nodes: Vec<_> = values.nodes().iter().flatten().copied().collect();
    let nodes = builder.create_vector(&nodes);
    let buffers: Vec<_> = values.buffers().iter().flatten().copied().collect();
    let buffers = builder.create_vector(&buffers);
    let variadic = values.variadicBufferCounts().map(|counts| counts.iter().collect::<Vec<i64>>());
    let variadic = variadic.map(|counts| builder.create_vector(&counts));
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
    let dictionary = arrow_ipc::DictionaryBatchArgs { id, data: Some(batch), isDelta: delta };
    let dictionary = arrow_ipc::DictionaryBatch::create(&mut builder, &dictionary);
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
