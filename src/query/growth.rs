//! How much memory a query's results may take, from what it is asked of: known before anything is evaluated.

use std::collections::BTreeMap;

use datafusion_common::arrow::datatypes::DataType;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, Result, ScalarValue};
use datafusion_expr::{Expr, ExprSchemable, Operator};

use super::functions::{Size, is_slow, size};
use super::grammar::refused;

/// What all values together may be: so many times each column that is scanned, and so many bytes for each row.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Growth {
    times: BTreeMap<usize, f64>,
    per_row: f64,
}

impl Growth {
    /// A column that is scanned.
    pub(super) fn column(index: usize) -> Self {
        Self { times: BTreeMap::from([(index, 1.0)]), per_row: 0.0 }
    }

    /// Those of a scan of so many columns.
    pub(super) fn columns(count: usize) -> Vec<Self> {
        (0..count).map(Self::column).collect()
    }

    pub(super) fn per_row(bytes: f64) -> Self {
        Self { times: BTreeMap::new(), per_row: bytes }
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (column, times) in &other.times {
            *self.times.entry(*column).or_default() += times;
        }
        self.per_row += other.per_row;
    }

    fn scaled(mut self, by: f64) -> Self {
        self.times.values_mut().for_each(|times| *times *= by);
        self.per_row *= by;
        self
    }

    /// At least as large as both.
    fn max(mut self, other: &Self) -> Self {
        for (column, times) in &other.times {
            let most = self.times.entry(*column).or_default();
            *most = most.max(*times);
        }
        self.per_row = self.per_row.max(other.per_row);
        self
    }

    /// The most that it is of any column.
    pub(super) fn times_max(&self) -> f64 {
        self.times.values().copied().fold(0.0, f64::max)
    }

    /// Bytes for so many rows of columns that have at most so many bytes together, none of them twice.
    pub(super) fn bytes_of_body(&self, rows: u64, bytes: u64) -> u64 {
        whole(self.times_max() * float(bytes) + self.per_row * float(rows))
    }

    /// Bytes for so many rows of columns that have so many bytes each.
    pub(super) fn bytes(&self, rows: u64, columns: &[u64]) -> u64 {
        let of_column = |(column, times): (&usize, &f64)| times * float(columns.get(*column).copied().unwrap_or(u64::MAX));
        whole(self.times.iter().map(of_column).sum::<f64>() + self.per_row * float(rows))
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn float(bytes: u64) -> f64 {
    bytes as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float saturates, and none is below 0")]
fn whole(bytes: f64) -> u64 {
    bytes as u64
}

fn all<'a>(each: impl IntoIterator<Item = &'a Growth>) -> Growth {
    each.into_iter().fold(Growth::default(), |mut all, one| {
        all.add(one);
        all
    })
}

fn largest(each: &[Growth]) -> Growth {
    each.iter().fold(Growth::default(), Growth::max)
}

/// What evaluating an expression takes: its results, and those of all expressions within it. `columns` are the growths of its input's
/// columns. Columns and constants take nothing: they are there.
///
/// # Errors
/// Names what may become of any size, or take any time.
pub(super) fn of_all(expr: &Expr, schema: &DFSchema, columns: &[Growth]) -> Result<Growth> {
    let mut taken = Growth::default();
    expr.apply(|inner| {
        check(inner)?;
        match inner {
            Expr::Column(_) | Expr::Alias(_) => {}
            Expr::Literal(value, _) => drop(of_value(value)?),
            Expr::ScalarFunction(call) => {
                taken.add(&of(inner, schema, columns)?);
                // A constant may become a column for it.
                for arg in call.args.iter().filter(|arg| matches!(arg, Expr::Literal(..))) {
                    taken.add(&of(arg, schema, columns)?);
                }
            }
            Expr::Case(_) => {
                taken.add(&of(inner, schema, columns)?);
                // Each result is computed of a copy of the rows that it is for.
                for column in inner.column_refs() {
                    taken.add(&of(&Expr::Column(column.clone()), schema, columns)?.scaled(2.0));
                }
            }
            _ => taken.add(&of(inner, schema, columns)?),
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(taken)
}

/// Refuses what takes any time or memory for what its values are.
fn check(expr: &Expr) -> Result<()> {
    use Operator::{ILikeMatch, LikeMatch, NotILikeMatch, NotLikeMatch, RegexIMatch, RegexMatch, RegexNotIMatch, RegexNotMatch};
    let pattern = match expr {
        Expr::Like(like) | Expr::SimilarTo(like) => Some(&*like.pattern),
        Expr::BinaryExpr(binary) => match binary.op {
            RegexMatch | RegexIMatch | RegexNotMatch | RegexNotIMatch | LikeMatch | ILikeMatch | NotLikeMatch | NotILikeMatch => {
                Some(&*binary.right)
            }
            _ => None,
        },
        Expr::ScalarFunction(call) if is_slow(call.func.name()) => {
            return refused(format!("{}(...) cannot be used here, since it may take any time", call.func.name()));
        }
        Expr::ScalarFunction(call) if call.func.name().starts_with("regexp_") => call.args.get(1),
        _ => None,
    };
    match pattern {
        Some(pattern) if !pattern.column_refs().is_empty() => refused(format!("the pattern in {expr} must be a constant")),
        _ => Ok(()),
    }
}

/// The results of an expression.
///
/// # Errors
/// As [`of_all`].
pub(super) fn of(expr: &Expr, schema: &DFSchema, columns: &[Growth]) -> Result<Growth> {
    let of_each = |exprs: &[&Expr]| exprs.iter().map(|expr| of(expr, schema, columns)).collect::<Result<Vec<_>>>();
    match expr {
        Expr::Column(column) => {
            let index = schema.index_of_column(column)?;
            Ok(columns.get(index).cloned().unwrap_or_default())
        }
        Expr::Literal(value, _) => of_value(value),
        Expr::Alias(alias) => of(&alias.expr, schema, columns),
        _ if let Some(bytes) = width(&expr.get_type(schema)?) => Ok(Growth::per_row(bytes)),
        Expr::Cast(cast) => converted(expr, &cast.expr, schema, columns),
        Expr::TryCast(cast) => converted(expr, &cast.expr, schema, columns),
        Expr::BinaryExpr(binary) if binary.op == Operator::StringConcat => Ok(all(&of_each(&[&binary.left, &binary.right])?)),
        Expr::Case(case) => {
            let results = case.when_then_expr.iter().map(|(_, then)| &**then).chain(case.else_expr.as_deref());
            Ok(largest(&of_each(&results.collect::<Vec<_>>())?))
        }
        Expr::ScalarFunction(call) => {
            let args = of_each(&call.args.iter().collect::<Vec<_>>())?;
            let name = call.func.name();
            match size(name) {
                Some(Size::OfLargest(times)) => Ok(largest(&args).scaled(times)),
                Some(Size::OfAll) => Ok(all(&args)),
                Some(Size::Fixed(bytes)) => Ok(Growth::per_row(bytes)),
                Some(Size::Converted) => {
                    call.args.first().map_or_else(|| refused("it converts nothing"), |from| converted(expr, from, schema, columns))
                }
                Some(Size::Separated) => {
                    let separators = args.first().cloned().unwrap_or_default().scaled(float(args.len() as u64));
                    Ok(all(args.iter().chain([&separators])))
                }
                Some(Size::Groups) => {
                    let groups = text(call.args.get(1)).map_or(f64::INFINITY, |pattern| float(pattern.matches('(').count() as u64));
                    Ok(args.first().cloned().unwrap_or_default().scaled(2.0 + groups))
                }
                Some(Size::Replaced) => match text(call.args.get(2)) {
                    Some(by) => Ok(args.first().cloned().unwrap_or_default().scaled(2.0 + float(by.len() as u64))),
                    None => refused(format!("the replacement of {name}(...) must be a constant, so that its results are bounded")),
                },
                None => refused(format!("{name}(...) cannot be used here, since its results may be of any length")),
            }
        }
        other => refused(format!("{other} cannot be used here")),
    }
}

/// A constant as a column.
fn of_value(value: &ScalarValue) -> Result<Growth> {
    let bytes = width(&value.data_type()).or_else(|| has_text(&value.data_type()).then(|| float(value.size() as u64)));
    match bytes {
        Some(bytes) => Ok(Growth::per_row(bytes)),
        None => refused(format!("a constant {} cannot be used here", value.data_type())),
    }
}

/// A constant text.
fn text(expr: Option<&Expr>) -> Option<&str> {
    match expr {
        Some(Expr::Literal(value, _)) => value.try_as_str().flatten(),
        _ => None,
    }
}

/// Values of one type as those of another. Numbers and times have up to 64 bytes as texts, and lists a comma each. Of other types than
/// text and bytes they could be of any size.
fn converted(to: &Expr, from: &Expr, schema: &DFSchema, columns: &[Growth]) -> Result<Growth> {
    let data_type = to.get_type(schema)?;
    if !has_text(&data_type) {
        return refused(format!("nothing can be made a {data_type} here; numbers, times, text and bytes can be"));
    }
    let mut texts = of(from, schema, columns)?.scaled(if has_text(&from.get_type(schema)?) { 1.0 } else { 16.0 });
    texts.add(&Growth::per_row(64.0));
    Ok(texts)
}

/// Whether values are texts or bytes, out of a dictionary or not: constants that are compared with a dictionary's become one.
fn has_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_text(values),
        other => is_text(other),
    }
}

fn is_text(data_type: &DataType) -> bool {
    use DataType::{Binary, BinaryView, LargeBinary, LargeUtf8, Utf8, Utf8View};
    matches!(data_type, Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView)
}

/// The bytes of a value, of types whose values are all alike: with whether it is null, and a copy that is made on the way.
fn width(data_type: &DataType) -> Option<f64> {
    match data_type {
        DataType::Boolean | DataType::Null => Some(2.0),
        other => other.primitive_width().map(|width| 2.0 * float(width as u64) + 1.0),
    }
}
