//! How many values the lists of a call's rows may have: those that take no bytes of their row cost memory for nothing.

use std::cell::Cell;

use arrow_schema::{DataType, Field};

/// Values within lists per byte of a row. An item of which rows have few fields and the columns many has more values than bytes.
const VALUES_PER_BYTE: u64 = 16;
/// Values beyond those, per call.
const VALUES_SPARE: u64 = 1 << 24;

/// Bytes of a value: eight, as all numbers are while rows are read, and where it has text, an offset.
pub(super) const VALUE_BYTES: usize = 8;

/// What the rows of one call may still make.
#[derive(Debug)]
pub(super) struct Budget(Cell<u64>);

impl Budget {
    pub(super) fn new() -> Self {
        Self(Cell::new(VALUES_SPARE))
    }

    /// The next row has so many bytes. Returns what [`give_back`](Self::give_back) takes if it is a bad one.
    pub(super) fn row(&self, bytes: usize) -> u64 {
        let before = self.0.get();
        let more = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(VALUES_PER_BYTE);
        self.0.set(before.saturating_add(more));
        before
    }

    /// The row is bad, and what it made is gone.
    pub(super) fn give_back(&self, before: u64) {
        self.0.set(before);
    }

    /// One item more in a list, which is so many values.
    pub(super) fn item(&self, width: u64) -> Result<(), String> {
        let left = self.0.get().checked_sub(width).ok_or_else(|| {
            format!(
                "the row's lists have too many values for its bytes: {VALUES_PER_BYTE} per byte are made, and {VALUES_SPARE} more per call"
            )
        })?;
        self.0.set(left);
        Ok(())
    }
}

/// How many values a list's item is, its own lists' left out.
pub(super) fn width(item: &Field) -> u64 {
    match item.data_type() {
        DataType::Struct(fields) => fields.iter().map(|field| width(field)).fold(1, u64::saturating_add),
        DataType::FixedSizeList(item, size) => width(item).saturating_mul(u64::try_from(*size).unwrap_or(0)).max(1),
        DataType::FixedSizeBinary(size) => u64::try_from(*size).unwrap_or(0).div_ceil(VALUE_BYTES as u64),
        // 256 bits, until they are cut to what is declared.
        decimal if decimal.is_decimal() => 4,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_account_for_values_and_bad_rows_give_theirs_back() {
        let budget = Budget::new();
        budget.row(0);
        assert_eq!(budget.item(VALUES_SPARE), Ok(()));
        let before = budget.row(1);
        assert_eq!(budget.item(VALUES_PER_BYTE), Ok(()));
        assert!(budget.item(1).is_err());
        budget.give_back(before);
        assert!(budget.item(1).is_err());
        budget.row(1);
        assert_eq!(budget.item(VALUES_PER_BYTE), Ok(()));
    }

    #[test]
    fn items_are_as_wide_as_their_parts() {
        let of = |data_type| width(&Field::new("", data_type, true));
        assert_eq!(of(DataType::Int8), 1);
        let pair = DataType::Struct(
            vec![Field::new("a", DataType::Int8, true), Field::new("b", DataType::new_list(DataType::Int8, true), true)].into(),
        );
        assert_eq!(of(pair.clone()), 3);
        assert_eq!(of(DataType::new_fixed_size_list(pair, 5, true)), 15);
        assert_eq!((of(DataType::FixedSizeBinary(17)), of(DataType::Decimal32(9, 2))), (3, 4));
        let wide = (0..9).fold(DataType::Int8, |item, _| DataType::new_fixed_size_list(item, i32::MAX, true));
        assert_eq!(of(wide), u64::MAX);
    }
}
