//! How much memory a query's results may take, from what it is asked of: known before anything is evaluated.

use datafusion_common::arrow::datatypes::DataType;
use datafusion_common::tree_node::TreeNode;
use datafusion_common::{DFSchema, DataFusionError, Result, ScalarValue};
use datafusion_expr::{Expr, ExprSchemable, Operator};

use super::functions::{Size, size};

/// What all values together may be: so many times the batch's bytes, and so many bytes for each row.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Growth {
    pub(super) times: f64,
    pub(super) per_row: f64,
}

impl Growth {
    /// A column of the stream.
    pub(super) const COLUMN: Self = Self { times: 1.0, per_row: 0.0 };

    pub(super) fn plus(self, other: Self) -> Self {
        Self { times: self.times + other.times, per_row: self.per_row + other.per_row }
    }

    fn scaled(self, by: f64) -> Self {
        Self { times: self.times * by, per_row: self.per_row * by }
    }

    fn max(self, other: Self) -> Self {
        Self { times: self.times.max(other.times), per_row: self.per_row.max(other.per_row) }
    }

    /// Bytes for a batch of so many rows and bytes.
    pub(super) fn bytes(self, rows: u64, bytes: u64) -> u64 {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an estimate, and a float saturates"
        )]
        let all = (self.times * bytes as f64 + self.per_row * rows as f64) as u64;
        all
    }
}

/// What evaluating an expression takes: its results, and those of all expressions within it. `columns` are the growths of its input's
/// columns.
///
/// # Errors
/// Names what may become of any size.
pub(super) fn of_all(expr: &Expr, schema: &DFSchema, columns: &[Growth]) -> Result<Growth> {
    let mut all = Growth::default();
    expr.apply(|inner| {
        all = all.plus(of(inner, schema, columns)?);
        Ok(datafusion_common::tree_node::TreeNodeRecursion::Continue)
    })?;
    Ok(all)
}

/// The results of an expression.
///
/// # Errors
/// As [`of_all`].
pub(super) fn of(expr: &Expr, schema: &DFSchema, columns: &[Growth]) -> Result<Growth> {
    let of_each = |exprs: &[&Expr]| exprs.iter().map(|expr| of(expr, schema, columns)).collect::<Result<Vec<_>>>();
    let largest = |each: Vec<Growth>| each.into_iter().fold(Growth::default(), Growth::max);
    let all = |each: Vec<Growth>| each.into_iter().fold(Growth::default(), Growth::plus);
    match expr {
        Expr::Column(column) => {
            let index = schema.index_of_column(column)?;
            Ok(columns.get(index).copied().unwrap_or(Growth::COLUMN))
        }
        Expr::Literal(value, _) => Ok(Growth { times: 0.0, per_row: value_bytes(value) }),
        Expr::Alias(alias) => of(&alias.expr, schema, columns),
        _ if is_fixed(&expr.get_type(schema)?) => Ok(Growth { times: 0.0, per_row: 32.0 }),
        Expr::Cast(cast) => of(&cast.expr, schema, columns).map(texts),
        Expr::TryCast(cast) => of(&cast.expr, schema, columns).map(texts),
        Expr::BinaryExpr(binary) if binary.op == Operator::StringConcat => of_each(&[&binary.left, &binary.right]).map(all),
        Expr::Case(case) => {
            let results = case.when_then_expr.iter().map(|(_, then)| &**then).chain(case.else_expr.as_deref());
            of_each(&results.collect::<Vec<_>>()).map(largest)
        }
        Expr::ScalarFunction(call) => {
            let args = of_each(&call.args.iter().collect::<Vec<_>>())?;
            match size(call.func.name()) {
                Some(Size::OfLargest(times)) => Ok(largest(args).scaled(f64::from(u32::try_from(times).unwrap_or(u32::MAX)))),
                Some(Size::OfAll) => Ok(all(args)),
                Some(Size::Fixed(bytes)) => Ok(Growth { times: 0.0, per_row: f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) }),
                Some(Size::Replaced) => match call.args.get(2) {
                    Some(Expr::Literal(value, _)) => Ok(args.first().copied().unwrap_or_default().scaled(1.0 + value_bytes(value))),
                    _ => {
                        let what =
                            format!("the replacement of {}(...) must be a constant, so that its results are bounded", call.func.name());
                        Err(DataFusionError::Plan(what))
                    }
                },
                None => Err(DataFusionError::Plan(format!(
                    "{}(...) cannot be used here, since its results may be of any length",
                    call.func.name()
                ))),
            }
        }
        other => Err(DataFusionError::Plan(format!("{other} cannot be used here"))),
    }
}

/// Values as texts: numbers and times have up to 64 bytes, and lists a comma each.
fn texts(of: Growth) -> Growth {
    Growth { times: of.times * 16.0, per_row: of.per_row * 2.0 + 64.0 }
}

/// Whether values of a type have no more bytes than a few each.
fn is_fixed(data_type: &DataType) -> bool {
    data_type.is_primitive() || matches!(data_type, DataType::Boolean | DataType::Null)
}

fn value_bytes(value: &ScalarValue) -> f64 {
    f64::from(u32::try_from(value.size()).unwrap_or(u32::MAX))
}
