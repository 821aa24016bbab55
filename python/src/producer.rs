//! Appending.

use arrow::array::RecordBatch;
use bowstring::client::blocking::{self, Wait};
use bowstring::engine::PartitionId;
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::arrow_ffi::{Input, input};
use crate::errors::{Raised, wait};

/// A producer: each batch is visible as soon as it is stored.
#[pyclass(module = "bowstring._native", frozen)]
pub(crate) struct Producer(Mutex<blocking::Producer>);

impl Producer {
    pub(crate) fn new(producer: blocking::Producer) -> Self {
        Self(Mutex::new(producer))
    }
}

/// Appends all batches of `object`.
fn append_all(
    py: Python<'_>,
    object: &Bound<'_, PyAny>,
    timeout: Option<f64>,
    mut append: impl FnMut(&RecordBatch, &mut Wait<'_, Raised>) -> Result<(), Raised> + Send,
) -> PyResult<()> {
    let mut batches: Box<dyn Iterator<Item = Result<RecordBatch, arrow::error::ArrowError>> + Send> = match input(object)? {
        Input::One(batch) => Box::new(std::iter::once(Ok(batch))),
        Input::Many(reader) => reader,
    };
    wait(py, timeout, |wait| {
        batches.try_for_each(|batch| {
            // An error of a stream that Python code feeds is that code's exception, as text.
            let batch = batch.map_err(|error| Raised(pyo3::exceptions::PyRuntimeError::new_err(error.to_string())))?;
            append(&batch, wait)
        })
    })
}

#[pymethods]
impl Producer {
    /// The producer's identity.
    #[getter]
    fn producer_id(&self, py: Python<'_>) -> PyResult<String> {
        py.detach(|| self.0.lock().producer().map(str::to_owned)).map_err(|error| Raised::from(error).0)
    }

    /// Batches known to be stored.
    #[getter]
    fn stored(&self, py: Python<'_>) -> PyResult<u64> {
        py.detach(|| self.0.lock().stored()).map_err(|error| Raised::from(error).0)
    }

    /// Hands over the batches of any object with `__arrow_c_stream__` or `__arrow_c_array__`.
    #[pyo3(signature = (value, partition=None, timeout=None))]
    fn append(&self, py: Python<'_>, value: &Bound<'_, PyAny>, partition: Option<u32>, timeout: Option<f64>) -> PyResult<()> {
        let partition = partition.map(PartitionId);
        append_all(py, value, timeout, |batch, wait| self.0.lock().append(batch, partition, Bytes::new(), wait))
    }

    /// Waits until all batches so far are stored.
    #[pyo3(signature = (timeout=None))]
    fn flush(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        wait(py, timeout, |wait| self.0.lock().flush(wait))
    }

    /// Flushes and ends the connection in good order.
    #[pyo3(signature = (timeout=None))]
    fn close(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        wait(py, timeout, |wait| self.0.lock().close(wait))
    }

    /// Flushes and completes the stream.
    #[pyo3(signature = (timeout=None))]
    fn complete(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        wait(py, timeout, |wait| self.0.lock().complete(wait))
    }

    /// Ends the stream with an error.
    #[pyo3(signature = (reason, timeout=None))]
    fn fail(&self, py: Python<'_>, reason: &str, timeout: Option<f64>) -> PyResult<()> {
        wait(py, timeout, |wait| self.0.lock().fail(reason, wait))
    }
}

/// A writer: one task attempt within an epoch.
#[pyclass(module = "bowstring._native", frozen)]
pub(crate) struct EpochWriter(Mutex<blocking::EpochWriter>);

impl EpochWriter {
    pub(crate) fn new(writer: blocking::EpochWriter) -> Self {
        Self(Mutex::new(writer))
    }
}

#[pymethods]
impl EpochWriter {
    /// Whether the epoch is committed already, so that nothing has to be sent.
    #[getter]
    fn is_unneeded(&self, py: Python<'_>) -> PyResult<bool> {
        py.detach(|| self.0.lock().is_unneeded()).map_err(|error| Raised::from(error).0)
    }

    /// Hands over the batches of any object with `__arrow_c_stream__` or `__arrow_c_array__`.
    #[pyo3(signature = (value, partition=None, timeout=None))]
    fn append(&self, py: Python<'_>, value: &Bound<'_, PyAny>, partition: Option<u32>, timeout: Option<f64>) -> PyResult<()> {
        let partition = partition.map(PartitionId);
        append_all(py, value, timeout, |batch, wait| self.0.lock().append(batch, partition, Bytes::new(), wait))
    }

    /// Waits until all is staged; gives the receipt, as bytes, that the epoch's commit names. None if there is
    /// nothing to name.
    #[pyo3(signature = (timeout=None))]
    fn finish<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let receipt = wait(py, timeout, |wait| self.0.lock().finish(wait))?;
        Ok(receipt.map(|receipt| PyBytes::new(py, &receipt.encode_to_vec())))
    }
}
