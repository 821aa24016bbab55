//! Routing: which partition of the stream each row of a Spark task goes to.

use std::fmt;
use std::str::FromStr;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, RecordBatch, UInt32Array, make_array};
use arrow::compute::{cast, max, min, take_record_batch};
use arrow::datatypes::{Int64Type, UInt64Type};
use arrow_schema::{ArrowError, DataType};

use super::hash::{hash, is_key_type};
use super::names::{list, quoted};
use crate::client::Error;
use crate::client::compact::without_unused;
use crate::engine::{self, PARTITIONS_MAX, PartitionId};

const WAYS: &str = "spark, round_robin, hash(column, ...), column:<name>";

/// How rows find their partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Routing {
    /// `spark`: Spark's partition id modulo the number of partitions. Whole tasks, nothing is split.
    Spark,
    /// `round_robin`: batches in turn.
    RoundRobin,
    /// `hash(a, b)`: rows with the same key are always in the same partition, in this run and any other.
    Hash(Vec<String>),
    /// `column:p`: column `p` holds the partition's number.
    Column(String),
}

impl FromStr for Routing {
    type Err = Error;

    fn from_str(given: &str) -> Result<Self, Error> {
        let text = given.trim();
        let unknown = || Error::invalid(format!("routing {} is not known; use one of: {WAYS}", quoted(text)));
        if let Some(columns) = text.strip_prefix("hash(").and_then(|rest| rest.strip_suffix(')')) {
            let columns: Vec<_> = columns.split(',').map(|column| column.trim().to_owned()).collect();
            return if columns.iter().any(String::is_empty) { Err(unknown()) } else { Ok(Self::Hash(columns)) };
        }
        match (text, text.strip_prefix("column:").map(str::trim)) {
            ("spark", _) => Ok(Self::Spark),
            ("round_robin", _) => Ok(Self::RoundRobin),
            (_, Some(column)) if !column.is_empty() => Ok(Self::Column(column.to_owned())),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spark => f.write_str("spark"),
            Self::RoundRobin => f.write_str("round_robin"),
            Self::Hash(columns) => write!(f, "hash({})", columns.join(", ")),
            Self::Column(column) => write!(f, "column:{column}"),
        }
    }
}

impl Routing {
    /// The columns that it needs.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        match self {
            Self::Spark | Self::RoundRobin => &[],
            Self::Hash(columns) => columns,
            Self::Column(column) => std::slice::from_ref(column),
        }
    }

    /// Whether the columns that it needs are among these.
    ///
    /// # Errors
    /// `invalid_argument` that names those that are not.
    pub fn check<S: AsRef<str>>(&self, names: &[S]) -> Result<(), Error> {
        let is_there = |column: &str| names.iter().any(|name| name.as_ref() == column);
        let missing: Vec<_> = self.columns().iter().map(String::as_str).filter(|column| !is_there(column)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let (missing, names) = (list(missing), list(names.iter().map(AsRef::as_ref)));
        Err(Error::invalid(format!("routing needs the columns {missing}, but the DataFrame has {names}")))
    }

    /// Where batch `index` of a task goes if nothing of it has to be looked at: all of it.
    ///
    /// # Errors
    /// A number of partitions that no stream has.
    pub fn whole(&self, partitions: u32, task: u32, index: u64) -> Result<Option<PartitionId>, Error> {
        if partitions == 0 || partitions > PARTITIONS_MAX {
            return Err(engine::Error::PartitionCount { asked: partitions, max: PARTITIONS_MAX }.into());
        }
        let in_turn = || (u64::from(task) + index % u64::from(partitions)) % u64::from(partitions);
        Ok(match self {
            _ if partitions == 1 => Some(PartitionId(0)),
            Self::Spark => Some(PartitionId(task % partitions)),
            Self::RoundRobin => u32::try_from(in_turn()).ok().map(PartitionId),
            Self::Hash(_) | Self::Column(_) => None,
        })
    }

    /// The batch's parts and where they go, in the order of the partitions; rows of a part keep theirs. `index` is the batch's number
    /// within its task.
    ///
    /// # Errors
    /// `invalid_argument`: a column that it needs is missing, or of a type without keys, or holds no partition's number; a number of
    /// partitions that no stream has.
    pub fn split(&self, batch: &RecordBatch, partitions: u32, task: u32, index: u64) -> Result<Vec<(PartitionId, RecordBatch)>, Error> {
        if let Some(partition) = self.whole(partitions, task, index)? {
            return Ok(vec![(partition, batch.clone())]);
        }
        let targets = match self {
            Self::Column(name) => named(column_of(batch, name)?, name, partitions)?,
            _ => self.hashed(batch, partitions)?,
        };
        parts(batch, &targets, partitions)
    }

    fn hashed(&self, batch: &RecordBatch, partitions: u32) -> Result<Vec<u32>, Error> {
        let mut columns = Vec::with_capacity(self.columns().len());
        for name in self.columns() {
            let column = column_of(batch, name)?;
            if !is_key_type(column.data_type()) {
                let (name, of) = (quoted(name), column.data_type());
                let text = format!("routing cannot hash column {name} of type {of}; use numbers, dates, times, text or bytes");
                return Err(Error::invalid(text));
            }
            columns.push(column);
        }
        let hashes = hash(&columns).map_err(|error| refused(&error))?;
        Ok(hashes.into_iter().map(|hash| modulo(hash, partitions)).collect())
    }
}

/// Those who call have looked: it is there, but for a batch of another schema.
fn column_of<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, Error> {
    batch.column_by_name(name).ok_or_else(|| {
        let names = batch.schema();
        let (name, names) = (list([name]), list(names.fields().iter().map(|field| field.name().as_str())));
        Error::invalid(format!("routing needs the columns {name}, but the DataFrame has {names}"))
    })
}

#[expect(clippy::cast_possible_truncation, reason = "less than a divisor of 32 bits")]
fn modulo(hash: u64, partitions: u32) -> u32 {
    (hash % u64::from(partitions)) as u32
}

fn named(column: &ArrayRef, name: &str, partitions: u32) -> Result<Vec<u32>, Error> {
    let of = column.data_type();
    match of {
        _ if of.is_signed_integer() => numbers::<Int64Type>(column, name, partitions),
        _ if of.is_unsigned_integer() => numbers::<UInt64Type>(column, name, partitions),
        _ => {
            let name = quoted(name);
            Err(Error::invalid(format!("routing column {name} is {of}; it has to hold the partition's number, an integer")))
        }
    }
}

fn numbers<T: ArrowPrimitiveType>(column: &ArrayRef, name: &str, partitions: u32) -> Result<Vec<u32>, Error>
where
    T::Native: TryInto<u32> + fmt::Display,
{
    let wide = cast(column, &T::DATA_TYPE).map_err(|error| refused(&error))?;
    let values = wide.as_primitive::<T>();
    let numbers: Option<Vec<u32>> =
        values.values().iter().map(|value| (*value).try_into().ok().filter(|number| *number < partitions)).collect();
    match numbers.filter(|_| values.null_count() == 0) {
        Some(numbers) => Ok(numbers),
        None => {
            let found = match (min(values), max(values)) {
                (Some(low), Some(high)) if values.null_count() == 0 => format!("{low} to {high}"),
                _ => "nulls".to_owned(),
            };
            let (name, last) = (quoted(name), partitions - 1);
            Err(Error::invalid(format!("routing column {name} holds {found}, but the stream's partitions are 0 to {last}")))
        }
    }
}

/// The batch's rows by target, in their order: one part per target that occurs. A counting sort, and one copy of the rows.
fn parts(batch: &RecordBatch, targets: &[u32], partitions: u32) -> Result<Vec<(PartitionId, RecordBatch)>, Error> {
    let mut ends = vec![0_usize; partitions as usize];
    for target in targets {
        ends[*target as usize] += 1;
    }
    let counts: Vec<(u32, usize)> = (0..).zip(ends.iter().copied()).filter(|(_, count)| *count > 0).collect();
    if let [(target, _)] = counts[..] {
        return Ok(vec![(PartitionId(target), batch.clone())]);
    }
    let mut begin = 0;
    for end in &mut ends {
        begin += std::mem::replace(end, begin);
    }
    let rows = u32::try_from(targets.len()).map_err(|_| {
        let rows = targets.len();
        Error::invalid(format!("routing a batch of {rows} rows; it takes at most {}: cut it into smaller batches", u32::MAX))
    })?;
    let mut order = vec![0_u32; targets.len()];
    for (row, target) in (0..rows).zip(targets) {
        let place = &mut ends[*target as usize];
        order[*place] = row;
        *place += 1;
    }
    let order = UInt32Array::from(order);
    let part = |(target, count): (u32, usize)| {
        let rows = order.slice(ends[target as usize] - count, count);
        Ok((PartitionId(target), of_its_own(take_record_batch(batch, &rows)?)?))
    };
    counts.into_iter().map(part).collect::<Result<_, ArrowError>>().map_err(|error| refused(&error))
}

/// Of views, the rows alone were copied, and not the text: each part would carry all of it.
fn of_its_own(part: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let is_plain =
        |column: &ArrayRef| !column.data_type().is_nested() && !matches!(column.data_type(), DataType::Utf8View | DataType::BinaryView);
    if part.columns().iter().all(is_plain) {
        return Ok(part);
    }
    let columns = part
        .columns()
        .iter()
        .map(|column| if is_plain(column) { Ok(column.clone()) } else { without_unused(column.to_data()).map(make_array) });
    RecordBatch::try_new(part.schema(), columns.collect::<Result<_, _>>()?)
}

fn refused(error: &ArrowError) -> Error {
    Error::invalid(format!("the batch cannot be split for routing: {error}"))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use arrow::array::{Int8Array, Int32Array, ListArray, StringArray, StringViewArray, UInt64Array};
    use arrow::datatypes::Int32Type;
    use proptest::prelude::*;

    use super::*;
    use crate::engine::Code;

    fn routing(text: &str) -> Routing {
        text.parse().expect("a routing")
    }

    fn column(name: &str, column: impl Array + 'static) -> (String, ArrayRef) {
        (name.to_owned(), Arc::new(column))
    }

    fn batch(columns: impl IntoIterator<Item = (String, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter(columns).expect("columns")
    }

    fn refusal<T: fmt::Debug>(found: Result<T, Error>) -> String {
        let error = found.expect_err("refused");
        assert_eq!(error.code(), Code::InvalidArgument);
        error.to_string()
    }

    #[test]
    fn what_a_user_writes_is_read_and_written_back() {
        let table = [
            (" spark ", Routing::Spark, "spark"),
            ("round_robin", Routing::RoundRobin, "round_robin"),
            ("hash( a ,b)", Routing::Hash(vec!["a".to_owned(), "b".to_owned()]), "hash(a, b)"),
            ("hash(f(x))", Routing::Hash(vec!["f(x)".to_owned()]), "hash(f(x))"),
            ("column: p", Routing::Column("p".to_owned()), "column:p"),
        ];
        for (given, expected, text) in table {
            assert_eq!(routing(given), expected);
            assert_eq!((expected.to_string(), routing(text)), (text.to_owned(), expected));
        }
        for given in ["", "Spark", "hash", "hash()", "hash(a,)", "hash(a) b", "column:", "column"] {
            let text = refusal(given.parse::<Routing>());
            let expected = format!("routing '{given}' is not known; use one of: spark, round_robin, hash(column, ...), column:<name>");
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn columns_that_are_missing_are_named() {
        assert!(routing("spark").check::<&str>(&[]).is_ok());
        assert!(routing("hash(a, b)").check(&["b", "a"]).is_ok());
        let text = refusal(routing("hash(x, a, y)").check(&["a", "b"]));
        assert_eq!(text, "routing needs the columns ['x', 'y'], but the DataFrame has ['a', 'b']");
        let rows = batch([column("a", Int8Array::from(vec![1]))]);
        assert_eq!(refusal(routing("column:p").split(&rows, 2, 0, 0)), "routing needs the columns ['p'], but the DataFrame has ['a']");
    }

    #[test]
    fn whole_batches_go_by_task_or_in_turn() {
        let rows = batch([column("a", Int8Array::from(vec![1, 2]))]);
        let only = |routing: &str, partitions, task, index| {
            let parts = self::routing(routing).split(&rows, partitions, task, index).expect("parts");
            assert_eq!((parts.len(), &parts[0].1), (1, &rows));
            parts[0].0.0
        };
        assert_eq!(only("spark", 4, 6, 3), 2);
        assert_eq!((0..5).map(|index| only("round_robin", 4, 2, index)).collect::<Vec<_>>(), [2, 3, 0, 1, 2]);
        assert_eq!(only("round_robin", 3, u32::MAX, u64::MAX), 0);
        assert_eq!(only("column:gone", 1, 9, 9), 0, "there is nothing to choose");
        let none = routing("hash(a)").split(&rows.slice(0, 0), 4, 0, 0).expect("no rows");
        assert!(none.is_empty());
        for partitions in [0, PARTITIONS_MAX + 1] {
            assert!(routing("spark").split(&rows, partitions, 0, 0).is_err());
        }
        assert!(routing("hash(a)").split(&rows, PARTITIONS_MAX, 0, 0).is_ok());
    }

    #[test]
    fn a_column_names_the_partition() {
        let rows = batch([column("p", UInt64Array::from(vec![2, 0, 2, 3])), column("n", Int32Array::from(vec![0, 1, 2, 3]))]);
        let parts = routing("column:p").split(&rows, 4, 0, 0).expect("parts");
        let found: Vec<_> = parts.iter().map(|(p, part)| (p.0, part.column(1).as_primitive::<Int32Type>().values().to_vec())).collect();
        assert_eq!(found, [(0, vec![1]), (2, vec![0, 2]), (3, vec![3])]);
        let same = batch([column("p", Int8Array::from(vec![1, 1]))]);
        assert_eq!(routing("column:p").split(&same, 2, 0, 0).expect("one part"), [(PartitionId(1), same)]);
        let of = |array: ArrayRef| refusal(routing("column:p").split(&batch([("p".to_owned(), array)]), 4, 0, 0));
        let last = "but the stream's partitions are 0 to 3";
        assert_eq!(of(Arc::new(Int8Array::from(vec![0, -1, 9]))), format!("routing column 'p' holds -1 to 9, {last}"));
        assert_eq!(of(Arc::new(UInt64Array::from(vec![4]))), format!("routing column 'p' holds 4 to 4, {last}"));
        assert_eq!(of(Arc::new(UInt64Array::from(vec![u64::MAX]))), format!("routing column 'p' holds {0} to {0}, {last}", u64::MAX));
        assert_eq!(of(Arc::new(Int8Array::from(vec![Some(1), None]))), format!("routing column 'p' holds nulls, {last}"));
        assert_eq!(
            of(Arc::new(StringArray::from(vec!["1"]))),
            "routing column 'p' is Utf8; it has to hold the partition's number, an integer"
        );
    }

    #[test]
    fn a_type_without_keys_is_refused() {
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1)])]);
        let text = refusal(routing("hash(a)").split(&batch([column("a", lists)]), 2, 0, 0));
        assert!(text.starts_with("routing cannot hash column 'a' of type List(Int32); use numbers, dates"), "{text}");
    }

    #[test]
    fn a_part_of_views_does_not_carry_the_others_text() {
        let texts: Vec<_> = (0..64).map(|row| format!("{row} {}", "long ".repeat(100))).collect();
        let numbers = Int32Array::from_iter_values(0..64);
        let rows = batch([column("n", numbers), column("text", StringViewArray::from_iter_values(&texts))]);
        let parts = routing("hash(n)").split(&rows, 4, 0, 0).expect("parts");
        assert_eq!(parts.len(), 4);
        let bytes = |rows: &RecordBatch| rows.column(1).as_string_view().data_buffers().iter().map(|buffer| buffer.len()).sum::<usize>();
        assert_eq!(parts.iter().map(|(_, part)| bytes(part)).sum::<usize>(), bytes(&rows));
    }

    proptest! {
        /// Keys stay together, rows stay in order, and none is lost, whatever the number of partitions.
        #[test]
        fn rows_of_one_key_meet_in_one_partition(keys in prop::collection::vec(prop::option::of(-9_i32..9), 1..200), partitions in 1_u32..50) {
            let numbers = Int32Array::from_iter_values((0..).take(keys.len()));
            let rows = batch([column("k", Int32Array::from(keys.clone())), column("n", numbers)]);
            let parts = routing("hash(k)").split(&rows, partitions, 0, 0).expect("parts");
            let (mut partition_of, mut seen) = (BTreeMap::new(), BTreeSet::new());
            prop_assert!(parts.is_sorted_by(|one, other| one.0 < other.0));
            for (partition, part) in parts {
                prop_assert!(partition.0 < partitions);
                let numbers = part.column(1).as_primitive::<Int32Type>().values();
                prop_assert!(numbers.is_sorted());
                for (key, number) in part.column(0).as_primitive::<Int32Type>().iter().zip(numbers) {
                    prop_assert_eq!(key, keys[usize::try_from(*number).expect("from 0")]);
                    prop_assert_eq!(*partition_of.entry(key).or_insert(partition), partition);
                    prop_assert!(seen.insert(*number));
                }
            }
            prop_assert_eq!(seen.len(), keys.len());
        }
    }
}
