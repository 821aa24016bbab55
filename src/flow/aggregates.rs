//! What an aggregation computes of the rows of a key: planned once, for batches of one schema.

use std::sync::Arc;

use datafusion_common::arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use datafusion_common::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, Result};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::utils::find_aggregate_exprs;
use datafusion_expr::{AggregateUDF, Expr, ExprSchemable, LogicalPlan};
use datafusion_functions::core::expr_fn::get_field;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::aggregate::{LoweredAggregate, LoweredAggregateBuilder};

use super::groups::same_bits;
use super::plan::{Planner, check_distinct, plan_error, schema_of, steps};
use super::reduce::{Reduce, Reduction};
use super::{AggregationSpec, FlowError, rows};
use crate::query::plan::physical;
use crate::query::steps::{self, Step, with_columns};

/// Keys, aggregates, and what is made of them.
#[derive(Debug)]
pub(super) struct Aggregates {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    pub(super) functions: Vec<LoweredAggregate>,
    /// The keys' columns.
    pub(super) key_schema: SchemaRef,
    /// The keys, then the states of each aggregate: results that are not final, and can be merged.
    pub(super) part_schema: SchemaRef,
    /// The keys, then the value of each aggregate.
    values: SchemaRef,
    after: Vec<Step>,
    /// The keys, then the results.
    pub(super) results: SchemaRef,
}

/// Keys and arguments of some rows.
#[derive(Debug)]
pub(super) struct Evaluated {
    pub(super) rows: usize,
    pub(super) keys: Vec<ArrayRef>,
    pub(super) arguments: Vec<Vec<ArrayRef>>,
    pub(super) filters: Vec<Option<BooleanArray>>,
}

impl Aggregates {
    pub(super) fn new(schema: &SchemaRef, spec: &AggregationSpec) -> Result<Self, FlowError> {
        if spec.results.is_empty() && spec.reduction.is_none() {
            return Err(FlowError::refused("an aggregation without results; give one, such as count(*) AS n"));
        }
        Planner::new(schema).run(|planner| planned(planner, spec))
    }

    /// Keys and arguments of a batch's rows.
    pub(super) fn evaluate(&self, batch: &RecordBatch) -> Result<Evaluated> {
        let arguments = |lowered: &LoweredAggregate| steps::evaluated(&lowered.aggregate.expressions(), batch);
        let filter = |lowered: &LoweredAggregate| lowered.filter.as_ref().map(|filter| steps::chosen(filter, batch)).transpose();
        Ok(Evaluated {
            rows: batch.num_rows(),
            keys: steps::evaluated(&self.keys, batch)?.into_iter().map(same_bits).collect(),
            arguments: self.functions.iter().map(arguments).collect::<Result<_>>()?,
            filters: self.functions.iter().map(filter).collect::<Result<_>>()?,
        })
    }

    /// The results of keys with the values of their aggregates.
    pub(super) fn results(&self, keys: Vec<ArrayRef>, values: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let batch = with_columns(&self.values, keys.into_iter().chain(values).collect(), rows)?;
        rows::run(&self.after, batch)
    }

    /// What its state is made of.
    pub(super) fn said(&self) -> String {
        let types: Vec<String> = self.part_schema.fields().iter().map(|field| field.data_type().to_string()).collect();
        types.join(", ")
    }

    /// How many columns the keys are.
    pub(super) fn keys(&self) -> usize {
        self.keys.len()
    }
}

fn planned(planner: &Planner, spec: &AggregationSpec) -> Result<Aggregates> {
    let scan = planner.scan()?;
    let mut keys = Vec::new();
    for text in &spec.keys {
        keys.extend(planner.exprs(text, scan.plan())?);
    }
    let keys = keys.into_iter().map(|key| plain(key, scan.plan())).collect::<Result<Vec<_>>>()?;
    let mut results = Vec::new();
    for text in &spec.results {
        results.extend(planner.exprs(text, scan.plan())?);
    }
    if let Some(reduction) = &spec.reduction {
        results = reduced(reduction, results, &keys, scan.plan())?;
    }
    let functions = find_aggregate_exprs(&results);
    check_distinct(&functions)?;
    let grouped = scan.aggregate(keys.clone(), functions.clone())?;
    let column = |index: usize| Expr::Column(Column::from(grouped.schema().qualified_field(index)));
    let mut projected: Vec<Expr> = (0..keys.len()).map(column).collect();
    for result in results {
        let rebased = result.transform_down(|expr| {
            let found = functions.iter().position(|function| *function == expr);
            Ok(found.map_or(Transformed::no(expr), |found| Transformed::yes(column(keys.len() + found))))
        })?;
        projected.push(rebased.data);
    }
    let plan = planner.ready(grouped.project(projected)?.build()?)?;
    let (mut after, mut aggregate) = (Vec::new(), None);
    steps(&plan, &mut after, &mut |bottom| match bottom {
        LogicalPlan::Aggregate(found) if matches!(&*found.input, LogicalPlan::TableScan(_)) => {
            aggregate = Some(found.clone());
            Ok(())
        }
        other => Err(plan_error(format!("it cannot be aggregated, since it has become {}", other.display()))),
    })?;
    let Some(aggregate) = aggregate else { return Err(plan_error("it has no aggregate")) };
    let input = aggregate.input.schema();
    let (props, context) = (ExecutionProps::new(), PhysicalPlanningContext::default());
    let lowered = |expr: &Expr| LoweredAggregateBuilder::new(expr, input, input.as_arrow(), &props, &context).build();
    let functions = aggregate.aggr_expr.iter().map(lowered).collect::<Result<Vec<_>>>()?;
    if functions.iter().any(|function| !function.order_bys.is_empty()) {
        return Err(plan_error("it has ORDER BY within an aggregate; rows of several partitions have no order"));
    }
    let values = schema_of(&aggregate.schema);
    let key_fields: Vec<FieldRef> = values.fields().iter().take(keys.len()).cloned().collect();
    Ok(Aggregates {
        keys: aggregate.group_expr.iter().map(|key| physical(key, input)).collect::<Result<_>>()?,
        part_schema: part_schema(&key_fields, &functions)?,
        key_schema: Arc::new(Schema::new(key_fields)),
        functions,
        values,
        after,
        results: schema_of(plan.schema()),
    })
}

/// Columns reduced by a function; all but the keys if none is said.
fn reduced(reduction: &Reduction, mut columns: Vec<Expr>, keys: &[Expr], input: &LogicalPlan) -> Result<Vec<Expr>> {
    if columns.is_empty() {
        let names: Vec<String> = keys.iter().map(|key| key.qualified_name().1).collect();
        columns = input.schema().columns().into_iter().filter(|column| !names.contains(&column.name)).map(Expr::Column).collect();
    }
    if columns.is_empty() {
        return Err(plan_error("reduce without a column; all are keys"));
    }
    let columns = columns.into_iter().map(|column| plain(column, input)).collect::<Result<Vec<_>>>()?;
    let named = |column: &Expr| Ok((column.qualified_name().1, column.get_type(input.schema())?));
    let named: Vec<(String, DataType)> = columns.iter().map(named).collect::<Result<_>>()?;
    let names: Vec<String> = named.iter().map(|(name, _)| name.clone()).collect();
    let function = AggregateUDF::from(Reduce::new(named, reduction));
    let call = function.call(columns.into_iter().map(Expr::unalias).collect());
    Ok(names.into_iter().map(|name| get_field(call.clone(), name.as_str()).alias(name)).collect())
}

/// A key that is a dictionary's value is the value.
fn plain(key: Expr, input: &LogicalPlan) -> Result<Expr> {
    let schema = input.schema();
    let DataType::Dictionary(_, value) = key.get_type(schema)? else { return Ok(key) };
    let name = key.schema_name().to_string();
    let name = if let Expr::Column(column) = &key { column.name.clone() } else { name };
    Ok(key.unalias().cast_to(&value, schema)?.alias(name))
}

fn part_schema(keys: &[FieldRef], functions: &[LoweredAggregate]) -> Result<SchemaRef> {
    let mut fields: Vec<FieldRef> = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        fields.push(Arc::new(Field::new(format!("key.{index}"), key.data_type().clone(), true)));
    }
    for (index, function) in functions.iter().enumerate() {
        for (number, state) in function.aggregate.state_fields()?.iter().enumerate() {
            fields.push(Arc::new(Field::new(format!("state.{index}.{number}"), state.data_type().clone(), true)));
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}
