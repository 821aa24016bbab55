//! Appending.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use bowstring::client::ColumnSlices;
use bowstring::client::blocking::{self, Wait};
use bowstring::engine::PartitionId;
use bytes::Bytes;
use prost::Message;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::arrow_ffi::{Input, input};
use crate::errors::{Raised, deadline, internal, invalid, wait};
use crate::shared::Shared;
use crate::small::Small;

/// What appends: a producer or a writer.
trait Appends: Send {
    fn append(&mut self, batch: &RecordBatch, partition: Option<PartitionId>, wait: &mut Wait<'_, Raised>) -> Result<(), Raised>;

    /// Whether it was taken.
    fn append_slices(
        &mut self,
        rows: usize,
        columns: &[ColumnSlices<'_>],
        partition: Option<PartitionId>,
        wait: &mut Wait<'_, Raised>,
    ) -> Result<bool, Raised>;
}

macro_rules! appends {
    ($type:ty) => {
        impl Appends for $type {
            fn append(&mut self, batch: &RecordBatch, partition: Option<PartitionId>, wait: &mut Wait<'_, Raised>) -> Result<(), Raised> {
                self.append(batch, partition, Bytes::new(), wait)
            }

            fn append_slices(
                &mut self,
                rows: usize,
                columns: &[ColumnSlices<'_>],
                partition: Option<PartitionId>,
                wait: &mut Wait<'_, Raised>,
            ) -> Result<bool, Raised> {
                self.append_slices(rows, columns, partition, wait)
            }
        }
    };
}

appends!(blocking::Producer);
appends!(blocking::EpochWriter);

/// One of them, and what its batches are like.
struct Appender<T> {
    appends: Shared<T>,
    small: Small,
}

impl<T: Appends> Appender<T> {
    fn new(appends: T) -> Self {
        Self { appends: Shared::new(appends), small: Small::default() }
    }

    /// Appends all batches of `value`.
    fn append(&self, value: &Bound<'_, PyAny>, partition: Option<u32>, timeout: Option<f64>) -> PyResult<()> {
        let (py, partition) = (value.py(), partition.map(PartitionId));
        if let Some(exported) = self.small.export(value)? {
            let (rows, columns) = (exported.rows(), exported.columns());
            if let Some(columns) = columns
                && self.appends.wait(py, timeout, |appends, wait| appends.append_slices(rows, &columns, partition, wait))?
            {
                return Ok(());
            }
            self.small.missed();
        }
        match input(value)? {
            Input::One(batch) => {
                self.appends.wait(py, timeout, |appends, wait| appends.append(&batch, partition, wait))?;
                self.small.learn(value, &batch.schema());
                Ok(())
            }
            Input::Many(mut reader) => {
                let deadline = deadline(timeout)?;
                wait(py, timeout, |wait| {
                    reader.try_for_each(|batch| {
                        let batch = batch.map_err(|error| Raised::Python(of_stream(&error)))?;
                        // Anew for each batch: a stream that Python code feeds may look at the producer meanwhile.
                        self.appends.lock(deadline)?.append(&batch, partition, wait)
                    })
                })
            }
        }
    }
}

/// What is wrong with a batch; any other error of a stream that Python code feeds is that code's exception, as text.
fn of_stream(error: &ArrowError) -> PyErr {
    match error {
        ArrowError::InvalidArgumentError(_) => invalid(&error.to_string()),
        other => internal(other),
    }
}

/// A producer: each batch is visible as soon as it is stored.
#[pyclass(module = "bowstring._native", frozen)]
pub(crate) struct Producer(Appender<blocking::Producer>);

impl Producer {
    pub(crate) fn new(producer: blocking::Producer) -> Self {
        Self(Appender::new(producer))
    }
}

#[pymethods]
impl Producer {
    /// The producer's identity.
    #[getter]
    fn producer_id(&self, py: Python<'_>) -> PyResult<String> {
        self.0.appends.with(py, |producer| producer.producer().map(str::to_owned))
    }

    /// Batches known to be stored.
    #[getter]
    fn stored(&self, py: Python<'_>) -> PyResult<u64> {
        self.0.appends.with(py, blocking::Producer::stored)
    }

    /// Hands over the batches of any object with `__arrow_c_stream__` or `__arrow_c_array__`.
    #[pyo3(signature = (value, partition=None, timeout=None))]
    fn append(&self, value: &Bound<'_, PyAny>, partition: Option<u32>, timeout: Option<f64>) -> PyResult<()> {
        self.0.append(value, partition, timeout)
    }

    /// Waits until all batches so far are stored.
    #[pyo3(signature = (timeout=None))]
    fn flush(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        self.0.appends.wait_in_turns(py, timeout, |producer, wait| producer.flush(wait))
    }

    /// Flushes and ends the connection in good order.
    #[pyo3(signature = (timeout=None))]
    fn close(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        self.0.appends.wait(py, timeout, |producer, wait| producer.close(wait))
    }

    /// Flushes and completes the stream.
    #[pyo3(signature = (timeout=None))]
    fn complete(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        self.0.appends.wait(py, timeout, |producer, wait| producer.complete(wait))
    }

    /// Ends the stream with an error.
    #[pyo3(signature = (reason, timeout=None))]
    fn fail(&self, py: Python<'_>, reason: &str, timeout: Option<f64>) -> PyResult<()> {
        self.0.appends.wait(py, timeout, |producer, wait| producer.fail(reason, wait))
    }
}

/// A writer: one task attempt within an epoch.
#[pyclass(module = "bowstring._native", frozen)]
pub(crate) struct EpochWriter(Appender<blocking::EpochWriter>);

impl EpochWriter {
    pub(crate) fn new(writer: blocking::EpochWriter) -> Self {
        Self(Appender::new(writer))
    }
}

#[pymethods]
impl EpochWriter {
    /// Whether the epoch is committed already, so that nothing has to be sent.
    #[getter]
    fn is_unneeded(&self, py: Python<'_>) -> PyResult<bool> {
        self.0.appends.with(py, |writer| writer.is_unneeded())
    }

    /// Hands over the batches of any object with `__arrow_c_stream__` or `__arrow_c_array__`.
    #[pyo3(signature = (value, partition=None, timeout=None))]
    fn append(&self, value: &Bound<'_, PyAny>, partition: Option<u32>, timeout: Option<f64>) -> PyResult<()> {
        self.0.append(value, partition, timeout)
    }

    /// Waits until all is staged; gives the receipt, as bytes, that the epoch's commit names. None if there is
    /// nothing to name.
    #[pyo3(signature = (timeout=None))]
    fn finish<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let receipt = self.0.appends.wait(py, timeout, |writer, wait| writer.finish(wait))?;
        Ok(receipt.map(|receipt| PyBytes::new(py, &receipt.encode_to_vec())))
    }
}
