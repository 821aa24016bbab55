//! Arrow data in and out by the PyCapsule interface
//! (<https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html>): no copy either way.

use std::ffi::CStr;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayData, RecordBatch, RecordBatchIterator, RecordBatchOptions, RecordBatchReader, StructArray};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi};
use arrow::ffi_stream::{FFI_ArrowArrayStream, RecordBatchStreamReader};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::errors::{internal, invalid};

const SCHEMA: &CStr = c"arrow_schema";
const ARRAY: &CStr = c"arrow_array";
const STREAM: &CStr = c"arrow_array_stream";

/// Batches that cross to Python together, as one Arrow stream: for small batches the crossing is the cost.
#[pyclass(module = "bowstring._native")]
pub(crate) struct Batches {
    schema: SchemaRef,
    batches: Option<Vec<RecordBatch>>,
}

impl Batches {
    pub(crate) fn new(schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        Self { schema, batches: Some(batches) }
    }
}

#[pymethods]
impl Batches {
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(&mut self, py: Python<'py>, requested_schema: Option<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyCapsule>> {
        // The interface lets a producer ignore the request; the consumer then casts.
        drop(requested_schema);
        let batches = self.batches.take().ok_or_else(|| invalid("these batches were taken already"))?;
        let reader = RecordBatchIterator::new(batches.into_iter().map(Ok), self.schema.clone());
        PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(Box::new(reader)), STREAM)
    }
}

/// A schema on its way to Python.
#[pyclass(module = "bowstring._native", frozen)]
pub(crate) struct SchemaCapsule(pub(crate) SchemaRef);

#[pymethods]
impl SchemaCapsule {
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        PyCapsule::new_with_value(py, FFI_ArrowSchema::try_from(self.0.as_ref()).map_err(internal)?, SCHEMA)
    }
}

/// Any object's record batches: one for `__arrow_c_array__`, a stream of them for `__arrow_c_stream__`.
pub(crate) enum Input {
    One(RecordBatch),
    Many(Box<dyn RecordBatchReader + Send>),
}

/// Takes what an object offers by the PyCapsule interface.
pub(crate) fn input(object: &Bound<'_, PyAny>) -> PyResult<Input> {
    // First: pyarrow's record batches offer both, and a stream of one batch costs twice as much.
    if let Some(array) = object.getattr_opt(intern!(object.py(), "__arrow_c_array__"))? {
        return Ok(Input::One(record_batch(&array.call0()?)?));
    }
    if let Some(stream) = object.getattr_opt(intern!(object.py(), "__arrow_c_stream__"))? {
        let capsule = stream.call0()?.cast_into::<PyCapsule>()?;
        let pointer = capsule.pointer_checked(Some(STREAM))?.as_ptr().cast::<FFI_ArrowArrayStream>();
        // SAFETY: the capsule's name says that it holds an ArrowArrayStream, which `from_raw` moves out, leaving a
        // released one for the capsule's destructor.
        let reader = unsafe { RecordBatchStreamReader::from_raw(pointer) }.map_err(internal)?;
        let schema = reader.schema();
        return Ok(Input::Many(Box::new(RecordBatchIterator::new(reader.map(|batch| batch.and_then(checked)), schema))));
    }
    Err(PyTypeError::new_err(format!(
        "{} cannot be appended: it has neither __arrow_c_stream__ nor __arrow_c_array__; give a pyarrow, polars or pandas table, or a record batch",
        object.get_type().qualname()?
    )))
}

fn record_batch(pair: &Bound<'_, PyAny>) -> PyResult<RecordBatch> {
    let (schema, array): (Bound<'_, PyCapsule>, Bound<'_, PyCapsule>) = pair.extract()?;
    let schema = schema.pointer_checked(Some(SCHEMA))?.as_ptr().cast::<FFI_ArrowSchema>();
    let array = array.pointer_checked(Some(ARRAY))?.as_ptr().cast::<FFI_ArrowArray>();
    // SAFETY: the capsules' names say what they hold; `from_raw` moves both out, leaving released ones behind.
    let (schema, array) = unsafe { (FFI_ArrowSchema::from_raw(schema), FFI_ArrowArray::from_raw(array)) };
    // SAFETY: both come from one `__arrow_c_array__` call, so that the array is of the schema.
    let data = unsafe { from_ffi(array, &schema) }.map_err(internal)?;
    if !matches!(data.data_type(), arrow::datatypes::DataType::Struct(_)) {
        return Err(PyTypeError::new_err(format!("an array of {} is no record batch; give a table or a struct array", data.data_type())));
    }
    let rows = StructArray::from(data);
    if rows.null_count() > 0 {
        return Err(invalid("a struct array with nulls is no record batch; drop or fill them"));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    let (fields, columns, _) = rows.into_parts();
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options);
    batch.and_then(checked).map_err(|error| invalid(&error.to_string()))
}

/// Nulls where the schema promises none would be stored, and no reader could decode them. Arrow looks at columns, when a batch
/// is made of them; what is nested was made by somebody else.
fn checked(batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    fn check(data: &ArrayData) -> Result<(), ArrowError> {
        if data.data_type().is_nested() {
            data.validate_nulls()?;
            data.child_data().iter().try_for_each(check)?;
        }
        Ok(())
    }
    let nested = batch.columns().iter().filter(|column| column.data_type().is_nested());
    nested.into_iter().try_for_each(|column| check(&column.to_data()))?;
    Ok(batch)
}

/// The schema of an object with `__arrow_c_schema__`.
pub(crate) fn schema(object: &Bound<'_, PyAny>) -> PyResult<Schema> {
    let capsule = object.call_method0("__arrow_c_schema__")?.cast_into::<PyCapsule>()?;
    let pointer = capsule.pointer_checked(Some(SCHEMA))?.as_ptr().cast::<FFI_ArrowSchema>();
    // SAFETY: the capsule's name says that it holds an ArrowSchema; it is only read here.
    Schema::try_from(unsafe { &*pointer }).map_err(internal)
}
