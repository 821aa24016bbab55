//! Whether batches of one schema fit a stream of another.

use arrow_schema::{DataType, Field, Fields};

/// Whether the batches' field fits the stream's.
///
/// Names of struct and union members matter, those of list items and map entries do not (Arrow's
/// implementations disagree on them). A promise that the stream makes (no nulls, ordered dictionary, sorted map
/// keys) must be made by the batches too; one that only they make does no harm. Metadata does not matter.
///
/// # Errors
/// The first difference.
pub(super) fn field_fits(stream: &Field, batches: &Field) -> Result<(), String> {
    if batches.is_nullable() && !stream.is_nullable() {
        return Err("the batches may have nulls, the stream may not".to_owned());
    }
    if stream.dict_is_ordered() == Some(true) && batches.dict_is_ordered() == Some(false) {
        return Err("the stream's dictionary is ordered, the batches' is not".to_owned());
    }
    type_fits(stream.data_type(), batches.data_type())
}

/// Whether the batches' columns, or a struct's members, fit the stream's.
///
/// # Errors
/// The first difference.
pub(super) fn fields_fit(stream: &Fields, batches: &Fields) -> Result<(), String> {
    for (own, other) in stream.iter().zip(batches) {
        if own.name() != other.name() {
            return Err(misplaced(stream, batches, own, other));
        }
        field_fits(own, other).map_err(|difference| format!("{:?}: {difference}", own.name()))?;
    }
    if let Some(lacking) = stream.get(batches.len()) {
        return Err(format!("the batches have no column {:?}", lacking.name()));
    }
    if let Some(extra) = batches.get(stream.len()) {
        return Err(format!("the stream has no column {:?}", extra.name()));
    }
    Ok(())
}

fn misplaced(stream: &Fields, batches: &Fields, own: &Field, other: &Field) -> String {
    if batches.find(own.name()).is_none() {
        format!("the batches have no column {:?}", own.name())
    } else if stream.find(other.name()).is_none() {
        format!("the stream has no column {:?}", other.name())
    } else {
        format!("the stream has column {:?} where the batches have {:?}: the order differs", own.name(), other.name())
    }
}

/// Whether values of the batches' type fit the stream's.
///
/// # Errors
/// The first difference.
pub(super) fn type_fits(stream: &DataType, batches: &DataType) -> Result<(), String> {
    match (stream, batches) {
        (DataType::List(own), DataType::List(other))
        | (DataType::LargeList(own), DataType::LargeList(other))
        | (DataType::ListView(own), DataType::ListView(other))
        | (DataType::LargeListView(own), DataType::LargeListView(other)) => field_fits(own, other),
        (DataType::FixedSizeList(own, own_size), DataType::FixedSizeList(other, other_size)) if own_size == other_size => {
            field_fits(own, other)
        }
        (DataType::Struct(own), DataType::Struct(other)) => fields_fit(own, other),
        (DataType::Map(own, own_sorted), DataType::Map(other, other_sorted)) => {
            if *own_sorted && !*other_sorted {
                return Err("the stream's map keys are sorted, the batches' are not".to_owned());
            }
            entries_fit(own, other)
        }
        (DataType::Union(own, own_mode), DataType::Union(other, other_mode)) if own_mode == other_mode && own.len() == other.len() => {
            own.iter().zip(other.iter()).try_for_each(|((own_id, own), (other_id, other))| {
                if own_id != other_id || own.name() != other.name() {
                    return Err(format!(
                        "the stream's union has member {own_id} {:?}, the batches' {other_id} {:?}",
                        own.name(),
                        other.name()
                    ));
                }
                field_fits(own, other).map_err(|difference| format!("{:?}: {difference}", own.name()))
            })
        }
        (DataType::RunEndEncoded(own_ends, own), DataType::RunEndEncoded(other_ends, other)) => {
            type_fits(own_ends.data_type(), other_ends.data_type())?;
            field_fits(own, other)
        }
        (DataType::Dictionary(own_index, own), DataType::Dictionary(other_index, other)) if own_index == other_index => {
            type_fits(own, other)
        }
        _ if stream == batches => Ok(()),
        _ => Err(format!("the stream has {stream}, the batches have {batches}")),
    }
}

/// The entries of a map: a struct of key and value, whatever they are called.
fn entries_fit(stream: &Field, batches: &Field) -> Result<(), String> {
    match (stream.data_type(), batches.data_type()) {
        (DataType::Struct(own), DataType::Struct(other)) if own.len() == 2 && other.len() == 2 => {
            own.iter().zip(other).try_for_each(|(own, other)| field_fits(own, other))
        }
        (own, other) => Err(format!("the stream's map has entries {own}, the batches' {other}")),
    }
}
