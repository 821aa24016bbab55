//! The versions of a stream's schema: what may follow what, and what takes in all of them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema};

use super::compare::type_fits;
use super::error::WireError;
use super::schema::{DictionaryIds, StreamSchema};
use super::widening::widens;
use crate::engine::{SchemaPolicy, SchemaVersion};

/// Most versions of a stream: each is parsed and held. A producer that makes columns of its data would go on for ever.
pub const SCHEMA_VERSIONS_MAX: usize = 256;

/// Most bytes of the messages of all versions, but that the first may have any: parsed, they take several times as much.
pub const SCHEMA_BYTES_MAX: usize = 8 << 20;

/// So many differences are named; of the others their number.
const DIFFERENCES_MAX: usize = 20;

/// The versions of a stream's schema. A version is a layout of batches: another order of the same columns is one, too.
#[derive(Debug, Clone)]
pub struct SchemaVersions {
    policy: SchemaPolicy,
    versions: Vec<Arc<StreamSchema>>,
    /// What has the columns of all versions, each of the widest type. Of one version that version.
    merged: Option<Arc<StreamSchema>>,
}

/// A producer's schema that the stream takes.
#[derive(Debug)]
pub struct Accepted {
    /// The version that its batches have.
    pub version: SchemaVersion,
    /// That version.
    pub schema: Arc<StreamSchema>,
    /// How its dictionary ids become that version's.
    pub ids: DictionaryIds,
    /// If the version is new: what then has the columns of all.
    merged: Option<Arc<StreamSchema>>,
}

impl Accepted {
    /// Whether the stream does not have the version yet.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.merged.is_some()
    }
}

impl SchemaVersions {
    /// Of a stream without a schema.
    #[must_use]
    pub fn new(policy: SchemaPolicy) -> Self {
        Self { policy, versions: Vec::new(), merged: None }
    }

    /// Of a stream that has these, by version.
    ///
    /// # Errors
    /// [`WireError`]: they are not what a stream of this policy had taken.
    pub fn restore(policy: SchemaPolicy, headers: &[Arc<[u8]>]) -> Result<Self, WireError> {
        let mut all = Self::new(policy);
        for header in headers {
            let schema = StreamSchema::parse(header.to_vec().into())?;
            let merged = all.grown(&schema)?;
            all.versions.push(Arc::new(schema));
            all.merged = Some(merged);
        }
        Ok(all)
    }

    /// Of the stream's versions the one of this number.
    #[must_use]
    pub fn get(&self, version: SchemaVersion) -> Option<&Arc<StreamSchema>> {
        self.versions.get(version.0 as usize)
    }

    /// The newest one, if there is one.
    #[must_use]
    pub fn newest(&self) -> Option<(SchemaVersion, &Arc<StreamSchema>)> {
        let number = u32::try_from(self.versions.len().checked_sub(1)?).ok()?;
        Some((SchemaVersion(number), self.versions.last()?))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.versions.len()
    }

    /// What has the columns of all versions: what a new reader gets.
    #[must_use]
    pub fn merged(&self) -> Option<&Arc<StreamSchema>> {
        self.merged.as_ref()
    }

    /// Finds the version that a producer's batches have, or makes one. It is the stream's once it is [added](Self::add).
    ///
    /// # Errors
    /// [`WireError::SchemaMismatch`], [`WireError::SchemaIncompatible`] name the columns; [`WireError::TooManySchemas`].
    pub fn accept(&self, producer: &StreamSchema) -> Result<Accepted, WireError> {
        let known = self.versions.iter().enumerate().rev();
        let mut found = known.filter_map(|(number, version)| Some((number, version, version.accepts(producer).ok()?)));
        if let Some((number, version, ids)) = found.next() {
            return Ok(Accepted { version: number_of(number), schema: version.clone(), ids, merged: None });
        }
        let merged = self.grown(producer)?;
        let ids = producer.accepts(producer)?;
        Ok(Accepted { version: number_of(self.versions.len()), schema: Arc::new(producer.clone()), ids, merged: Some(merged) })
    }

    /// Adds a new version; one that the stream has changes nothing.
    pub fn add(&mut self, accepted: &Accepted) {
        if let Some(merged) = &accepted.merged {
            self.versions.push(accepted.schema.clone());
            self.merged = Some(merged.clone());
        }
    }

    /// What has the columns of all versions and of this one, which is none of them.
    fn grown(&self, producer: &StreamSchema) -> Result<Arc<StreamSchema>, WireError> {
        let Some(merged) = &self.merged else { return Ok(Arc::new(producer.clone())) };
        if self.policy == SchemaPolicy::Strict {
            // One version only, and it does not fit.
            return Err(merged.accepts(producer).err().unwrap_or_else(|| WireError::malformed("a schema that the stream has already")));
        }
        let (versions, versions_max, bytes_max) = (self.versions.len(), SCHEMA_VERSIONS_MAX, SCHEMA_BYTES_MAX);
        let bytes = self.versions.iter().map(|version| version.header().len()).sum::<usize>() + producer.header().len();
        if versions >= versions_max || bytes > bytes_max {
            return Err(WireError::TooManySchemas { versions, bytes, versions_max, bytes_max });
        }
        let mut merging = Merging { policy: self.policy, differences: Vec::new() };
        let fields = merging.fields("", merged.arrow().fields(), producer.arrow().fields());
        merging.result()?;
        match &fields {
            same if *same == *producer.arrow().fields() => Ok(Arc::new(producer.clone())),
            same if *same == *merged.arrow().fields() => Ok(merged.clone()),
            _ => {
                let schema = StreamSchema::from_arrow(&Schema::new_with_metadata(fields, merged.arrow().metadata().clone()));
                // Each of them is within the limits.
                let differences = |error| format!("what has the columns of all versions cannot be sent: {error}");
                schema.map(Arc::new).map_err(|error| WireError::SchemaIncompatible { policy: self.policy, differences: differences(error) })
            }
        }
    }
}

fn number_of(index: usize) -> SchemaVersion {
    SchemaVersion(u32::try_from(index).unwrap_or(u32::MAX))
}

/// Two schemas on their way to one that has the columns of both.
struct Merging {
    policy: SchemaPolicy,
    differences: Vec<String>,
}

impl Merging {
    fn result(mut self) -> Result<(), WireError> {
        if self.differences.is_empty() {
            return Ok(());
        }
        let more = self.differences.len().saturating_sub(DIFFERENCES_MAX);
        self.differences.truncate(DIFFERENCES_MAX);
        if more > 0 {
            self.differences.push(format!("and {more} more"));
        }
        Err(WireError::SchemaIncompatible { policy: self.policy, differences: self.differences.join("; ") })
    }

    fn differs(&mut self, path: &str, how: impl std::fmt::Display) {
        self.differences.push(format!("column {path:?}: {how}"));
    }

    fn widens(&self) -> bool {
        self.policy == SchemaPolicy::Widening
    }

    /// Columns, or a struct's members: the stream's in their order, then what only the batches have.
    fn fields(&mut self, path: &str, stream: &Fields, batches: &Fields) -> Fields {
        let [known, new] = [stream, batches].map(|fields| {
            let (names, twice) = by_name(fields);
            if let Some(twice) = twice {
                self.differs(&below(path, twice), "there are two of this name, and a schema that changes finds columns by their names");
            }
            names
        });
        let mut merged: Vec<FieldRef> = Vec::with_capacity(stream.len());
        for own in stream {
            let path = below(path, own.name());
            merged.push(match new.get(own.name().as_str()) {
                Some(other) => self.field(&path, own, other),
                None => self.lacking(&path, own, "the batches lack it, and in the stream it may not be null"),
            });
        }
        for new in batches.iter().filter(|field| !known.contains_key(field.name().as_str())) {
            merged.push(self.lacking(&below(path, new.name()), new, "it is new and may not be null, but older batches lack it"));
        }
        merged.into()
    }

    /// A column that one side does not have.
    fn lacking(&mut self, path: &str, field: &FieldRef, refusal: &str) -> FieldRef {
        if field.is_nullable() {
            return field.clone();
        }
        if !self.widens() {
            self.differs(path, refusal);
        }
        Arc::new(field.as_ref().clone().with_nullable(true))
    }

    fn field(&mut self, path: &str, stream: &FieldRef, batches: &FieldRef) -> FieldRef {
        let has_more_nulls = batches.is_nullable() && !stream.is_nullable();
        if has_more_nulls && !self.widens() {
            self.differs(path, "the batches may have nulls, the stream may not");
        }
        let data_type = self.data_type(path, stream.data_type(), batches.data_type());
        if data_type == *stream.data_type() && !has_more_nulls {
            return stream.clone();
        }
        let nullable = stream.is_nullable() || batches.is_nullable();
        Arc::new(stream.as_ref().clone().with_data_type(data_type).with_nullable(nullable))
    }

    fn data_type(&mut self, path: &str, stream: &DataType, batches: &DataType) -> DataType {
        match (stream, batches) {
            (DataType::Struct(own), DataType::Struct(other)) => DataType::Struct(self.fields(path, own, other)),
            (DataType::List(own), DataType::List(other)) => DataType::List(self.item(path, own, other)),
            (DataType::LargeList(own), DataType::LargeList(other)) => DataType::LargeList(self.item(path, own, other)),
            (DataType::Map(own, own_sorted), DataType::Map(other, other_sorted)) => {
                if *own_sorted && !*other_sorted {
                    self.differs(path, "the stream's map keys are sorted, the batches' are not");
                }
                DataType::Map(self.entries(path, own, other), *own_sorted)
            }
            _ if type_fits(stream, batches).is_ok() => stream.clone(),
            _ if self.widens() && widens(stream, batches) => batches.clone(),
            _ if self.widens() && widens(batches, stream) => stream.clone(),
            _ => {
                self.differs(path, format_args!("the stream has {stream}, the batches have {batches}"));
                stream.clone()
            }
        }
    }

    /// A list's item, whatever it is called.
    fn item(&mut self, path: &str, stream: &FieldRef, batches: &FieldRef) -> FieldRef {
        self.field(&below(path, "item"), stream, batches)
    }

    /// A map's entries, whatever they are called. Keys do not change: two of them may become one.
    fn entries(&mut self, path: &str, stream: &FieldRef, batches: &FieldRef) -> FieldRef {
        let (DataType::Struct(own), DataType::Struct(other)) = (stream.data_type(), batches.data_type()) else {
            self.differs(path, "a map whose entries are no structs");
            return stream.clone();
        };
        let ([own_key, own_value], [key, value]) = (&own[..], &other[..]) else {
            self.differs(path, "a map whose entries are no pairs");
            return stream.clone();
        };
        if type_fits(own_key.data_type(), key.data_type()).is_err() {
            let (own, other) = (own_key.data_type(), key.data_type());
            self.differs(path, format_args!("the stream's map has keys of {own}, the batches' of {other}"));
        }
        let value = self.field(&below(path, "value"), own_value, value);
        let entries: Fields = vec![own_key.clone(), value].into();
        Arc::new(Field::clone(stream).with_data_type(DataType::Struct(entries)))
    }
}

/// Fields by their names, and a name that is there twice.
fn by_name(fields: &Fields) -> (HashMap<&str, &FieldRef>, Option<&str>) {
    let mut names = HashMap::with_capacity(fields.len());
    let mut twice = None;
    for field in fields {
        if names.insert(field.name().as_str(), field).is_some() {
            twice = twice.or(Some(field.name().as_str()));
        }
    }
    (names, twice)
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
