//! What is done with each row alone: filters and expressions.

use datafusion_common::arrow::array::RecordBatch;
use datafusion_common::arrow::compute::filter_record_batch;
use datafusion_common::arrow::datatypes::{FieldRef, SchemaRef};
use datafusion_common::{DataFusionError, Result};
use datafusion_expr::utils::find_aggregate_exprs;

use super::plan::{Planner, plan_error, schema_of, steps};
use super::{FlowError, RowStep};
use crate::query::steps::{self, Step};

/// Steps over batches of one schema.
#[derive(Debug)]
pub struct Rows {
    input: SchemaRef,
    steps: Vec<Step>,
    schema: SchemaRef,
}

impl Rows {
    /// Plans them.
    ///
    /// # Errors
    /// [`FlowError::Refused`]: a column that is not there, a type that does not fit, what is no SQL.
    pub fn new(input: &SchemaRef, row_steps: &[RowStep]) -> Result<Self, FlowError> {
        let (steps, schema) = Planner::new(input).run(|planner| planned(planner, row_steps))?;
        Ok(Self { input: input.clone(), steps, schema })
    }

    /// The schema of what it is given.
    #[must_use]
    pub fn input(&self) -> &SchemaRef {
        &self.input
    }

    /// The schema of its results.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The results for a batch of [`Self::input`].
    ///
    /// # Errors
    /// [`FlowError::Failed`] if an expression has no value for a row (a division by zero).
    pub fn run(&self, batch: &RecordBatch) -> Result<RecordBatch, FlowError> {
        Ok(self.evaluated(batch)?)
    }

    pub(super) fn evaluated(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        check(&self.input, batch)?;
        run(&self.steps, batch.clone())
    }
}

/// Whether a batch has the columns that were planned for.
pub(super) fn check(schema: &SchemaRef, batch: &RecordBatch) -> Result<()> {
    let columns = |schema: &SchemaRef| {
        schema.fields().iter().map(|field| format!("{}: {}", field.name(), field.data_type())).collect::<Vec<_>>().join(", ")
    };
    let of_batch = batch.schema();
    let same = |(one, other): (&FieldRef, &FieldRef)| one.name() == other.name() && one.data_type() == other.data_type();
    if schema.fields().len() == of_batch.fields().len() && schema.fields().iter().zip(of_batch.fields()).all(same) {
        return Ok(());
    }
    Err(DataFusionError::Execution(format!("a batch of {}, and the flow is of {}", columns(&of_batch), columns(schema))))
}

/// Takes a batch through steps.
pub(super) fn run(steps: &[Step], mut batch: RecordBatch) -> Result<RecordBatch> {
    for step in steps {
        batch = match step {
            Step::Filter(predicate) => {
                let chosen = steps::chosen(predicate, &batch)?;
                if chosen.true_count() == chosen.len() {
                    batch
                } else {
                    filter_record_batch(&batch, &chosen).map_err(DataFusionError::from)?
                }
            }
            Step::Project(exprs, schema) => steps::projected(exprs, schema, &batch)?,
        };
    }
    Ok(batch)
}

fn planned(planner: &Planner, row_steps: &[RowStep]) -> Result<(Vec<Step>, SchemaRef)> {
    let mut builder = planner.scan()?;
    for step in row_steps {
        builder = match step {
            RowStep::Filter(text) => {
                let condition = planner.condition(text, builder.plan())?;
                builder.filter(condition)?
            }
            RowStep::Select(texts) => {
                let mut exprs = Vec::new();
                for text in texts {
                    exprs.extend(planner.exprs(text, builder.plan())?);
                }
                if let Some(aggregate) = find_aggregate_exprs(&exprs).first() {
                    return Err(plan_error(format!("{} is of many rows, and this is done with each by itself", aggregate.schema_name())));
                }
                builder.project(exprs)?
            }
        };
    }
    let plan = planner.ready(builder.build()?)?;
    let mut found = Vec::new();
    steps(&plan, &mut found, &mut |bottom| match bottom {
        datafusion_expr::LogicalPlan::TableScan(_) => Ok(()),
        other => Err(plan_error(format!("it is more than a row's own affair: {}", other.display()))),
    })?;
    Ok((found, schema_of(plan.schema())))
}
