//! Appending.

use arrow::array::RecordBatch;
use bowstring::client::blocking::{self, Wait};
use bowstring::engine::PartitionId;
use bytes::Bytes;
use prost::Message;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::arrow_ffi::{Input, input};
use crate::errors::{Raised, deadline, wait};
use crate::shared::Shared;

/// A producer: each batch is visible as soon as it is stored.
#[pyclass(module = "bowstring._native", frozen)]
pub(crate) struct Producer(Shared<blocking::Producer>);

impl Producer {
    pub(crate) fn new(producer: blocking::Producer) -> Self {
        Self(Shared::new(producer))
    }
}

/// Appends all batches of `object`.
fn append_all<T: Send>(
    py: Python<'_>,
    appends: &Shared<T>,
    object: &Bound<'_, PyAny>,
    timeout: Option<f64>,
    mut append: impl FnMut(&mut T, &RecordBatch, &mut Wait<'_, Raised>) -> Result<(), Raised> + Send,
) -> PyResult<()> {
    let mut batches: Box<dyn Iterator<Item = Result<RecordBatch, arrow::error::ArrowError>> + Send> = match input(object)? {
        Input::One(batch) => Box::new(std::iter::once(Ok(batch))),
        Input::Many(reader) => reader,
    };
    let deadline = deadline(timeout)?;
    wait(py, timeout, |wait| {
        batches.try_for_each(|batch| {
            // An error of a stream that Python code feeds is that code's exception, as text.
            let batch = batch.map_err(|error| Raised::Python(pyo3::exceptions::PyRuntimeError::new_err(error.to_string())))?;
            // Anew for each batch: a stream that Python code feeds may look at the producer meanwhile.
            append(&mut *appends.lock(deadline)?, &batch, wait)
        })
    })
}

#[pymethods]
impl Producer {
    /// The producer's identity.
    #[getter]
    fn producer_id(&self, py: Python<'_>) -> PyResult<String> {
        self.0.with(py, |producer| producer.producer().map(str::to_owned))
    }

    /// Batches known to be stored.
    #[getter]
    fn stored(&self, py: Python<'_>) -> PyResult<u64> {
        self.0.with(py, blocking::Producer::stored)
    }

    /// Hands over the batches of any object with `__arrow_c_stream__` or `__arrow_c_array__`.
    #[pyo3(signature = (value, partition=None, timeout=None))]
    fn append(&self, py: Python<'_>, value: &Bound<'_, PyAny>, partition: Option<u32>, timeout: Option<f64>) -> PyResult<()> {
        let partition = partition.map(PartitionId);
        append_all(py, &self.0, value, timeout, |object, batch, wait| object.append(batch, partition, Bytes::new(), wait))
    }

    /// Waits until all batches so far are stored.
    #[pyo3(signature = (timeout=None))]
    fn flush(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        self.0.wait_in_turns(py, timeout, |producer, wait| producer.flush(wait))
    }

    /// Flushes and ends the connection in good order.
    #[pyo3(signature = (timeout=None))]
    fn close(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        self.0.wait(py, timeout, |producer, wait| producer.close(wait))
    }

    /// Flushes and completes the stream.
    #[pyo3(signature = (timeout=None))]
    fn complete(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        self.0.wait(py, timeout, |producer, wait| producer.complete(wait))
    }

    /// Ends the stream with an error.
    #[pyo3(signature = (reason, timeout=None))]
    fn fail(&self, py: Python<'_>, reason: &str, timeout: Option<f64>) -> PyResult<()> {
        self.0.wait(py, timeout, |producer, wait| producer.fail(reason, wait))
    }
}

/// A writer: one task attempt within an epoch.
#[pyclass(module = "bowstring._native", frozen)]
pub(crate) struct EpochWriter(Shared<blocking::EpochWriter>);

impl EpochWriter {
    pub(crate) fn new(writer: blocking::EpochWriter) -> Self {
        Self(Shared::new(writer))
    }
}

#[pymethods]
impl EpochWriter {
    /// Whether the epoch is committed already, so that nothing has to be sent.
    #[getter]
    fn is_unneeded(&self, py: Python<'_>) -> PyResult<bool> {
        self.0.with(py, |writer| writer.is_unneeded())
    }

    /// Hands over the batches of any object with `__arrow_c_stream__` or `__arrow_c_array__`.
    #[pyo3(signature = (value, partition=None, timeout=None))]
    fn append(&self, py: Python<'_>, value: &Bound<'_, PyAny>, partition: Option<u32>, timeout: Option<f64>) -> PyResult<()> {
        let partition = partition.map(PartitionId);
        append_all(py, &self.0, value, timeout, |object, batch, wait| object.append(batch, partition, Bytes::new(), wait))
    }

    /// Waits until all is staged; gives the receipt, as bytes, that the epoch's commit names. None if there is
    /// nothing to name.
    #[pyo3(signature = (timeout=None))]
    fn finish<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let receipt = self.0.wait(py, timeout, |writer, wait| writer.finish(wait))?;
        Ok(receipt.map(|receipt| PyBytes::new(py, &receipt.encode_to_vec())))
    }
}
