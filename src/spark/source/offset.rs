//! A source's offset, as Spark keeps it in its checkpoint. It says everything that a restarted query needs: the stream's id (a stream that
//! was deleted and created again is refused), the query's subscription, where the query began, and one offset per partition.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use serde_json::Serializer;
use serde_json::ser::Formatter;

use crate::client::Error;
use crate::engine::{Offset, PartitionId, StreamId};

/// An offset per partition.
pub(super) type Ends = BTreeMap<PartitionId, Offset>;

/// A place in the stream, per partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceOffset {
    /// The stream.
    pub stream: String,
    /// Its id.
    pub stream_id: StreamId,
    /// The query's cursor.
    pub subscription: String,
    /// Where the query began. Spark asks for the start of its first micro-batch again at each restart; this makes the answer the same.
    pub initial: BTreeMap<PartitionId, Offset>,
    /// The place.
    pub ends: BTreeMap<PartitionId, Offset>,
}

/// As it is written. Spark compares offsets as text, so that the fields always come in one order.
#[derive(Serialize, Deserialize)]
struct Written {
    stream: String,
    /// In text: it does not fit into the numbers of JavaScript's kin.
    stream_id: String,
    subscription: String,
    initial: BTreeMap<u32, u64>,
    ends: BTreeMap<u32, u64>,
}

/// JSON as Python's `json.dumps` has it: spaces after commas and colons, and nothing but ASCII.
struct AsPython;

impl Formatter for AsPython {
    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for character in fragment.chars() {
            if character.is_ascii() {
                write!(writer, "{character}")?;
                continue;
            }
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}

impl SourceOffset {
    /// Reads what Spark has kept, of this connector or of the Python data source.
    ///
    /// # Errors
    /// `invalid_argument` if it is another stream's or another source's.
    pub fn parse(json: &str, stream: &str) -> Result<Self, Error> {
        let none_of_ours = |why: &dyn std::fmt::Display| {
            Error::invalid(format!("the checkpoint's offset {json} is none of bowstring's ({why}); give the query a checkpoint of its own"))
        };
        let written: Written = serde_json::from_str(json).map_err(|error| none_of_ours(&error))?;
        if written.stream != stream {
            let other = &written.stream;
            return Err(Error::invalid(format!(
                "the checkpoint belongs to stream '{other}', but the query reads '{stream}'; give the query a checkpoint of its own"
            )));
        }
        let stream_id = written.stream_id.parse().map_err(|error| none_of_ours(&error))?;
        let typed = |of: BTreeMap<u32, u64>| of.into_iter().map(|(partition, offset)| (PartitionId(partition), Offset(offset))).collect();
        Ok(Self {
            stream: written.stream,
            stream_id: StreamId(stream_id),
            subscription: written.subscription,
            initial: typed(written.initial),
            ends: typed(written.ends),
        })
    }

    /// As Spark keeps it, to the byte as the Python data source writes it: Spark takes another text for another offset.
    ///
    /// # Panics
    /// Never: numbers and text can always be written.
    #[must_use]
    pub fn json(&self) -> String {
        let plain = |of: &BTreeMap<PartitionId, Offset>| of.iter().map(|(partition, offset)| (partition.0, offset.0)).collect();
        let written = Written {
            stream: self.stream.clone(),
            stream_id: self.stream_id.0.to_string(),
            subscription: self.subscription.clone(),
            initial: plain(&self.initial),
            ends: plain(&self.ends),
        };
        let mut text = Vec::new();
        written.serialize(&mut Serializer::with_formatter(&mut text, AsPython)).expect("numbers and text can be written");
        String::from_utf8(text).expect("JSON is UTF-8")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Code;

    #[test]
    fn an_offset_of_the_python_source_is_read_and_comes_out_in_one_form() {
        let python = r#"{"ends": {"0": 3}, "stream": "s", "stream_id": "18446744073709551615", "subscription": "spark-1", "initial": {"0": 0, "10": 4, "2": 1}}"#;
        let found = SourceOffset::parse(python, "s").expect("written by the other");
        assert_eq!(found.stream_id, StreamId(u64::MAX));
        assert_eq!(found.initial[&PartitionId(10)], Offset(4));
        let json = found.json();
        assert_eq!(
            json,
            r#"{"stream": "s", "stream_id": "18446744073709551615", "subscription": "spark-1", "initial": {"0": 0, "2": 1, "10": 4}, "ends": {"0": 3}}"#
        );
        assert_eq!(SourceOffset::parse(&json, "s").expect("its own"), found);
    }

    #[test]
    fn names_are_written_as_python_writes_them() {
        let offset = SourceOffset {
            stream: "größe 🏹 \"a\\b\n\u{1}".to_owned(),
            stream_id: StreamId(1),
            subscription: "x".to_owned(),
            initial: BTreeMap::new(),
            ends: BTreeMap::new(),
        };
        // What json.dumps gives for it.
        let python = r#"{"stream": "gr\u00f6\u00dfe \ud83c\udff9 \"a\\b\n\u0001", "stream_id": "1", "subscription": "x", "initial": {}, "ends": {}}"#;
        assert_eq!(offset.json(), python);
        assert_eq!(SourceOffset::parse(python, &offset.stream).expect("its own"), offset);
    }

    #[test]
    fn a_foreign_offset_is_refused_with_what_to_do() {
        let other = r#"{"stream":"t","stream_id":"1","subscription":"a","initial":{},"ends":{}}"#;
        for (json, part) in [(other, "belongs to stream 't'"), ("{\"n\":3}", "none of bowstring's"), ("12", "none of bowstring's")] {
            let error = SourceOffset::parse(json, "s").expect_err(part);
            assert_eq!(error.code(), Code::InvalidArgument);
            assert!(error.to_string().contains(part) && error.to_string().contains("checkpoint of its own"), "{error}");
        }
    }
}
