//! From expressions in SQL to what can be evaluated on batches of one schema.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion_common::arrow::datatypes::SchemaRef;
use datafusion_common::{DFSchema, DataFusionError, Result};
use datafusion_expr::planner::ExprPlanner;
use datafusion_expr::{AggregateUDF, Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion_functions_aggregate::planner::AggregateFunctionPlanner;
use datafusion_optimizer::analyzer::Analyzer;
use datafusion_optimizer::optimizer::{Optimizer, OptimizerContext};
use datafusion_optimizer::simplify_expressions::SimplifyExpressions;
use datafusion_sql::parser::DFParser;
use datafusion_sql::planner::{PlannerContext, SqlToRel};

use super::FlowError;
use super::sums::CheckedSum;
use crate::query::QUERY_BYTES_MAX;
use crate::query::error::told;
use crate::query::plan::{PLANNING_STACK_BYTES, physical};
use crate::query::steps::Step;
use crate::query::table::{Columns, Names};

/// What the rows are called in a plan; nobody says it.
const INPUT: &str = "rows";
/// Aggregates whose result depends on the order of rows, which nobody knows of a stream's partitions.
const OF_AN_ORDER: &[&str] = &["any_value", "array_agg", "first_value", "grouping", "last_value", "nth_value", "string_agg"];
/// Functions that give something else each time.
const OF_THE_MOMENT: &[&str] = &["current_date", "current_time", "current_timestamp", "now", "random", "today", "uuid"];
/// Aggregates that may be of distinct values.
const OF_DISTINCT: &[&str] = &["avg", "count", "max", "median", "min", "sum"];

/// Plans expressions over rows of one schema.
pub(super) struct Planner {
    names: Names,
    columns: Arc<Columns>,
}

impl Planner {
    pub(super) fn new(schema: &SchemaRef) -> Self {
        let planner: Arc<dyn ExprPlanner> = Arc::new(AggregateFunctionPlanner);
        let names = Names::new(INPUT, schema.clone()).with_aggregates(aggregates(), planner);
        Self { names, columns: Arc::new(Columns(schema.clone())) }
    }

    /// Runs `work` on a stack that is deep enough for what a text of the longest length can nest.
    ///
    /// # Errors
    /// [`FlowError::Refused`].
    pub(super) fn run<T: Send>(&self, work: impl FnOnce(&Self) -> Result<T> + Send) -> Result<T, FlowError> {
        let planned = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("bowstring-plan".to_owned()).stack_size(PLANNING_STACK_BYTES);
            let planning = thread.spawn_scoped(scope, || work(self));
            let planning = planning.map_err(|error| FlowError::refused(format!("it cannot be planned now: {error}")))?;
            planning.join().map_err(|_| FlowError::refused("DataFusion's planner gave up on it"))
        });
        planned?.map_err(|error| FlowError::refused(told(&error)))
    }

    /// The rows.
    pub(super) fn scan(&self) -> Result<LogicalPlanBuilder> {
        LogicalPlanBuilder::scan(INPUT, self.columns.clone(), None)
    }

    /// The expressions of a text over the results of a plan: one, or for `*` all columns.
    pub(super) fn exprs(&self, text: &str, input: &LogicalPlan) -> Result<Vec<Expr>> {
        if text.len() > QUERY_BYTES_MAX {
            return Err(plan_error(format!("an expression of {} bytes; {QUERY_BYTES_MAX} are allowed", text.len())));
        }
        if text.trim() == "*" {
            return Ok(input.schema().columns().into_iter().map(Expr::Column).collect());
        }
        let parsed = DFParser::parse_sql_into_expr(text)?;
        let expr = SqlToRel::new(&self.names).sql_to_expr_with_alias(parsed, input.schema(), &mut PlannerContext::new());
        let expr = expr.map_err(|error| plan_error(format!("{text}: {}", why(&told(&error)))))?;
        // What has no name is called as it is written.
        Ok(vec![if matches!(expr, Expr::Column(_) | Expr::Alias(_)) { expr } else { expr.alias(text.trim()) }])
    }

    /// A condition over the results of a plan.
    pub(super) fn condition(&self, text: &str, input: &LogicalPlan) -> Result<Expr> {
        let mut exprs = self.exprs(text, input)?;
        match (exprs.pop(), exprs.is_empty()) {
            (Some(expr), true) => Ok(expr),
            _ => Err(plan_error(format!("{text}: is no condition"))),
        }
    }

    /// The plan with types coerced and expressions simplified.
    pub(super) fn ready(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let plan = Analyzer::new().execute_and_check(plan, self.names.settings(), |_, _| {})?;
        let optimizer = Optimizer::with_rules(vec![Arc::new(SimplifyExpressions::new())]);
        let context =
            OptimizerContext::new_with_config_options(Arc::new(self.names.settings().clone())).without_query_execution_start_time();
        optimizer.optimize(plan, &context, |_, _| {})
    }
}

/// Adds the steps of a plan of rows, its input's first, down to what `bottom` takes.
pub(super) fn steps(plan: &LogicalPlan, steps: &mut Vec<Step>, bottom: &mut dyn FnMut(&LogicalPlan) -> Result<()>) -> Result<()> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => self::steps(&alias.input, steps, bottom),
        LogicalPlan::Filter(filter) => {
            self::steps(&filter.input, steps, bottom)?;
            steps.push(Step::Filter(physical(&filter.predicate, filter.input.schema())?));
            Ok(())
        }
        LogicalPlan::Projection(projection) => {
            self::steps(&projection.input, steps, bottom)?;
            let exprs = projection.expr.iter().map(|expr| physical(expr, projection.input.schema())).collect::<Result<_>>()?;
            steps.push(Step::Project(exprs, schema_of(&projection.schema)));
            Ok(())
        }
        other => bottom(other),
    }
}

/// As batches have it, with no table's name.
pub(super) fn schema_of(schema: &DFSchema) -> SchemaRef {
    Arc::new(schema.as_arrow().clone())
}

pub(super) fn plan_error(reason: impl Into<String>) -> DataFusionError {
    DataFusionError::Plan(reason.into())
}

/// Why a function is not there that other engines have: what DataFusion says names another one.
fn why(told: &str) -> String {
    let name = told.split_once("Invalid function '").and_then(|(_, rest)| rest.split('\'').next()).unwrap_or_default();
    if OF_AN_ORDER.contains(&name) {
        format!("{name} depends on the order of rows, and those of several partitions have none")
    } else if OF_THE_MOMENT.contains(&name) {
        format!("{name} gives something else each time, and rows that come again must have the same results")
    } else {
        told.to_owned()
    }
}

/// Aggregates of distinct values are for those whose state DataFusion can keep.
pub(super) fn check_distinct(aggregates: &[Expr]) -> Result<()> {
    for aggregate in aggregates {
        if let Expr::AggregateFunction(function) = aggregate
            && function.params.distinct
            && !OF_DISTINCT.contains(&function.func.name())
        {
            let name = function.func.name();
            return Err(plan_error(format!("{name}(DISTINCT ...) cannot be; of distinct values there are {}", OF_DISTINCT.join(", "))));
        }
    }
    Ok(())
}

/// All by all their names, but for those whose result depends on an order; sums are our own.
fn aggregates() -> BTreeMap<String, Arc<AggregateUDF>> {
    let all = datafusion_functions_aggregate::all_default_aggregate_functions().into_iter();
    all.filter(|function| !OF_AN_ORDER.contains(&function.name()))
        .map(|function| if function.name() == "sum" { Arc::new(AggregateUDF::from(CheckedSum::default())) } else { function })
        .flat_map(|function| {
            let names = std::iter::once(function.name().to_owned()).chain(function.aliases().to_vec());
            names.map(|name| (name, function.clone())).collect::<Vec<_>>()
        })
        .collect()
}
