//! Flows: rows, windows and their state. DataFusion's Arrow is of another version, and both have the same C interface.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array as _, RecordBatch, StructArray};
use bowstring::engine::Retry;
use bowstring::flow::{AggregationSpec, EventTime, Firings, FlowError, JoinSpec, OperatorSpec, Reduction, RowStep, Saved, State, Window};
use datafusion_arrow::array::Array as _;
use datafusion_arrow::{array as their, datatypes as their_types};
use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::arrow_ffi::{self, Batches, SchemaCapsule, input, schema};
use crate::errors::{internal, invalid, raise};

/// Steps over rows of one schema.
#[pyclass(module = "bowstring._native", frozen)]
pub(crate) struct Rows(bowstring::flow::Rows);

#[pymethods]
impl Rows {
    /// Each step is "filter" with a condition or "select" with expressions.
    #[new]
    fn new(of: &Bound<'_, PyAny>, steps: Vec<(String, Vec<String>)>) -> PyResult<Self> {
        let step = |(kind, texts): (String, Vec<String>)| match kind.as_str() {
            "select" => Ok(vec![RowStep::Select(texts)]),
            "filter" => Ok(texts.into_iter().map(RowStep::Filter).collect()),
            other => Err(invalid(&format!("a step {other}; it is filter or select"))),
        };
        let steps = steps.into_iter().map(step).collect::<PyResult<Vec<_>>>()?.concat();
        let of = their_schema(&schema(of)?)?;
        let rows = of_py(&of, |of| bowstring::flow::Rows::new(of, &steps));
        Ok(Self(rows?))
    }

    fn schema(&self) -> PyResult<SchemaCapsule> {
        our_schema(self.0.schema())
    }

    fn run(&self, batch: &Bound<'_, PyAny>) -> PyResult<Batches> {
        let batch = their_batch(batch)?;
        let results = batch_work(&batch, |batch| self.0.run(batch))?;
        ours(vec![results])
    }
}

/// A flow's state.
#[pyclass(module = "bowstring._native", frozen)]
pub(crate) struct FlowState {
    /// None once it is closed. Whoever has it may wait for the GIL.
    state: Mutex<Option<State>>,
    saved: Mutex<Option<Saved>>,
    /// As it was after the last call, for those who ask while one is at work, its own function among them.
    told: Mutex<Told>,
    raised: Raised,
}

/// What is told of a state.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    is_full: bool,
    late_rows: u64,
    watermark_micros: Option<i64>,
}

impl Told {
    fn of(state: &State) -> Self {
        Self { is_full: state.is_full(), late_rows: state.late_rows(), watermark_micros: state.watermark_micros() }
    }
}

/// What a function of the caller's has raised, on its way through DataFusion.
type Raised = Arc<Mutex<Option<PyErr>>>;

/// When rows are: a column, how far they may be behind, after how long a partition is idle; in microseconds.
type TimeParts = (String, u64, Option<u64>);
/// What is said of an aggregation: keys, results, the function that reduces them, a window's name, its durations in microseconds, how often
/// it has early results and how long late ones, and when rows are.
type AggregationParts = (Vec<String>, Vec<String>, Option<Py<PyAny>>, String, Vec<u64>, (Option<u64>, u64), Option<TimeParts>);
/// What is said of a join: its keys, when rows of both sides are, and from how much later to how much later the right ones are, in
/// microseconds.
type JoinParts = (Vec<(String, String)>, [TimeParts; 2], i64, i64);
/// Up to where a flow had come: whose state it is, its number, the next offsets, and what goes where.
type SavedParts = (String, u64, BTreeMap<u32, u64>, Vec<(String, Batches)>);

#[pymethods]
impl FlowState {
    /// Each input is a schema and its partitions.
    #[new]
    #[expect(clippy::needless_pass_by_value, clippy::too_many_arguments, reason = "as Python gives them")]
    fn new(
        py: Python<'_>,
        inputs: Vec<(Bound<'_, PyAny>, Vec<u32>)>,
        aggregation: Option<AggregationParts>,
        join: Option<JoinParts>,
        flow: &str,
        directory: Option<PathBuf>,
        memory_bytes_max: usize,
        now: f64,
    ) -> PyResult<Self> {
        let raised = Raised::default();
        let spec = match (aggregation, join) {
            (Some(aggregation), None) => Some(OperatorSpec::Aggregation(aggregation_of(aggregation, &raised)?)),
            (None, Some(join)) => Some(OperatorSpec::Join(join_of(join))),
            (None, None) => None,
            _ => return Err(invalid("a flow has an aggregation or a join")),
        };
        let of_input = |(of, partitions): (Bound<'_, PyAny>, Vec<u32>)| {
            Ok(bowstring::flow::Input { schema: their_schema(&schema(&of)?)?, partitions })
        };
        let inputs = inputs.into_iter().map(of_input).collect::<PyResult<Vec<_>>>()?;
        let open = || State::open(&inputs, spec.as_ref(), flow, directory.as_deref(), memory_bytes_max, seconds(now));
        let (state, saved) = py.detach(open).map_err(|error| exception(&error))?;
        let told = Mutex::new(Told::of(&state));
        Ok(Self { state: Mutex::new(Some(state)), saved: Mutex::new(saved), told, raised })
    }

    /// What was saved last: whose it is, its number, the next offsets, and what goes where. It is asked once.
    fn take_saved(&self) -> PyResult<Option<SavedParts>> {
        let Some(saved) = self.saved.lock().take() else { return Ok(None) };
        let outputs = saved.outputs.into_iter().map(|(output, batch)| Ok((output, ours(vec![batch])?)));
        Ok(Some((saved.identity, saved.epoch, saved.offsets, outputs.collect::<PyResult<_>>()?)))
    }

    /// The results' schema.
    fn schema(&self) -> PyResult<Option<SchemaCapsule>> {
        self.state.lock().as_ref().and_then(State::schema).map(our_schema).transpose()
    }

    /// Lets go of the directory.
    fn close(&self) {
        *self.state.lock() = None;
    }

    /// Adds a batch of an input, after these steps.
    fn push(&self, input_number: usize, partition: u32, batch: &Bound<'_, PyAny>, now: f64, rows: Option<&Rows>) -> PyResult<()> {
        let py = batch.py();
        let batch = their_batch(batch)?;
        let work = || {
            let batch = rows.map_or_else(|| Ok(batch.clone()), |rows| rows.0.run(&batch))?;
            self.with(|state| state.push(input_number, partition, &batch, seconds(now)))
        };
        py.detach(work).map_err(|error| self.exception(&error))
    }

    /// No row comes any more from these partitions.
    #[expect(clippy::needless_pass_by_value, reason = "as Python gives them")]
    fn end(&self, py: Python<'_>, partitions: Vec<u32>) -> PyResult<()> {
        let ended = py.detach(|| {
            self.with(|state| {
                state.end(&partitions);
                Ok(())
            })
        });
        ended.map_err(|error| self.exception(&error))
    }

    fn fire(&self, py: Python<'_>, now: f64) -> PyResult<Batches> {
        let results = py.detach(|| self.with(|state| state.fire(seconds(now))));
        ours(results.map_err(|error| self.exception(&error))?)
    }

    fn finish(&self, py: Python<'_>) -> PyResult<Batches> {
        let results = py.detach(|| self.with(State::finish));
        ours(results.map_err(|error| self.exception(&error))?)
    }

    fn take_late(&self) -> PyResult<Batches> {
        ours(self.state.lock().as_mut().map(State::take_late).unwrap_or_default())
    }

    fn save(
        &self,
        py: Python<'_>,
        identity: String,
        epoch: u64,
        offsets: BTreeMap<u32, u64>,
        outputs: Vec<(String, Bound<'_, PyAny>)>,
    ) -> PyResult<()> {
        let outputs = outputs.into_iter().map(|(output, batch)| Ok((output, their_batch(&batch)?)));
        let saved = Saved { identity, epoch, offsets, outputs: outputs.collect::<PyResult<_>>()? };
        py.detach(|| self.with(|state| state.save(&saved))).map_err(|error| self.exception(&error))
    }

    #[getter]
    fn is_full(&self) -> bool {
        self.told.lock().is_full
    }

    #[getter]
    fn late_rows(&self) -> u64 {
        self.told.lock().late_rows
    }

    #[getter]
    fn watermark_micros(&self) -> Option<i64> {
        self.told.lock().watermark_micros
    }
}

impl FlowState {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> Result<T, FlowError>) -> Result<T, FlowError> {
        match &mut *self.state.lock() {
            Some(state) => {
                let done = work(state);
                *self.told.lock() = Told::of(state);
                done
            }
            None => Err(FlowError::Failed { reason: "the flow is closed; run it again".to_owned() }),
        }
    }

    /// What a function of the caller's raised, or the error.
    fn exception(&self, error: &FlowError) -> PyErr {
        self.raised.lock().take().unwrap_or_else(|| exception(error))
    }
}

/// A function of Python's that gets two batches and gives one. What it raises is kept: an error is only a text.
fn reduction_of(function: Py<PyAny>, raised: &Raised) -> Reduction {
    let raised = raised.clone();
    Reduction::new(move |left, right| {
        let reduced = Python::attach(|py| {
            let sides = (ours(vec![left.clone()])?, ours(vec![right.clone()])?);
            their_batch(&function.bind(py).call1(sides)?)
        });
        reduced.map_err(|error| {
            let reason = error.to_string();
            *raised.lock() = Some(error);
            reason
        })
    })
}

fn aggregation_of(parts: AggregationParts, raised: &Raised) -> PyResult<AggregationSpec> {
    let (keys, results, function, kind, micros, (early, late), time) = parts;
    let durations: Vec<Duration> = micros.into_iter().map(Duration::from_micros).collect();
    let window = match (kind.as_str(), durations[..].as_ref()) {
        ("all", []) => Window::All,
        ("tumbling", [size]) => Window::Tumbling { size: *size },
        ("sliding", [size, slide]) => Window::Sliding { size: *size, slide: *slide },
        ("session", [gap]) => Window::Session { gap: *gap },
        _ => return Err(invalid(&format!("a window {kind} of {} durations", durations.len()))),
    };
    let firings = Firings { early: early.map(Duration::from_micros), late: Duration::from_micros(late) };
    let reduction = function.map(|function| reduction_of(function, raised));
    Ok(AggregationSpec { keys, results, reduction, window, firings, time: time.map(time_of) })
}

fn join_of((on, times, from_micros, to_micros): JoinParts) -> JoinSpec {
    JoinSpec { on, times: times.map(time_of), from_micros, to_micros }
}

fn time_of((column, lateness, idle): TimeParts) -> EventTime {
    EventTime { column, lateness: Duration::from_micros(lateness), idle: idle.map(Duration::from_micros) }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

fn exception(error: &FlowError) -> PyErr {
    raise(error.code(), Retry::Never, &error.to_string())
}

fn of_py<T: Send>(of: &their_types::SchemaRef, work: impl FnOnce(&their_types::SchemaRef) -> Result<T, FlowError> + Send) -> PyResult<T> {
    Python::attach(|py| py.detach(|| work(of))).map_err(|error| exception(&error))
}

fn batch_work<T: Send>(batch: &their::RecordBatch, work: impl FnOnce(&their::RecordBatch) -> Result<T, FlowError> + Send) -> PyResult<T> {
    Python::attach(|py| py.detach(|| work(batch))).map_err(|error| exception(&error))
}

/// One record batch of any object, as DataFusion has it.
fn their_batch(object: &Bound<'_, PyAny>) -> PyResult<their::RecordBatch> {
    let arrow_ffi::Input::One(batch) = input(object)? else { return Err(invalid("a flow takes record batches, one by one")) };
    let metadata = batch.schema().metadata().clone();
    let (array, of) = arrow::ffi::to_ffi(&StructArray::from(batch).into_data()).map_err(internal)?;
    let (mut array, mut of) = (array, of);
    // SAFETY: both versions have the C data interface's layout, which is fixed; `from_raw` moves out what is there and leaves it
    // released.
    let (array, of) = unsafe {
        (
            datafusion_arrow::ffi::FFI_ArrowArray::from_raw((&raw mut array).cast()),
            datafusion_arrow::ffi::FFI_ArrowSchema::from_raw((&raw mut of).cast()),
        )
    };
    // SAFETY: they were exported together.
    let data = unsafe { datafusion_arrow::ffi::from_ffi(array, &of) }.map_err(internal)?;
    let batch = their::RecordBatch::from(their::StructArray::from(data));
    let of = batch.schema().as_ref().clone().with_metadata(metadata.iter().map(|(name, value)| (name.clone(), value.clone())).collect());
    batch.with_schema(Arc::new(of)).map_err(internal)
}

/// Batches on their way to Python; none have a schema without columns.
fn ours(batches: Vec<their::RecordBatch>) -> PyResult<Batches> {
    let batches = batches.into_iter().map(our_batch).collect::<PyResult<Vec<_>>>()?;
    let of = batches.first().map_or_else(|| Arc::new(arrow::datatypes::Schema::empty()), RecordBatch::schema);
    Ok(Batches::new(of, batches))
}

fn our_batch(batch: their::RecordBatch) -> PyResult<RecordBatch> {
    let metadata = batch.schema().metadata().clone();
    let (mut array, mut of) = datafusion_arrow::ffi::to_ffi(&their::StructArray::from(batch).into_data()).map_err(internal)?;
    // SAFETY: as in `their_batch`.
    let (array, of) = unsafe {
        (arrow::ffi::FFI_ArrowArray::from_raw((&raw mut array).cast()), arrow::ffi::FFI_ArrowSchema::from_raw((&raw mut of).cast()))
    };
    // SAFETY: they were exported together.
    let data = unsafe { arrow::ffi::from_ffi(array, &of) }.map_err(internal)?;
    let batch = RecordBatch::from(StructArray::from(data));
    let of = batch.schema().as_ref().clone().with_metadata(metadata);
    batch.with_schema(Arc::new(of)).map_err(internal)
}

fn their_schema(of: &arrow::datatypes::Schema) -> PyResult<their_types::SchemaRef> {
    let of = arrow::ffi::FFI_ArrowSchema::try_from(of).map_err(internal)?;
    // SAFETY: both versions have the C data interface's layout; it is only read here.
    let of = unsafe { &*(&raw const of).cast::<datafusion_arrow::ffi::FFI_ArrowSchema>() };
    their_types::Schema::try_from(of).map(Arc::new).map_err(internal)
}

fn our_schema(of: &their_types::SchemaRef) -> PyResult<SchemaCapsule> {
    let of = datafusion_arrow::ffi::FFI_ArrowSchema::try_from(of.as_ref()).map_err(internal)?;
    // SAFETY: as in `their_schema`.
    let of = unsafe { &*(&raw const of).cast::<arrow::ffi::FFI_ArrowSchema>() };
    arrow::datatypes::Schema::try_from(of).map(|of| SchemaCapsule(Arc::new(of))).map_err(internal)
}
