//! Where the state is kept: parts in memory, and in an embedded ACID store if there is a directory.

use std::path::Path;
use std::sync::Arc;

use datafusion_arrow_ipc::reader::StreamReader;
use datafusion_arrow_ipc::writer::StreamWriter;
use datafusion_common::arrow::array::RecordBatch;
use datafusion_common::{DataFusionError, Result};
use redb::{Database, DatabaseError, ReadableDatabase as _, TableDefinition};

use super::FlowError;
use super::parts::Part;

/// Parts by number: the slice that they are of, their rows, their bytes.
const PARTS: TableDefinition<'_, u64, (i64, u64, u64)> = TableDefinition::new("parts");
/// Parts by number, each as an Arrow IPC stream.
const ROWS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");
/// What there is once, as JSON.
const FACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("facts");
/// What was made of the batches up to the saved offsets, in order: where it goes, and an Arrow IPC stream.
const OUTPUTS: TableDefinition<'_, u64, (&str, &[u8])> = TableDefinition::new("outputs");
const FILE: &str = "flow.redb";
const SAVED: &str = "saved";
/// Least that is merged at once, in bytes; so little in tests that there is a second time.
const WORKING_BYTES_MIN: usize = if cfg!(test) { 512 } else { 1 << 20 };

/// What redb may keep of the file in memory, in bytes.
const CACHE_BYTES_MIN: usize = 1 << 20;
const CACHE_BYTES_MAX: usize = 64 << 20;

/// The parts of a flow's state.
#[derive(Debug)]
pub(super) struct Store {
    database: Option<Arc<Database>>,
    directory: String,
    next: u64,
    discarded: Vec<u64>,
    memory_bytes_max: usize,
}

/// What is kept of a flow, beside its parts.
#[derive(Debug)]
pub(super) struct Kept {
    /// Facts, as JSON.
    pub(super) facts: Vec<u8>,
    pub(super) outputs: Vec<(String, RecordBatch)>,
    pub(super) parts: Vec<(i64, Part)>,
}

impl Store {
    /// Opens a directory, made if it is not there, or begins in memory.
    ///
    /// # Errors
    /// [`FlowError::State`]: another process has it, or it cannot be read.
    pub(super) fn open(directory: Option<&Path>, memory_bytes_max: usize) -> Result<Self, FlowError> {
        let named = directory.map(|directory| directory.display().to_string()).unwrap_or_default();
        let state = |reason: String| FlowError::State { directory: named.clone(), reason };
        let database = directory.map(|directory| {
            std::fs::create_dir_all(directory).map_err(|error| state(error.to_string()))?;
            let cache_bytes = (memory_bytes_max / 8).clamp(CACHE_BYTES_MIN, CACHE_BYTES_MAX);
            Database::builder().set_cache_size(cache_bytes).create(directory.join(FILE)).map(Arc::new).map_err(|error| match error {
                DatabaseError::DatabaseAlreadyOpen => {
                    state("another flow has it open; end that first, or use another directory".to_owned())
                }
                error => state(error.to_string()),
            })
        });
        let database = database.transpose()?;
        Ok(Self { database, directory: named, next: 0, discarded: Vec::new(), memory_bytes_max })
    }

    /// Memory that merging may take at once, in bytes.
    pub(super) fn working_bytes(&self) -> usize {
        (self.memory_bytes_max / 2).max(WORKING_BYTES_MIN)
    }

    /// Whether what is held is more than it may be.
    pub(super) fn is_full(&self, bytes: usize) -> bool {
        bytes > self.memory_bytes_max
    }

    pub(super) fn is_kept(&self) -> bool {
        self.database.is_some()
    }

    pub(super) fn memory_bytes_max(&self) -> usize {
        self.memory_bytes_max
    }

    /// A new part.
    pub(super) fn add(&mut self, batch: RecordBatch) -> Part {
        let number = self.next;
        self.next += 1;
        Part { number, rows: batch.num_rows(), bytes: batch.get_array_memory_size(), batch: Some(batch), is_stored: false }
    }

    pub(super) fn read(&self, part: &Part) -> Result<RecordBatch> {
        if let Some(batch) = &part.batch {
            return Ok(batch.clone());
        }
        let lost = || DataFusionError::External(format!("part {} of the state in {} is gone", part.number, self.directory).into());
        let transaction = self.database.as_ref().ok_or_else(lost)?.begin_read().map_err(external)?;
        let table = transaction.open_table(ROWS).map_err(external)?;
        let stored = table.get(part.number).map_err(external)?.ok_or_else(lost)?;
        decoded(stored.value())
    }

    /// It is not needed any more; of what is saved, once the next state is.
    pub(super) fn discard(&mut self, part: &Part) {
        if part.is_stored {
            self.discarded.push(part.number);
        }
    }

    /// What was saved last. What was written after that is removed.
    ///
    /// # Errors
    /// [`FlowError::State`].
    pub(super) fn kept(&mut self) -> Result<Option<Kept>, FlowError> {
        let Some(database) = self.database.clone() else { return Ok(None) };
        self.found(&database).map_err(|error| self.failed(&error))
    }

    fn found(&mut self, database: &Database) -> Result<Option<Kept>, redb::Error> {
        let transaction = database.begin_read()?;
        let facts = match transaction.open_table(FACTS) {
            Ok(table) => table.get(SAVED)?.map(|facts| facts.value().to_vec()),
            Err(redb::TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let Some(facts) = facts else { return Ok(None) };
        let mut parts = Vec::new();
        for entry in transaction.open_table(PARTS)?.range(0_u64..)? {
            let (number, stored) = entry?;
            let (slice, rows, bytes) = stored.value();
            let size = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
            let (number, rows, bytes) = (number.value(), size(rows), size(bytes));
            self.next = self.next.max(number + 1);
            parts.push((slice, Part { number, rows, bytes, batch: None, is_stored: true }));
        }
        let mut outputs = Vec::new();
        for entry in transaction.open_table(OUTPUTS)?.range(0_u64..)? {
            let stored = entry?.1;
            let (output, bytes) = stored.value();
            let batch = decoded(bytes).map_err(|error| redb::Error::Corrupted(error.to_string()))?;
            outputs.push((output.to_owned(), batch));
        }
        Ok(Some(Kept { facts, outputs, parts }))
    }

    /// Makes this what is kept, all of it or nothing. Parts stay in memory while they have room there.
    ///
    /// # Errors
    /// [`FlowError::State`]; then what was kept before is.
    pub(super) fn save(
        &mut self,
        facts: &[u8],
        outputs: &[(String, RecordBatch)],
        parts: &mut dyn Iterator<Item = (i64, &mut Part)>,
    ) -> Result<(), FlowError> {
        let Some(database) = self.database.clone() else { return Ok(()) };
        let mut held = 0;
        let mut written = Vec::new();
        for (slice, part) in parts {
            held += part.held();
            written.push((slice, part));
        }
        self.write(&database, facts, outputs, &written).map_err(|error| self.failed(&error))?;
        self.discarded.clear();
        for (_, part) in written {
            part.is_stored = true;
            // The rest is for what is to come.
            if held > self.memory_bytes_max / 4 {
                held -= part.held();
                part.batch = None;
            }
        }
        Ok(())
    }

    fn write(
        &self,
        database: &Database,
        facts: &[u8],
        outputs: &[(String, RecordBatch)],
        parts: &[(i64, &mut Part)],
    ) -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        {
            let (mut table, mut rows) = (transaction.open_table(PARTS)?, transaction.open_table(ROWS)?);
            for (slice, part) in parts {
                if let (false, Some(batch)) = (part.is_stored, &part.batch) {
                    table.insert(part.number, (*slice, part.rows as u64, part.bytes as u64))?;
                    rows.insert(part.number, encoded(batch)?.as_slice())?;
                }
            }
            for number in &self.discarded {
                table.remove(number)?;
                rows.remove(number)?;
            }
            transaction.open_table(FACTS)?.insert(SAVED, facts)?;
            let mut table = transaction.open_table(OUTPUTS)?;
            table.retain(|_, _| false)?;
            for (number, (output, batch)) in outputs.iter().enumerate() {
                table.insert(number as u64, (output.as_str(), encoded(batch)?.as_slice()))?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn failed(&self, error: &redb::Error) -> FlowError {
        self.refused(error.to_string())
    }

    pub(super) fn refused(&self, reason: impl Into<String>) -> FlowError {
        FlowError::State { directory: self.directory.clone(), reason: reason.into() }
    }
}

/// A batch as an Arrow IPC stream.
fn encoded(batch: &RecordBatch) -> Result<Vec<u8>, redb::Error> {
    let written = || {
        let mut writer = StreamWriter::try_new(Vec::new(), batch.schema_ref())?;
        writer.write(batch)?;
        writer.into_inner()
    };
    written().map_err(|error| redb::Error::Io(std::io::Error::other(error)))
}

fn decoded(bytes: &[u8]) -> Result<RecordBatch> {
    let batch = StreamReader::try_new(bytes, None)?.next();
    batch.ok_or_else(|| DataFusionError::External("a stream without a batch".into()))?.map_err(DataFusionError::from)
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
