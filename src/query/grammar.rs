//! What a query is made of, looked at before it is planned: one SELECT of one stream. The planner passes over some of what it does not
//! know, and what is nested multiplies.

use datafusion_common::{DataFusionError, Result};
use datafusion_sql::sqlparser::ast::{GroupByExpr, Query, Select, SelectItem, SetExpr, Statement, TableFactor};

use crate::wire::limits::FIELDS_MAX;

pub(super) fn refused<T>(reason: impl Into<String>) -> Result<T> {
    Err(DataFusionError::Plan(reason.into()))
}

/// Refuses a part that a query may not have.
pub(super) fn has_no<T>(part: &str) -> Result<T> {
    refused(format!("a subscription's query chooses rows and columns of one stream (SELECT ... FROM ... WHERE ...), and has no {part}"))
}

/// Checks a statement on a stream with so many columns.
pub(super) fn check(statement: &Statement, columns: usize) -> Result<()> {
    let Statement::Query(query) = statement else { return refused("it is no SELECT") };
    let select = match &*query.body {
        SetExpr::Select(select) => select,
        SetExpr::SetOperation { .. } => return has_no("UNION, EXCEPT or INTERSECT"),
        SetExpr::Query(_) => return has_no("SELECT in parentheses"),
        _ => return has_no("such part"),
    };
    match part(query).or_else(|| part_of(select)) {
        Some(part) => has_no(part),
        None => from(select).and_then(|()| results(select, columns)),
    }
}

/// What a query has beside its SELECT.
fn part(query: &Query) -> Option<&'static str> {
    let Query { with, body: _, order_by, limit_clause, fetch, locks, for_clause, settings, format_clause, pipe_operators } = query;
    let parts = [
        (with.is_some(), "WITH"),
        (order_by.is_some(), "ORDER BY"),
        (limit_clause.is_some() || fetch.is_some(), "LIMIT"),
        (!locks.is_empty() || for_clause.is_some(), "FOR"),
        (settings.is_some() || format_clause.is_some(), "SETTINGS or FORMAT"),
        (!pipe_operators.is_empty(), "|>"),
    ];
    first(&parts)
}

/// What a SELECT has beside results, a stream and a condition.
fn part_of(select: &Select) -> Option<&'static str> {
    let is_grouped = match &select.group_by {
        GroupByExpr::All(_) => true,
        GroupByExpr::Expressions(by, modifiers) => !by.is_empty() || !modifiers.is_empty(),
    };
    let parts = [
        (select.distinct.is_some(), "DISTINCT"),
        (select.top.is_some(), "TOP"),
        (select.into.is_some(), "INTO"),
        (is_grouped || select.having.is_some(), "GROUP BY or HAVING"),
        (!select.lateral_views.is_empty(), "LATERAL VIEW"),
        (select.prewhere.is_some(), "PREWHERE"),
        (!select.connect_by.is_empty(), "CONNECT BY"),
        (!select.cluster_by.is_empty() || !select.distribute_by.is_empty() || !select.sort_by.is_empty(), "SORT BY"),
        (!select.named_window.is_empty() || select.qualify.is_some(), "WINDOW or QUALIFY"),
        (select.exclude.is_some() || select.select_modifiers.is_some() || select.value_table_mode.is_some(), "such modifier of SELECT"),
    ];
    first(&parts)
}

fn first(parts: &[(bool, &'static str)]) -> Option<&'static str> {
    parts.iter().find(|(is_there, _)| *is_there).map(|(_, part)| *part)
}

fn from(select: &Select) -> Result<()> {
    let table = match &*select.from {
        [] => return has_no("SELECT without FROM"),
        [table] if table.joins.is_empty() => &table.relation,
        _ => return has_no("JOIN"),
    };
    match table {
        TableFactor::Table {
            name: _,
            alias: _,
            args: None,
            with_hints,
            version: None,
            with_ordinality: false,
            partitions,
            json_path: None,
            sample: None,
            index_hints,
        } if with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty() => Ok(()),
        TableFactor::Derived { .. } => has_no("SELECT within FROM; write it as one"),
        _ => has_no("more than a name after FROM"),
    }
}

/// Every `*` becomes all columns before anybody counts them.
fn results(select: &Select, columns: usize) -> Result<()> {
    let is_wildcard = |item: &&SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    let wildcards = select.projection.iter().filter(is_wildcard).count();
    if wildcards > 1 && wildcards.saturating_mul(columns) > FIELDS_MAX {
        return refused(format!("its results have more than {FIELDS_MAX} columns"));
    }
    Ok(())
}
