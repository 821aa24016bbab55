//! From a query's text to steps over batches of one schema.

use std::sync::Arc;

use datafusion_common::arrow::datatypes::SchemaRef;
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, Result};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::{Expr, LogicalPlan};
use datafusion_optimizer::analyzer::Analyzer;
use datafusion_optimizer::optimize_projections::OptimizeProjections;
use datafusion_optimizer::optimizer::{Optimizer, OptimizerContext};
use datafusion_optimizer::push_down_filter::PushDownFilter;
use datafusion_optimizer::simplify_expressions::SimplifyExpressions;
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion_sql::parser::{DFParser, Statement};
use datafusion_sql::planner::SqlToRel;

use super::QUERY_BYTES_MAX;
use super::error::{QueryError, told};
use super::grammar::{self, has_no, refused};
use super::growth::{self, Growth};
use super::steps::Step;
use super::table::Names;

/// Stack of the thread that plans: parser and planner go as deep as a text of the longest length can.
pub(crate) const PLANNING_STACK_BYTES: usize = 256 << 20;
/// How deep an expression may be, for where it is evaluated the stack is as usual.
const DEPTH_MAX: usize = 128;
/// Most that a query's results, and what is computed on the way, may be of a batch's bytes.
const TIMES_MAX: f64 = 1000.0;

/// A query of batches of one schema.
#[derive(Debug)]
pub(super) struct Plan {
    /// The columns of the batch that it needs.
    pub(super) columns: Vec<usize>,
    /// They alone.
    pub(super) scanned: SchemaRef,
    pub(super) steps: Vec<Step>,
    /// What the results have.
    pub(super) results: SchemaRef,
    /// What answering takes once the batch is decoded.
    pub(super) growth: Growth,
    /// If it only chooses columns: which of the batch's, in order.
    pub(super) chosen: Option<Vec<usize>>,
}

impl Plan {
    /// Plans a query of a stream whose batches have this schema.
    pub(super) fn new(stream: &str, schema: &SchemaRef, sql: &str) -> Result<Self, QueryError> {
        if sql.len() > QUERY_BYTES_MAX {
            return Err(QueryError::refused(format!("a query of {} bytes; {QUERY_BYTES_MAX} are allowed", sql.len())));
        }
        let planned = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("bowstring-plan".to_owned()).stack_size(PLANNING_STACK_BYTES);
            let planning = thread.spawn_scoped(scope, || Self::planned(stream, schema, sql));
            let planning = planning.map_err(|error| QueryError::refused(format!("it cannot be planned now: {error}")))?;
            planning.join().map_err(|_| QueryError::refused("DataFusion's planner gave up on it"))
        });
        planned?.map_err(|error| QueryError::refused(told(&error)))
    }

    fn planned(stream: &str, schema: &SchemaRef, sql: &str) -> Result<Self> {
        let names = Names::new(stream, schema.clone());
        let mut statements = DFParser::parse_sql(sql)?;
        let statement = match (statements.pop_front(), statements.is_empty()) {
            (Some(Statement::Statement(statement)), true) => *statement,
            _ => return refused("it is not one SELECT"),
        };
        grammar::check(&statement, schema.fields().len())?;
        let plan = SqlToRel::new(&names).sql_statement_to_plan(statement)?;
        // Before anything is computed ahead, which may be too large already.
        let plan = Analyzer::new().execute_and_check(plan, names.settings(), |_, _| {})?;
        walked(&plan)?;
        let plan = optimized(plan, names.settings())?;
        let (mut columns, mut scanned, mut steps, mut all) = (Vec::new(), schema.clone(), Vec::new(), Growth::default());
        let mut building = Building { columns: &mut columns, scanned: &mut scanned, steps: &mut steps, all: &mut all };
        // What is encoded is one more copy.
        let all_results = building.add(&plan)?;
        all_results.iter().for_each(|result| all.add(result));
        let results = Arc::new(plan.schema().as_arrow().clone());
        let chosen = chosen(&plan, &columns);
        Ok(Self { columns, scanned, steps, results, growth: all, chosen })
    }
}

/// Refuses what is more than a row's own affair, and what may become of any size; gives the growth of each column.
fn walked(plan: &LogicalPlan) -> Result<Vec<Growth>> {
    let of_input = |input: &LogicalPlan, exprs: &[Expr]| -> Result<(Vec<Growth>, Vec<Growth>)> {
        let columns = walked(input)?;
        let mut taken = Growth::default();
        let mut results = Vec::with_capacity(exprs.len());
        for expr in exprs {
            check(expr)?;
            taken.add(&growth::of_all(expr, input.schema(), &columns)?);
            let result = growth::of(expr, input.schema(), &columns)?;
            taken.add(&result);
            results.push(result);
        }
        if taken.times_max() > TIMES_MAX {
            return refused("its results may be a thousand times as large as the stream's batches");
        }
        Ok((columns, results))
    };
    match plan {
        LogicalPlan::TableScan(scan) => Ok(Growth::columns(scan.projected_schema.fields().len())),
        LogicalPlan::SubqueryAlias(alias) => walked(&alias.input),
        LogicalPlan::Filter(filter) => Ok(of_input(&filter.input, std::slice::from_ref(&filter.predicate))?.0),
        LogicalPlan::Projection(projection) => Ok(of_input(&projection.input, &projection.expr)?.1),
        other => has_no(named(other)),
    }
}

/// What somebody who writes SQL calls it.
fn named(plan: &LogicalPlan) -> &'static str {
    match plan {
        LogicalPlan::Aggregate(_) => "GROUP BY",
        LogicalPlan::Distinct(_) => "DISTINCT",
        LogicalPlan::Sort(_) => "ORDER BY",
        LogicalPlan::Limit(_) => "LIMIT",
        LogicalPlan::Join(_) => "JOIN",
        LogicalPlan::Union(_) => "UNION",
        LogicalPlan::Window(_) => "OVER",
        LogicalPlan::Unnest(_) => "UNNEST",
        LogicalPlan::Values(_) => "VALUES",
        LogicalPlan::EmptyRelation(_) => "SELECT without FROM",
        _ => "such part",
    }
}

/// How deep an expression is.
fn depth(expr: &Expr) -> usize {
    let mut deepest = 0;
    // Infallible: nothing in it fails.
    let _ = expr.apply_children(|child| {
        deepest = deepest.max(depth(child));
        Ok(TreeNodeRecursion::Continue)
    });
    deepest + 1
}

/// Refuses queries within expressions, and expressions that are too deep.
fn check(expr: &Expr) -> Result<()> {
    if depth(expr) > DEPTH_MAX {
        return refused(format!("an expression nested deeper than {DEPTH_MAX}; a chain of OR may be an IN (...)"));
    }
    expr.apply(|inner| match inner {
        Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) => refused("it has a query within an expression"),
        _ => Ok(TreeNodeRecursion::Continue),
    })
    .map(drop)
}

fn optimized(plan: LogicalPlan, options: &ConfigOptions) -> Result<LogicalPlan> {
    let optimizer = Optimizer::with_rules(vec![
        Arc::new(SimplifyExpressions::new()),
        Arc::new(PushDownFilter::new()),
        Arc::new(OptimizeProjections::new()),
    ]);
    let context = OptimizerContext::new_with_config_options(Arc::new(options.clone())).without_query_execution_start_time();
    optimizer.optimize(plan, &context, |_, _| {})
}

/// A plan that becomes steps.
struct Building<'a> {
    columns: &'a mut Vec<usize>,
    scanned: &'a mut SchemaRef,
    steps: &'a mut Vec<Step>,
    all: &'a mut Growth,
}

impl Building<'_> {
    /// Adds the steps of a plan, those of its input first; gives the growth of each column.
    fn add(&mut self, plan: &LogicalPlan) -> Result<Vec<Growth>> {
        match plan {
            LogicalPlan::TableScan(scan) => {
                let every = || (0..scan.source.schema().fields().len()).collect();
                *self.columns = scan.projection.clone().unwrap_or_else(every);
                *self.scanned = Arc::new(scan.source.schema().project(self.columns)?);
                Ok(Growth::columns(self.columns.len()))
            }
            LogicalPlan::SubqueryAlias(alias) => self.add(&alias.input),
            LogicalPlan::Filter(filter) => {
                let columns = self.add(&filter.input)?;
                self.count(std::slice::from_ref(&filter.predicate), filter.input.schema(), &columns)?;
                // What goes on is a copy.
                self.all.add(&Growth::per_row(8.0));
                columns.iter().for_each(|column| self.all.add(column));
                self.steps.push(Step::Filter(physical(&filter.predicate, filter.input.schema())?));
                Ok(columns)
            }
            LogicalPlan::Projection(projection) => {
                let input = projection.input.schema();
                let columns = self.add(&projection.input)?;
                self.count(&projection.expr, input, &columns)?;
                let exprs = projection.expr.iter().map(|expr| physical(expr, input)).collect::<Result<_>>()?;
                self.steps.push(Step::Project(exprs, Arc::new(projection.schema.as_arrow().clone())));
                projection.expr.iter().map(|expr| growth::of(expr, input, &columns)).collect()
            }
            other => refused(format!("it cannot be answered, since it has become {}", other.display())),
        }
    }

    fn count(&mut self, exprs: &[Expr], input: &DFSchema, columns: &[Growth]) -> Result<()> {
        for expr in exprs {
            // It is evaluated on a stack as usual, whatever became of it.
            check(expr)?;
            self.all.add(&growth::of_all(expr, input, columns)?);
        }
        Ok(())
    }
}

/// An expression that can be evaluated on batches of this schema.
pub(crate) fn physical(expr: &Expr, input: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
    create_physical_expr(expr, input, &ExecutionProps::new(), &PhysicalPlanningContext::default())
}

/// Which columns of the batch a plan chooses, if it does nothing else.
fn chosen(plan: &LogicalPlan, columns: &[usize]) -> Option<Vec<usize>> {
    match plan {
        LogicalPlan::TableScan(_) => Some(columns.to_vec()),
        LogicalPlan::SubqueryAlias(alias) => chosen(&alias.input, columns),
        LogicalPlan::Projection(projection) => {
            let below = chosen(&projection.input, columns)?;
            let column = |expr: &Expr| match expr.clone().unalias() {
                Expr::Column(column) => below.get(projection.input.schema().index_of_column(&column).ok()?).copied(),
                _ => None,
            };
            projection.expr.iter().map(column).collect()
        }
        _ => None,
    }
}
