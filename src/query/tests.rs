//! Queries, answered: with the Arrow of everybody else at both ends.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Int32Type, Int64Type};
use arrow_buffer::Buffer;
use arrow_ipc::CompressionType;
use arrow_ipc::reader::{read_dictionary, read_record_batch};
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;

use super::*;
use crate::engine::{Code, SchemaVersion};
use crate::wire::batch::EncodedBatch;
use crate::wire::body::Body;
use crate::wire::dictionary::DictionarySet;
use crate::wire::ipc::{self, Kind, Message};
use crate::wire::schema::StreamSchema;

/// Enough for all of these.
const MEMORY: u64 = 1 << 30;

fn clicks() -> RecordBatch {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("userId", Arc::new(Int64Array::from(vec![Some(1), Some(2), None, Some(4), Some(0)]))),
        ("page", Arc::new(StringArray::from(vec![Some("/buy/1"), Some("/home"), Some("/buy/2"), None, Some("/Buy/3")]))),
        ("at", Arc::new(TimestampMicrosecondArray::from_iter_values((0..5).map(|row| row * 30_000_000)))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).expect("columns of one length")
}

/// Encodes batches of one schema as a producer does.
struct Producer {
    schema: StreamSchema,
    tracker: DictionaryTracker,
    options: IpcWriteOptions,
    dictionaries: Arc<DictionarySet>,
}

impl Producer {
    fn new(batch: &RecordBatch, codec: Option<CompressionType>) -> Self {
        let options = IpcWriteOptions::default().try_with_compression(codec).expect("is built in");
        let mut tracker = DictionaryTracker::new(false);
        let schema = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(batch.schema_ref(), &mut tracker, &options);
        let schema = StreamSchema::parse(schema.ipc_message.into()).expect("a schema");
        Self { schema, tracker, options, dictionaries: DictionarySet::empty() }
    }

    fn encode(&mut self, batch: &RecordBatch) -> EncodedBatch {
        let mut context = IpcWriteContext::default();
        let encoded = IpcDataGenerator::default().encode(batch, &mut self.tracker, &self.options, &mut context);
        let (dictionaries, encoded) = encoded.expect("can be encoded");
        let message = |encoded: arrow_ipc::writer::EncodedData| Message {
            header: encoded.ipc_message.into(),
            body: Body::from(Bytes::from(encoded.arrow_data)),
        };
        for dictionary in dictionaries {
            let dictionary = message(dictionary);
            let kind = ipc::inspect(&dictionary.header, dictionary.body.len()).expect("passes the guard");
            let Kind::Dictionary { id, delta } = kind else { panic!("{kind:?}") };
            self.dictionaries = self.dictionaries.with(id, delta, dictionary).expect("in order");
        }
        EncodedBatch {
            message: message(encoded),
            dictionaries: self.dictionaries.clone(),
            schema: SchemaVersion(3),
            user: Bytes::from_static(b"mine"),
            rows: batch.num_rows() as u64,
        }
    }
}

/// What a reader has of an answer, which has passed the guard.
fn decoded(answer: &Answer, schema: &StreamSchema) -> RecordBatch {
    let EncodedBatch { message, dictionaries, .. } = &answer.batch;
    schema.inspect(&message.header, message.body.len()).expect("passes the guard");
    schema.check_dictionaries(dictionaries).expect("are all there");
    let mut known = HashMap::new();
    let buffer = |message: &Message| Buffer::from_vec(message.body.contiguous().to_vec());
    for dictionary in dictionaries.missing_from(&DictionarySet::empty()) {
        let header = arrow_ipc::root_as_message(&dictionary.header).expect("a message");
        let table = header.header_as_dictionary_batch().expect("a dictionary");
        read_dictionary(&buffer(&dictionary), table, schema.arrow(), &mut known, &header.version()).expect("can be read");
    }
    let header = arrow_ipc::root_as_message(&message.header).expect("a message");
    let table = header.header_as_record_batch().expect("a batch");
    read_record_batch(&buffer(message), table, schema.arrow().clone(), &known, None, &header.version()).expect("can be read")
}

fn answered(sql: &str) -> (Answer, RecordBatch) {
    let mut producer = Producer::new(&clicks(), None);
    let query = Query::new("clicks", &producer.schema, sql).expect(sql);
    let answer = query.answer(0, &producer.encode(&clicks()), MEMORY).expect(sql);
    let batch = decoded(&answer, query.schema());
    assert_eq!(answer.batch.rows, batch.num_rows() as u64);
    (answer, batch)
}

fn refused(sql: &str) -> String {
    let error = Query::new("clicks", &Producer::new(&clicks(), None).schema, sql).expect_err(sql);
    assert_eq!(error.code(), Code::InvalidArgument, "{sql}");
    error.to_string()
}

fn texts(column: &dyn Array) -> Vec<Option<&str>> {
    column.as_string::<i32>().iter().collect()
}

#[test]
fn rows_and_columns_are_chosen_and_the_rest_stays_as_it_was() {
    let (answer, batch) = answered("SELECT userId, page FROM clicks WHERE page LIKE '/buy%'");
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(1), None]);
    assert_eq!(texts(batch.column(1)), [Some("/buy/1"), Some("/buy/2")]);
    assert_eq!((answer.batch.schema, &*answer.batch.user), (SchemaVersion(3), &b"mine"[..]));
}

#[test]
fn columns_are_chosen_without_a_look_at_the_rest() {
    let mut producer = Producer::new(&clicks(), Some(CompressionType::ZSTD));
    let query = Query::new("clicks", &producer.schema, "SELECT page AS p, userId AS u, userId FROM clicks").expect("columns");
    assert!(query.is_projection());
    let mut encoded = producer.encode(&clicks());
    assert_eq!(query.bytes(&encoded).expect("is known"), 0);
    // What is dropped may be anything.
    let mut body = encoded.message.body.contiguous().to_vec();
    let last = body.len() - 24..body.len();
    body[last].fill(0xff);
    encoded.message.body = Body::from(Bytes::from(body));
    let batch = decoded(&query.answer(0, &encoded, MEMORY).expect("is a choice of columns"), query.schema());
    assert_eq!(batch.schema().fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["p", "u", "userId"]);
    assert_eq!(batch.column(0), clicks().column(1));
    assert_eq!((batch.column(1), batch.column(2)), (clicks().column(0), clicks().column(0)));
}

#[test]
fn expressions_are_computed_from_each_row() {
    let sql = "SELECT userId * 10 AS tens, upper(page) AS page, date_trunc('minute', at) AS minute, 'x' AS x, page IS NULL AS none \
               FROM clicks WHERE at >= TIMESTAMP '1970-01-01T00:00:30' AND coalesce(userId, 0) < 4";
    let (answer, batch) = answered(sql);
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(20), None, Some(0)]);
    assert_eq!(texts(batch.column(1)), [Some("/HOME"), Some("/BUY/2"), Some("/BUY/3")]);
    assert_eq!(texts(batch.column(3)), [Some("x"); 3]);
    assert_eq!((answer.rows_of(0, 5), answer.rows_of(1, 3), answer.rows_of(3, 4)), ((0, 3), (0, 2), (2, 2)));
}

#[test]
fn functions_with_a_grammar_of_their_own_are_known() {
    let sql = "SELECT substring(page FROM 2 FOR 3) AS part, position('b' IN page) AS place, trim(BOTH '/' FROM page) AS trimmed, \
               extract(MINUTE FROM at) AS minute, overlay(page PLACING 'x' FROM 1) AS laid FROM clicks WHERE page IS NOT NULL";
    let (_, batch) = answered(sql);
    assert_eq!(texts(batch.column(0)), [Some("buy"), Some("hom"), Some("buy"), Some("Buy")]);
    assert_eq!(texts(batch.column(2)), [Some("buy/1"), Some("home"), Some("buy/2"), Some("Buy/3")]);
    assert_eq!(texts(batch.column(4)), [Some("xbuy/1"), Some("xhome"), Some("xbuy/2"), Some("xBuy/3")]);
}

#[test]
fn no_row_and_no_column_are_answers() {
    let (answer, batch) = answered("SELECT * FROM clicks WHERE userId > 100");
    assert_eq!((batch.num_rows(), batch.num_columns(), answer.rows_of(0, 5)), (0, 3, (0, 0)));
    let (_, batch) = answered("SELECT 7 AS seven FROM clicks WHERE 1 = 0");
    assert_eq!(batch.num_rows(), 0);
    let (answer, batch) = answered("SELECT 7 AS seven FROM clicks");
    assert_eq!((batch.num_rows(), answer.rows_of(2, 4)), (5, (2, 4)));
}

#[test]
fn what_is_wrong_is_said_when_it_is_planned() {
    let cases = [
        ("SELECT user_id FROM clicks", "user_id"),
        ("SELECT userid FROM clicks", "userId"),
        ("SELECT userId FROM taps", "FROM \"clicks\""),
        ("SELECT page + 1 FROM", "expected"),
        ("SELECT date_trunc('minute', userId) FROM clicks", "date_trunc"),
        ("SELECT userId FROM clicks WHERE page", "Boolean"),
        ("SELECT count(*) FROM clicks", "count"),
        ("SELECT page FROM clicks GROUP BY page", "GROUP BY"),
        ("SELECT DISTINCT page FROM clicks", "DISTINCT"),
        ("SELECT page FROM clicks ORDER BY page", "ORDER BY"),
        ("SELECT page FROM clicks LIMIT 1", "LIMIT"),
        ("SELECT a.page FROM clicks a JOIN clicks b ON a.userId = b.userId", "JOIN"),
        ("SELECT page FROM clicks UNION ALL SELECT page FROM clicks", "UNION"),
        ("SELECT page FROM clicks WHERE userId IN (SELECT userId FROM clicks)", "query within"),
        ("SELECT 1", "without FROM"),
        ("SELECT now() FROM clicks", "now"),
        ("SELECT random() FROM clicks", "random"),
        ("SELECT repeat(page, 1000000000) FROM clicks", "repeat"),
        ("SELECT replace(page, '/', page) FROM clicks", "constant"),
        ("SELECT p FROM (SELECT page AS p FROM clicks) AS inner_one", "write it as one"),
        ("WITH pages AS (SELECT page FROM clicks) SELECT page FROM pages", "WITH"),
        ("(SELECT page FROM clicks)", "parentheses"),
        ("SELECT page FROM clicks TABLESAMPLE BERNOULLI (1)", "more than a name"),
        ("SELECT page FROM clicks FOR UPDATE", "FOR"),
        ("SELECT page FROM clicks WHERE page LIKE concat(page, '%')", "constant"),
        ("SELECT page FROM clicks WHERE page ~ page", "constant"),
        ("SELECT page FROM clicks WHERE regexp_like(page, page)", "constant"),
        ("SELECT levenshtein(page, page) FROM clicks", "any time"),
        ("SELECT arrow_cast(arrow_cast(page, 'Binary'), 'FixedSizeBinary(2147483647)') FROM clicks", "FixedSizeBinary"),
        ("SELECT arrow_cast(NULL, 'FixedSizeBinary(2147483647)') FROM clicks", "FixedSizeBinary"),
        ("INSERT INTO clicks VALUES (1)", "SELECT"),
        ("SELECT page FROM clicks; SELECT page FROM clicks", "one SELECT"),
        ("", "one SELECT"),
    ];
    for (sql, named) in cases {
        let reason = refused(sql);
        assert!(reason.to_lowercase().contains(&named.to_lowercase()), "{sql}: {reason}");
    }
}

#[test]
fn a_text_that_would_take_the_planner_or_the_memory_down_is_refused() {
    assert!(refused(&format!("SELECT '{}' FROM clicks", "x".repeat(QUERY_BYTES_MAX))).contains("16384"));
    let chain = (0..900).map(|number| format!("userId={number}")).collect::<Vec<_>>().join(" OR ");
    assert!(refused(&format!("SELECT page FROM clicks WHERE {chain}")).contains("deeper"));
    let nested = format!("SELECT {}userId{} FROM clicks", "(".repeat(5000), ")".repeat(5000));
    assert!(refused(&nested).contains("nested deeper"), "{}", refused(&nested));
    let many = vec!["page"; 2000].join(" || ");
    assert!(refused(&format!("SELECT {many} FROM clicks")).contains("deeper"));
    let many = (0..1500).map(|number| format!("page p{number}")).collect::<Vec<_>>().join(",");
    assert!(refused(&format!("SELECT {many} FROM clicks")).contains("thousand times"));
    let separated = format!("SELECT concat_ws(page, {}) FROM clicks", vec!["''"; 1500].join(","));
    assert!(refused(&separated).contains("thousand times"));
    let wide = Schema::new((0..40_000).map(|number| Field::new(format!("c{number}"), DataType::Int64, true)).collect::<Vec<_>>());
    let wide = StreamSchema::from_arrow(&wide).expect("a schema");
    let error = Query::new("wide", &wide, &format!("SELECT {} FROM wide", vec!["*"; 5000].join(","))).expect_err("too many");
    assert!(error.to_string().contains("65536 columns"), "{error}");
}

#[test]
fn a_value_without_an_answer_fails_its_batch_alone() {
    let mut producer = Producer::new(&clicks(), None);
    let query = Query::new("clicks", &producer.schema, "SELECT 10 / userId AS tenth FROM clicks").expect("a query");
    let error = query.answer(0, &producer.encode(&clicks()), MEMORY).expect_err("one is 0");
    assert_eq!(error.code(), Code::QueryFailed);
    assert!(error.to_string().contains("ivide by zero"), "{error}");
    let answer = query.answer(0, &producer.encode(&clicks().slice(0, 4)), MEMORY).expect("none is 0");
    assert_eq!(answer.batch.rows, 4);
    let some = query.answer_rows(0, &producer.encode(&clicks()), Some(&(1..4)), MEMORY).expect("none of these is 0");
    assert_eq!((some.batch.rows, some.rows_of(2, 4)), (3, (1, 3)));
    let query = Query::new("clicks", &producer.schema, "SELECT TRY_CAST(page AS BIGINT) AS number FROM clicks").expect("a query");
    assert_eq!(query.answer(0, &producer.encode(&clicks()), MEMORY).expect("nulls").batch.rows, 5);
}

#[test]
fn bytes_that_are_no_text_are_refused_and_bring_nobody_down() {
    let mut producer = Producer::new(&clicks(), None);
    let query = Query::new("clicks", &producer.schema, "SELECT upper(page) AS page FROM clicks").expect("a query");
    let mut encoded = producer.encode(&clicks());
    let mut body = encoded.message.body.contiguous().to_vec();
    let at = body.windows(6).position(|bytes| bytes == b"/buy/1").expect("is there");
    body[at] = 0xff;
    encoded.message.body = Body::from(Bytes::from(body));
    let error = query.answer(0, &encoded, MEMORY).expect_err("is no UTF-8");
    assert_eq!(error.code(), Code::MalformedMessage, "{error}");
    assert_eq!(query.answer(0, &producer.encode(&clicks()), MEMORY).expect("is as before").batch.rows, 5);
}

/// Names out of a dictionary.
fn named(keys: &[Option<i32>], names: &[&str]) -> RecordBatch {
    let dictionary = DictionaryArray::<Int32Type>::new(keys.to_vec().into(), Arc::new(StringArray::from(names.to_vec())));
    let numbers = Int64Array::from_iter_values(0..i64::try_from(keys.len()).expect("small"));
    let columns: Vec<(&str, ArrayRef)> = vec![("number", Arc::new(numbers)), ("name", Arc::new(dictionary))];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).expect("columns of one length")
}

#[test]
fn dictionaries_stay_dictionaries_and_are_sent_when_they_change() {
    let first = named(&[Some(0), None, Some(1)], &["ann", "bob"]);
    let mut producer = Producer::new(&first, None);
    let query = Query::new("names", &producer.schema, "SELECT name FROM names WHERE number > 0").expect("a query");
    assert_eq!(query.schema().arrow().field(0).data_type(), first.schema().field(1).data_type());
    let held = query.answer(0, &producer.encode(&first), MEMORY).expect("an answer");
    let names = |answer: &Answer| {
        let batch = decoded(answer, query.schema());
        let column = arrow::compute::cast(batch.column(0), &DataType::Utf8).expect("texts");
        texts(&column).into_iter().map(|name| name.map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(names(&held), [None, Some("bob".to_owned())]);
    let same = query.answer(0, &producer.encode(&named(&[Some(1), Some(0)], &["ann", "bob"])), MEMORY).expect("an answer");
    assert!(same.batch.dictionaries.missing_from(&held.batch.dictionaries).is_empty(), "the dictionary is the same");
    assert_eq!(names(&same), [Some("ann".to_owned())]);
    let other = query.answer(0, &producer.encode(&named(&[Some(2), Some(2)], &["eve", "joe", "liz"])), MEMORY).expect("an answer");
    assert_eq!(other.batch.dictionaries.missing_from(&same.batch.dictionaries).len(), 1);
    assert_eq!(names(&other), [Some("liz".to_owned())]);
    let compared =
        Query::new("names", &producer.schema, "SELECT number FROM names WHERE name IN ('bob', 'eve') OR name = 'ann'").expect("a query");
    assert_eq!(compared.answer(0, &producer.encode(&first), MEMORY).expect("an answer").batch.rows, 2);
    // Another partition's are its own.
    let mut elsewhere = Producer::new(&first, None);
    let there = query.answer(1, &elsewhere.encode(&named(&[Some(0), Some(0)], &["zoe"])), MEMORY).expect("an answer");
    assert_eq!(names(&there), [Some("zoe".to_owned())]);
}

#[test]
fn a_dictionary_that_is_not_asked_for_is_not_looked_at() {
    let batch = named(&[Some(0), Some(1)], &["ann", "bob"]);
    let mut producer = Producer::new(&batch, None);
    let query = Query::new("names", &producer.schema, "SELECT number + 1 AS next FROM names").expect("a query");
    let mut encoded = producer.encode(&batch);
    let mut dictionary = (*encoded.dictionaries.missing_from(&DictionarySet::empty())[0]).clone();
    dictionary.body = Body::from(Bytes::from(vec![0xff; usize::try_from(dictionary.body.len()).expect("small")]));
    encoded.dictionaries = DictionarySet::empty().with(0, false, dictionary).expect("in order");
    let answer = query.answer(0, &encoded, MEMORY).expect("an answer");
    assert_eq!(decoded(&answer, query.schema()).column(0).as_primitive::<Int64Type>().values(), &[1, 2]);
    assert!(answer.batch.dictionaries.missing_from(&DictionarySet::empty()).is_empty());
}

#[test]
fn what_was_compressed_stays_so() {
    for codec in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        let mut producer = Producer::new(&clicks(), Some(codec));
        let query = Query::new("clicks", &producer.schema, "SELECT * FROM clicks WHERE userId < 4").expect("a query");
        let answer = query.answer(0, &producer.encode(&clicks()), MEMORY).expect("an answer");
        let header = arrow_ipc::root_as_message(&answer.batch.message.header).expect("a message");
        let found = header.header_as_record_batch().and_then(|table| table.compression()).map(|compression| compression.codec());
        assert_eq!(found, Some(codec));
        assert_eq!(decoded(&answer, query.schema()).num_rows(), 3);
    }
}

#[test]
fn memory_is_known_before_it_is_taken() {
    let mut producer = Producer::new(&clicks(), None);
    let encoded = producer.encode(&clicks());
    let bytes = |sql: &str| Query::new("clicks", &producer.schema, sql).expect(sql).bytes(&encoded).expect("is known");
    let body = encoded.message.body.len();
    let (few, many) =
        (bytes("SELECT page || page AS p FROM clicks"), bytes("SELECT concat(page, page, page, page, page) AS p FROM clicks"));
    assert!(few > 3 * body && many > few, "{few} and {many} for a body of {body}");
    assert!(bytes("SELECT replace(page, '/', '----------------') AS p FROM clicks") > 16 * body);
    // What is large is large for a reason.
    assert!(bytes("SELECT * FROM clicks WHERE userId > 1") < 6 * body);
    let constants = (0..500).map(|number| number.to_string()).collect::<Vec<_>>().join(", ");
    assert!(bytes(&format!("SELECT * FROM clicks WHERE userId IN ({constants})")) < 6 * body);
}

/// As the coordinator does: with what it says that it takes, and then with what it found.
fn with_what_it_takes(query: &Query, encoded: &EncodedBatch) -> Result<(u64, Answer), u64> {
    let bytes = query.bytes(encoded).expect("is known");
    match query.answer(0, encoded, bytes) {
        Ok(answer) => Ok((bytes, answer)),
        Err(QueryError::Memory { bytes: more }) => {
            assert!(more > bytes);
            Err(more)
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn values_that_are_for_many_rows_are_counted_for_each_before_anything_is_evaluated() {
    let (long, rows) = ("x".repeat(100_000), 10_000);
    let views = arrow::array::StringViewArray::from_iter_values([&long]);
    let one = arrow::array::UInt32Array::from(vec![0; rows]);
    let columns: [ArrayRef; 2] = [
        Arc::new(DictionaryArray::<Int32Type>::new(vec![0; rows].into(), Arc::new(StringArray::from(vec![&*long])))),
        arrow::compute::take(&views, &one, None).expect("the same view for each"),
    ];
    for column in columns {
        let batch = RecordBatch::try_from_iter([("name", column)]).expect("a batch");
        let mut producer = Producer::new(&batch, None);
        let encoded = producer.encode(&batch);
        let query = Query::new("names", &producer.schema, "SELECT upper(name) AS name FROM names").expect("a query");
        let more = with_what_it_takes(&query, &encoded).expect_err("it is a gigabyte");
        assert!(more > 1 << 30, "{more}");
        // The next batch is asked for as much at once.
        assert!(query.bytes(&encoded).expect("is known") > more / 2);
    }
}

#[test]
fn what_a_query_takes_by_its_header_is_enough_for_usual_batches() {
    let strings = StringArray::from_iter_values((0..10_000).map(|number| format!("/page/{number}")));
    let numbers = Int64Array::from_iter_values(0..10_000);
    let columns: Vec<(&str, ArrayRef)> = vec![("page", Arc::new(strings)), ("n", Arc::new(numbers))];
    let batch = RecordBatch::try_from_iter(columns).expect("a batch");
    for codec in [None, Some(CompressionType::ZSTD)] {
        let mut producer = Producer::new(&batch, codec);
        let encoded = producer.encode(&batch);
        for sql in ["SELECT * FROM s WHERE n % 2 = 0", "SELECT upper(page) AS p, n + 1 AS m FROM s WHERE page LIKE '%7'"] {
            let query = Query::new("s", &producer.schema, sql).expect(sql);
            let (bytes, _) = with_what_it_takes(&query, &encoded).expect(sql);
            assert!(bytes < 16 << 20, "{sql}: {bytes}");
        }
    }
}

#[test]
fn bytes_of_views_that_are_gone_do_not_travel() {
    let views = arrow::array::StringViewArray::from_iter_values((0..1000).map(|number| format!("{number:0>200}")));
    let columns: Vec<(&str, ArrayRef)> = vec![("n", Arc::new(Int64Array::from_iter_values(0..1000))), ("text", Arc::new(views))];
    let batch = RecordBatch::try_from_iter(columns).expect("a batch");
    let mut producer = Producer::new(&batch, None);
    let query = Query::new("s", &producer.schema, "SELECT text FROM s WHERE n = 7").expect("a query");
    let answer = query.answer(0, &producer.encode(&batch), MEMORY).expect("an answer");
    assert!(answer.batch.message.body.len() < 2000, "{}", answer.batch.message.body.len());
    assert_eq!(decoded(&answer, query.schema()).column(0).as_string_view().value(0), format!("{:0>200}", 7));
}
