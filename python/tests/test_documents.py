"""The documents' examples run as they stand."""

from __future__ import annotations

import inspect
import itertools
import re
from pathlib import Path

import pyarrow as pa
import pytest

import bowstring
from bowstring import errors
from bowstring.dialect import NAMES
from bowstring.streaming import from_spark_streaming, to_spark_streaming
from bowstring.streaming.options import SINK_NAMES, SOURCE_NAMES

from .spark.test_types import ARROW_TYPES, SPARK_TYPES

ROOT = Path(__file__).parents[2]
#: Names of types that have parameters.
PARAMETRIC = {"timestamp", "duration", "decimal", "dictionary"}


def blocks(document: str) -> list[str]:
    """The document's Python examples, padded so that a traceback shows the document's own line."""
    text = (ROOT / document).read_text()
    found = re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return ["\n" * text[: match.start(1)].count("\n") + match.group(1) for match in found]


def run(document: str, *replace: tuple[str, str], names: dict[str, object] | None = None) -> dict[str, object]:
    """Runs a document's examples in order; later ones use what earlier ones left, and `names`."""
    names = {"__name__": "example", **(names or {})}
    for block in blocks(document):
        code = block
        for shown, used in replace:
            code = code.replace(shown, used)
        exec(compile(code, str(ROOT / document), "exec"), names)
    return names


def rows(document: str, header: str) -> list[tuple[str, ...]]:
    """The cells of the table under the heading row, without their quotes."""
    lines = (ROOT / document).read_text().splitlines()
    table = lines[lines.index(header) + 2 :]
    until = next((number for number, line in enumerate(table) if not line.startswith("|")), len(table))
    return [tuple(cell.strip().strip("`") for cell in line.strip("|").split("|")) for line in table[:until]]


def named_tests(document: str) -> list[str]:
    """What the document names as `path` or `path::test`: files and folders of tests, and tests in them."""
    return re.findall(r"`((?:tests|src|python|jvm)/[^`\s]+)`", (ROOT / document).read_text())


def is_test(text: str, name: str) -> bool:
    """Whether a file's text has a test of that name, one that its runner finds."""
    python = name.startswith("test_") and re.search(rf"^def {name}\(", text, re.MULTILINE)
    # Attributes may follow `#[test]`; `on_each_transport!` and the like list their functions, one a line.
    attribute = rf"#\[(?:tokio::)?test\b[^\n]*\]\n(?:\s*#\[[^\n]*\n)*\s*(?:async )?fn {name}\("
    listed = rf"^on_each_\w+! \{{[^}}]*^    {name},$[^}}]*^\}}.*^async fn {name}\("
    return bool(python or re.search(attribute, text) or re.search(listed, text, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("document", ["docs/guarantees.md", "docs/regressions.md"])
def test_every_test_that_a_page_names_is_there(document: str) -> None:
    named = named_tests(document)
    assert named
    for one in named:
        path, _, name = one.partition("::")
        assert (ROOT / path).exists(), f"{document} names {one}, and there is no {path}"
        if name:
            assert is_test((ROOT / path).read_text(), name), f"{document} names {one}, and {path} has no such test"


def test_a_test_is_told_from_what_only_looks_like_one() -> None:
    assert is_test("#[tokio::test(flavor = 'x')]\n#[expect(a)]\nasync fn one() {", "one")
    assert is_test("on_each_socket! {\n    one,\n    two,\n}\n\nasync fn two(on: Transport) {", "two")
    assert is_test("def test_one() -> None:", "test_one")
    for text in ("fn one() {", "// fn one() {", "#[test]\nfn two() {}\n\nfn one() {", "def one() -> None:", "    one,"):
        assert not is_test(text, "one")
    assert not is_test("    def test_one() -> None:", "test_one")


def test_every_row_about_a_peer_names_its_test_or_says_that_there_is_none() -> None:
    lines = [line for line in (ROOT / "docs/regressions.md").read_text().splitlines() if line.startswith("| ")]
    for line in lines:
        *_, shown = line.strip("|").split("|")
        heading = line.endswith("| the test that shows it |") or "---" in line
        assert heading or "::" in shown or shown.strip() == "not tested", line


def test_the_types_page_says_what_the_types_tests_check() -> None:
    out_of_spark = [(spark, str(arrow)) for spark, _, arrow in SPARK_TYPES.values()]
    assert rows("docs/types.md", "| Spark SQL | Arrow |") == out_of_spark
    into_spark = [(str(array.type), spark) for array, spark, _ in ARROW_TYPES.values()]
    assert rows("docs/types.md", "| Arrow | Spark SQL |") == into_spark


def test_the_schemas_page_lists_every_argument_of_a_dialect_and_its_example_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert [name for name, _ in rows("docs/schemas.md", "| argument | what the batches look like |")] == list(NAMES)
    run("docs/schemas.md")
    text = (ROOT / "docs/schemas.md").read_text()
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 3
    assert all(line in text for line in printed)


def test_the_schemas_page_says_which_types_are_wider() -> None:
    wider: dict[str, set[str]] = {}
    for narrow, cell in rows("docs/schemas.md", "| from | to |"):
        wider[narrow] = set(re.findall(r"[a-z_0-9]+", cell))
    names = {name for name in wider if re.fullmatch(r"[a-z_0-9]+", name)} - PARAMETRIC
    plain = sorted(names.union(*(wider[name] for name in names - {"null"})))
    with bowstring.StreamCoordinator(http=None) as coordinator:
        client = coordinator.client()
        for one, other in itertools.permutations(plain, 2):
            schemas = [pa.schema({"c": pa.type_for_alias(name)}) for name in (one, other)]
            client.create_stream("s", schema=schemas[0], schema_policy="widening")
            try:
                described = client.create_stream("s", schema=schemas[1], schema_policy="widening", if_not_exists=True)
                found = described["schema"].field("c").type
            except bowstring.SchemaMismatch:
                found = None
            is_wider = [
                wide in wider.get(narrow, ()) or narrow == "null" for narrow, wide in ((one, other), (other, one))
            ]
            expected = schemas[1] if is_wider[0] else schemas[0] if is_wider[1] else None
            assert found == (expected and expected.field("c").type), f"{one} and {other}"
            client.delete_stream("s")


def test_the_readme_lists_every_option_of_sink_and_source_and_every_argument() -> None:
    tables = {
        "| option of the sink | default | meaning |": {*SINK_NAMES} - {"path"},
        "| option of the source | default | meaning |": {*SOURCE_NAMES} - {"path"},
        "| argument | default | meaning |": {*inspect.signature(from_spark_streaming).parameters} - {"streaming_df"},
        "| argument of `to_spark_streaming` | default | meaning |": {*inspect.signature(to_spark_streaming).parameters}
        - {"source", "spark"},
    }
    for header, expected in tables.items():
        named = [name for first, *_ in rows("README.md", header) for name in re.findall(r"\w+", first)]
        assert sorted(named) == sorted(expected)


def test_the_errors_page_lists_every_class_with_its_codes_and_bases() -> None:
    expected: dict[str, tuple[set[str], set[str]]] = {}
    for code, of in errors.CLASSES.items():
        bases = {base.__name__ for base in of.__bases__} - {"BowstringError", "Exception"}
        expected.setdefault(of.__name__, (set(), bases))[0].add(code)
    expected["BowstringError` itself"] = expected.pop("BowstringError")
    found = {
        name: (set(re.findall(r"\w+", codes)), set(re.findall(r"\w+", bases)))
        for name, codes, bases in rows("docs/errors.md", "| class | codes | also a |")
    }
    assert found == expected


def test_the_example_of_the_errors_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    run("docs/errors.md")
    assert capsys.readouterr().out == "unavailable True\n"


@pytest.mark.timeout(60)
def test_the_examples_for_stock_flight_clients_run(capsys: pytest.CaptureFixture[str]) -> None:
    with bowstring.StreamCoordinator() as coordinator:
        run("docs/flight.md", ("grpc://127.0.0.1:8815", coordinator.url))
        described = coordinator.client().describe_stream("clicks")
    assert described["state"] == "completed"
    # Two batches by path, one by command, one in an epoch.
    assert sum(partition["end"] for partition in described["partitions"]) == 4
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "True", "the error's code is in its text"


@pytest.mark.timeout(60)
def test_the_examples_of_the_formats_page_run(capsys: pytest.CaptureFixture[str]) -> None:
    with bowstring.StreamCoordinator() as coordinator:
        with coordinator.client().producer("raw") as raw:
            raw.append(pa.record_batch({"value": pa.array([b'{"uid": 1, "url": "/a"}', b"{"], pa.binary())}))
            raw.complete()
        run("docs/formats.md", ("grpc://127.0.0.1:8815", coordinator.url))
        for stream in ("clicks", "clicks.bad"):
            described = coordinator.client().describe_stream(stream)
            assert sum(partition["end"] for partition in described["partitions"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[{'user_id': 42, 'price': Decimal('12.34'), 'coupon': None}]"
    text = (ROOT / "docs/formats.md").read_text()
    assert f"# {lines[0]}" in text
    assert "the row's schema has the number 8, and none was given" in "".join(lines[1:])


@pytest.mark.timeout(120)
def test_the_examples_of_the_flows_page_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    at = pa.array([0, 1000, 7_200_000], pa.timestamp("ms", "UTC"))
    text = pa.array(["/", "/buy", "/"])
    streams = {
        "clicks": pa.record_batch({"page": text, "user": text, "ad": text, "at": at}),
        "impressions": pa.record_batch({"ad": text, "shown_at": at}),
        "lines": pa.record_batch({"host": text, "message": text, "pid": pa.array([1, 2, 3]), "at": at}),
    }
    read = (("clicks", "clicked"), ("clicks", "visits"), ("clicks", "hourly"), ("impressions", "clicked"))
    with bowstring.StreamCoordinator() as coordinator:
        client = coordinator.client()
        for stream, batch in streams.items():
            client.create_stream(stream, schema=batch.schema)
        for stream, subscription in (*read, ("lines", "longest")):
            client.subscribe(stream, subscription)
        for stream, batch in streams.items():
            with client.producer(stream) as producer:
                producer.append(batch)
                producer.complete()
        run("docs/flows.md", ("grpc://127.0.0.1:8815", coordinator.url), ("/var/lib", str(tmp_path)))
        found = {stream: client.describe_stream(stream) for stream in ("clicked", "visits", "hourly")}
        rows = {stream: sum(one["rows_total"] for one in found[stream]["partitions"]) for stream in found}
    # One "/" at the same time, and the later one alone; each page once, and "/" twice.
    assert rows == {"clicked": 3, "visits": 3, "hourly": 3}
    printed = capsys.readouterr().out
    assert "revenue" in printed
    assert "message" in printed


@pytest.mark.timeout(180)
def test_the_examples_of_the_readme_run(capsys: pytest.CaptureFixture[str]) -> None:
    run("README.md")
    out = capsys.readouterr().out
    assert "|   10000|49995000|" in out, "to_spark_streaming delivered every row once"
