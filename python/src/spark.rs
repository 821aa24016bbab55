//! Spark's types and routing: the same as in the JVM connector.

use std::sync::Arc;

use bowstring::spark::routing;
use bowstring::spark::types::{Intervals, to_arrow, to_spark};
use pyo3::prelude::*;

use crate::arrow_ffi::{Batches, Input, SchemaCapsule, input, schema};
use crate::errors::{Raised, invalid};

fn raised(error: bowstring::client::Error) -> PyErr {
    Raised::from(error).into()
}

fn intervals(year_month: bool) -> Intervals {
    if year_month { Intervals::Taken } else { Intervals::Refused }
}

/// The JSON of the Spark schema that a stream of this Arrow schema is read with.
#[pyfunction]
pub(crate) fn spark_schema(of: &Bound<'_, PyAny>, year_month: bool) -> PyResult<String> {
    to_spark(&schema(of)?, intervals(year_month)).map_err(raised)
}

/// The Arrow schema that Spark reads and writes a DataFrame of this schema with.
#[pyfunction]
pub(crate) fn arrow_schema(spark: &str, year_month: bool) -> PyResult<SchemaCapsule> {
    Ok(SchemaCapsule(Arc::new(to_arrow(spark, intervals(year_month)).map_err(raised)?)))
}

/// How rows find their partition.
#[pyclass(module = "bowstring._native", frozen, eq, hash)]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Routing(routing::Routing);

#[pymethods]
impl Routing {
    #[new]
    fn new(text: &str) -> PyResult<Self> {
        Ok(Self(text.parse().map_err(raised)?))
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __getnewargs__(&self) -> (String,) {
        (self.0.to_string(),)
    }

    /// Whether the columns that it needs are among these.
    #[expect(clippy::needless_pass_by_value, reason = "Python's strings are copied on their way in")]
    fn check(&self, names: Vec<String>) -> PyResult<()> {
        self.0.check(&names).map_err(raised)
    }

    /// Where a batch goes if nothing of it has to be looked at.
    fn whole(&self, partitions: u32, task: u32, index: u64) -> PyResult<Option<u32>> {
        Ok(self.0.whole(partitions, task, index).map_err(raised)?.map(|partition| partition.0))
    }

    /// A batch's parts: where each goes, and as many batches.
    fn split(&self, batch: &Bound<'_, PyAny>, partitions: u32, task: u32, index: u64) -> PyResult<(Vec<u32>, Batches)> {
        let Input::One(rows) = input(batch)? else { return Err(invalid("a table is no record batch; split its batches")) };
        let parts = batch.py().detach(|| self.0.split(&rows, partitions, task, index)).map_err(raised)?;
        let (partitions, parts) = parts.into_iter().map(|(partition, part)| (partition.0, part)).unzip();
        Ok((partitions, Batches::new(rows.schema(), parts)))
    }
}
