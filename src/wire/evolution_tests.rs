//! What may follow what, by policy.

use arrow_schema::{DataType, Field, Fields, Schema};

use super::evolution::{SCHEMA_BYTES_MAX, SCHEMA_VERSIONS_MAX, SchemaVersions};
use super::schema::StreamSchema;
use crate::engine::{Code, SchemaPolicy, SchemaVersion};

type Columns<'a> = &'a [(&'a str, DataType, bool)];

fn fields(columns: Columns<'_>) -> Fields {
    columns.iter().map(|(name, data_type, nullable)| Field::new(*name, data_type.clone(), *nullable)).collect()
}

fn schema(columns: Columns<'_>) -> StreamSchema {
    StreamSchema::from_arrow(&Schema::new(fields(columns))).expect("small")
}

fn nested(columns: Columns<'_>) -> DataType {
    DataType::Struct(fields(columns))
}

fn list(item: DataType) -> DataType {
    DataType::new_list(item, true)
}

/// What has the columns of both, or the refusal's text.
fn check(policy: SchemaPolicy, first: Columns<'_>, then: Columns<'_>) -> Result<Fields, String> {
    let mut all = SchemaVersions::new(policy);
    all.add(&all.accept(&schema(first)).expect("the first"));
    let accepted = all.accept(&schema(then)).map_err(|error| {
        assert_eq!(error.code(), Code::SchemaMismatch);
        assert!(error.to_string().contains(&format!("schema_policy is {}", policy.as_str())), "{error}");
        error.to_string()
    })?;
    all.add(&accepted);
    for known in [first, then] {
        let again = all.accept(&schema(known)).expect("it is known");
        assert!(!again.is_new());
    }
    Ok(all.merged().expect("there is one").arrow().fields().clone())
}

fn refused(policy: SchemaPolicy, first: Columns<'_>, then: Columns<'_>, parts: &[&str]) {
    let text = check(policy, first, then).expect_err("does not fit");
    parts.iter().for_each(|part| assert!(text.contains(part), "{part:?} is not in {text:?}"));
}

use DataType::{Int8, Int32, Int64, Utf8};
use SchemaPolicy::{Additive, Strict, Widening};

#[test]
fn a_strict_stream_takes_its_schema_and_no_other() {
    let one: Columns<'_> = &[("a", Int32, true)];
    assert_eq!(check(Strict, one, one), Ok(fields(one)));
    refused(Strict, one, &[("a", Int32, true), ("b", Utf8, true)], &["\"b\"", "additive"]);
    refused(Strict, one, &[("a", Int64, true)], &["\"a\": the stream has Int32, the batches have Int64"]);
}

#[test]
fn an_additive_stream_takes_new_columns_and_batches_without_known_ones() {
    for policy in [Additive, Widening] {
        let (a, b): (Columns<'_>, Columns<'_>) = (&[("a", Int32, true), ("k", Int64, false)], &[("b", Utf8, true), ("k", Int64, false)]);
        let both: Columns<'_> = &[("a", Int32, true), ("k", Int64, false), ("b", Utf8, true)];
        assert_eq!(check(policy, a, b), Ok(fields(both)));
        assert_eq!(check(policy, both, &both[..2]), Ok(fields(both)), "without b");
        assert_eq!(check(policy, &both[1..], both), Ok(fields(&[both[1].clone(), both[2].clone(), both[0].clone()])), "a is new");
        let swapped: Columns<'_> = &[("k", Int64, false), ("a", Int32, true)];
        assert_eq!(check(policy, a, swapped), Ok(fields(a)), "another order");
    }
}

#[test]
fn what_an_additive_stream_refuses_is_named_column_by_column() {
    refused(Additive, &[("a", Int32, true)], &[("a", Int32, true), ("b", Utf8, false)], &["\"b\"", "new", "may not be null"]);
    refused(Additive, &[("a", Int32, true), ("b", Utf8, false)], &[("a", Int32, true)], &["\"b\"", "lack"]);
    refused(Additive, &[("a", Int32, false)], &[("a", Int32, true)], &["\"a\": the batches may have nulls"]);
    refused(
        Additive,
        &[("a", Int32, true), ("b", Int8, true), ("c", Utf8, true)],
        &[("a", Int64, true), ("b", Utf8, true), ("c", Utf8, true)],
        &["\"a\": the stream has Int32, the batches have Int64; ", "\"b\": the stream has Int8, the batches have Utf8", "docs/schemas.md"],
    );
    refused(Additive, &[("a", Int32, true), ("a", Int8, true)], &[("a", Int32, true)], &["two of this name"]);
}

#[test]
fn a_widening_stream_takes_wider_types_narrower_ones_and_nulls() {
    let (narrow, wide): (Columns<'_>, Columns<'_>) = (&[("a", Int32, false)], &[("a", Int64, true)]);
    assert_eq!(check(Widening, narrow, wide), Ok(fields(wide)));
    assert_eq!(check(Widening, wide, narrow), Ok(fields(wide)));
    let without: Columns<'_> = &[("b", Utf8, false)];
    assert_eq!(check(Widening, narrow, without), Ok(fields(&[("a", Int32, true), ("b", Utf8, true)])));
    refused(Widening, narrow, &[("a", Utf8, false)], &["\"a\": the stream has Int32, the batches have Utf8"]);
}

#[test]
fn members_of_structs_lists_and_maps_go_by_the_same_rules() {
    let of = |columns: Columns<'_>| nested(columns);
    let map = |value: DataType| {
        let entries = of(&[("keys", Utf8, false), ("values", value, true)]);
        DataType::Map(Field::new("entries", entries, false).into(), false)
    };
    let (one, other) = (of(&[("x", Int32, true)]), of(&[("x", Int64, true), ("y", Utf8, true)]));
    let wraps: [fn(DataType) -> DataType; 3] = [|inner| inner, list, |inner| nested(&[("inner", list(inner), true)])];
    for wrap in wraps {
        assert_eq!(
            check(Widening, &[("s", wrap(one.clone()), true)], &[("s", wrap(other.clone()), true)]),
            Ok(fields(&[("s", wrap(other.clone()), true)]))
        );
        refused(Additive, &[("s", wrap(one.clone()), true)], &[("s", wrap(other.clone()), true)], &["x\": the stream has Int32"]);
    }
    assert_eq!(check(Widening, &[("m", map(Int8), true)], &[("m", map(Int64), true)]), Ok(fields(&[("m", map(Int64), true)])));
    refused(Additive, &[("s", one, true)], &[("s", of(&[("x", Int32, true), ("y", Utf8, false)]), true)], &["\"s.y\"", "new"]);
}

#[test]
fn versions_are_numbered_as_they_come_and_found_again_after_a_restart() {
    let mut all = SchemaVersions::new(Widening);
    let brought: [Columns<'_>; 3] = [&[("a", Int8, true)], &[("a", Int32, true)], &[("a", Int64, true), ("b", Utf8, true)]];
    for (number, columns) in (0..).zip(brought) {
        let accepted = all.accept(&schema(columns)).expect("it is wider");
        assert_eq!((accepted.version, accepted.is_new()), (SchemaVersion(number), true));
        all.add(&accepted);
    }
    let headers: Vec<_> = (0..3).map(|number| all.get(SchemaVersion(number)).expect("it was added").header().to_vec().into()).collect();
    let restored = SchemaVersions::restore(Widening, &headers).expect("they were taken before");
    assert_eq!(restored.count(), 3);
    assert_eq!(restored.merged().map(|schema| schema.header()), all.merged().map(|schema| schema.header()));
    assert_eq!(restored.newest().map(|(number, _)| number), Some(SchemaVersion(2)));
    assert!(SchemaVersions::restore(Strict, &headers).is_err(), "a strict stream has one version");
}

#[test]
fn a_stream_takes_so_many_versions_and_no_more() {
    let mut all = SchemaVersions::new(Additive);
    let name = |number: usize| format!("c{number}");
    for number in 0..SCHEMA_VERSIONS_MAX {
        all.add(&all.accept(&schema(&[(&name(number), Int8, true)])).expect("within the limit"));
    }
    let error = all.accept(&schema(&[("one more", Int8, true)])).expect_err("beyond the limit");
    assert_eq!(error.code(), Code::SchemaMismatch);
    assert!(error.to_string().contains("256 versions"), "{error}");
    assert!(all.accept(&schema(&[("c7", Int8, true)])).is_ok(), "one that it has");
}

#[test]
fn wide_schemas_take_as_many_bytes_and_no_more() {
    let wide = |of: &str| {
        let fields: Vec<_> = (0..500).map(|number| Field::new(format!("{of}{number:02000}"), Int8, true)).collect();
        StreamSchema::from_arrow(&Schema::new(fields)).expect("within the limits")
    };
    let mut all = SchemaVersions::new(Additive);
    let mut taken = 0;
    let error = loop {
        match all.accept(&wide(&format!("v{taken} "))) {
            Ok(accepted) => all.add(&accepted),
            Err(error) => break error,
        }
        taken += 1;
    };
    let bytes: usize = (0..taken).map(|number| all.get(SchemaVersion(number)).expect("was added").header().len()).sum();
    assert!(bytes <= SCHEMA_BYTES_MAX && bytes > SCHEMA_BYTES_MAX / 2, "{taken} of {bytes} bytes");
    assert_eq!(error.code(), Code::SchemaMismatch);
    assert!(error.to_string().contains("no more than"), "{error}");
}

#[test]
fn all_versions_together_have_as_many_columns_as_one_may_have() {
    let wide = |of: &str| {
        let fields: Vec<_> = (0..30_000).map(|number| Field::new(format!("{of}{number}"), Int8, true)).collect();
        StreamSchema::from_arrow(&Schema::new(fields)).expect("within the limits")
    };
    let mut all = SchemaVersions::new(Additive);
    for of in ["a", "b"] {
        all.add(&all.accept(&wide(of)).expect("within the limits"));
    }
    let error = all.accept(&wide("c")).expect_err("90,000 columns");
    assert_eq!(error.code(), Code::SchemaMismatch);
    assert!(error.to_string().contains("65536"), "{error}");
}
