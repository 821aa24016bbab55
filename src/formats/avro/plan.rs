//! How the rows of one writer's schema fill the columns: what fits is found out once, not per row.

use arrow_schema::{DataType, FieldRef};

use super::input::{Input, deeper};
use super::schema::{Logical, Schema, Type};
use crate::formats::FormatError;
use crate::formats::budget::{Budget, width};
use crate::formats::columns::{Column, fields_of};
use crate::formats::scalar::{Class, Scalar};

/// What to do with the values of one place in the writer's schema.
#[derive(Debug)]
pub(super) enum Plan {
    Skip(usize),
    Null,
    Scalar(usize),
    Record(Record),
    List(Items),
    Map(Items),
    Union(Vec<Plan>),
    /// A union's branch that the column cannot have.
    Refuse(String),
}

/// A list's items, a map's values.
#[derive(Debug)]
pub(super) struct Items {
    plan: Box<Plan>,
    /// How many values each is.
    width: u64,
}

/// A record's fields in the order of the writer.
#[derive(Debug)]
pub(super) struct Record {
    /// Each with its column's place.
    fields: Vec<(Plan, Option<usize>)>,
    /// Columns that the writer does not have.
    absent: Vec<usize>,
}

/// Makes plans of one writer's schema.
pub(super) struct Planner<'a> {
    pub(super) schema: &'a Schema,
    pub(super) lenient: bool,
}

impl Planner<'_> {
    /// The record `of` into these columns; also the names of its fields that are no columns.
    pub(super) fn record(&self, of: &[(String, usize)], into: &[FieldRef]) -> Result<(Record, Vec<String>), FormatError> {
        let mut unknown = Vec::new();
        let mut is_there = vec![false; into.len()];
        let mut fields = Vec::with_capacity(of.len());
        for (name, id) in of {
            match into.iter().position(|field| field.name() == name) {
                Some(place) => {
                    is_there[place] = true;
                    fields.push((self.plan(*id, &into[place])?, Some(place)));
                }
                None => {
                    unknown.push(name.clone());
                    fields.push((Plan::Skip(*id), None));
                }
            }
        }
        let absent = (0..into.len()).filter(|place| !is_there[*place]).collect();
        Ok((Record { fields, absent }, unknown))
    }

    fn plan(&self, id: usize, into: &FieldRef) -> Result<Plan, FormatError> {
        let misfit = |written: String| FormatError::Misfit { column: into.name().clone(), data_type: into.data_type().clone(), written };
        match (self.schema.get(id), into.data_type()) {
            (Type::Null, _) => Ok(Plan::Null),
            (Type::Record { fields, .. }, DataType::Struct(columns)) => Ok(Plan::Record(self.record(fields, columns)?.0)),
            (Type::Array(item), _) if self.schema.is_empty(*item) => {
                Err(misfit("items that take no bytes: a row of few bytes could have any number of them".to_owned()))
            }
            (Type::Array(item), DataType::List(column) | DataType::LargeList(column) | DataType::FixedSizeList(column, _)) => {
                Ok(Plan::List(Items { plan: Box::new(self.plan(*item, column)?), width: width(column) }))
            }
            (Type::Map(value), DataType::Map(entries, _)) => match fields_of(entries) {
                [key, column] if Class::Text.fits(key.data_type(), self.lenient) => {
                    Ok(Plan::Map(Items { plan: Box::new(self.plan(*value, column)?), width: width(entries) }))
                }
                _ => Err(misfit("a map, whose keys are text".to_owned())),
            },
            (Type::Union(branches), _) => {
                let plans: Vec<_> = branches.iter().map(|branch| self.plan(*branch, into)).collect();
                if !plans.iter().any(Result::is_ok) && !plans.is_empty() {
                    return plans.into_iter().collect::<Result<_, _>>().map(Plan::Union);
                }
                Ok(Plan::Union(plans.into_iter().map(|plan| plan.unwrap_or_else(|error| Plan::Refuse(error.to_string()))).collect()))
            }
            (of, to) => match class(of) {
                Some(class) if class.fits(to, self.lenient) => Ok(Plan::Scalar(id)),
                _ => Err(misfit(written(of).to_owned())),
            },
        }
    }
}

fn class(of: &Type) -> Option<Class> {
    match of {
        Type::Boolean => Some(Class::Bool),
        Type::Int(Logical::Ticks(_, clock)) | Type::Long(Logical::Ticks(_, clock)) => Some(Class::Time(*clock, true)),
        Type::Int(Logical::Days) => Some(Class::Days),
        Type::Int(_) | Type::Long(_) => Some(Class::Int),
        Type::Float | Type::Double => Some(Class::Float),
        Type::Bytes(Logical::Decimal(_)) | Type::Fixed { logical: Logical::Decimal(_), .. } => Some(Class::Decimal),
        Type::Bytes(_) | Type::Fixed { .. } => Some(Class::Bytes),
        Type::String => Some(Class::Text),
        Type::Enum { .. } => Some(Class::Enum),
        Type::Null | Type::Array(_) | Type::Map(_) | Type::Union(_) | Type::Record { .. } => None,
    }
}

fn written(of: &Type) -> &'static str {
    match of {
        Type::Null => "null",
        Type::Boolean => "boolean",
        Type::Int(Logical::None) => "int",
        Type::Long(Logical::None) => "long",
        Type::Int(_) | Type::Long(_) => "a time or a date",
        Type::Float => "float",
        Type::Double => "double",
        Type::Bytes(Logical::Decimal(_)) | Type::Fixed { logical: Logical::Decimal(_), .. } => "a decimal",
        Type::Bytes(_) => "bytes",
        Type::String => "string",
        Type::Fixed { .. } => "fixed",
        Type::Enum { .. } => "an enum",
        Type::Array(_) => "an array",
        Type::Map(_) => "a map",
        Type::Union(_) => "a union",
        Type::Record { .. } => "a record",
    }
}

/// Reads rows of one writer's schema.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) schema: &'a Schema,
    pub(super) lenient: bool,
    pub(super) budget: &'a Budget,
}

impl<'a> Reader<'a> {
    /// One record into columns that are at one length.
    pub(super) fn record(self, plan: &Record, input: &mut Input<'a>, columns: &mut [Column]) -> Result<(), String> {
        for (plan, place) in &plan.fields {
            match (place, plan) {
                (Some(place), plan) => self.value(plan, input, &mut columns[*place])?,
                (None, Plan::Skip(id)) => self.skip(*id, input, 0)?,
                (None, _) => {}
            }
        }
        plan.absent.iter().try_for_each(|place| columns[*place].null())
    }

    fn value(self, plan: &Plan, input: &mut Input<'a>, column: &mut Column) -> Result<(), String> {
        match plan {
            Plan::Skip(id) => self.skip(*id, input, 0),
            Plan::Null => column.null(),
            Plan::Scalar(id) => {
                let scalar = self.scalar(*id, input)?;
                column.push(scalar, self.lenient).map_err(|reason| format!("column {:?}: {reason}", column.name()))
            }
            Plan::Record(record) => {
                self.record(record, input, column.parts())?;
                column.close()
            }
            Plan::List(item) => {
                while let Some(block) = input.block()? {
                    for _ in 0..block.count {
                        self.budget.item(item.width)?;
                        column.parts().iter_mut().try_for_each(|column| self.value(&item.plan, input, column))?;
                    }
                    block.ended(input)?;
                }
                column.close()
            }
            Plan::Map(value) => {
                while let Some(block) = input.block()? {
                    for _ in 0..block.count {
                        self.budget.item(value.width)?;
                        let [entry] = column.parts() else { break };
                        if let [key, column] = entry.parts() {
                            key.push(Scalar::Text(input.text()?), self.lenient)?;
                            self.value(&value.plan, input, column)?;
                        }
                        entry.close()?;
                    }
                    block.ended(input)?;
                }
                column.close()
            }
            Plan::Union(branches) => {
                let place = input.place(branches.len())?;
                self.value(&branches[place], input, column)
            }
            Plan::Refuse(reason) => Err(reason.clone()),
        }
    }

    fn scalar(self, id: usize, input: &mut Input<'a>) -> Result<Scalar<'a>, String> {
        let logical = |value, logical| match logical {
            Logical::Days => Scalar::Days(value),
            Logical::Ticks(unit, clock) => Scalar::Ticks(value, unit, clock),
            _ => Scalar::Int(value),
        };
        let decimal = |bytes, logical| match logical {
            Logical::Decimal(scale) => Scalar::Decimal(bytes, scale),
            _ => Scalar::Bytes(bytes),
        };
        Ok(match self.schema.get(id) {
            Type::Boolean => Scalar::Bool(input.boolean()?),
            Type::Int(of) => logical(input.int()?, *of),
            Type::Long(of) => logical(input.long()?, *of),
            Type::Float => Scalar::Single(f32::from_le_bytes(input.array()?)),
            Type::Double => Scalar::Double(f64::from_le_bytes(input.array()?)),
            Type::Bytes(of) => decimal(input.bytes()?, *of),
            Type::Fixed { size, logical, .. } => decimal(input.take(*size)?, *logical),
            Type::String => Scalar::Text(input.text()?),
            Type::Enum { symbols, .. } => {
                let place = input.place(symbols.len())?;
                Scalar::Enum(&symbols[place], i32::try_from(place).map_err(|error| error.to_string())?)
            }
            other => return Err(format!("{} is no single value", written(other))),
        })
    }

    /// Past a value that no column has, as carefully as if one had it.
    fn skip(self, id: usize, input: &mut Input<'a>, depth: usize) -> Result<(), String> {
        match self.schema.get(id) {
            _ if self.schema.is_empty(id) => Ok(()),
            Type::Record { fields, .. } => {
                let depth = deeper(depth)?;
                fields.iter().try_for_each(|(_, field)| self.skip(*field, input, depth))
            }
            of @ (Type::Array(item) | Type::Map(item)) => {
                let depth = deeper(depth)?;
                let is_map = matches!(of, Type::Map(_));
                while let Some(block) = input.block()? {
                    // Each takes a byte at least, or none is looked at.
                    let count = if is_map || !self.schema.is_empty(*item) { block.count } else { 0 };
                    for _ in 0..count {
                        if is_map {
                            input.text()?;
                        }
                        self.skip(*item, input, depth)?;
                    }
                    block.ended(input)?;
                }
                Ok(())
            }
            Type::Union(branches) => {
                let place = input.place(branches.len())?;
                self.skip(branches[place], input, deeper(depth)?)
            }
            _ => self.scalar(id, input).map(drop),
        }
    }
}
