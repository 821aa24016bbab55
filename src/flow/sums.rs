//! Sums that fail where DataFusion's begin again at the other end of their type.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use datafusion_common::arrow::array::{ArrayRef, ArrowNativeTypeOp, BooleanArray};
use datafusion_common::arrow::datatypes::{
    ArrowNumericType, DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType, DurationMicrosecondType,
    DurationMillisecondType, DurationNanosecondType, DurationSecondType, FieldRef, Int64Type, TimeUnit, UInt64Type,
};
use datafusion_common::{DataFusionError, Result};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::{Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature};
use datafusion_functions_aggregate::sum::Sum;
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::prim_op::PrimitiveGroupsAccumulator;

/// DataFusion's, in all but that.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct CheckedSum(Sum);

impl AggregateUDFImpl for CheckedSum {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.0.return_type(arguments)
    }

    fn accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.0.accumulator(arguments)
    }

    fn state_fields(&self, arguments: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.0.state_fields(arguments)
    }

    fn groups_accumulator_supported(&self, arguments: AccumulatorArgs<'_>) -> bool {
        self.0.groups_accumulator_supported(arguments)
    }

    fn create_groups_accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        use DataType::{Decimal32, Decimal64, Decimal128, Decimal256, Duration, Int64, UInt64};
        let of = arguments.return_field.data_type();
        Ok(match of {
            Int64 => checked::<Int64Type>(of, |_| true),
            UInt64 => checked::<UInt64Type>(of, |_| true),
            Decimal32(precision, _) => decimal::<Decimal32Type>(of, *precision),
            Decimal64(precision, _) => decimal::<Decimal64Type>(of, *precision),
            Decimal128(precision, _) => decimal::<Decimal128Type>(of, *precision),
            Decimal256(precision, _) => decimal::<Decimal256Type>(of, *precision),
            Duration(TimeUnit::Second) => checked::<DurationSecondType>(of, |_| true),
            Duration(TimeUnit::Millisecond) => checked::<DurationMillisecondType>(of, |_| true),
            Duration(TimeUnit::Microsecond) => checked::<DurationMicrosecondType>(of, |_| true),
            Duration(TimeUnit::Nanosecond) => checked::<DurationNanosecondType>(of, |_| true),
            _ => return self.0.create_groups_accumulator(arguments),
        })
    }
}

fn decimal<T: DecimalType + ArrowNumericType + Send>(of: &DataType, precision: u8) -> Box<dyn GroupsAccumulator> {
    checked::<T>(of, move |sum| T::is_valid_decimal_precision(sum, precision))
}

fn checked<T: ArrowNumericType + Send>(
    of: &DataType,
    is_valid: impl Fn(T::Native) -> bool + Send + Sync + 'static,
) -> Box<dyn GroupsAccumulator> {
    let is_beyond = Arc::new(AtomicBool::new(false));
    let told = is_beyond.clone();
    let sums = PrimitiveGroupsAccumulator::<T, _>::new(of, move |sum, value: T::Native| match sum.add_checked(value) {
        Ok(more) if is_valid(more) => *sum = more,
        _ => told.store(true, Relaxed),
    });
    Box::new(Checked { sums: Box::new(sums), is_beyond, of: of.clone() })
}

/// Sums of groups, and whether one of them was beyond its type.
struct Checked {
    sums: Box<dyn GroupsAccumulator>,
    is_beyond: Arc<AtomicBool>,
    of: DataType,
}

impl Checked {
    fn check(&self) -> Result<()> {
        if self.is_beyond.load(Relaxed) {
            let of = &self.of;
            return Err(DataFusionError::Execution(format!(
                "a sum is outside of {of}: sum a wider type, such as CAST(x AS DECIMAL(38, 0))"
            )));
        }
        Ok(())
    }
}

impl GroupsAccumulator for Checked {
    fn update_batch(&mut self, values: &[ArrayRef], indices: &[usize], filter: Option<&BooleanArray>, groups: usize) -> Result<()> {
        self.sums.update_batch(values, indices, filter, groups)?;
        self.check()
    }

    fn merge_batch(&mut self, values: &[ArrayRef], indices: &[usize], groups: usize) -> Result<()> {
        self.sums.merge_batch(values, indices, groups)?;
        self.check()
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.sums.evaluate(emit_to)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.sums.state(emit_to)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.sums.convert_to_state(values, filter)
    }

    fn size(&self) -> usize {
        self.sums.size()
    }
}
